"""HTTP: the ASGI app of one worker, a thin skin over the engine.

Predictions take a short way: their path is looked up in a dict, the body is read, decoded, answered
and encoded, with nothing in between. A native model answers in a thread, for several requests at
once when several wait (:mod:`greenroom.batching`); a compiled one answers a few rows sooner than a
thread would wake up, so it is called here. Every other page is Starlette's to route
(:mod:`greenroom.site`). Each request reads once which generation is committed, and is answered by
that one to the end.

Who the caller is, how many requests are in flight and what they add up to is not looked at here.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.app import App
from greenroom.batching import Batcher
from greenroom.error_replies import HttpRefusal, error_reply, scoring_error_reply
from greenroom.errors import NotServing
from greenroom.inference import Engine, ServedModel
from greenroom.invocations import CSV, JSON, decode_invocation, encode_predictions
from greenroom.pages import not_serving, predict_path
from greenroom.prediction_id import new_prediction_id
from greenroom.settings import Settings
from greenroom.site import Models, Site
from greenroom.status import Status

__all__ = ["build_asgi"]

INVOCATIONS: Final = "/invocations"
"""Where a server with one model answers MLflow's scoring protocol."""

LARGE_BODY_BYTES: Final = 65_536
"""From here on a request is answered in the thread from beginning to end, by itself: other requests
do not wait for it, and it would gain nothing from company."""

QUICK_ROWS: Final = 32
"""How many rows a compiled model answers in the event loop, while all other requests wait."""

_JSON: Final = (b"content-type", b"application/json")

MAX_REQUEST_ID: Final = 128
"""How much of a caller's ``X-Request-ID`` is given back."""


def build_asgi(
    engine: Engine,
    status: Callable[[], Status],
    *,
    app: App | None,
    settings: Settings,
    reload: Callable[[], Awaitable[Status]],
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext,
) -> ASGIApp:
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
    lifespan : callable, optional
        A context that is entered before the first request and left after the last.
    """
    return _Server(engine, status, app, settings, reload, lifespan)


class _Server:
    """The ASGI app; see :func:`build_asgi`."""

    def __init__(
        self,
        engine: Engine,
        status: Callable[[], Status],
        app: App | None,
        settings: Settings,
        reload: Callable[[], Awaitable[Status]],
        lifespan: Callable[[], AbstractAsyncContextManager[Any]],
    ) -> None:
        self._engine = engine
        self._max_body_bytes = settings.max_body_bytes
        self._models = Models(-1, {}, {})
        self._declared = _declared_paths(app)
        self._lifespan = lifespan
        # One thread: numpy and scikit-learn hold it for less time than a second one would cost.
        self._batcher = Batcher(settings.max_batch_rows)
        self._site = Site(
            title=app.name if app else "greenroom",
            models=self._current,
            status=status,
            reload=reload,
            routes=app.routes if app else (),
            lifespan=self._living,
        ).asgi

    @asynccontextmanager
    async def _living(self, _: Any) -> AsyncIterator[None]:
        async with self._lifespan():
            yield
        self._batcher.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request: a prediction the short way, anything else by the site."""
        if scope["type"] != "http":
            await self._site(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = _request_id(headers)
        path = scope["path"]
        try:
            served = self._served(path)
            if served is not None:
                body = await self._predict(served, scope["method"], headers, receive)
                if body is not None:
                    await _send(send, 200, body, _reply_headers(request_id))
                return
            if path == INVOCATIONS and len(self._current().by_name) == 1:
                await self._invoke(scope["method"], headers, receive, send)
                return
        except Exception as error:  # noqa: BLE001 - the last place where it can be answered
            where = f"{scope['method']} {path}"
            reply = error_reply(error, request_id=request_id or new_prediction_id(), where=where)
            sent = {**reply.headers, **_reply_headers(request_id)}
            await _send(send, reply.status, reply.body, sent)
            return
        scope["request_id"] = request_id
        await self._site(scope, receive, _giving_back(request_id, send))

    def _served(self, path: str) -> ServedModel | None:
        """Return the model that answers at ``path``; None when that is no prediction's path."""
        try:
            return self._current().by_path.get(path)
        except NotServing:
            if path in self._declared:
                raise
            return None

    def _current(self) -> Models:
        """Return what the committed generation answers with, read once for a request."""
        generation = self._engine.current()
        if generation.number != self._models.number:
            by_path, by_name = {}, {}
            for route, served in generation.models.items():
                name = served.deployment.model
                by_name[name] = by_path[route] = by_path[predict_path(name)] = served
            self._models = Models(generation.number, by_path, by_name)
        return self._models

    async def _predict(
        self,
        served: ServedModel,
        method: str,
        headers: Mapping[bytes, bytes],
        receive: Receive,
    ) -> bytes | None:
        """Answer a prediction request; None when the caller has gone away."""
        _require_post(method)
        if served.deployment.serving is None:
            raise not_serving(served.deployment)
        _require_json(headers)
        body = await self._read(headers, receive)
        return None if body is None else await self._answer(served, body)

    async def _invoke(
        self, method: str, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        """Answer a request of MLflow's scoring protocol, errors in its own shape."""
        sent = _reply_headers(_request_id(headers))
        (served,) = self._current().by_name.values()
        try:
            body = await self._score(served, method, headers, receive)
            if body is not None:
                await _send(send, 200, body, sent)
        except Exception as error:  # noqa: BLE001 - the last place where it can be answered
            request_id = _request_id(headers) or new_prediction_id()
            reply = scoring_error_reply(error, request_id=request_id)
            await _send(send, reply.status, reply.body, {**reply.headers, **sent})

    async def _score(
        self,
        served: ServedModel,
        method: str,
        headers: Mapping[bytes, bytes],
        receive: Receive,
    ) -> bytes | None:
        """Answer a scoring request; None when the caller has gone away."""
        _require_post(method)
        if served.deployment.serving is None or served.request_type is None:
            raise not_serving(served.deployment)
        media_type = _scoring_type(headers)
        body = await self._read(headers, receive)
        if body is None:
            return None
        decode = partial(decode_invocation, body, media_type)
        rows = await self._batcher.alone(decode, served.request_type)
        return encode_predictions((await self._batcher.predict(served, rows)).predictions)

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

    async def _answer(self, served: ServedModel, body: bytes) -> bytes:
        """Decode, predict, encode."""
        if len(body) >= LARGE_BODY_BYTES:
            answer: bytes = await self._batcher.alone(served.answer, body)
            return answer
        began_s = time.perf_counter()
        rows = served.decode(body)
        if served.is_quick and rows.n_rows <= QUICK_ROWS:
            return served.encode(rows, served.predict(rows), began_s)
        # A bound on how many may wait belongs here, before the request joins them.
        batched = await self._batcher.predict(served, rows)
        return served.encode(rows, batched.predictions, began_s)


def _declared_paths(app: App | None) -> frozenset[str]:
    """Return where an app's models answer, also before anything is loaded."""
    models = app.models if app else ()
    return frozenset(path for m in models for path in (m.route, predict_path(m.name)))


def _require_post(method: str) -> None:
    if method != "POST":
        raise HttpRefusal(
            405, "the method is not allowed here", advice="use POST", headers={"allow": "POST"}
        )


def _require_json(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a body that says it is something else; one that says nothing is taken for JSON."""
    given = headers.get(b"content-type", b"application/json")
    if given != b"application/json":
        media, _, parameters = given.decode("latin-1").lower().partition(";")
        charset = parameters.replace(" ", "").replace('"', "").removeprefix("charset=")
        if media.strip() != "application/json" or charset not in {"", "utf-8", "utf8", "us-ascii"}:
            advice = "send JSON in UTF-8 with the header Content-Type: application/json"
            raise HttpRefusal(415, "the body's content type is not JSON", advice=advice)
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise HttpRefusal(415, "the body is compressed", advice="send it without Content-Encoding")


def _scoring_type(headers: Mapping[bytes, bytes]) -> str:
    """Return which of MLflow's two media types a body has; anything else is refused."""
    given = headers.get(b"content-type", b"").decode("latin-1").lower()
    media, _, parameters = given.partition(";")
    charset = parameters.replace(" ", "").replace('"', "").removeprefix("charset=")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise HttpRefusal(415, "the body is compressed", advice="send it without Content-Encoding")
    if media.strip() not in {JSON, CSV} or charset not in {"", "utf-8"}:
        raise HttpRefusal(
            415, "the body's content type is not served", advice=f"send {JSON} or {CSV} in UTF-8"
        )
    return media.strip()


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    """Return the caller's ``X-Request-ID``, of visible ASCII and of bearable length; or nothing."""
    given = headers.get(b"x-request-id")
    if given is None:
        return ""
    return bytes(byte for byte in given if 0x21 <= byte <= 0x7E)[:MAX_REQUEST_ID].decode("ascii")


def _reply_headers(request_id: str) -> dict[str, str]:
    return {"x-request-id": request_id} if request_id else {}


async def _send(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a JSON reply in one piece."""
    sent = [_JSON, (b"content-length", b"%d" % len(body))]
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
