"""Bringing a generation to all workers at one instant, and workers to the committed generation.

Which generation is wanted is :mod:`greenroom.supervision.supervisor`'s business, how the votes of a
swap are counted :mod:`greenroom.supervision.swap`'s, and how workers are kept alive
:mod:`greenroom.supervision.crew`'s.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from greenroom.control import (
    Ask,
    Beat,
    CommittedGeneration,
    Failed,
    FromWorker,
    Joined,
    Prepared,
    Started,
    Trouble,
    Update,
    Updated,
)
from greenroom.inference.generation import Deployment, Generation
from greenroom.status import Status
from greenroom.supervision.crew import Crew
from greenroom.supervision.swap import Outcome, Swap
from greenroom.supervision.worker_process import WorkerProcess

_SHOWN_TIMEOUT_S: Final = 1.0


class Observer(Protocol):
    """Who is told what workers want, and what becomes of them."""

    def on_event(self, text: str) -> None:
        """Tell in one line what a person may want to know."""

    def on_ask(self, worker: WorkerProcess, ask: Ask) -> None:
        """Tell that a worker asks for something on behalf of a caller."""

    def on_joined(self) -> None:
        """Tell that a worker accepts connections."""

    def on_left(self, worker: WorkerProcess) -> None:
        """Tell that a worker has ended."""

    def on_swap(self, outcome: Outcome, seconds: float) -> None:
        """Tell how a swap has ended, and how long it took."""

    def on_trouble(self) -> None:
        """Tell that what :meth:`Rollout.troubles` returns has changed."""

    def on_unloadable(self, model: str, problem: str) -> None:
        """Tell that what is committed does not load any more, and that nobody serves it."""


class Rollout:
    """The workers of a server, and the generation that they answer from.

    Parameters
    ----------
    size : int
        How many workers there are.
    silent_s : float
        After how long a worker that says nothing is replaced.
    launch : callable
        Starts a worker for a slot.
    committed : CommittedGeneration
        The number that workers read.
    observer : Observer
        Told of what is not settled here.
    """

    def __init__(
        self,
        size: int,
        launch: Callable[[int], Awaitable[WorkerProcess]],
        committed: CommittedGeneration,
        observer: Observer,
        *,
        silent_s: float,
    ) -> None:
        self.crew = Crew(size, launch, self, silent_s=silent_s)
        self.generation = Generation(number=0, deployments=())
        self.ready = asyncio.Event()
        self._committed = committed
        self._observer = observer
        self._numbers = itertools.count(1)
        self._status: Status | None = None
        self._candidate: Generation | None = None
        self._swap: Swap | None = None
        self._decided: asyncio.Future[Outcome] | None = None
        self._changed = asyncio.Event()
        self._stopping = False

    async def swap(
        self, deployments: Sequence[Deployment], *, on_commit: Callable[[], None]
    ) -> Outcome:
        """Have all workers load ``deployments``, and commit them when all have.

        One swap at a time. What is not committed is dropped, and the last generation goes on.
        ``on_commit`` is called before waiting workers are let in.
        """
        generation = Generation(number=next(self._numbers), deployments=tuple(deployments))
        began_s = time.monotonic()
        members = [worker.id for worker in self.crew.joined]
        self._swap = Swap(generation.number, members)
        self._candidate = generation
        self._decided = asyncio.get_running_loop().create_future()
        try:
            for worker in self.crew.living.values():
                if worker.started:
                    self._ask_for_candidate(worker)
            outcome = await self._decided
            if outcome.verdict == "commit":
                self._committed.commit(generation.number)
                self.generation = generation
                on_commit()
            self._observer.on_swap(outcome, time.monotonic() - began_s)
        finally:
            self._swap = self._candidate = self._decided = None
            for worker in self.crew.living.values():
                worker.discard(self.generation.number)
        for worker in self.crew.living.values():
            self._admit(worker)
        return outcome

    def publish(self, status: Status) -> None:
        """Give every worker a new status, now and when it starts."""
        if status != self._status:
            self._status = status
            self.crew.broadcast(Update(status))

    def troubles(self) -> dict[tuple[str, str], str]:
        """Return what does not load on its first use: by model and digest, why."""
        found: dict[tuple[str, str], str] = {}
        for worker in self.crew.living.values():
            found |= worker.troubles
        return found

    async def shown(self) -> None:
        """Return when every worker that serves shows the committed status, or after a second."""
        await self._within(_SHOWN_TIMEOUT_S, self._all_show)

    async def some_joined(self, timeout_s: float) -> None:
        """Return when a worker accepts connections, or after ``timeout_s`` seconds."""
        await self._within(timeout_s, lambda: bool(self.crew.joined))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when something is so that depends on what workers say, or on who has left."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    @property
    def runtimes(self) -> Mapping[str, frozenset[str]]:
        """By model, which runtimes the workers that serve answer with; normally one."""
        found: dict[str, set[str]] = {}
        for worker in self.crew.living.values():
            if worker.joined or not self.crew.joined:
                for model, kind in worker.runtimes.get(self.generation.number, {}).items():
                    found.setdefault(model, set()).add(kind)
        return {model: frozenset(kinds) for model, kinds in found.items()}

    async def stop(self, *, grace_s: float) -> None:
        """Let the workers finish their requests and end."""
        self._stopping = True
        await self.crew.stop(grace_s=grace_s)

    def on_message(self, worker: WorkerProcess, message: FromWorker) -> None:
        """Act on what a worker says."""
        if isinstance(message, Started):
            self._on_started(worker)
        elif isinstance(message, Prepared):
            self._on_prepared(worker, message)
        elif isinstance(message, Failed):
            self._on_failed(worker, message)
        elif isinstance(message, Joined):
            worker.accepts = True
            self._observer.on_joined()
            self.ready.set()
        elif isinstance(message, Updated):
            worker.shown = message.generation
        elif isinstance(message, Beat):
            return
        elif isinstance(message, Trouble):
            self._on_trouble(worker, message)
        else:
            self._observer.on_ask(worker, message)
        self._changed.set()

    def on_left(self, worker: WorkerProcess, how: str) -> None:
        """Go on without a worker that has ended."""
        self._observer.on_left(worker)
        if self._swap is not None:
            self._swap.left(worker.id, hung=worker.hung)
            self._decide()
        if not self._stopping:
            self._tell_of(worker, how)
        if worker.troubles and not self._stopping:
            self._observer.on_trouble()
        self._changed.set()

    def _tell_of(self, worker: WorkerProcess, how: str) -> None:
        """Tell of a worker that is gone, unless that is what it was asked for."""
        reason = worker.killed_because
        why = f"{reason} and was killed" if reason else f"ended ({how})"
        place = f"worker {worker.slot} (process {worker.pid})"
        if worker.on_trial or (worker.retiring and not reason):
            return  # a rolling restart says what has come of it
        more = "" if worker.retiring else "; another one is started"
        self._observer.on_event(f"{place} {why}{more}")

    def _on_started(self, worker: WorkerProcess) -> None:
        worker.started = True
        worker.answered(0)
        if self._status is not None:
            worker.send(Update(self._status))
        if self._candidate is None:
            self._admit(worker)
            return
        if self.crew.joined:
            worker.prepare(self.generation)
        self._ask_for_candidate(worker)

    def _on_prepared(self, worker: WorkerProcess, message: Prepared) -> None:
        worker.has_prepared(message.number, message.runtimes)
        if self._swap is not None and message.number == self._swap.number:
            self._swap.prepared(worker.id)
            self._decide()
        elif message.number == self.generation.number:
            self._admit(worker)
        else:
            worker.discard(self.generation.number)

    def _on_failed(self, worker: WorkerProcess, message: Failed) -> None:
        worker.answered(message.number)
        worker.failure = f"{message.model}: {message.problem}"
        if self._swap is not None and message.number == self._swap.number:
            self._swap.failed(worker.id, message.model, message.problem)
            self._decide()
        elif message.number == self.generation.number:
            self._on_unloadable(worker, message)

    def _on_trouble(self, worker: WorkerProcess, message: Trouble) -> None:
        key = (message.model, message.digest)
        if message.problem:
            if message.problem != self.troubles().get(key):
                self._observer.on_event(message.problem)
            worker.troubles[key] = message.problem
        else:
            worker.troubles.pop(key, None)
        self._observer.on_trouble()

    def _on_unloadable(self, worker: WorkerProcess, message: Failed) -> None:
        """Try another process when others serve what this one cannot load; else it is the files."""
        if self.crew.joined:
            self._observer.on_event(
                f"worker {worker.slot} cannot load what others serve: {worker.failure}"
            )
            worker.kill()
        elif self._swap is None:
            self._observer.on_unloadable(message.model, message.problem)

    def _ask_for_candidate(self, worker: WorkerProcess) -> None:
        if self._swap is not None and self._candidate is not None:
            self._swap.asked(worker.id)
            worker.prepare(self._candidate)

    def _admit(self, worker: WorkerProcess) -> None:
        """Let a worker in that has what is committed; never while a swap may change that."""
        if worker.joined or not worker.started or self._swap is not None:
            return
        number = self.generation.number
        if number == 0:
            return
        if number in worker.prepared:
            worker.join(number)
        else:
            worker.prepare(self.generation)

    def _decide(self) -> None:
        if self._swap is None or self._decided is None or self._decided.done():
            return
        outcome = self._swap.outcome
        if outcome is not None:
            self._decided.set_result(outcome)

    def _all_show(self) -> bool:
        number = self.generation.number
        return all(worker.shown >= number for worker in self.crew.joined)

    async def _within(self, timeout_s: float, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.until(condition)
        except TimeoutError:
            return
