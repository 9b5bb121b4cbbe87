"""A model in memory, and the whole way from the body of a request to that of its reply.

There is no HTTP here. Having a version loaded and proved is :mod:`greenroom.inference.proving`'s
business, and which of several generations answers :mod:`greenroom.inference.inference`'s.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from greenroom.errors import NotServing, VersionUnloadable
from greenroom.evaluation.predictions import Predictions
from greenroom.inference.generation import Deployment
from greenroom.inference.runtime import Runtime
from greenroom.memory import Recency
from greenroom.payloads.reply import ReplyType, Told
from greenroom.payloads.request import RequestType, Rows
from greenroom.payloads.rows import RowSource
from greenroom.prediction_id import new_prediction_ids
from greenroom.timestamps import timestamp_now


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model of a generation, and how its requests are answered.

    :meth:`decode`, :meth:`predict` and :meth:`encode` are the three steps of :meth:`answer`, so
    that a server can put the second one elsewhere. All may be called from several threads.

    Parameters
    ----------
    deployment : Deployment
        What is served under the route, or why nothing is.
    runtime : Runtime, optional
        What answers; None, like the two types, when nothing is served, or the version is not in
        memory.
    request_type : RequestType, optional
        What a body is read with.
    reply_type : ReplyType, optional
        What a reply is written with.
    quick_rows : int, optional
        How many rows it answers in :data:`QUICK_S`; 0 for one that is not to be called in the
        event loop at all.
    recency : Recency, optional
        Kept up to date where a version can be put out of memory.
    """

    deployment: Deployment
    runtime: Runtime | None = None
    request_type: RequestType | None = None
    reply_type: ReplyType | None = None
    quick_rows: int = 0
    recency: Recency | None = None

    @property
    def awaits_load(self) -> bool:
        """Whether there is a version to answer that has to be loaded first."""
        return self.runtime is None and self.deployment.serving is not None

    def answer(self, body: bytes) -> bytes:
        """Answer the JSON body of a request with the JSON body of a reply.

        Raises
        ------
        NotServing
            When nothing is served, with the reason and what to do about it.
        RequestMalformed, RequestInvalid
            When the body cannot be answered as it is.
        """
        began_s = time.perf_counter()
        rows = self.decode(body)
        return self.encode(rows, self.predict(rows), began_s)

    def decode(self, body: bytes) -> Rows:
        """Read the rows of a request."""
        if self.request_type is None:
            raise self._not_serving()
        return self.request_type.decode(body)

    def predict(self, rows: RowSource) -> Predictions:
        """Have the runtime answer, the shortest way that it takes.

        Raises
        ------
        VersionUnloadable
            When it answers more or fewer rows than there are: then it cannot be said whose they
            are. What the estimator itself raises is passed on as it is.
        """
        runtime = self.runtime
        if runtime is None:
            raise self._not_serving()
        if self.recency is not None:
            self.recency.at_s = time.monotonic()
        if runtime.accepts_matrix:
            predictions = runtime.predict_matrix(rows.matrix())
        else:
            predictions = runtime.predict(rows.columns())
        if len(predictions) != rows.n_rows and not runtime.expands:
            raise VersionUnloadable(
                f"{self.deployment.name} answered {rows.n_rows} rows with {len(predictions)}",
                model=self.deployment.model,
            )
        return predictions

    @property
    def batches(self) -> bool:
        """Whether rows of several requests may be predicted in one call."""
        return self.runtime is not None and not self.runtime.expands

    def batch_key(self, rows: RowSource) -> Hashable:
        """Return what requests must have in common to be predicted in one call.

        Of a matrix all cells are float64 whatever is missing; the types of columns may differ.
        """
        return () if self.runtime is None or self.runtime.accepts_matrix else rows.gaps()

    def encode(self, rows: Rows, predictions: Predictions, began_s: float) -> bytes:
        """Write the reply; ``began_s`` is what ``time.perf_counter()`` said at the beginning."""
        if self.runtime is None:
            raise self._not_serving()
        ids = new_prediction_ids(len(predictions))
        return self.encode_each([(rows, began_s)], predictions, ids)[0]

    def encode_each(
        self,
        asked: Sequence[tuple[Rows, float]],
        predictions: Predictions,
        ids: Sequence[str],
        *,
        logged: bool = False,
    ) -> list[bytes]:
        """Write the replies to requests whose rows were predicted in one call, in their order.

        Parameters
        ----------
        asked : sequence of (Rows, float)
            The requests, and when each began.
        predictions : Predictions
            For all their rows.
        ids : sequence of str
            For each prediction its id.
        logged : bool
            Whether they are on their way to MLflow, for sure.
        """
        reply_type, runtime = self.reply_type, self.runtime
        if reply_type is None or runtime is None:
            raise self._not_serving()
        cells = reply_type.cells(predictions)
        n_answers = len(predictions)
        timestamp, now_s = timestamp_now(), time.perf_counter()
        replies, first = [], 0
        for rows, began_s in asked:
            took_ms = (now_s - began_s) * 1_000
            if rows.single and not runtime.expands:
                told = Told(timestamp, took_ms, logged)
                reply = reply_type.encode_row(cells, first, ids[first], told)
                first += 1
            else:
                end = n_answers if runtime.expands else first + rows.n_rows
                own = ids[first:end]
                told = Told(timestamp, took_ms, logged)
                reply = reply_type.encode_list(cells, first, end, own, told)
                first = end
            replies.append(reply)
        return replies

    def _not_serving(self) -> NotServing:
        return NotServing(
            self.deployment.reason or f"{self.deployment.name} is not served at the moment",
            advice=self.deployment.advice,
        )


FirstUse: TypeAlias = Callable[[ServedModel], Awaitable[ServedModel]]
"""Takes a model that may not be in memory and returns it in memory."""
