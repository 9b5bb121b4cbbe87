"""Adaptive micro-batching: what waits while the model is busy is answered in one call.

One thread runs the models, so that the event loop stays free. A request that finds it idle goes in
with whatever else arrived in the same turn of the event loop; while the thread is busy requests
queue up, and the next call takes as many of them as belong together. No clock takes part: load
alone makes batches, and a request without company never waits for any.

Requests of different versions are never put together. A call that fails is tried again in halves,
down to single requests, so that only those fail that fail by themselves. How many requests may
wait is decided where they come in, in :mod:`greenroom.http.admission`; how long, in
:mod:`greenroom.http.deadlines`, which calls :meth:`Batcher.give_up`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from greenroom.evaluation.predictions import Predictions
from greenroom.payloads.rows import RowSource

__all__ = ["Batched", "Batcher", "OnCall", "next_call"]

next_call: Final = count(1).__next__
"""Return a number for a call of a model, which no other call of this process has."""


class Predicts(Protocol):
    """What answers rows: :class:`greenroom.inference.served_model.ServedModel`."""

    @property
    def batches(self) -> bool:
        """Whether the rows of several requests may be answered in one call."""

    def batch_key(self, rows: RowSource) -> Hashable:
        """Return what requests must have in common to be answered in one call."""

    def predict(self, rows: RowSource) -> Predictions:
        """Answer rows; for a thread."""


class Batched(NamedTuple):
    """The answer to one request, and the call that it comes from.

    The last bits of an answer can depend on the rows beside it, so whoever wants the same bits
    again has to know them.

    Parameters
    ----------
    predictions : Predictions
        For the request's own rows.
    n_rows : int
        How many rows were answered in that call.
    first_row : int
        Where among them the request's own begin.
    call : int
        Which call of this process it was.
    """

    predictions: Predictions
    n_rows: int
    first_row: int
    call: int


_Future: TypeAlias = "asyncio.Future[Any]"
_Settle: TypeAlias = Callable[[], None]
OnCall: TypeAlias = Callable[[Any, int], None]


class _Request(NamedTuple):
    """Rows to be predicted, or something else to be done alone, since when, and for whom."""

    given: Any
    future: _Future
    since_s: float


@dataclass(slots=True, eq=False)
class _Lane:
    """Requests that may be answered together, in the order they came."""

    model: Predicts
    waiting: deque[_Request] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class _Alone:
    """Something else that is done by itself."""

    work: Callable[[Any], Any]
    request: _Request


class _Call(NamedTuple):
    """One piece of work for the thread; ``run`` says how to settle the futures it answers."""

    run: Callable[[], Sequence[_Settle]]
    loop: asyncio.AbstractEventLoop
    done: Callable[[Sequence[_Settle]], None]


class Batcher:
    """A thread that answers requests, several in one call where there are several.

    All methods are for the event loop. The thread starts with the first request and ends with
    :meth:`close`, or when nothing refers to the batcher any more.

    Parameters
    ----------
    max_rows : int
        How many rows are put together at most; one request with more goes by itself.
    on_call : callable, optional
        Told of each call, in the event loop: the model, and how many rows it has answered.
    """

    def __init__(self, max_rows: int, on_call: OnCall = lambda *_: None) -> None:
        self._max_rows: Final = max_rows
        self._on_call: Final = on_call
        # In the order in which they are served; one that has been moves to the end.
        self._lanes: dict[Hashable, _Lane | _Alone] = {}
        self._running: Sequence[_Request] = ()
        self._n_waiting = 0
        self._busy = False
        self._calls: Final[SimpleQueue[_Call | None]] = SimpleQueue()
        self._started = False
        self.close: Final = weakref.finalize(self, self._calls.put, None)
        self.close.atexit = False

    @property
    def n_waiting(self) -> int:
        """How many requests wait for the thread; those it is working on are not counted."""
        return self._n_waiting

    async def predict(self, model: Predicts, rows: RowSource) -> Batched:
        """Answer a request's rows, together with others of the same model if there are any.

        Raises
        ------
        Exception
            What ``model.predict`` raises for these rows by themselves, or what the request was
            given up with.
        """
        return await self.submit(model, rows)

    def submit(self, model: Predicts, rows: RowSource) -> asyncio.Future[Batched]:
        """Return the future of what :meth:`predict` returns."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Batched] = loop.create_future()
        key = (id(model), type(rows), model.batch_key(rows)) if model.batches else object()
        lane = self._lanes.get(key)
        if not isinstance(lane, _Lane):
            lane = self._lanes[key] = _Lane(model)
        lane.waiting.append(_Request(rows, future, loop.time()))
        self._wait()
        return future

    async def alone(self, work: Callable[[Any], Any], given: Any) -> Any:
        """Return ``work(given)``, done by the thread when it is its turn.

        Raises
        ------
        Exception
            What ``work`` raises, or what it was given up with.
        """
        return await self.submit_alone(work, given)

    def submit_alone(self, work: Callable[[Any], Any], given: Any) -> _Future:
        """Return the future of what :meth:`alone` returns."""
        loop = asyncio.get_running_loop()
        future: _Future = loop.create_future()
        self._lanes[object()] = _Alone(work, _Request(given, future, loop.time()))
        self._wait()
        return future

    def give_up(self, before_s: float, reason: Callable[[], Exception]) -> None:
        """Answer requests that have been here for too long with an error.

        A call that is being made goes on to its end; only its answer is not waited for.

        Parameters
        ----------
        before_s : float
            Those that came before this time of the loop's clock.
        reason : callable
            Makes the error, one for each.
        """
        waiting = (
            lane.waiting if isinstance(lane, _Lane) else (lane.request,)
            for lane in self._lanes.values()
        )
        for requests in (self._running, *waiting):
            for request in requests:
                if request.since_s >= before_s:
                    break
                if not request.future.done():
                    request.future.set_exception(reason())

    def _wait(self) -> None:
        self._n_waiting += 1
        if not self._busy:
            self._go_on()

    def _go_on(self) -> None:
        """Have the thread called at the end of this turn of the loop, with all that came in it."""
        self._busy = True
        asyncio.get_running_loop().call_soon(self._call)

    def _call(self) -> None:
        run = self._next()
        if run is None:
            self._busy = False
            self._running = ()
            return
        if not self._started:
            self._started = True
            threading.Thread(target=_work, args=(self._calls,), name="predict", daemon=True).start()
        self._calls.put(_Call(run, asyncio.get_running_loop(), self._done))

    def _done(self, settles: Sequence[_Settle]) -> None:
        """Give the answers out; the replies are written before the thread is called again."""
        for settle in settles:
            settle()
        self._go_on()

    def _next(self) -> Callable[[], Sequence[_Settle]] | None:
        """Take what is answered next: the lanes take turns."""
        while self._lanes:
            key = next(iter(self._lanes))
            lane = self._lanes.pop(key)
            if isinstance(lane, _Alone):
                self._n_waiting -= 1
                if lane.request.future.done():
                    continue
                self._running = (lane.request,)
                return partial(_done_alone, lane)
            taken = self._take(lane)
            if lane.waiting:
                self._lanes[key] = lane
            if taken:
                self._running = taken
                return partial(_answered, lane.model, taken, self._on_call)
        return None

    def _take(self, lane: _Lane) -> list[_Request]:
        """Take requests from a lane, if any; those that nobody waits for any more are dropped."""
        taken: list[_Request] = []
        n_rows = 0
        while lane.waiting:
            request = lane.waiting[0]
            if not request.future.done():
                if taken and n_rows + request.given.n_rows > self._max_rows:
                    break
                taken.append(request)
                n_rows += request.given.n_rows
            lane.waiting.popleft()
            self._n_waiting -= 1
        return taken


def _work(calls: SimpleQueue[_Call | None]) -> None:
    """Do what is asked for, until told to end; the thread's own function.

    It holds nothing of the batcher while it waits, so that an abandoned one can be collected.
    """
    while (call := calls.get()) is not None:
        settles = call.run()
        # A loop that was closed meanwhile refuses: then nobody waits for it either.
        with contextlib.suppress(RuntimeError):
            call.loop.call_soon_threadsafe(call.done, settles)
        del call, settles


def _answered(model: Predicts, requests: Sequence[_Request], on_call: OnCall) -> list[_Settle]:
    """Answer requests in one call; if it fails, in two, and so on down to the guilty."""
    try:
        n_rows = sum(request.given.n_rows for request in requests)
        return [partial(on_call, model, n_rows), *_in_one_call(model, requests)]
    except BaseException as error:  # noqa: BLE001 - an estimator may raise anything
        if len(requests) == 1:
            return [_failed(requests[0].future, error)]
    half = len(requests) // 2
    return [
        *_answered(model, requests[:half], on_call),
        *_answered(model, requests[half:], on_call),
    ]


def _in_one_call(model: Predicts, requests: Sequence[_Request]) -> list[_Settle]:
    if len(requests) == 1:
        ((rows, future, _),) = requests
        return [_given(future, Batched(model.predict(rows), rows.n_rows, 0, next_call()))]
    rows = type(requests[0].given).joined([own for own, _, _ in requests])
    predictions = model.predict(rows)
    settles, first, call = [], 0, next_call()
    for own, future, _ in requests:
        part = predictions.part(first, first + own.n_rows)
        settles.append(_given(future, Batched(part, rows.n_rows, first, call)))
        first += own.n_rows
    return settles


def _done_alone(lane: _Alone) -> list[_Settle]:
    given, future, _ = lane.request
    try:
        return [_given(future, lane.work(given))]
    except BaseException as error:  # noqa: BLE001 - handed on to whoever waits for it
        return [_failed(future, error)]


def _given(future: _Future, result: Any) -> _Settle:
    return lambda: None if future.done() else future.set_result(result)


def _failed(future: _Future, error: BaseException) -> _Settle:
    if isinstance(error, StopIteration) or not isinstance(error, Exception):
        # What a future cannot hold, or what would end the worker: a model's failure does neither.
        failure = RuntimeError(f"the model raised {type(error).__name__}")
        failure.__cause__ = error
        return _failed(future, failure)
    return lambda: None if future.done() else future.set_exception(error)
