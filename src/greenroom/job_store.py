"""The jobs of a server on disk: a folder for each, and a lock that one training holds at a time.

In a job's folder lie what the supervisor knows of it (``job.json``), what the training says of
itself (``report.json``) and all that it prints (``output.log``). Workers read, the supervisor
writes. The lock belongs to the training's process and ends with it, however that happens: the
kernel keeps it, not a file's content.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from greenroom import processes
from greenroom.errors import ProcessError
from greenroom.job import Job, ProcessIdentity, is_job_id
from greenroom.training.training_report import read_report

__all__ = ["JobStore", "lives"]

KEPT_JOBS: Final = 100
"""How many jobs are remembered."""

_TAIL_BYTES: Final = 4_096
_LOCK: Final = "lock"


class JobStore:
    """The folder of a server's jobs.

    Parameters
    ----------
    home : Path
        The home folder; several servers may share it, and then share the one training at a time.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / "jobs"

    def folder(self, job_id: str) -> Path:
        """Return where a job's files lie."""
        return self._folder / job_id

    def report_file(self, job_id: str) -> Path:
        """Return where a job's training says how it is."""
        return self.folder(job_id) / "report.json"

    def output_file(self, job_id: str) -> Path:
        """Return where all that a job's training prints is kept."""
        return self.folder(job_id) / "output.log"

    def lock(self) -> int | None:
        """Take the lock; return the open file that holds it, or None when a training has it.

        It is held until every copy of the file is closed, in whatever process.

        Raises
        ------
        ProcessError
            When the home folder cannot be written to.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def write(self, job: Job) -> None:
        """Keep what is known of a job.

        Raises
        ------
        ProcessError
            When it cannot be written.
        """
        path = self.folder(job.id) / "job.json"
        beside = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(msgspec.json.encode(job))
            beside.replace(path)
        except OSError as error:
            raise _unwritable(path.parent, error) from error

    def read(self, job_id: str) -> Job | None:
        """Return a job with what its training says now; None when there is none."""
        if not is_job_id(job_id):
            return None
        try:
            job = msgspec.json.decode((self.folder(job_id) / "job.json").read_bytes(), type=Job)
        except (OSError, msgspec.DecodeError):
            return None
        report = read_report(self.report_file(job_id))
        return msgspec.structs.replace(job, report=report) if report else job

    def recent(self) -> Iterator[Job]:
        """Return the jobs, the last one first."""
        for job_id in self._ids():
            job = self.read(job_id)
            if job is not None:
                yield job

    def running(self) -> Job | None:
        """Return the job that runs, or is thought to; None when none does."""
        return next((job for job in self.recent() if job.state == "running"), None)

    def forget_old(self) -> None:
        """Remove all but the last jobs."""
        # Jobs of one second are told apart by chance: the one that runs may stand among the old.
        running = self.running()
        for job_id in self._ids()[KEPT_JOBS:]:
            if running is not None and job_id == running.id:
                continue
            shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def last_line(self, job_id: str) -> str:
        """Return the last thing that a job's training has printed; empty where there is nothing."""
        try:
            with self.output_file(job_id).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - _TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _ids(self) -> list[str]:
        try:
            names = [path.name for path in self._folder.iterdir()]
        except OSError:
            return []
        return sorted((name for name in names if is_job_id(name)), reverse=True)


def lives(process: ProcessIdentity | None) -> bool:
    """Whether a process is alive, and still the one that it was.

    Examples
    --------
    >>> lives(ProcessIdentity(os.getpid(), processes.identity(os.getpid())))
    True
    >>> lives(ProcessIdentity(os.getpid(), "another")), lives(None)
    (False, False)
    """
    if process is None or not process.identity:
        return False
    return processes.identity(process.pid) == process.identity


def _unwritable(folder: Path, error: OSError) -> ProcessError:
    return ProcessError(
        f"{folder} cannot be written to: {error.strerror}",
        advice="make the folder writable, or set GREENROOM_HOME",
    )
