"""Adaptive micro-batching: what waits while the model is busy is answered in one call.

One thread runs the models, so that the event loop stays free. A request that finds it idle goes in
with whatever else arrived in the same turn of the event loop; while the thread is busy requests
queue up, and the next call takes as many of them as belong together. No clock takes part: load
alone makes batches, and a request without company never waits for any.

Requests of different versions are never put together. A call that fails is tried again in halves,
down to single requests, so that only those fail that fail by themselves. How many requests may
wait is not decided here: :attr:`Batcher.n_waiting` is what such a bound would look at.
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
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from greenroom.predictions import Predictions
from greenroom.rows import RowSource

__all__ = ["Batched", "Batcher", "OnCall"]


class Predicts(Protocol):
    """What answers rows: :class:`greenroom.inference.ServedModel`."""

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
    """

    predictions: Predictions
    n_rows: int
    first_row: int


_Future: TypeAlias = "asyncio.Future[Any]"
_Settle: TypeAlias = Callable[[], None]
OnCall: TypeAlias = Callable[[Any, int], None]


@dataclass(slots=True, eq=False)
class _Lane:
    """Requests that may be answered together, in the order they came."""

    model: Predicts
    waiting: deque[tuple[RowSource, _Future]] = field(default_factory=deque)


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
        self._lanes: dict[Hashable, _Lane | Callable[[], Sequence[_Settle]]] = {}
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
            What ``model.predict`` raises for these rows by themselves.
        """
        return await self.submit(model, rows)

    def submit(self, model: Predicts, rows: RowSource) -> asyncio.Future[Batched]:
        """Return the future of what :meth:`predict` returns."""
        future: asyncio.Future[Batched] = asyncio.get_running_loop().create_future()
        key = (id(model), type(rows), model.batch_key(rows)) if model.batches else object()
        lane = self._lanes.get(key)
        if not isinstance(lane, _Lane):
            lane = self._lanes[key] = _Lane(model)
        lane.waiting.append((rows, future))
        self._wait()
        return future

    async def alone(self, work: Callable[[Any], Any], given: Any) -> Any:
        """Return ``work(given)``, done by the thread when it is its turn."""
        return await self.submit_alone(work, given)

    def submit_alone(self, work: Callable[[Any], Any], given: Any) -> _Future:
        """Return the future of what :meth:`alone` returns."""
        future: _Future = asyncio.get_running_loop().create_future()
        self._lanes[object()] = lambda: [_settled(future, work, given)]
        self._wait()
        return future

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
            if not isinstance(lane, _Lane):
                self._n_waiting -= 1
                return lane
            taken = self._take(lane)
            if lane.waiting:
                self._lanes[key] = lane
            if taken:
                on_call = self._on_call
                return lambda: _answered(lane.model, taken, on_call)
        return None

    def _take(self, lane: _Lane) -> list[tuple[RowSource, _Future]]:
        """Take requests from a lane, at least one; those whose callers have gone are dropped."""
        taken: list[tuple[RowSource, _Future]] = []
        n_rows = 0
        while lane.waiting:
            rows, future = lane.waiting[0]
            if not future.cancelled():
                if taken and n_rows + rows.n_rows > self._max_rows:
                    break
                taken.append((rows, future))
                n_rows += rows.n_rows
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


def _answered(
    model: Predicts, requests: Sequence[tuple[RowSource, _Future]], on_call: OnCall
) -> list[_Settle]:
    """Answer requests in one call; if it fails, in two, and so on down to the guilty."""
    try:
        n_rows = sum(rows.n_rows for rows, _ in requests)
        return [partial(on_call, model, n_rows), *_in_one_call(model, requests)]
    except BaseException as error:  # noqa: BLE001 - an estimator may raise anything
        if len(requests) == 1:
            return [_failed(requests[0][1], error)]
    half = len(requests) // 2
    return [
        *_answered(model, requests[:half], on_call),
        *_answered(model, requests[half:], on_call),
    ]


def _in_one_call(model: Predicts, requests: Sequence[tuple[RowSource, _Future]]) -> list[_Settle]:
    if len(requests) == 1:
        ((rows, future),) = requests
        return [_given(future, Batched(model.predict(rows), rows.n_rows, 0))]
    rows = type(requests[0][0]).joined([own for own, _ in requests])
    predictions = model.predict(rows)
    settles, first = [], 0
    for own, future in requests:
        part = predictions.part(first, first + own.n_rows)
        settles.append(_given(future, Batched(part, rows.n_rows, first)))
        first += own.n_rows
    return settles


def _settled(future: _Future, work: Callable[[Any], Any], given: Any) -> _Settle:
    try:
        return _given(future, work(given))
    except BaseException as error:  # noqa: BLE001 - handed on to whoever waits for it
        return _failed(future, error)


def _given(future: _Future, result: Any) -> _Settle:
    return lambda: None if future.done() else future.set_result(result)


def _failed(future: _Future, error: BaseException) -> _Settle:
    if isinstance(error, StopIteration) or not isinstance(error, Exception):
        # What a future cannot hold, or what would end the worker: a model's failure does neither.
        failure = RuntimeError(f"the model raised {type(error).__name__}")
        failure.__cause__ = error
        return _failed(future, failure)
    return lambda: None if future.done() else future.set_exception(error)
