"""Clients that ask without a pause, each on a connection of its own, and check every answer."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TOLERANCE = 1e-5


@dataclass
class Tally:
    """What was seen: answers by version, and in words what went wrong, by how often."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Asked:
    """A request's body, and the probability that each version has to answer."""

    body: bytes
    expected: Mapping[str, float]


def judge(status: int, body: bytes, asked: Asked, tally: Tally) -> None:
    """Count one reply.

    >>> tally = Tally()
    >>> judge(200, b'{"model_version": "1", "probability": 0.5}', Asked(b"", {"1": 0.5}), tally)
    >>> judge(200, b'{"model_version": "1", "probability": 0.7}', Asked(b"", {"1": 0.5}), tally)
    >>> judge(503, b"", Asked(b"", {"1": 0.5}), tally)
    >>> dict(tally.answers), dict(tally.wrong), dict(tally.failures)
    ({'1': 2}, {'version 1': 1}, {'status 503': 1})
    """
    if status != 200:
        tally.failures[f"status {status}"] += 1
        return
    reply = json.loads(body)
    version = reply["model_version"]
    tally.answers[version] += 1
    if not abs(reply["probability"] - asked.expected[version]) <= TOLERANCE:
        tally.wrong[f"version {version}"] += 1


async def exchange(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str, body: bytes
) -> tuple[int, bytes]:
    """Send one request on an open connection, and read the whole reply."""
    reader, writer = streams
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    length = next(line for line in lines if line.startswith("content-length:"))
    return int(lines[0].split()[1]), await reader.readexactly(int(length.partition(":")[2]))


async def call(port: int, asked: Sequence[Asked], tally: Tally, done: asyncio.Event) -> None:
    """Ask in turn until ``done``; a connection that breaks is a failure, and is opened again."""
    position = 0
    while not done.is_set():
        try:
            streams = await asyncio.open_connection("127.0.0.1", port)
            while not done.is_set():
                position = (position + 1) % len(asked)
                one = asked[position]
                judge(*await exchange(streams, "/predict", one.body), one, tally)
            streams[1].close()
        except (OSError, asyncio.IncompleteReadError) as error:
            tally.failures[type(error).__name__] += 1
