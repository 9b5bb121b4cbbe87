"""Training jobs: one at a time, each a process of its own that the supervisor starts and watches.

It is ``greenroom train``, as a person would call it, with a lower priority than serving and first
in line where the system runs out of memory. Whatever becomes of it, the workers do not notice. A
supervisor that was killed leaves its training running; the next one finds it, or knows that it was
cut off. What is trained is :mod:`greenroom.training.training`'s business, what is kept of a job
:mod:`greenroom.job_store`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from greenroom import processes
from greenroom.errors import ProcessError, TrainingUnderway
from greenroom.job import Job, JobOrder, ProcessIdentity, new_job_id
from greenroom.job_store import JobStore, lives
from greenroom.supervision.worker_process import ending
from greenroom.timestamps import timestamp_now
from greenroom.training_route import TrainingPlan

__all__ = ["Jobs", "plan_options", "train_command", "underway"]

log = logging.getLogger(__name__)

STOP_GRACE_S: Final = 5.0
"""How long a training may take to end its run in MLflow when the server stops."""

RELEASE_S: Final = 1.0
"""How long the lock may outlast the first thread of a process that is killed."""

LOOK_EVERY_S: Final = 0.5

_STOPPED: Final = "it was cut off: the server was stopped"


def train_command(
    folder: Path, *, config: Path | None = None, generated: bool = False
) -> list[str]:
    """Return what trains an app's models; a plan's options come behind it.

    Parameters
    ----------
    folder : Path
        The app's.
    config : Path, optional
        The settings file that the server was given.
    generated : bool
        Whether generated data may stand in.
    """
    command = [sys.executable, "-P", "-m", "greenroom", "train", str(folder)]
    command += [f"--config={config}"] if config else []
    return [*command, "--generated"] if generated else command


def plan_options(plan: TrainingPlan) -> list[str]:
    """Return a plan as options of ``greenroom train``.

    Examples
    --------
    >>> plan_options(TrainingPlan(model="m", candidates=("rf", "nn"), rows=100))
    ['--model=m', '--candidates=rf,nn', '--rows=100']
    """
    options = [f"--model={plan.model}"]
    options += [f"--candidates={','.join(plan.candidates)}"] if plan.candidates else []
    options += [f"--dataset={plan.dataset}"] if plan.dataset else []
    options += [f"--rows={plan.rows}"] if plan.rows else []
    return [*options, "--trial"] if plan.trial else options


class Jobs:
    """The training jobs of one server; all methods are for the supervisor's event loop.

    Parameters
    ----------
    store : JobStore
        Where they are kept.
    command : sequence of str
        What trains, as :func:`train_command` gives it.
    on_event : callable
        Told in one line what a person may want to know.
    on_promoted : callable
        Awaited when a training has promoted what it made, before those who wait are told.
    on_ended : callable
        Told how each job has ended.
    """

    def __init__(
        self,
        store: JobStore,
        command: Sequence[str],
        *,
        on_event: Callable[[str], None],
        on_promoted: Callable[[], Awaitable[object]],
        on_ended: Callable[[Job], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._command = command
        self._on_event = on_event
        self._on_promoted = on_promoted
        self._on_ended = on_ended
        self._ends: dict[str, asyncio.Task[None]] = {}
        self._present: Job | None = None
        self._stopping = False

    def adopt(self) -> None:
        """Take over what a server before this one has left: watch what runs, end what does not."""
        for job in self._store.recent():
            if job.state != "running" or lives(job.server):
                continue
            job = msgspec.structs.replace(job, server=_identity(os.getpid()))
            if lives(job.process):
                self._keep(job)
                self._on_event(f"training {job.id} runs on, begun by a server before this one")
                self._present = job
            self._attend(job, _outlived(job))

    async def begin(self, order: JobOrder) -> Job:
        """Start a training; return when its process runs.

        Raises
        ------
        TrainingUnderway
            When another one runs, whoever has started it from this home folder.
        ProcessError
            When it cannot be started, or the server is stopping.
        """
        if self._stopping:
            raise ProcessError("the server is stopping")
        held = await self._lock()
        try:
            job = Job(
                id=new_job_id(),
                order=order,
                began_at=timestamp_now(),
                server=_identity(os.getpid()),
            )
            self._store.write(job)
            self._store.forget_old()
            process = await self._start(job, held)
        finally:
            os.close(held)
        processes.stand_back(process.pid)
        job = msgspec.structs.replace(job, process=_identity(process.pid))
        self._keep(job)
        self._on_event(f"training {job.id} has begun: {' '.join(plan_options(order.plan))}")
        self._present = job
        self._attend(job, _ended(process))
        return job

    async def _lock(self) -> int:
        """Take the lock; what was killed this instant may hold it a moment longer."""
        until = time.monotonic() + RELEASE_S
        while True:
            held = self._store.lock()
            if held is not None:
                return held
            running = self._store.running()
            if (running is not None and lives(running.process)) or time.monotonic() > until:
                raise underway(running)
            await asyncio.sleep(RELEASE_S / 20)

    async def ended(self, job_id: str, *, leaving: Callable[[], bool] = lambda: False) -> Job:
        """Wait for the end of a job, or until the one who asks is leaving; return the job.

        Raises
        ------
        ProcessError
            When there is no such job.
        """
        end = self._ends.get(job_id)
        while end is not None and not end.done() and not leaving():
            await asyncio.wait({end}, timeout=LOOK_EVERY_S)
        job = self._store.read(job_id)
        if job is None:
            raise ProcessError(f"nothing is known of training {job_id} any more")
        return job

    async def stop(self) -> None:
        """End what runs: ask first, so that its run in MLflow is ended too."""
        self._stopping = True
        job, ends = self._present, list(self._ends.values())
        if job is not None and job.process is not None and lives(job.process):
            with contextlib.suppress(OSError):
                os.kill(job.process.pid, signal.SIGINT)
            await asyncio.wait(ends, timeout=STOP_GRACE_S)
            if lives(job.process):
                processes.send_to_group(job.process.pid, signal.SIGKILL)
        if ends:
            await asyncio.wait(ends, timeout=STOP_GRACE_S)

    async def _start(self, job: Job, held: int) -> asyncio.subprocess.Process:
        report, output = self._store.report_file(job.id), self._store.output_file(job.id)
        options = [*plan_options(job.order.plan), f"--progress-file={report}"]
        try:
            with output.open("wb") as file:
                return await asyncio.create_subprocess_exec(
                    *self._command,
                    *options,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=file,
                    stderr=asyncio.subprocess.STDOUT,
                    pass_fds=(held,),
                    env={**os.environ, "GREENROOM_WHO": job.order.who, "PYTHONUNBUFFERED": "1"},
                    start_new_session=True,
                )
        except OSError as error:
            problem = f"the training cannot be started: {error.strerror}"
            self._keep(_failed(job, problem))
            raise ProcessError(problem) from error

    def _attend(self, job: Job, over: Awaitable[int | str]) -> None:
        task = asyncio.get_running_loop().create_task(self._see_out(job, over))
        self._ends[job.id] = task

    async def _see_out(self, job: Job, over: Awaitable[int | str]) -> None:
        """Wait until a training is over, and note how it went.

        ``over`` gives the exit status, or where nobody knows it what to say of an end that the
        training itself has said nothing of.
        """
        status = await over
        found = self._store.read(job.id) or job
        done = (status == 0 or isinstance(status, str)) and found.report.state == "done"
        ended = msgspec.structs.replace(
            found,
            process=job.process,
            state="done" if done else "failed",
            ended_at=timestamp_now(),
            problem="" if done else self._problem(found, status),
        )
        self._keep(ended)
        if self._present is not None and self._present.id == job.id:
            self._present = None
        self._on_event(_end_line(ended))
        self._on_ended(ended)
        if any(model.outcome == "promoted" for model in ended.report.models) and not self._stopping:
            try:
                await self._on_promoted()
            except Exception as error:  # noqa: BLE001 - the next poll finds what was promoted, too
                self._on_event(f"training {job.id}: what it promoted is not served yet: {error}")
        del self._ends[job.id]

    def _problem(self, job: Job, status: int | str) -> str:
        """Say in one line why a training has failed."""
        if self._stopping:
            return _STOPPED
        if job.report.state == "failed":
            return job.report.problem
        if isinstance(status, str):
            return status
        if status == -signal.SIGKILL:
            return "its process was killed (SIGKILL), as the system does where memory runs out"
        last = self._store.last_line(job.id)
        return f"its process ended with {ending(status)}{f': {last}' if last else ''}"

    def _keep(self, job: Job) -> None:
        try:
            self._store.write(job)
        except ProcessError as error:
            self._on_event(str(error))


async def _ended(process: asyncio.subprocess.Process) -> int:
    status = await process.wait()
    # Whatever it has started ends with it.
    processes.send_to_group(process.pid, signal.SIGKILL)
    return status


async def _outlived(job: Job) -> str:
    """Return when a process has ended that is not this one's child."""
    if not lives(job.process):
        return "it was cut off: the server ended, and the training with it"
    while lives(job.process):
        await asyncio.sleep(LOOK_EVERY_S)
    return "its process ended without a word, after the server that had begun it"


def _identity(pid: int) -> ProcessIdentity:
    return ProcessIdentity(pid, processes.identity(pid))


def _failed(job: Job, problem: str) -> Job:
    return msgspec.structs.replace(job, state="failed", ended_at=timestamp_now(), problem=problem)


def underway(job: Job | None) -> TrainingUnderway:
    """Return the refusal of a training while another one runs."""
    which = f"training {job.id} is running, since {job.began_at}" if job else "a training runs"
    return TrainingUnderway(
        f"{which}, and one runs at a time", advice="ask for it again when that one is over"
    )


def _end_line(job: Job) -> str:
    if job.state == "failed":
        return f"training {job.id} failed: {job.problem}"
    words = [
        f"{one.model} {f'version {one.version} ' if one.version else ''}{one.outcome}"
        for one in job.report.models
    ]
    return f"training {job.id} is done: {', '.join(words) or 'nothing was trained'}"
