"""A server with its log and one without, alive at the same time on one core and loaded in turn.

A shared machine's speed drifts by a tenth from one minute to the next, which is as much as the log
may cost. So turns are short and many, and each is compared with the one beside it. Segments are
sealed and shipped every second, so that shipping goes on while the server is loaded; what is left
of it when a turn is over is waited for, as it would slow the other server down.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving import load
from benchmarks.serving.answers import Questions, answers, wrong_answers
from benchmarks.serving.load import Load
from benchmarks.serving.processes import ServerError, free_port, running, wait_for
from benchmarks.serving.servers import greenroom, logs
from benchmarks.serving.versions import CACHE, Version
from benchmarks.serving.wire import GREENROOM
from greenroom.log.spool import Balance, Spool

LOGGED, UNLOGGED = "logged", "unlogged"
SHIP_INTERVAL_S = 1
WARM_UP_S = 2
_SHIPPED_TIMEOUT_S = 90.0
_LOOK_S = 0.05


@dataclass(frozen=True)
class Alive:
    """A server that answers: what it is called, where it listens, and its home folder."""

    name: str
    port: int
    home: Path

    def balance(self) -> Balance | None:
        """Return where its predictions are; None where it does not log them."""
        return Spool(self.home / "spool").balance() if self.name == LOGGED else None


@dataclass(frozen=True)
class Turns:
    """What stays the same over the turns.

    Parameters
    ----------
    version : Version
        What is served.
    server_core, load_core : int
        Where both servers and the load generator run.
    seconds : int
        How long a turn lasts.
    say : callable
        Told every figure as it comes.
    """

    version: Version
    server_core: int
    load_core: int
    seconds: int
    say: Callable[[str], None]

    def run(self, loads: Sequence[Load], n_rounds: int) -> list[dict[str, Any]]:
        """Return a sample for each server and round, with its figures at every concurrency.

        Raises
        ------
        ServerError
            When a server does not start, fails a request, answers wrongly, or does not ship.
        """
        questions = Questions.build(GREENROOM, self.version)
        with ExitStack() as stack:
            servers = [
                stack.enter_context(self._started(name, questions)) for name in (LOGGED, UNLOGGED)
            ]
            self._check(servers, questions)
            samples = list(self._turns(servers, questions, loads, n_rounds))
            self._check(servers, questions)
        return samples

    def _turns(
        self, servers: Sequence[Alive], questions: Questions, loads: Sequence[Load], n_rounds: int
    ) -> Iterator[dict[str, Any]]:
        for kind in loads:
            for server in servers:
                self._turn(server, questions, kind, WARM_UP_S)
            for number in range(1, n_rounds + 1):
                # Whoever comes first in one round comes last in the next.
                for server in servers if number % 2 else reversed(servers):
                    measures = self._turn(server, questions, kind, self.seconds)
                    yield {
                        "round": number,
                        "server": server.name,
                        "model": self.version.model,
                        "measures": {f"{key}@{kind.name}": one for key, one in measures.items()},
                    }

    def _turn(
        self, server: Alive, questions: Questions, kind: Load, seconds: int
    ) -> dict[str, float]:
        bodies, _ = questions.write(_folder(server.name))
        url = f"http://127.0.0.1:{server.port}{questions.single[0].path}"
        before = server.balance()
        found = load.run(url, bodies, kind, seconds=seconds, core=self.load_core)
        after = server.balance()
        if found.errors:
            raise ServerError(f"{found.errors} failed requests at {kind.name}")
        measures = {"rps": found.rps, "p50_ms": found.p50_ms, "p99_ms": found.p99_ms}
        if before is not None and after is not None:
            n_accepted = after.accepted - before.accepted
            measures["shipped"] = (after.written - before.written) / n_accepted
            _await_shipped(server)
        self.say(
            f"    {server.name:8} {kind.name:>3}: {found.rps:9.1f} req/s,"
            f" p50 {found.p50_ms:.3f} ms, p99 {found.p99_ms:.3f} ms"
        )
        return measures

    def _check(self, servers: Sequence[Alive], questions: Questions) -> None:
        for server in servers:
            wrong = wrong_answers(server.port, GREENROOM, questions.all)
            if wrong:
                raise ServerError(f"{server.name}: {len(wrong)} wrong answers: {wrong[0]}")

    @contextmanager
    def _started(self, name: str, questions: Questions) -> Iterator[Alive]:
        home, port, log = _home(self.version, name), free_port(), logs() / f"{name}.log"
        start = greenroom(self.version, port, {})
        settings = start.environment | _settings(home, logged=name == LOGGED)
        began_s = time.monotonic()
        with running(start.command, settings, self.server_core, log) as process:
            first = questions.single[0]
            wait_for(lambda: answers(port, first), process, began_s, log)
            yield Alive(name, port, home)


def _settings(home: Path, *, logged: bool) -> Mapping[str, str]:
    return {
        "GREENROOM_HOME": str(home),
        "GREENROOM_LOG": str(logged).lower(),
        "GREENROOM_LOG_SHIP_INTERVAL_S": str(SHIP_INTERVAL_S),
    }


def _home(version: Version, name: str) -> Path:
    """Copy what was trained: two servers cannot have one home."""
    home = CACHE / "log" / name
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(version.home, home, ignore=shutil.ignore_patterns("log", "spool", "mlflow"))
    return home


def _folder(name: str) -> Path:
    folder = logs() / name
    folder.mkdir(exist_ok=True)
    return folder


def _await_shipped(server: Alive) -> None:
    until_s = time.monotonic() + _SHIPPED_TIMEOUT_S
    while (balance := server.balance()) is not None and balance.waiting:
        if time.monotonic() > until_s:
            raise ServerError(f"{balance.waiting} predictions wait long after a turn")
        time.sleep(_LOOK_S)
