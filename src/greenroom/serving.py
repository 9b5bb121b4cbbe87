"""HTTP: what a worker answers, a thin skin over the engine.

Predictions take a short way: their path is looked up in a dict, the body is read, decoded, answered
and encoded, with nothing in between. :meth:`Server.ask` is that way for whoever has a whole body:
:mod:`greenroom.connection`, which reads it off a socket, and the ASGI app here, which takes what is
left over. Every other page is Starlette's to route (:mod:`greenroom.site`). Each request reads once
which generation is committed, and is answered by that one to the end.

Every request passes :mod:`greenroom.admission` first, every answer is counted before it is given
(:mod:`greenroom.traffic`), and is a line of :mod:`greenroom.access_log` where that is wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from functools import partial
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeAlias

from starlette.types import Receive, Scope, Send

from greenroom.access_log import AccessLog
from greenroom.admission import Admission
from greenroom.answering import Answering
from greenroom.app import App
from greenroom.callers import Access
from greenroom.deadlines import Deadlines
from greenroom.entrance import build_entrance
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
from greenroom.visits import Visit

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
    worker: int = 0,
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
        Who is let in, how large and how slow a request may be, how many rows are predicted
        together.
    reload : callable
        Has the registry asked now, and returns when all workers serve what it selects.
    first_use : callable, optional
        Loads a model that is not in memory; None where all of them are.
    lifespan : callable, optional
        A context that is entered before the first request and left after the last.
    instruments : WorkerInstruments, optional
        What counts the answers; default: this process's own, which know of no other process.
    worker : int, optional
        The worker's slot, for the access log.

    Raises
    ------
    SettingsError
        When the tokens cannot be read.
    """
    counting = instruments or WorkerInstruments()
    loaded = first_use or _as_it_is
    return Server(engine, status, app, settings, reload, loaded, lifespan, counting, worker)


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
        worker: int,
    ) -> None:
        self._engine = engine
        self._first_use = first_use
        self._max_body_bytes = settings.max_body_bytes
        self.max_short_bytes = min(MAX_SHORT_BYTES, settings.max_body_bytes)
        self._generation: LoadedGeneration | None = None
        self.max_head_bytes = settings.max_header_bytes
        # A body in chunks of one byte takes six on the wire.
        self.max_message_bytes = settings.max_header_bytes + 6 * settings.max_body_bytes
        self.crosses_origins = bool(settings.cors_origins)
        self._admission = Admission.of(settings, instruments.in_flight)
        self._log = AccessLog(worker, soon=_soon) if settings.access_log else None
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
        self.deadlines = Deadlines(settings.request_timeout_s, self._answering.batcher.give_up)
        self.site = Site(
            title=app.name if app else "greenroom",
            models=self._current,
            status=status,
            reload=reload,
            metrics=metrics.write,
            first_use=first_use,
            routes=app.routes if app else (),
            admission=self._admission,
            secured=settings.auth != "none",
            lifespan=self._living,
        )
        self._entrance = build_entrance(
            self._answered, log=self._log, cors_origins=settings.cors_origins
        )

    @asynccontextmanager
    async def _living(self, _: Any) -> AsyncIterator[None]:
        async with self._lifespan(), self.deadlines.kept():
            yield
        self._answering.close()
        if self._log is not None:
            self._log.flush()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of any kind."""
        await self._entrance(scope, receive, send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a prediction here, anything else by the site."""
        if scope["type"] != "http":
            await self.site.asgi(scope, receive, send)
            return
        counted = CountedSend(send, scope, self._instruments)
        headers = dict(scope["headers"])
        visit: Visit = scope["visit"]
        path, method = scope["path"], visit.method
        try:
            routed = self._routed_at(path, counted)
            if routed is not None:
                with self._let_in(visit, headers, routed.served, routed.route):
                    require_post(method)
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
            await _send(counted, *_refused(error, visit.request_id, f"{method} {path}"))
            return
        await self.site.asgi(scope, receive, counted)

    @contextmanager
    def _let_in(
        self, visit: Visit, headers: Mapping[bytes, bytes], served: ServedModel, route: str
    ) -> Iterator[None]:
        """Let in a request for predictions, for as long as the block runs."""
        visit.route, visit.model = route, served.deployment.name
        visit.version = _version(served)
        with self._admitted(visit, headers, "predict"):
            yield

    @contextmanager
    def _admitted(
        self, visit: Visit, headers: Mapping[bytes, bytes], access: Access
    ) -> Iterator[None]:
        with self._admission.admitted(headers, access) as caller:
            visit.caller = caller.name
            yield

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

    def _put(
        self,
        routed: Routed,
        headers: Mapping[bytes, bytes],
        body: bytes,
        replied: Replied,
        admission: Admission | None = None,
        visit: Visit | None = None,
    ) -> None:
        """Answer a POST to a model's path; let it in first where it is not in yet.

        One function for the request and none around it: each call here is a part of the time that
        a small model takes.
        """
        began_s = perf_counter()
        in_flight = self._in_flight
        served, route, answers = routed
        request_id = request_id_of(headers) if b"x-request-id" in headers else ""
        has_entered = False

        def answered(outcome: bytes | Exception) -> None:
            if has_entered:
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
            if admission is not None:
                caller = admission.enter(headers, "predict")
                has_entered = True
                if visit is not None:
                    visit.caller = caller.name
            _require_serving(served)
            require_json(headers)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is to be told
            answered(error)
        else:
            self._answering.ask(served, body, answered)

    def refuse(self, status: int, message: str, advice: str = "") -> Reply:
        """Return the reply to what cannot even be read as a request, and note it."""
        reply = _refused(HttpRefusal(status, message, advice=advice), "", "")
        self._instruments.page("", status, 0.0)
        if self._log is not None:
            self._log.note(Visit(method="", status=status, n_bytes=len(reply.body)))
        return reply

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

        self._put(routed, headers, body, replied)
        return await future

    async def _invoke(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, counted: CountedSend
    ) -> None:
        """Answer a request of MLflow's scoring protocol, errors in its own shape."""
        visit: Visit = scope["visit"]
        (served,) = self._current().by_name.values()
        counted.under(SCORING_PATH, self._traffic.answers(SCORING_PATH, served))
        try:
            with self._let_in(visit, headers, served, SCORING_PATH):
                body = await self._score(served, visit.method, headers, receive)
                if body is not None:
                    await _send(counted, 200, body, _NONE)
        except Exception as error:  # noqa: BLE001 - the last place where it can be answered
            note_error(scope, error)
            reply = scoring_error_reply(error, request_id=visit.request_id or new_prediction_id())
            await _send(counted, reply.status, reply.body, reply.headers)

    async def _speak_v2(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, counted: CountedSend
    ) -> None:
        """Answer a request of the Open Inference Protocol, errors in its own shape."""
        visit: Visit = scope["visit"]
        reply = await self._open_inference.answer(
            visit.method,
            scope["path"],
            headers,
            partial(self._read, headers, receive),
            request_id=visit.request_id,
            admit=partial(self._admitted, visit, headers),
        )
        if reply is None:
            return
        visit.route, served = reply.route, reply.predicted
        answers = None
        if served is not None:
            visit.model, visit.version = served.deployment.name, _version(served)
            answers = self._traffic.answers(reply.route, served)
        counted.under(reply.route, answers)
        if reply.error is not None:
            note_error(scope, reply.error)
        await _send(counted, reply.status, reply.body, reply.headers)

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
        version=_version(routed.served),
    )


def _soon(write: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(write)


def _version(served: ServedModel) -> str:
    serving = served.deployment.serving
    return serving.version if serving is not None else ""
