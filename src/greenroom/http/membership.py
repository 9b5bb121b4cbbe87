"""A worker's side of the control channel: prepare generations, join, know the server's status.

What a message asks for is done here; what a generation is made of is the engine's business, and
who is asked when is :mod:`greenroom.supervision.supervisor`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import time
from collections.abc import AsyncIterator
from typing import Final, Protocol

from greenroom import errors
from greenroom.control import (
    Answer,
    Ask,
    Beat,
    Channel,
    Discard,
    Failed,
    Join,
    Joined,
    Prepare,
    Prepared,
    Started,
    ToWorker,
    Trouble,
    Update,
    Updated,
    open_to_supervisor,
)
from greenroom.errands import Done, Errand, Reload, Reloaded
from greenroom.errors import GreenroomError, ProcessError, VersionError
from greenroom.inference.generation import Generation
from greenroom.status import Status

log = logging.getLogger(__name__)

BEAT_INTERVAL_S: Final = 1.0


class Prepares(Protocol):
    """What loads generations: :class:`greenroom.inference.inference.Engine`."""

    def prepare(self, generation: Generation) -> None:
        """Load and warm every deployment, or raise a VersionError naming the model."""

    def keep(self, number: int) -> None:
        """Drop every generation but this one."""

    def runtimes(self, number: int) -> dict[str, str]:
        """Return which runtime answers in a generation, by model."""


class Membership:
    """One worker's membership of the server, from its start to its end.

    Parameters
    ----------
    engine : Prepares
        Loads what is to be prepared, in a thread of its own, one generation after the other.
    control_fd : int
        The inherited end of the control channel.
    """

    def __init__(self, engine: Prepares, control_fd: int) -> None:
        self._engine = engine
        self._control_fd = control_fd
        self._channel: Channel[ToWorker] | None = None
        self._status: Status | None = None
        self._joined: asyncio.Future[None] | None = None
        self._orders: asyncio.Queue[Generation] = asyncio.Queue()
        self._asked: dict[int, asyncio.Future[Done]] = {}
        self._ask_ids = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []

    def status(self) -> Status:
        """Return the server's status as the supervisor last told it.

        Raises
        ------
        ProcessError
            Before the worker has joined.
        """
        if self._status is None:
            raise ProcessError("the worker has not joined yet")
        return self._status

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """Join, and leave in the end: what an ASGI app's lifespan is made of.

        The web server accepts connections once the start-up is complete, so not before this worker
        has joined.
        """
        try:
            await self.join()
            yield
        finally:
            await self.leave()

    async def join(self) -> None:
        """Return when this worker has prepared what is committed and may accept connections.

        Raises
        ------
        ProcessError
            When the supervisor is gone.
        """
        self._joined = asyncio.get_running_loop().create_future()
        self._channel = await open_to_supervisor(socket.socket(fileno=self._control_fd))
        self._tasks = [
            asyncio.create_task(self._listen(self._channel)),
            asyncio.create_task(self._prepare(self._channel)),
            asyncio.create_task(_beat(self._channel)),
        ]
        self._channel.send(Started())
        await self._joined
        self._channel.send(Joined())

    async def leave(self) -> None:
        """End the tasks of this worker and close its end of the channel."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._channel is not None:
            await self._channel.close()

    def report(self, model: str, digest: str, problem: str) -> None:
        """Tell that a version does not load on its first use; with no problem, that it does now."""
        if self._channel is not None:
            self._channel.send(Trouble(model, digest, problem))

    async def reload(self) -> Status:
        """Have the registry asked now, and return when all workers serve what it selects.

        Raises
        ------
        GreenroomError
            What stood in the way; the class is the one that the supervisor met.
        """
        outcome = await self.ask(Reload())
        if not isinstance(outcome, Reloaded):
            raise ProcessError(f"a reload was answered with {type(outcome).__name__}")
        return outcome.status

    async def ask(self, errand: Errand) -> Done:
        """Have the supervisor do something for a caller, and return what came of it.

        Raises
        ------
        GreenroomError
            What stood in the way; the class is the one that the supervisor met.
        """
        if self._channel is None:
            raise ProcessError("the worker has not joined yet")
        ask_id = next(self._ask_ids)
        answer: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._asked[ask_id] = answer
        self._channel.send(Ask(ask_id, errand))
        try:
            return await answer
        finally:
            del self._asked[ask_id]

    async def _listen(self, channel: Channel[ToWorker]) -> None:
        try:
            while (message := await channel.receive()) is not None:
                self._obey(message, channel)
            gone = ProcessError("the supervisor is gone")
        except ProcessError as error:
            gone = error
        for waiting in (self._joined, *self._asked.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(gone)

    def _obey(self, message: ToWorker, channel: Channel[ToWorker]) -> None:
        if isinstance(message, Prepare):
            self._orders.put_nowait(message.generation)
        elif isinstance(message, Discard):
            self._engine.keep(message.keep)
        elif isinstance(message, Update):
            self._status = message.status
            channel.send(Updated(message.status.generation))
        elif isinstance(message, Join):
            if self._joined is not None and not self._joined.done():
                self._joined.set_result(None)
        else:
            self._deliver(message)

    def _deliver(self, answer: Answer) -> None:
        waiting = self._asked.get(answer.ask_id)
        if waiting is None or waiting.done():
            return
        if answer.outcome is not None:
            waiting.set_result(answer.outcome)
        else:
            waiting.set_exception(_error(answer))

    async def _prepare(self, channel: Channel[ToWorker]) -> None:
        while True:
            generation = await self._orders.get()
            began = time.perf_counter()
            try:
                await asyncio.to_thread(self._engine.prepare, generation)
            except VersionError as error:
                channel.send(Failed(generation.number, error.model, str(error)))
            except Exception as error:
                log.exception("generation %d does not load", generation.number)
                problem = f"{type(error).__name__}: {error}"
                channel.send(Failed(generation.number, "", problem))
            else:
                number = generation.number
                took_s = time.perf_counter() - began
                log.debug("generation %d is loaded after %.2f s", number, took_s)
                channel.send(Prepared(number, took_s, self._engine.runtimes(number)))


async def _beat(channel: Channel[ToWorker]) -> None:
    while True:
        channel.send(Beat())
        await asyncio.sleep(BEAT_INTERVAL_S)


def _error(answer: Answer) -> GreenroomError:
    kind = getattr(errors, answer.error, None)
    if not (isinstance(kind, type) and issubclass(kind, GreenroomError)):
        kind = GreenroomError
    return kind(answer.message, advice=answer.advice)
