"""Keeping a number of workers alive: one that ends is started again, later each time it fails.

One that says nothing any more is ended. A slot may have two workers for a while: the one in it and
its successor, which takes the slot over when the other one ends. What workers are told is
:mod:`greenroom.supervision.supervisor`'s business, and when one is to be succeeded
:mod:`greenroom.supervision.rolling_restart`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from greenroom.control import FromWorker, ToWorker
from greenroom.errors import ProcessError
from greenroom.supervision.worker_process import WorkerProcess, ending, plain

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
STEADY_AFTER_S: Final = 10.0
"""A worker that ran so long was no failed start: the next one starts without a pause again."""

WATCH_INTERVAL_S: Final = 1.0
"""How often it is looked which workers have said nothing; they do once a second."""

GIVE_UP_AFTER: Final = 3
"""How many starts in a row may fail before any worker has ever started."""


class Listener(Protocol):
    """Who is told what happens to workers."""

    def on_message(self, worker: WorkerProcess, message: FromWorker) -> None:
        """Tell that a worker has sent a message."""

    def on_left(self, worker: WorkerProcess, how: str) -> None:
        """Tell that a worker has ended."""


class Crew:
    """The workers of one server.

    Parameters
    ----------
    size : int
        How many there should be.
    launch : callable
        Starts a worker for a slot.
    listener : Listener
        Told of messages and ends.
    silent_s : float
        After how long a worker that serves and says nothing is ended.
    """

    def __init__(
        self,
        size: int,
        launch: Callable[[int], Awaitable[WorkerProcess]],
        listener: Listener,
        *,
        silent_s: float,
    ) -> None:
        self.size = size
        self.living: dict[int, WorkerProcess] = {}
        self._launch = launch
        self._listener = listener
        self._silent_s = silent_s
        self._ends: dict[int, asyncio.Task[int]] = {}
        self._successors: dict[int, WorkerProcess] = {}
        self._stopping = asyncio.Event()
        self._slots: list[asyncio.Task[None]] = []

    @property
    def joined(self) -> list[WorkerProcess]:
        """The living workers that accept connections."""
        return [worker for worker in self.living.values() if worker.joined]

    async def run(self) -> None:
        """Keep every slot filled until :meth:`stop`.

        Raises
        ------
        ProcessError
            When no worker has ever started and one slot has failed several times; the message
            holds the last line that a worker wrote.
        """
        self._slots = [asyncio.create_task(self._fill(slot)) for slot in range(1, self.size + 1)]
        watch = asyncio.create_task(self._watch())
        try:
            done, _ = await asyncio.wait(self._slots, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            watch.cancel()

    async def succeed(self, slot: int) -> WorkerProcess:
        """Start a worker that takes a slot over when the one in it has ended.

        Raises
        ------
        ProcessError
            When the operating system cannot start it.
        """
        worker = await self._start(slot)
        worker.on_trial = True
        self._successors[slot] = worker
        return worker

    def others(self, worker: WorkerProcess) -> list[WorkerProcess]:
        """Return who else is in a worker's slot."""
        return [
            other
            for other in self.living.values()
            if other.slot == worker.slot and other is not worker
        ]

    def broadcast(self, message: ToWorker) -> None:
        """Send a message to every worker that has started."""
        for worker in self.living.values():
            if worker.started:
                worker.send(message)

    async def stop(self, *, grace_s: float) -> None:
        """Let workers finish their requests; kill those that have none, or take too long."""
        self._stopping.set()
        for worker in self.living.values():
            if worker.joined:
                worker.terminate()
            else:
                worker.kill()
        if self._slots:
            _, left = await asyncio.wait([*self._slots, *self._ends.values()], timeout=grace_s)
            self.kill()
            if left:
                await asyncio.wait(left)

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self.living.values():
            worker.kill()

    async def _fill(self, slot: int) -> None:
        failures = 0
        ever_started = False
        while not self._stopping.is_set():
            worker = self._successors.pop(slot, None) or await self._start(slot)
            worker.on_trial = False
            status = await self._ends[worker.id]
            ever_started = ever_started or worker.started
            failures = 0 if worker.age_s >= STEADY_AFTER_S else failures + 1
            if self._stopping.is_set():
                return
            if slot in self._successors:
                continue
            if failures >= GIVE_UP_AFTER and not ever_started:
                raise _never_started(worker, ending(status))
            await self._pause(failures)

    async def _start(self, slot: int) -> WorkerProcess:
        worker = await self._launch(slot)
        self.living[worker.id] = worker
        if self._stopping.is_set():
            worker.kill()
        self._ends[worker.id] = asyncio.create_task(self._attend(worker))
        return worker

    async def _attend(self, worker: WorkerProcess) -> int:
        """Hand on what a worker says until it has ended; return its exit status."""
        status = await worker.attend(lambda message: self._listener.on_message(worker, message))
        del self.living[worker.id], self._ends[worker.id]
        if self._successors.get(worker.slot) is worker:
            del self._successors[worker.slot]
        self._listener.on_left(worker, ending(status))
        return status

    async def _watch(self) -> None:
        """End workers that serve and whose event loop does not run.

        Turns are counted and not the clock read: where this process was held up too (a machine
        that slept, a container that was frozen) its workers have not been silent.
        """
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            for worker in self.living.values():
                worker.silent_turns += 1
                silent_s = worker.silent_turns * WATCH_INTERVAL_S
                if worker.joined and not worker.loading and silent_s > self._silent_s:
                    worker.give_up(f"has said nothing for {self._silent_s:g} s")

    async def _pause(self, failures: int) -> None:
        pause_s = min(FIRST_PAUSE_S * 2 ** max(failures - 1, 0), LONGEST_PAUSE_S)
        try:
            await asyncio.wait_for(self._stopping.wait(), pause_s)
        except TimeoutError:
            return


def _never_started(worker: WorkerProcess, how: str) -> ProcessError:
    reason = plain(worker.last_line) or how
    if worker.hung:
        reason = "they do not get ready in time"
    return ProcessError(f"the workers do not start: {reason}", advice="see the log lines above")
