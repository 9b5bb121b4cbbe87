"""Measuring: one server at a time, started, checked, loaded, checked again, weighed and stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving import load
from benchmarks.serving.answers import Questions, answers, reply_sizes, wrong_answers
from benchmarks.serving.load import Load
from benchmarks.serving.processes import ServerError, free_port, memory, running, wait_for
from benchmarks.serving.servers import Server, logs
from benchmarks.serving.versions import Version

WARM_UP_S = 1


@dataclass(frozen=True)
class Bench:
    """What stays the same over the rounds.

    Parameters
    ----------
    versions : mapping
        What is served, by model.
    server_core, load_core : int
        Where servers and the load generator run.
    seconds : int
        How long each load lasts.
    say : callable
        Told every figure as it comes.
    """

    versions: Mapping[str, Version]
    server_core: int
    load_core: int
    seconds: int
    say: Callable[[str], None]

    def reply_sizes(self, greenroom: Server) -> dict[str, dict[int, int]]:
        """Return for each model how many bytes Greenroom answers to which request."""
        found = {}
        for model, version in self.versions.items():
            questions = Questions.build(greenroom.protocol, version)
            with self._started(greenroom, version, questions, {}) as (port, _, _):
                found[model] = reply_sizes(port, questions)
        return found

    def measure(
        self, server: Server, version: Version, sizes: Mapping[int, int], number: int
    ) -> dict[str, Any]:
        """Return one sample: what one server did with one model in one round.

        Raises
        ------
        ServerError
            When it does not start, fails a request under load, or answers wrongly.
        """
        questions = Questions.build(server.protocol, version)
        with self._started(server, version, questions, sizes) as (port, pid, took_s):
            at_start = memory(pid)
            measures = {"first_answer_s": took_s, "worker_mb_at_start": at_start.worker_mb}
            self._check(server, version, questions, port)
            for kind in server.loads:
                measures |= self._load(server, version, questions, port, kind)
            self._check(server, version, questions, port)
            after = memory(pid)
        measures |= {"worker_mb": after.worker_mb, "all_mb": after.all_mb}
        return {
            "round": number,
            "server": server.name,
            "model": version.model,
            "measures": measures,
        }

    def _load(
        self, server: Server, version: Version, questions: Questions, port: int, kind: Load
    ) -> dict[str, float]:
        folder = logs() / f"{server.name}-{version.model}"
        folder.mkdir(exist_ok=True)
        single, many = questions.write(folder)
        bodies = single if kind.n_rows == 1 else many
        question = questions.single[0] if kind.n_rows == 1 else questions.many
        url = f"http://127.0.0.1:{port}{question.path}"
        load.run(url, bodies, kind, seconds=WARM_UP_S, core=self.load_core)
        found = load.run(url, bodies, kind, seconds=self.seconds, core=self.load_core)
        if found.errors:
            raise ServerError(f"{found.errors} failed requests at {kind.name}")
        self.say(
            f"    {server.name:12} {version.model:14} {kind.name:>8}: {found.rps:9.1f} req/s,"
            f" p50 {found.p50_ms:.3f} ms, p99 {found.p99_ms:.3f} ms"
        )
        figures = {"rps": found.rps, "p50_ms": found.p50_ms, "p99_ms": found.p99_ms}
        return {f"{name}@{kind.name}": value for name, value in figures.items()}

    def _check(self, server: Server, version: Version, questions: Questions, port: int) -> None:
        wrong = wrong_answers(port, server.protocol, questions.all)
        if wrong:
            raise ServerError(f"{len(wrong)} wrong answers about {version.model}: {wrong[0]}")

    @contextmanager
    def _started(
        self, server: Server, version: Version, questions: Questions, sizes: Mapping[int, int]
    ) -> Iterator[tuple[int, int, float]]:
        port = free_port()
        log: Path = logs() / f"{server.name}-{version.model}.log"
        start = server.start(version, port, sizes)
        began_s = time.monotonic()
        with running(start.command, start.environment, self.server_core, log) as process:
            first = questions.single[0]
            took_s = wait_for(lambda: answers(port, first), process, began_s, log)
            yield port, process.pid, took_s


def run_rounds(
    bench: Bench, servers: Sequence[Server], n_rounds: int, sizes: Mapping[str, Mapping[int, int]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure all servers with all their models, in every round in another order.

    A server that fails is left out of the rounds that follow, and a note says why.
    """
    samples: list[dict[str, Any]] = []
    notes: list[str] = []
    failed: set[tuple[str, str]] = set()
    for number in range(1, n_rounds + 1):
        bench.say(f"round {number} of {n_rounds}")
        for version in bench.versions.values():
            for server in rotated(servers, number):
                key = server.name, version.model
                if version.model not in server.models or key in failed:
                    continue
                try:
                    sample = bench.measure(server, version, sizes[version.model], number)
                except ServerError as error:
                    failed.add(key)
                    notes.append(f"{server.name} with {version.model} FAILED: {error}")
                    bench.say(notes[-1])
                else:
                    samples.append(sample)
    return samples, notes


def rotated(servers: Sequence[Server], number: int) -> list[Server]:
    """Return the servers beginning with another one in every round."""
    first = (number - 1) % len(servers) if servers else 0
    return [*servers[first:], *servers[:first]]
