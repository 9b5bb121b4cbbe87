"""MLflow's scoring protocol at ``/invocations``, answered as ``mlflow models serve`` answers it.

What a body holds is :mod:`greenroom.protocols.invocations`' business; the protocol's own shape of
an error is :mod:`greenroom.http.error_replies`'.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

from greenroom.http.answering import Answering
from greenroom.http.headers import identifying, require_post, scoring_type, source_headers
from greenroom.http.messages import Reply
from greenroom.http.pages import not_serving
from greenroom.http.predicting import require_serving
from greenroom.inference.prediction_log import Asker
from greenroom.inference.served_model import FirstUse, ServedModel
from greenroom.protocols.invocations import decode_invocation, encode_predictions

__all__ = ["Scoring"]

ReadBody: TypeAlias = Callable[[], Awaitable[bytes | None]]


class Scoring:
    """What answers scoring requests.

    Parameters
    ----------
    answering : Answering
        Where bodies are read and rows predicted.
    first_use : callable
        Loads a model that is not in memory.
    """

    def __init__(self, answering: Answering, first_use: FirstUse) -> None:
        self._answering = answering
        self._first_use = first_use

    async def score(
        self,
        served: ServedModel,
        method: str,
        headers: Mapping[bytes, bytes],
        read: ReadBody,
        asker: Asker,
    ) -> Reply | None:
        """Return the reply, which names the id of its first prediction in a header.

        None when the caller has gone away. The protocol has no place for ids in a body.

        Raises
        ------
        HttpRefusal
            For a method or content type that the protocol does not have.
        RequestError, NotServing
            As for any prediction.
        """
        require_post(method)
        require_serving(served)
        media_type = scoring_type(headers)
        body = await read()
        if body is None:
            return None
        served = await self._first_use(served)
        if served.request_type is None:
            raise not_serving(served.deployment)
        decode = partial(decode_invocation, body, media_type)
        rows = await self._answering.batcher.alone(decode, served.request_type)
        predictions, ids = await self._answering.predict(served, rows, asker)
        told = {**source_headers(served.deployment), **identifying(ids)}
        return Reply(200, encode_predictions(predictions), told)
