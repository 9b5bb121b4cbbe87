"""HTTP: what a worker answers, a thin skin over the engine.

The ASGI app of a worker: it tells the protocols apart and hands each request to what answers it.
Predictions take the short way of :mod:`greenroom.http.predicting`, most of them straight from
:mod:`greenroom.http.connection`, without coming by here; what is left over of them comes here,
MLflow's scoring protocol (:mod:`greenroom.http.scoring`) and the Open Inference Protocol
(:mod:`greenroom.http.open_inference`). Every other page is Starlette's to route
(:mod:`greenroom.http.site`).

Every request passes :mod:`greenroom.http.admission` first, reads once which generation is
committed, and is answered by that one to the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from starlette.types import Receive, Scope, Send

from greenroom.access.callers import Access
from greenroom.app import App
from greenroom.errands import Done, Errand
from greenroom.errors import ProcessError
from greenroom.http.access_log import AccessLog
from greenroom.http.admission import Admission
from greenroom.http.answering import Answering
from greenroom.http.deadlines import Deadlines
from greenroom.http.endpoints import Endpoint, route_endpoint
from greenroom.http.entrance import build_entrance
from greenroom.http.error_replies import HttpRefusal, scoring_error_reply
from greenroom.http.exposition import OWN_PREFIX, Exposition
from greenroom.http.headers import require_post
from greenroom.http.log_pages import log_endpoints
from greenroom.http.management_pages import Ask, management_endpoints
from greenroom.http.messages import Reply, read_body, send_reply
from greenroom.http.monitoring_exposition import MonitoringExposition
from greenroom.http.open_inference import OpenInference
from greenroom.http.predicting import Predicting, refused, version_of
from greenroom.http.protocol_endpoints import ROOT
from greenroom.http.routing import Routing
from greenroom.http.scoring import Scoring
from greenroom.http.site import Site
from greenroom.http.traffic import CountedSend, Routed, Traffic, note_error
from greenroom.http.training_pages import training_endpoints
from greenroom.http.visits import Visit
from greenroom.inference.inference import Engine
from greenroom.inference.prediction_log import Asker, PredictionLog
from greenroom.inference.served_model import FirstUse, ServedModel
from greenroom.instruments import WorkerInstruments, read_totals
from greenroom.job_store import JobStore
from greenroom.openapi.scoring_openapi import SCORING_PATH
from greenroom.prediction_id import new_prediction_id
from greenroom.settings import Settings
from greenroom.status import Status
from greenroom.vitals import read_vitals

__all__ = ["Server", "build_asgi"]

MAX_SHORT_BYTES: Final = 2**20
"""A body that is longer takes the long way, which stops reading while it cannot keep up."""


MAX_UNKNOWN_BYTES: Final = 65_536
"""The same where callers have to say who they are: no more is read before they have."""


def build_asgi(
    engine: Engine,
    status: Callable[[], Status],
    *,
    app: App | None,
    settings: Settings,
    reload: Callable[[], Awaitable[Status]],
    ask: Ask | None = None,
    first_use: FirstUse | None = None,
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext,
    instruments: WorkerInstruments | None = None,
    worker: int = 0,
    log: PredictionLog | None = None,
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
    ask : callable, optional
        Has the supervisor do an errand; needed where the app has management routes or can be
        trained over HTTP.
    first_use : callable, optional
        Loads a model that is not in memory; None where all of them are.
    lifespan : callable, optional
        A context that is entered before the first request and left after the last.
    instruments : WorkerInstruments, optional
        What counts the answers; default: this process's own, which know of no other process.
    worker : int, optional
        The worker's slot, for the access log.
    log : PredictionLog, optional
        Where predictions are noted.

    Raises
    ------
    SettingsError
        When the tokens cannot be read.
    """
    counting = instruments or WorkerInstruments()
    loaded = first_use or _as_it_is
    own = tuple(_own_endpoints(engine, status, app, reload, ask or _nobody, settings, log))
    return Server(
        _Parts(engine, status, app, settings, reload, loaded, lifespan, counting, worker, log, own)
    )


class _Parts(NamedTuple):
    """What a server is built from; see :func:`build_asgi`."""

    engine: Engine
    status: Callable[[], Status]
    app: App | None
    settings: Settings
    reload: Callable[[], Awaitable[Status]]
    first_use: FirstUse
    lifespan: Callable[[], AbstractAsyncContextManager[Any]]
    instruments: WorkerInstruments
    worker: int
    log: PredictionLog | None
    own: Sequence[Endpoint]


class Server:
    """The ASGI app, and its short way for predictions; see :func:`build_asgi`."""

    def __init__(self, parts: _Parts) -> None:
        settings, instruments, log = parts.settings, parts.instruments, parts.log
        self._max_body_bytes = settings.max_body_bytes
        unasked = settings.auth == "none"
        self.max_short_bytes = min(
            MAX_SHORT_BYTES if unasked else MAX_UNKNOWN_BYTES, settings.max_body_bytes
        )
        self.max_head_bytes = settings.max_header_bytes
        # A body in chunks of one byte takes six on the wire.
        self.max_message_bytes = settings.max_header_bytes + 6 * settings.max_body_bytes
        self.crosses_origins = bool(settings.cors_origins)
        self._admission = Admission.of(settings, instruments.in_flight)
        self._log = AccessLog(parts.worker, soon=_soon) if settings.access_log else None
        self._prediction_log = log
        self._lifespan = parts.lifespan
        self._instruments = instruments
        self._traffic = Traffic(instruments)
        self._routing = Routing(parts.engine, self._traffic, parts.app)
        self._answering = Answering(
            settings.max_batch_rows,
            lambda served, n_rows: instruments.batched(served.deployment.name, n_rows),
            log,
        )
        self._predicting = Predicting(
            self._answering, self._admission, parts.first_use, instruments, self._log
        )
        self._scoring = Scoring(self._answering, parts.first_use)
        # The short way, without a call of ours in between.
        self.served_at = self._routing.at_url
        self.ask = self._predicting.ask
        self._open_inference = OpenInference(
            models=lambda: self._routing.current().by_name,
            status=parts.status,
            reload=parts.reload,
            first_use=parts.first_use,
            predict=self._answering.predict,
            work=self._answering.work,
        )
        self.deadlines = Deadlines(settings.request_timeout_s, self._answering.batcher.give_up)
        self.site = self._site(parts)
        self._entrance = build_entrance(
            self._answered, log=self._log, cors_origins=settings.cors_origins
        )

    def _site(self, parts: _Parts) -> Site:
        instruments, log = parts.instruments, parts.log
        metrics = Exposition(
            lambda: read_totals(instruments.memory),
            parts.status,
            prefix=parts.app.metrics_prefix if parts.app else OWN_PREFIX,
            balance=log.balance if log is not None else None,
            room=log.room if log is not None else None,
            outbox=log.outbox_balance if log is not None else lambda: None,
            monitoring=MonitoringExposition.of(Path(parts.settings.home), parts.settings.port),
        )
        return Site(
            title=parts.app.name if parts.app else "greenroom",
            models=self._routing.current,
            status=parts.status,
            reload=parts.reload,
            vitals=partial(read_vitals, instruments.memory),
            metrics=metrics.write,
            first_use=parts.first_use,
            own=parts.own,
            max_body_bytes=parts.settings.max_body_bytes,
            admission=self._admission,
            secured=parts.settings.auth != "none",
            lifespan=self._living,
        )

    @asynccontextmanager
    async def _living(self, _: Any) -> AsyncIterator[None]:
        async with self._lifespan(), self.deadlines.kept():
            yield
        self._answering.close()
        if self._prediction_log is not None:
            self._prediction_log.close()
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
            routed = self._routing.at_path(path, counted)
            if routed is not None:
                await self._predict(routed, visit, headers, receive, counted)
                return
            if path == SCORING_PATH and len(self._routing.current().by_name) == 1:
                await self._invoke(scope, headers, receive, counted)
                return
            if path == ROOT or path.startswith(f"{ROOT}/"):
                await self._speak_v2(scope, headers, receive, counted)
                return
        except Exception as error:  # noqa: BLE001 - the last place where it can be answered
            note_error(scope, error)
            await send_reply(counted, refused(error, visit.request_id, f"{method} {path}"))
            return
        await self.site.asgi(scope, receive, counted)

    @contextmanager
    def _let_in(
        self, visit: Visit, headers: Mapping[bytes, bytes], served: ServedModel, route: str
    ) -> Iterator[str]:
        """Let in a request for predictions, for as long as the block runs; give who asks."""
        visit.route, visit.model = route, served.deployment.name
        visit.version = version_of(served)
        with self._admitted(visit, headers, "predict") as caller:
            yield caller

    @contextmanager
    def _admitted(
        self, visit: Visit, headers: Mapping[bytes, bytes], access: Access
    ) -> Iterator[str]:
        with self._admission.admitted(headers, access) as caller:
            visit.caller = caller.name
            yield caller.name

    def refuse(self, status: int, message: str, advice: str = "") -> Reply:
        """Return the reply to what cannot even be read as a request, and note it."""
        reply = refused(HttpRefusal(status, message, advice=advice), "", "")
        self._instruments.page("", status, 0.0)
        if self._log is not None:
            self._log.note(Visit(method="", status=status, n_bytes=len(reply.body)))
        return reply

    async def _predict(
        self,
        routed: Routed,
        visit: Visit,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        counted: CountedSend,
    ) -> None:
        """Answer a prediction that has not come by the short way."""
        with self._let_in(visit, headers, routed.served, routed.route) as caller:
            require_post(visit.method)
            body = await read_body(headers, receive, self._max_body_bytes)
            if body is not None:
                reply = await self._predicting.predict(routed, headers, body, caller)
                counted.counted = True
                await send_reply(counted, reply)

    async def _invoke(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, counted: CountedSend
    ) -> None:
        """Answer a request of MLflow's scoring protocol, errors in its own shape."""
        visit: Visit = scope["visit"]
        (served,) = self._routing.current().by_name.values()
        counted.under(SCORING_PATH, self._traffic.answers(SCORING_PATH, served))
        try:
            with self._let_in(visit, headers, served, SCORING_PATH) as caller:
                read = partial(read_body, headers, receive, self._max_body_bytes)
                asker = Asker(caller, SCORING_PATH, visit.request_id)
                reply = await self._scoring.score(served, visit.method, headers, read, asker)
                if reply is not None:
                    await send_reply(counted, reply)
        except Exception as error:  # noqa: BLE001 - the last place where it can be answered
            note_error(scope, error)
            told = scoring_error_reply(error, request_id=visit.request_id or new_prediction_id())
            await send_reply(counted, Reply(told.status, told.body, told.headers))

    async def _speak_v2(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, counted: CountedSend
    ) -> None:
        """Answer a request of the Open Inference Protocol, errors in its own shape."""
        visit: Visit = scope["visit"]
        reply = await self._open_inference.answer(
            visit.method,
            scope["path"],
            headers,
            partial(read_body, headers, receive, self._max_body_bytes),
            request_id=visit.request_id,
            admit=partial(self._admitted, visit, headers),
        )
        if reply is None:
            return
        visit.route, served = reply.route, reply.predicted
        answers = None
        if served is not None:
            visit.model, visit.version = served.deployment.name, version_of(served)
            answers = self._traffic.answers(reply.route, served)
        counted.under(reply.route, answers)
        if reply.error is not None:
            note_error(scope, reply.error)
        await send_reply(counted, Reply(reply.status, reply.body, reply.headers))


def _own_endpoints(
    engine: Engine,
    status: Callable[[], Status],
    app: App | None,
    reload: Callable[[], Awaitable[Status]],
    ask: Ask,
    settings: Settings,
    log: PredictionLog | None,
) -> Iterator[Endpoint]:
    """Give the endpoints that an app declares, and those of the prediction log."""

    def models() -> Mapping[str, ServedModel]:
        return engine.current().by_name

    yield from log_endpoints(settings, log, models)
    if app is None:
        return
    for route in app.routes:
        yield route_endpoint(route, status)
    if app.management is not None:
        yield from management_endpoints(
            app.management,
            ask=ask,
            reload=reload,
            models=models,
            status=status,
            mlflow_enabled=settings.mlflow_enabled,
        )
    if app.training is not None:
        store = JobStore(Path(settings.home))
        yield from training_endpoints(app, app.training, store, ask, settings.environment)


async def _nobody(errand: Errand) -> Done:
    raise ProcessError(f"nobody does the errand {type(errand).__name__} here")


async def _as_it_is(served: ServedModel) -> ServedModel:
    """Return a model of a server that has all of them in memory."""
    return served


def _soon(write: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(write)
