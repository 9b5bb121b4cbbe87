"""Answering: a prediction's way from the body of a request to the body of its reply.

Where it runs depends on what it costs. A compiled model answers a few rows sooner than a thread
would wake up, so it is called in the event loop, once for all requests that were read in the same
turn of the loop: they share the call, the clock and the waking of whoever waits for them. Nobody is
waited for; a request without company is answered in the turn it came in. What takes longer goes to
the thread of :mod:`greenroom.batching`.

There is no HTTP here: what carries requests and replies is :mod:`greenroom.serving`'s business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from greenroom.batching import Batcher, OnCall
from greenroom.predictions import Predictions
from greenroom.request import Rows
from greenroom.rows import RowSource
from greenroom.served_model import ServedModel

__all__ = ["Answering"]

LARGE_BODY_BYTES: Final = 65_536
"""From here on a request is answered in the thread from beginning to end, by itself: other requests
do not wait for it, and it would gain nothing from company."""

Answered: TypeAlias = Callable[[bytes | Exception], None]
"""Told the reply's body, or why there is none; called in the event loop, exactly once."""


class Question(NamedTuple):
    """A request that has been read and waits for its answer."""

    rows: Rows
    began_s: float
    answered: Answered


class Answering:
    """What answers the prediction requests of one worker; all methods are for the event loop.

    Parameters
    ----------
    max_batch_rows : int
        How many rows of several requests are predicted in one call.
    on_call : callable, optional
        Told of each call of a model: the model, and how many rows it has answered.
    """

    def __init__(self, max_batch_rows: int, on_call: OnCall = lambda *_: None) -> None:
        self._max_rows: Final = max_batch_rows
        self._on_call: Final = on_call
        # One thread: numpy and scikit-learn hold it for less time than a second one would cost.
        self.batcher: Final = Batcher(max_batch_rows, on_call)
        self._turn: dict[Hashable, tuple[ServedModel, list[Question]]] = {}
        self._n_rows = 0

    def ask(self, served: ServedModel, body: bytes, answered: Answered) -> None:
        """Answer a body; nothing is raised, ``answered`` is told.

        Parameters
        ----------
        served : ServedModel
            What answers, to the end.
        body : bytes
        answered : callable
            Told the reply's body, or the exception: those of :meth:`ServedModel.answer`.
        """
        if len(body) >= LARGE_BODY_BYTES:
            future = self.batcher.submit_alone(partial(_whole, served), body)
            future.add_done_callback(partial(_settled, served, answered, self._on_call))
            return
        began_s = time.perf_counter()
        try:
            rows = served.decode(body)
            question = Question(rows, began_s, answered)
            if self._n_rows + rows.n_rows <= served.quick_rows:
                self._in_this_turn(served, question)
                return
            future = self.batcher.submit(served, rows)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is to be told
            _tell(answered, error)
        else:
            future.add_done_callback(partial(_encoded, served, question))

    async def predict(self, served: ServedModel, rows: RowSource) -> Predictions:
        """Return the predictions for rows, for protocols that read and write bodies themselves.

        Raises
        ------
        Exception
            What ``served.predict`` raises for these rows by themselves.
        """
        if rows.n_rows <= served.quick_rows:
            predictions = served.predict(rows)
            self._on_call(served, rows.n_rows)
            return predictions
        return (await self.batcher.predict(served, rows)).predictions

    async def work(self, n_bytes: int, work: Callable[[], Any]) -> Any:
        """Return ``work()``, done in the thread where there are many bytes to work on."""
        if n_bytes < LARGE_BODY_BYTES:
            return work()
        return await self.batcher.alone(lambda _: work(), None)

    def close(self) -> None:
        """Let the thread end."""
        self.batcher.close()

    def _in_this_turn(self, served: ServedModel, question: Question) -> None:
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._answer_turn)
        key = (id(served), served.batch_key(question.rows))
        lane = self._turn.get(key)
        if lane is None:
            self._turn[key] = (served, [question])
        else:
            lane[1].append(question)
        self._n_rows += question.rows.n_rows

    def _answer_turn(self) -> None:
        lanes, self._turn, self._n_rows = self._turn, {}, 0
        for served, questions in lanes.values():
            for some in _within(questions, self._max_rows):
                _answer_together(served, some, self._on_call)


def _within(questions: list[Question], max_rows: int) -> list[list[Question]]:
    """Divide questions so that no part has more rows than that, if it has several questions."""
    if sum(question.rows.n_rows for question in questions) <= max_rows:
        return [questions]
    parts: list[list[Question]] = [[]]
    n_rows = 0
    for question in questions:
        if parts[-1] and n_rows + question.rows.n_rows > max_rows:
            parts.append([])
            n_rows = 0
        parts[-1].append(question)
        n_rows += question.rows.n_rows
    return parts


def _answer_together(served: ServedModel, questions: Sequence[Question], on_call: OnCall) -> None:
    """Answer questions in one call; if it fails, in two, and so on down to the guilty."""
    try:
        asked = [(question.rows, question.began_s) for question in questions]
        rows = asked[0][0] if len(asked) == 1 else Rows.joined([own for own, _ in asked])
        replies = served.encode_each(asked, served.predict(rows))
    except Exception as error:  # noqa: BLE001 - an estimator may raise anything
        if len(questions) == 1:
            _tell(questions[0].answered, error)
            return
        half = len(questions) // 2
        _answer_together(served, questions[:half], on_call)
        _answer_together(served, questions[half:], on_call)
    else:
        on_call(served, rows.n_rows)
        for question, reply in zip(questions, replies, strict=True):
            _tell(question.answered, reply)


def _encoded(served: ServedModel, question: Question, future: asyncio.Future[Any]) -> None:
    """Write the reply to what the thread has answered."""
    try:
        predictions = future.result().predictions
        reply = served.encode(question.rows, predictions, question.began_s)
    except Exception as error:  # noqa: BLE001 - an estimator may raise anything
        _tell(question.answered, error)
    else:
        _tell(question.answered, reply)


def _whole(served: ServedModel, body: bytes) -> tuple[bytes, int]:
    """Answer a body from beginning to end; return the reply and how many rows were asked for."""
    began_s = time.perf_counter()
    rows = served.decode(body)
    return served.encode(rows, served.predict(rows), began_s), rows.n_rows


def _settled(
    served: ServedModel, answered: Answered, on_call: OnCall, future: asyncio.Future[Any]
) -> None:
    """Pass on what the thread has answered from beginning to end."""
    error = future.exception()
    if error is None:
        reply, n_rows = future.result()
        on_call(served, n_rows)
        _tell(answered, reply)
    else:
        _tell(answered, error if isinstance(error, Exception) else RuntimeError(str(type(error))))


def _tell(answered: Answered, outcome: bytes | Exception) -> None:
    """Tell one caller; that it cannot be told must not keep the others from hearing."""
    try:
        answered(outcome)
    except Exception:
        logging.getLogger(__name__).exception("a caller was not told the answer")
