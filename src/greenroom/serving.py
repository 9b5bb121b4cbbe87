"""HTTP: what a worker answers, a thin skin over the engine.

Predictions take a short way: their path is looked up in a dict, the body is read, decoded, answered
and encoded, with nothing in between. :meth:`Server.ask` is that way for whoever has a whole body:
:mod:`greenroom.connection`, which reads it off a socket, and the ASGI app here, which takes what is
left over. Every other page is Starlette's to route (:mod:`greenroom.site`). Each request reads once
which generation is committed, and is answered by that one to the end.

Every answer is counted before it is given (:mod:`greenroom.traffic`). Who the caller is, and how
many requests there may be at a time, is not looked at here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeAlias

from starlette.types import Message, Receive, Scope, Send

from greenroom.answering import Answering
from greenroom.app import App
from greenroom.error_replies import HttpRefusal, error_kind, error_reply, scoring_error_reply
from greenroom.errors import NotServing
from greenroom.exposition import OWN_PREFIX, Exposition
from greenroom.headers import (
    reply_headers,
    request_id_of,
    require_json,
    require_post,
    scoring_type,
)
from greenroom.inference import Engine, FirstUse, LoadedGeneration, ServedModel
from greenroom.instruments import WorkerInstruments, read_totals
from greenroom.invocations import decode_invocation, encode_predictions
from greenroom.open_inference import OpenInference
from greenroom.pages import not_serving, predict_path
from greenroom.prediction_id import new_prediction_id
from greenroom.protocol_endpoints import ROOT
from greenroom.scoring_openapi import SCORING_PATH
from greenroom.settings import Settings
from greenroom.site import Site
from greenroom.status import Status
from greenroom.traffic import CountedSend, Routed, Traffic, note_error, route_of

__all__ = ["Reply", "Server", "build_asgi"]

MAX_SHORT_BYTES: Final = 65_536
"""A body that is longer takes the long way, which refuses what is too long before it is read."""

_JSON: Final = (b"content-type", b"application/json")

_NONE: Final[Mapping[str, str]] = {}


class Reply(NamedTuple):
    """A whole reply; its body is JSON."""

    status: int
    body: bytes
    headers: Mapping[str, str]


Replied: TypeAlias = Callable[[Reply], None]
"""Told the reply; called in the event loop, exactly once."""


def build_asgi(
    engine: Engine,
    status: Callable[[], Status],
    *,
    app: App | None,
    settings: Settings,
    reload: Callable[[], Awaitable[Status]],
    first_use: FirstUse | None = None,
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext,
    instruments: WorkerInstruments | None = None,
) -> Server:
    """Build the ASGI app of a worker.

    Parameters
    ----------
    engine : Engine
        What is loaded, and which generation of it is committed.
    status : callable
        Returns the server's status, for pages.
    app : App, optional
        Whose name, routes and views the server has; None for models without an app.
    settings : Settings
        ``max_body_bytes``: the largest request body that is read; ``max_batch_rows``: how many
        rows are predicted together.
    reload : callable
        Has the registry asked now, and returns when all workers serve what it selects.
    first_use : callable, optional
        Loads a model that is not in memory; None where all of them are.
    lifespan : callable, optional
        A context that is entered before the first request and left after the last.
    instruments : WorkerInstruments, optional
        What counts the answers; default: this process's own, which know of no other process.
    """
    counting = instruments or WorkerInstruments()
    loaded = first_use or _as_it_is
    return Server(engine, status, app, settings, reload, loaded, lifespan, counting)


class Server:
    """The ASGI app, and its short way for predictions; see :func:`build_asgi`."""

    def __init__(
        self,
        engine: Engine,
        status: Callable[[], Status],
        app: App | None,
        settings: Settings,
        reload: Callable[[], Awaitable[Status]],
        first_use: FirstUse,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]],
        instruments: WorkerInstruments,
    ) -> None:
        self._engine = engine
        self._first_use = first_use
        self._max_body_bytes = settings.max_body_bytes
        self.max_short_bytes = min(MAX_SHORT_BYTES, settings.max_body_bytes)
        self._generation: LoadedGeneration | None = None
        self._routed: Mapping[str, Routed] = {}
        self._by_url: Mapping[bytes, Routed] = {}
        self._declared = _declared_paths(app)
        self._lifespan = lifespan
        self._instruments = instruments
        self._in_flight = instruments.in_flight
        self._traffic = Traffic(instruments)
        self._answering = Answering(
            settings.max_batch_rows,
            lambda served, n_rows: instruments.batched(served.deployment.name, n_rows),
        )
        metrics = Exposition(
            lambda: read_totals(instruments.memory),
            status,
            prefix=app.metrics_prefix if app else OWN_PREFIX,
        )
        self._open_inference = OpenInference(
            models=lambda: self._current().by_name,
            status=status,
            reload=reload,
            first_use=first_use,
            predict=self._answering.predict,
            work=self._answering.work,
        )
        self._site = Site(
            title=app.name if app else "greenroom",
            models=self._current,
            status=status,
            reload=reload,
            metrics=metrics.write,
            first_use=first_use,
            routes=app.routes if app else (),
            lifespan=self._living,
        ).asgi

    @asynccontextmanager
    async def _living(self, _: Any) -> AsyncIterator[None]:
        async with self._lifespan():
            yield
        self._answering.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request: a prediction the short way, anything else by the site."""
        if scope["type"] != "http":
            await self._site(scope, receive, send)
            return
        counted = CountedSend(send, scope, self._instruments)
        headers = dict(scope["headers"])
        request_id = request_id_of(headers)
        path = scope["path"]
        try:
            routed = self._routed_at(path, counted)
            if routed is not None:
                require_post(scope["method"])
                body = await self._read(headers, receive)
                if body is not None:
                    reply = await self._predict(routed, headers, body)
                    counted.counted = True
                    await _send(counted, *reply)
                return
            if path == SCORING_PATH and len(self._current().by_name) == 1:
                await self._invoke(scope, headers, receive, counted)
                return
            if path == ROOT or path.startswith(f"{ROOT}/"):
                await self._speak_v2(scope, headers, receive, counted)
                return
        except Exception as error:  # noqa: BLE001 - the last place where it can be answered
            note_error(scope, error)
            await _send(counted, *_refused(error, request_id, f"{scope['method']} {path}"))
            return
        scope["request_id"] = request_id
        self._in_flight[0] += 1.0
        try:
            await self._site(scope, receive, _giving_back(request_id, counted))
        finally:
            self._in_flight[0] -= 1.0

    def served_at(self, url: bytes) -> Routed | None:
        """Return the model whose predictions are asked for at a URL just as it was sent.

        None when that is no prediction's, or is spelled in an unusual way, or nothing is loaded
        there: then the ASGI app knows what to do.
        """
        try:
            self._current()
        except NotServing:
            return None
        routed = self._by_url.get(url)
        return None if routed is None or routed.served.runtime is None else routed

    def ask(
        self, routed: Routed, headers: Mapping[bytes, bytes], body: bytes, replied: Replied
    ) -> None:
        """Answer a POST to a model's path; nothing is raised, ``replied`` is told.

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
        began_s = perf_counter()
        in_flight = self._in_flight
        in_flight[0] += 1.0
        served, route, answers = routed
        request_id = request_id_of(headers) if b"x-request-id" in headers else ""

        def answered(outcome: bytes | Exception) -> None:
            in_flight[0] -= 1.0
            if isinstance(outcome, bytes):
                answers.answered(perf_counter() - began_s)
                replied(Reply(200, outcome, reply_headers(request_id) if request_id else _NONE))
            else:
                reply = _refused(outcome, request_id, f"POST {served.deployment.route}")
                answers.refused(reply.status, perf_counter() - began_s)
                self._instruments.failed(route, reply.status, error_kind(outcome))
                replied(reply)

        try:
            _require_serving(served)
            require_json(headers)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is to be told
            answered(error)
        else:
            self._answering.ask(served, body, answered)

    def _routed_at(self, path: str, counted: CountedSend) -> Routed | None:
        """Return the model that answers at ``path``; None when that is no prediction's path."""
        try:
            self._current()
        except NotServing:
            if path in self._declared:
                counted.under(self._declared[path])
                raise
            return None
        routed = self._routed.get(path)
        if routed is not None:
            counted.under(routed.route, routed.answers)
        return routed

    def _current(self) -> LoadedGeneration:
        """Return what the committed generation answers with, read once for a request."""
        generation = self._engine.current()
        # Another value after each swap, and also when a version comes into memory or goes.
        if generation is not self._generation:
            self._generation = generation
            self._routed = self._traffic.routed(generation.number, generation.by_path)
            self._by_url = {path.encode(): routed for path, routed in self._routed.items()}
        return generation

    async def _predict(self, routed: Routed, headers: Mapping[bytes, bytes], body: bytes) -> Reply:
        """Answer a prediction request, having loaded the model if it is not in memory."""
        if routed.served.awaits_load:
            require_json(headers)
            routed = routed._replace(served=await self._first_use(routed.served))
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def replied(reply: Reply) -> None:
            if not future.done():  # the caller may be gone
                future.set_result(reply)

        self.ask(routed, headers, body, replied)
        return await future

    async def _invoke(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, counted: CountedSend
    ) -> None:
        """Answer a request of MLflow's scoring protocol, errors in its own shape."""
        sent = reply_headers(request_id_of(headers))
        (served,) = self._current().by_name.values()
        counted.under(SCORING_PATH, self._traffic.answers(SCORING_PATH, served))
        self._in_flight[0] += 1.0
        try:
            body = await self._score(served, scope["method"], headers, receive)
            if body is not None:
                await _send(counted, 200, body, sent)
        except Exception as error:  # noqa: BLE001 - the last place where it can be answered
            note_error(scope, error)
            request_id = request_id_of(headers) or new_prediction_id()
            reply = scoring_error_reply(error, request_id=request_id)
            await _send(counted, reply.status, reply.body, {**reply.headers, **sent})
        finally:
            self._in_flight[0] -= 1.0

    async def _speak_v2(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, counted: CountedSend
    ) -> None:
        """Answer a request of the Open Inference Protocol, errors in its own shape."""
        request_id = request_id_of(headers)
        asked = (scope["method"], scope["path"], headers, partial(self._read, headers, receive))
        self._in_flight[0] += 1.0
        try:
            reply = await self._open_inference.answer(*asked, request_id=request_id)
            if reply is None:
                return
            served = reply.predicted
            answers = self._traffic.answers(reply.route, served) if served is not None else None
            counted.under(reply.route, answers)
            if reply.error is not None:
                note_error(scope, reply.error)
            sent = {**reply.headers, **reply_headers(request_id)}
            await _send(counted, reply.status, reply.body, sent)
        finally:
            self._in_flight[0] -= 1.0

    async def _score(
        self,
        served: ServedModel,
        method: str,
        headers: Mapping[bytes, bytes],
        receive: Receive,
    ) -> bytes | None:
        """Answer a scoring request; None when the caller has gone away."""
        require_post(method)
        _require_serving(served)
        media_type = scoring_type(headers)
        body = await self._read(headers, receive)
        if body is None:
            return None
        served = await self._first_use(served)
        if served.request_type is None:
            raise not_serving(served.deployment)
        decode = partial(decode_invocation, body, media_type)
        batcher = self._answering.batcher
        rows = await batcher.alone(decode, served.request_type)
        return encode_predictions((await batcher.predict(served, rows)).predictions)

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
        """Read the body, as far as it may go; None when the caller has gone away."""
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._max_body_bytes:
            raise self._too_large()
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > self._max_body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return part if not parts else b"".join([*parts, part])
            parts.append(part)

    def _too_large(self) -> HttpRefusal:
        advice = f"send at most {self._max_body_bytes} bytes, or raise the setting max_body_bytes"
        return HttpRefusal(413, "the body is too large", advice=advice)


async def _as_it_is(served: ServedModel) -> ServedModel:
    """Return a model of a server that has all of them in memory."""
    return served


def _declared_paths(app: App | None) -> dict[str, str]:
    """Return where an app's models answer, also before anything is loaded, and their routes."""
    models = app.models if app else ()
    paths = [(m.name, path) for m in models for path in (m.route, predict_path(m.name))]
    return {path: route_of(name, path) for name, path in paths}


def _require_serving(served: ServedModel) -> None:
    if served.deployment.serving is None:
        raise not_serving(served.deployment)


def _refused(error: Exception, request_id: str, where: str) -> Reply:
    """Return the reply to a request that ended in ``error``."""
    reply = error_reply(error, request_id=request_id or new_prediction_id(), where=where)
    return Reply(reply.status, reply.body, {**reply.headers, **reply_headers(request_id)})


async def _send(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a reply in one piece, as JSON where the headers say nothing else."""
    sent = [] if "content-type" in headers else [_JSON]
    sent.append((b"content-length", b"%d" % len(body)))
    for name, value in headers.items():
        sent.append((name.encode("latin-1"), value.encode("latin-1")))
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})


def _giving_back(request_id: str, send: Send) -> Send:
    """Return a ``send`` that adds the caller's request id to the reply."""
    if not request_id:
        return send

    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            others = [pair for pair in message["headers"] if pair[0] != b"x-request-id"]
            message["headers"] = [*others, (b"x-request-id", request_id.encode("ascii"))]
        await send(message)

    return send_with_id
