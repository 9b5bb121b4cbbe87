"""Keeping a number of workers alive: one that ends is started again, later each time it fails.

What workers are told is :mod:`greenroom.supervisor`'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from greenroom.control import FromWorker, ToWorker
from greenroom.errors import ProcessError
from greenroom.worker_process import WorkerProcess, ending, plain

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
STEADY_AFTER_S: Final = 10.0
"""A worker that ran so long was no failed start: the next one starts without a pause again."""

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
    """

    def __init__(
        self,
        size: int,
        launch: Callable[[int], Awaitable[WorkerProcess]],
        listener: Listener,
    ) -> None:
        self.size = size
        self.living: dict[int, WorkerProcess] = {}
        self._launch = launch
        self._listener = listener
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
        done, _ = await asyncio.wait(self._slots, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

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
            _, left = await asyncio.wait(self._slots, timeout=grace_s)
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
            worker = await self._launch(slot)
            self.living[worker.id] = worker
            if self._stopping.is_set():
                worker.kill()
            status = await self._attend(worker)
            del self.living[worker.id]
            self._listener.on_left(worker, ending(status))
            ever_started = ever_started or worker.started
            failures = 0 if worker.age_s >= STEADY_AFTER_S else failures + 1
            if self._stopping.is_set():
                return
            if failures >= GIVE_UP_AFTER and not ever_started:
                raise _never_started(worker, ending(status))
            await self._pause(failures)

    async def _attend(self, worker: WorkerProcess) -> int:
        return await worker.attend(lambda message: self._listener.on_message(worker, message))

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
