"""Predicting over HTTP: from a request that has been read to the reply that is to be sent.

This is the short way of a prediction, for whoever has a whole body:
:mod:`greenroom.http.connection`, which reads it off a socket, and the ASGI app of
:mod:`greenroom.http.serving`. On it a request is let in (:mod:`greenroom.http.admission`), answered
(:mod:`greenroom.http.answering`), counted before the reply is given
(:mod:`greenroom.http.traffic`), and a line of :mod:`greenroom.http.access_log` where that is
wanted.

Which model answers is :mod:`greenroom.http.routing`'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import TypeAlias

from greenroom.http.access_log import AccessLog
from greenroom.http.admission import Admission
from greenroom.http.answering import Answering
from greenroom.http.error_replies import error_kind, error_reply
from greenroom.http.headers import reply_headers, request_id_of, require_json
from greenroom.http.messages import Reply
from greenroom.http.pages import not_serving
from greenroom.http.traffic import Routed
from greenroom.http.visits import Visit
from greenroom.inference.prediction_log import Asker
from greenroom.inference.served_model import FirstUse, ServedModel
from greenroom.instruments import WorkerInstruments
from greenroom.prediction_id import new_prediction_id

__all__ = ["Predicting", "Replied", "refused", "require_serving", "version_of"]

Replied: TypeAlias = Callable[[Reply], None]
"""Told the reply; called in the event loop, exactly once."""


class Predicting:
    """What turns prediction requests into replies; all methods are for the event loop.

    Parameters
    ----------
    answering : Answering
    admission : Admission
    first_use : callable
        Loads a model that is not in memory.
    instruments : WorkerInstruments
        What counts the answers.
    log : AccessLog, optional
        Where requests of the short way are noted; others are noted at the entrance.
    """

    def __init__(
        self,
        answering: Answering,
        admission: Admission,
        first_use: FirstUse,
        instruments: WorkerInstruments,
        log: AccessLog | None,
    ) -> None:
        self._answering = answering
        self._admission = admission
        self._first_use = first_use
        self._instruments = instruments
        self._in_flight = instruments.in_flight
        self._log = log

    def ask(
        self, routed: Routed, headers: Mapping[bytes, bytes], body: bytes, replied: Replied
    ) -> None:
        """Let a POST to a model's path in and answer it; nothing is raised, ``replied`` is told.

        Parameters
        ----------
        routed : Routed
            What answers, to the end.
        headers : mapping of bytes to bytes
            Of the request, their names in lower case.
        body : bytes
            All of it.
        replied : callable
            Told the reply, be it a refusal; by then it is counted.
        """
        visit = None
        if self._log is not None:
            visit = _begun(routed, headers)
            replied = partial(_note, self._log, visit, replied)
        self._put(routed, headers, body, replied, self._admission, visit)

    async def predict(
        self, routed: Routed, headers: Mapping[bytes, bytes], body: bytes, caller: str
    ) -> Reply:
        """Answer a request that has been let in, having loaded the model if need be.

        Raises
        ------
        NotServing, HttpRefusal
            When the model is not in memory and does not load, or the body is no JSON anyway.
        """
        if routed.served.awaits_load:
            require_json(headers)
            routed = routed._replace(served=await self._first_use(routed.served))
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def replied(reply: Reply) -> None:
            if not future.done():  # the caller may be gone
                future.set_result(reply)

        self._put(routed, headers, body, replied, caller=caller)
        return await future

    def _put(
        self,
        routed: Routed,
        headers: Mapping[bytes, bytes],
        body: bytes,
        replied: Replied,
        admission: Admission | None = None,
        visit: Visit | None = None,
        caller: str = "",
    ) -> None:
        """Answer a POST to a model's path; let it in first where it is not in yet.

        One function for the request and none around it: each call here is a part of the time that
        a small model takes.
        """
        began_s = perf_counter()
        in_flight = self._in_flight
        served, route, answers, told = routed
        request_id = request_id_of(headers) if b"x-request-id" in headers else ""
        has_entered = False

        def answered(outcome: bytes | Exception) -> None:
            if has_entered:
                in_flight[0] -= 1.0
            if isinstance(outcome, bytes):
                answers.answered(perf_counter() - began_s)
                given = {**told, **reply_headers(request_id)} if request_id else told
                replied(Reply(200, outcome, given))
            else:
                reply = refused(outcome, request_id, f"POST {served.deployment.route}")
                answers.refused(reply.status, perf_counter() - began_s)
                self._instruments.failed(route, reply.status, error_kind(outcome))
                replied(reply)

        try:
            if admission is not None:
                caller = admission.enter(headers, "predict").name
                has_entered = True
                if visit is not None:
                    visit.caller = caller
            require_serving(served)
            require_json(headers)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is to be told
            answered(error)
        else:
            self._answering.ask(served, Asker(caller, route, request_id, body), answered)


def refused(error: Exception, request_id: str, where: str) -> Reply:
    """Return the reply to a request that ended in ``error``; ``where`` is for the log."""
    reply = error_reply(error, request_id=request_id or new_prediction_id(), where=where)
    return Reply(reply.status, reply.body, {**reply.headers, **reply_headers(request_id)})


def require_serving(served: ServedModel) -> None:
    """Refuse to predict where nothing is selected.

    Raises
    ------
    NotServing
        With the reason, and what to do about it.
    """
    if served.deployment.serving is None:
        raise not_serving(served.deployment)


def version_of(served: ServedModel) -> str:
    """Return the version that answers; empty where none does."""
    serving = served.deployment.serving
    return serving.version if serving is not None else ""


def _note(log: AccessLog, visit: Visit, replied: Replied, reply: Reply) -> None:
    """Pass a reply on, and note it."""
    visit.status, visit.n_bytes = reply.status, len(reply.body)
    log.note(visit)
    replied(reply)


def _begun(routed: Routed, headers: Mapping[bytes, bytes]) -> Visit:
    return Visit(
        method="POST",
        request_id=request_id_of(headers),
        route=routed.route,
        model=routed.served.deployment.name,
        version=version_of(routed.served),
    )
