"""A server as processes: started on one core, waited for, weighed, and stopped. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 15.0
MB = 1_000_000


class ServerError(Exception):
    """A server ended, or did not answer in time; the message holds the end of its log."""


@dataclass(frozen=True)
class Memory:
    """Resident memory: of the largest process, and of all (shared pages counted once)."""

    worker_mb: float
    all_mb: float


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], core: int | None, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command and what it starts on one core (None: on all); stop it in the end.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    environment : mapping
        Variables beside those of this process.
    core : int, optional
        The core.
    log : Path
        Where what it prints goes.
    """
    pinned = command if core is None else ["taskset", "--cpu-list", str(core), *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end as Ctrl-C does, and kill its whole group where that does not help."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(
    answers: Callable[[], bool],
    process: subprocess.Popen[bytes],
    began_s: float,
    log: Path,
    *,
    timeout_s: float = START_TIMEOUT_S,
    every_s: float = 0.01,
) -> float:
    """Wait until ``answers``; return the seconds since ``began_s`` (``time.monotonic``).

    Raises
    ------
    ServerError
        When the process ends first, or ``timeout_s`` is over.
    """
    while not answers():
        waited_s = time.monotonic() - began_s
        if process.poll() is not None or waited_s > timeout_s:
            end = log.read_text(encoding="utf-8", errors="replace")[-2_000:]
            raise ServerError(f"no answer after {waited_s:.0f} s; its log ends with:\n{end}")
        time.sleep(every_s)
    return time.monotonic() - began_s


def memory(pid: int) -> Memory:
    """Weigh a process and all that it started."""
    resident, proportional = [], []
    for one in _tree(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii").splitlines()
            sizes = {line.split()[0]: line.split()[1] for line in lines[1:]}
            resident.append(int(sizes["Rss:"]) * 1024 / MB)
            proportional.append(int(sizes["Pss:"]) * 1024 / MB)
    return Memory(max(resident, default=0.0), sum(proportional))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text(encoding="ascii").split():
                yield from _tree(int(child))
