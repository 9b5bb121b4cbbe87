"""Answering: a prediction's way from the body of a request to the body of its reply.

Where it runs depends on what it costs. A compiled model answers a few rows sooner than a thread
would wake up, so it is called in the event loop, once for all requests that were read in the same
turn of the loop: they share the call, the clock and the waking of whoever waits for them. Nobody is
waited for; a request without company is answered in the turn it came in. What takes longer goes to
the thread of :mod:`greenroom.inference.batching`. What was answered is noted in the prediction log
before anybody is told.

There is no HTTP here: what carries requests and replies is :mod:`greenroom.http.serving`'s
business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from greenroom.evaluation.predictions import Predictions
from greenroom.inference.batching import Batched, Batcher, OnCall, next_call
from greenroom.inference.prediction_log import Asked, Asker, Call, PredictionLog
from greenroom.inference.served_model import ServedModel
from greenroom.payloads.request import Rows
from greenroom.payloads.rows import RowSource
from greenroom.prediction_id import new_prediction_ids

__all__ = ["Answering", "Identified"]

LARGE_BODY_BYTES: Final = 65_536
"""From here on a request is answered in the thread from beginning to end, by itself: other requests
do not wait for it, and it would gain nothing from company."""

Answered: TypeAlias = Callable[[bytes | Exception], None]
"""Told the reply's body, or why there is none; called in the event loop, exactly once."""


class Identified(NamedTuple):
    """Predictions, and the id of each; no ids where nobody has asked for them."""

    predictions: Predictions
    ids: list[str]


Question: TypeAlias = Asked[Rows]
"""A request that has been read and waits for its answer."""


class Answering:
    """What answers the prediction requests of one worker; all methods are for the event loop.

    Parameters
    ----------
    max_batch_rows : int
        How many rows of several requests are predicted in one call.
    on_call : callable, optional
        Told of each call of a model: the model, and how many rows it has answered.
    log : PredictionLog, optional
        Where answers are noted.
    """

    def __init__(
        self,
        max_batch_rows: int,
        on_call: OnCall = lambda *_: None,
        log: PredictionLog | None = None,
    ) -> None:
        self._max_rows: Final = max_batch_rows
        self._on_call: Final = on_call
        self._log: Final = log
        # One thread: numpy and scikit-learn hold it for less time than a second one would cost.
        self.batcher: Final = Batcher(max_batch_rows, on_call)
        self._turn: dict[Hashable, tuple[ServedModel, list[Question]]] = {}
        self._n_rows = 0

    def ask(self, served: ServedModel, asker: Asker, answered: Answered) -> None:
        """Answer a body; nothing is raised, ``answered`` is told.

        Parameters
        ----------
        served : ServedModel
            What answers, to the end.
        asker : Asker
            Who asks, with the body.
        answered : callable
            Told the reply's body, or the exception: those of :meth:`ServedModel.answer`.
        """
        body = asker.body
        if len(body) >= LARGE_BODY_BYTES:
            future = self.batcher.submit_alone(self._whole(served), asker)
            future.add_done_callback(partial(self._settled, served, answered))
            return
        began_s = time.perf_counter()
        try:
            rows = served.decode(body)
            question = Asked(rows, began_s, asker, answered)
            if self._n_rows + rows.n_rows <= served.quick_rows:
                self._in_this_turn(served, question)
                return
            future = self.batcher.submit(served, rows)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is to be told
            _tell(answered, error)
        else:
            future.add_done_callback(partial(self._encoded, served, question))

    async def predict(
        self, served: ServedModel, rows: RowSource, asker: Asker | None = None
    ) -> Identified:
        """Return the predictions for rows, for protocols that read and write bodies themselves.

        Parameters
        ----------
        served : ServedModel
        rows : RowSource
        asker : Asker, optional
            Who asks; None where nobody does, and nothing is to be noted.

        Raises
        ------
        Exception
            What ``served.predict`` raises for these rows by themselves.
        """
        began_s = time.perf_counter()
        if rows.n_rows <= served.quick_rows:
            batched = Batched(served.predict(rows), rows.n_rows, 0, next_call())
            self._on_call(served, rows.n_rows)
        else:
            batched = await self.batcher.predict(served, rows)
        if asker is None:
            return Identified(batched.predictions, [])
        ids = new_prediction_ids(len(batched.predictions))
        if self._log is not None:
            call = Call(batched.call, batched.n_rows, batched.first_row)
            self._log.note(served, batched.predictions, ids, [Asked(rows, began_s, asker)], call)
            await self._log.durable()
        return Identified(batched.predictions, ids)

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
                self._answer_together(served, some)

    def _answer_together(self, served: ServedModel, questions: Sequence[Question]) -> None:
        """Answer questions in one call; if it fails, in two, and so on down to the guilty."""
        try:
            first = questions[0].rows
            rows = first if len(questions) == 1 else Rows.joined([one.rows for one in questions])
            predictions = served.predict(rows)
            replies = self._noted(served, predictions, questions, Call(next_call(), rows.n_rows))
        except Exception as error:  # noqa: BLE001 - an estimator may raise anything
            if len(questions) == 1:
                _tell(questions[0].answered, error)
                return
            half = len(questions) // 2
            self._answer_together(served, questions[:half])
            self._answer_together(served, questions[half:])
        else:
            self._on_call(served, rows.n_rows)
            self._give(questions, replies)

    def _noted(
        self,
        served: ServedModel,
        predictions: Predictions,
        questions: Sequence[Question],
        call: Call,
    ) -> list[bytes]:
        """Note what a call has answered, and write the replies."""
        ids, logged = new_prediction_ids(len(predictions)), False
        if self._log is not None:
            logged = self._log.note(served, predictions, ids, questions, call)
        begun = [(question.rows, question.began_s) for question in questions]
        return served.encode_each(begun, predictions, ids, logged=logged)

    def _give(self, questions: Sequence[Question], replies: Sequence[bytes]) -> None:
        """Tell the callers, as soon as they may be told."""
        log = self._log
        if log is None or not log.immediate:
            _tell_each(questions, replies)
            return
        loop = asyncio.get_running_loop()
        told = partial(_tell_each, questions, replies)
        log.when_durable(lambda: loop.call_soon_threadsafe(told))

    def _encoded(
        self, served: ServedModel, question: Question, future: asyncio.Future[Any]
    ) -> None:
        """Write the reply to what the thread has answered."""
        try:
            predictions, n_rows, first_row, call = future.result()
            found = Call(call, n_rows, first_row)
            replies = self._noted(served, predictions, [question], found)
        except Exception as error:  # noqa: BLE001 - an estimator may raise anything
            _tell(question.answered, error)
        else:
            self._give([question], replies)

    def _whole(self, served: ServedModel) -> Callable[[Asker], tuple[Question, bytes]]:
        """Return what answers a body from beginning to end, and says what it has answered."""

        def answer(asker: Asker) -> tuple[Question, bytes]:
            began_s = time.perf_counter()
            question = Asked(served.decode(asker.body), began_s, asker)
            predictions = served.predict(question.rows)
            call = Call(next_call(), question.rows.n_rows)
            (reply,) = self._noted(served, predictions, [question], call)
            return question, reply

        return answer

    def _settled(
        self, served: ServedModel, answered: Answered, future: asyncio.Future[Any]
    ) -> None:
        """Pass on what the thread has answered from beginning to end."""
        error = future.exception()
        if error is None:
            question, reply = future.result()
            self._on_call(served, question.rows.n_rows)
            self._give([question._replace(answered=answered)], [reply])
        else:
            _tell(answered, error if isinstance(error, Exception) else RuntimeError(str(error)))


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


def _tell_each(questions: Sequence[Question], replies: Sequence[bytes]) -> None:
    for question, reply in zip(questions, replies, strict=True):
        _tell(question.answered, reply)


def _tell(answered: Answered, outcome: bytes | Exception) -> None:
    """Tell one caller; that it cannot be told must not keep the others from hearing."""
    try:
        answered(outcome)
    except Exception:
        logging.getLogger(__name__).exception("a caller was not told the answer")
