"""Monitoring runs of a server: ``greenroom monitor``, begun every hour or so.

Each is a process of its own, as a person would start it: what it needs in memory (tables, plots)
is there while it runs, and it stands back behind serving. What it finds it leaves in a file. When
the last run began is told by a file too, so that a server that is started again and again does not
monitor again and again, and of several servers with one home one does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from greenroom import processes
from greenroom.findings import NOTHING_TO_COMPARE
from greenroom.supervision.worker_process import ending

__all__ = ["Ended", "MonitorRuns", "Outcome", "monitor_command"]

LONGEST_S: Final = 3_600.0
"""A run that takes longer is ended: a window of ten million rows takes less than a minute."""

_SOONEST_S: Final = 60.0
"""How long after a server's start its first run begins at the soonest: it has enough to do."""

_BETWEEN_S: Final = 1.0
_GRACE_S: Final = 2.0
_LOCK: Final = "run.lock"
_CHUNK_BYTES: Final = 4_096


Outcome: TypeAlias = Literal["done", "nothing", "failed"]


class Ended(NamedTuple):
    """How a run ended, and why where it failed."""

    outcome: Outcome
    problem: str = ""


def monitor_command(window: str, *, config: Path | None = None) -> list[str]:
    """Return what monitors; an app's folder, or a model with its version, comes behind it.

    Parameters
    ----------
    window : str
        How much of the log is compared, as ``24h``.
    config : Path, optional
        The settings file that the server was given.
    """
    command = [sys.executable, "-P", "-m", "greenroom", "monitor", f"--window={window}"]
    return [*command, f"--config={config}"] if config else command


class MonitorRuns:
    """Begins runs, one at a time, for as long as the server runs.

    Parameters
    ----------
    command : sequence of str
        What monitors, as :func:`monitor_command` gives it.
    folder : Path
        Where the lock is, whose time is that of the last run's beginning.
    interval_s : float
        From one beginning to the next.
    on_event : callable
        Told in one line why a run has failed; the same reason once.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        interval_s: float,
        *,
        on_event: Callable[[str], None],
    ) -> None:
        self._command: Final = command
        self._folder: Final = folder
        self._interval_s: Final = interval_s
        self._on_event: Final = on_event
        self._told = ""

    async def run(
        self, subjects: Callable[[], Sequence[str]], on_ended: Callable[[Outcome], None]
    ) -> None:
        """Begin runs whenever they are due, for ever; when this is cancelled, the run is ended.

        Parameters
        ----------
        subjects : callable
            Returns what is monitored, each by a run of its own.
        on_ended : callable
            Told how each ended.
        """
        began_at_s = time.time()
        await asyncio.sleep(min(_SOONEST_S, self._interval_s))
        while True:
            now_s = time.time()
            # A server that has never monitored has nothing to look at yet.
            last_s = min(self._last_s() or began_at_s, now_s)
            if now_s - last_s < self._interval_s:
                await asyncio.sleep(max(_BETWEEN_S, self._interval_s - (now_s - last_s)))
                continue
            for ended in await self.once(subjects()):
                on_ended(ended.outcome)
                self._tell(ended)
            await asyncio.sleep(_BETWEEN_S)

    async def once(self, subjects: Sequence[str]) -> list[Ended]:
        """Monitor each, one after the other; nothing where another server does."""
        try:
            held = self._begun()
        except OSError as error:
            return [Ended("failed", f"{self._folder} cannot be written: {error.strerror}")]
        if held is None:
            return []
        try:
            return [await self._ended(subject, held) for subject in subjects]
        finally:
            os.close(held)

    async def _ended(self, subject: str, held: int) -> Ended:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                subject,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                # Threads that compute would be in the way of those that answer.
                env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONUNBUFFERED": "1"},
                # It holds the lock too: a server that is killed leaves its run running.
                pass_fds=(held,),
                process_group=0,
            )
        except OSError as error:
            return Ended("failed", f"it cannot be started: {error.strerror}")
        processes.stand_back(process.pid)
        return await _seen_out(process)

    def _begun(self) -> int | None:
        """Take the lock and note that a run begins; None where another process has it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return None
        os.utime(fd)
        return fd

    def _last_s(self) -> float | None:
        try:
            return (self._folder / _LOCK).stat().st_mtime
        except OSError:
            return None

    def _tell(self, ended: Ended) -> None:
        if ended.problem and ended.problem != self._told:
            self._on_event(f"monitoring: {ended.problem}")
        self._told = ended.problem


async def _seen_out(process: asyncio.subprocess.Process) -> Ended:
    """Wait for the end of a run; return how it ended."""
    tail = b""
    assert process.stderr is not None  # noqa: S101 - for the type checker
    try:
        async with asyncio.timeout(LONGEST_S):
            while chunk := await process.stderr.read(_CHUNK_BYTES):
                tail = (tail + chunk)[-_CHUNK_BYTES:]
            status = await process.wait()
    except TimeoutError:
        return Ended("failed", f"the run took longer than {LONGEST_S:g} s and was ended")
    finally:
        if process.returncode is None:
            await _end(process)
    if status == NOTHING_TO_COMPARE:
        return Ended("nothing")
    if status == 0:
        return Ended("done")
    lines = tail.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    problem = last.removeprefix("greenroom: ")
    return Ended("failed", problem or f"the run ended with {ending(status)}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask a run to end, so that its run in MLflow is ended too, and after a moment make it."""
    for number in (signal.SIGINT, signal.SIGKILL):
        processes.send_to_group(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _GRACE_S)
            return
