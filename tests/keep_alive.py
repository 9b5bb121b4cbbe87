"""Clients that keep their connection and send again and again; they count what fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

REQUEST = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"


def post(path: str, document: object) -> bytes:
    """Return a request with a JSON body."""
    body = json.dumps(document).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Load:
    """What a number of clients have seen.

    A request has failed when its connection ends before the reply has come. A connection is given
    up where a reply says ``connection: close``, and never otherwise.
    """

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.address = address
        self.request = request
        self.answers: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.n_connections = 0
        self.over = asyncio.Event()

    async def client(self, pause_s: float) -> None:
        """Send until it is over, ``pause_s`` after each reply."""
        while not self.over.is_set():
            reader, writer = await asyncio.open_connection(*self.address)
            self.n_connections += 1
            goes_on = True
            while goes_on and not self.over.is_set():
                try:
                    goes_on = await self._send(reader, writer)
                except (OSError, asyncio.IncompleteReadError) as error:
                    self.failures.append(repr(error))
                    goes_on = False
                await self._pause(pause_s)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _pause(self, pause_s: float) -> None:
        if pause_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), pause_s)

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send one request; return whether the connection may be used again."""
        writer.write(self.request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status, _, rest = head.partition(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in rest.strip().split(b"\r\n"))
        body = await reader.readexactly(int(headers[b"content-length"]))
        if b" 200 " not in status:
            self.failures.append(f"{status!r} {body!r}")
        else:
            self.answers.append(json.loads(body))
        return headers.get(b"connection") != b"close"


@contextlib.asynccontextmanager
async def under_load(
    address: tuple[str, int], *pauses_s: float, request: bytes = REQUEST
) -> AsyncIterator[Load]:
    """Have a client send for each of ``pauses_s``, which lie between its requests."""
    load = Load(address, request)
    clients = [asyncio.create_task(load.client(pause_s)) for pause_s in pauses_s]
    try:
        yield load
    finally:
        load.over.set()
        await asyncio.gather(*clients)
