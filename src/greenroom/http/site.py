"""Every page of the server but the predictions: which there are, and what each one does.

One table says it all: method, path, what it is for, what answers it. The routes, the list in a 404
and the OpenAPI document are made from it. What pages say is :mod:`greenroom.http.pages`; the way
that predictions take is :mod:`greenroom.http.serving`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute

from greenroom.access.callers import Access
from greenroom.errors import NotServing, VersionError
from greenroom.http import pages
from greenroom.http.admission import Admission
from greenroom.http.docs_pages import describe, docs_routes
from greenroom.http.endpoints import Endpoint as OwnEndpoint
from greenroom.http.error_replies import HttpRefusal, error_reply
from greenroom.http.own_views import own_view
from greenroom.http.pages import Later, Page, TextPage, predict_path
from greenroom.http.traffic import note_error
from greenroom.http.visits import Visit
from greenroom.inference.inference import LoadedGeneration
from greenroom.inference.served_model import FirstUse, ServedModel
from greenroom.openapi.openapi import Operation
from greenroom.openapi.page_schemas import page_schema
from greenroom.payloads.reply import to_json
from greenroom.prediction_id import new_prediction_id
from greenroom.status import Status
from greenroom.vitals import Vitals

__all__ = ["Site"]

View: TypeAlias = Callable[[Request], Awaitable[Page | Later | TextPage | Response]]
Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[None]]

_encode: Final = msgspec.json.Encoder(enc_hook=to_json).encode


@dataclass(frozen=True)
class Endpoint:
    """A row of the table: what a page is for, and what answers it."""

    operation: Operation
    view: View


class Site:
    """The pages, as an ASGI app.

    Parameters
    ----------
    title : str
        The server's name.
    models : callable
        Returns what the committed generation answers with.
    status : callable
        Returns the server's status.
    reload : callable
        Has the registry asked, and returns when all workers serve what it selects.
    vitals : callable
        Returns how the server is doing; None before that is known.
    metrics : callable
        ``Accept -> text and content type`` of the server's metrics; called in a thread.
    first_use : callable
        Loads a model that is not in memory.
    own : sequence of Endpoint
        The app's own pages; they may take the place of ``/``, ``/health`` and ``/model/info``.
    max_body_bytes : int
        The largest body that is read.
    admission : Admission
        Lets callers in, each page by its own scope.
    secured : bool
        Whether callers have to send a token, for the documentation.
    lifespan : callable
        The context that the app lives in.
    """

    def __init__(
        self,
        *,
        title: str,
        models: Callable[[], LoadedGeneration],
        status: Callable[[], Status],
        reload: Callable[[], Awaitable[Status]],
        vitals: Callable[[], Vitals | None],
        metrics: Callable[[str], tuple[bytes, str]],
        first_use: FirstUse,
        own: Sequence[OwnEndpoint],
        max_body_bytes: int,
        admission: Admission,
        secured: bool,
        lifespan: Lifespan,
    ) -> None:
        self._title = title
        self._admission = admission
        self._secured = secured
        self._models = models
        self._status = status
        self._reload = reload
        self._vitals = vitals
        self._write_metrics = metrics
        self._first_use = first_use
        self._described: tuple[tuple[int, frozenset[str]], bytes] | None = None
        taken = {(one.operation.method, one.operation.path) for one in own}
        self._endpoints: Final = [
            *(Endpoint(one.operation, own_view(one, max_body_bytes)) for one in own)
        ] + [
            endpoint
            for endpoint in self._fixed()
            if (endpoint.operation.method, endpoint.operation.path) not in taken
        ]
        refused: Any = {HTTPException: self._refuse}
        self.asgi: Final = Starlette(
            routes=[*self._routes(), *docs_routes(title)],
            exception_handlers=refused,
            lifespan=lifespan,
        )
        self.asgi.router.redirect_slashes = False

    @property
    def operations(self) -> list[Operation]:
        """Every page, with what it is for and whom it lets in."""
        return [endpoint.operation for endpoint in self._endpoints]

    def _fixed(self) -> Iterator[Endpoint]:
        """List the pages that every server has."""
        # What tells whether a server works is open to everyone: those who ask are often machines.
        health: tuple[tuple[str, str, dict[int, str], View], ...] = (
            ("/", "Basic health check.", _UNHEALTHY, self._root),
            ("/health", "Detailed health status.", _UNHEALTHY, self._health),
            ("/live", "Whether the process runs.", {}, self._live),
            ("/ready", "Whether predictions are answered.", _UNREADY, self._ready),
        )
        for path, summary, meanings, view in health:
            operation = Operation(
                method="GET",
                path=path,
                scope="open",
                tag="health",
                summary=summary,
                page_statuses=meanings,
                reply=page_schema(path),
            )
            yield Endpoint(operation, view)
        yield from self._scoring()
        models: tuple[tuple[str, str, Access, str, dict[int, str], View], ...] = (
            ("GET", "/models", "read", "The models of this server.", _STARTING, self._list),
            ("GET", "/model/info", "read", "The version that answers.", _UNKNOWN, self._info),
            ("GET", "/models/{name}/info", "read", "A model's version.", _UNKNOWN, self._info),
            ("POST", "/model/reload", "admin", _RELOAD, _UNRELOADED, self._reloaded),
            ("POST", "/models/{name}/reload", "admin", _RELOAD, _UNRELOADED, self._reloaded),
        )
        for method, path, scope, summary, meanings, view in models:
            operation = Operation(
                method=method,
                path=path,
                scope=scope,
                tag="models",
                summary=summary,
                statuses=meanings,
                reply=page_schema(path),
            )
            yield Endpoint(operation, view)

        metrics = Operation(
            method="GET",
            path="/metrics",
            scope="read",
            tag="health",
            summary="What the server counts, for Prometheus.",
            reply={"type": "string"},
            media_type="text/plain",
        )
        yield Endpoint(metrics, self._metrics)

    def _scoring(self) -> Iterator[Endpoint]:
        """List the pages that clients of ``mlflow models serve`` ask for."""
        pages_of: tuple[tuple[str, str, dict[int, str], View], ...] = (
            ("/ping", "Whether predictions are answered.", _UNPINGED, self._ping),
            ("/version", "Which MLflow is installed.", {}, self._version),
        )
        for path, summary, meanings, view in pages_of:
            operation = Operation(
                method="GET",
                path=path,
                scope="open",
                tag="scoring",
                summary=summary,
                page_statuses=meanings,
                reply={"type": "string"},
                media_type="text/plain",
            )
            yield Endpoint(operation, view)

    def _routes(self) -> Iterator[BaseRoute]:
        for endpoint in self._endpoints:
            method, path = endpoint.operation.method, endpoint.operation.path
            yield StarletteRoute(path, self._answering(endpoint), methods=[method])
        yield StarletteRoute("/openapi.json", self._openapi)

    def _answering(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a view: its page as JSON, and whatever goes wrong in it as an error's JSON."""
        operation = endpoint.operation
        where = f"{operation.method} {operation.path}"

        async def answer(request: Request) -> Response:
            visit: Visit = request.scope["visit"]
            visit.route = operation.path
            headers = dict(request.scope["headers"])
            try:
                with self._admission.admitted(headers, operation.scope) as caller:
                    visit.caller = caller.name
                    page = await endpoint.view(request)
                if isinstance(page, Later):
                    page = await page.page()
                if isinstance(page, Response):
                    return page
                if isinstance(page, TextPage):
                    return Response(page.text, page.status, media_type="text/plain")
                return _json(_encode(page.document), page.status)
            except Exception as error:  # noqa: BLE001 - the last place where it can be answered
                return _error(error, request, where)

        return answer

    async def _root(self, _: Request) -> Page:
        return pages.root(self._status())

    async def _health(self, _: Request) -> Page:
        return pages.health(self._status(), self._vitals())

    async def _live(self, _: Request) -> Page:
        return pages.live()

    async def _ping(self, _: Request) -> TextPage:
        return pages.ping(self._status())

    async def _version(self, _: Request) -> TextPage:
        return pages.mlflow_version()

    async def _ready(self, _: Request) -> Page:
        return pages.ready(self._status())

    async def _metrics(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        text, content_type = await asyncio.to_thread(self._write_metrics, accept)
        # Response would add a charset to the content type that has one.
        return Response(text, headers={"content-type": content_type})

    async def _list(self, _: Request) -> Page:
        return pages.model_list(self._models().by_name, self._status())

    async def _info(self, request: Request) -> Page:
        served = await self._first_use(self._named(request))
        return pages.model_info(served, self._status())

    async def _reloaded(self, request: Request) -> Page:
        before = self._models()
        if "name" in request.path_params:
            self._named(request)
        try:
            status = await self._reload()
        except VersionError as error:
            # The registry selects what cannot be served, and the last good version goes on.
            raise HttpRefusal(409, error.message, advice=error.advice) from error
        return pages.reloaded(before.by_name, self._models().by_name, status)

    def _named(self, request: Request) -> ServedModel:
        """Return the model that a path names, or the only one there is."""
        models = self._models().by_name
        name = str(request.path_params.get("name", ""))
        if not name and len(models) == 1:
            return next(iter(models.values()))
        if name in models:
            return models[name]
        raise (
            _unknown(models)
            if name
            else HttpRefusal(404, "there is not one model alone", advice=_names(models))
        )

    async def _openapi(self, request: Request) -> Response:
        try:
            return _json(self._description())
        except Exception as error:  # noqa: BLE001 - as above
            return _error(error, request, "GET /openapi.json")

    def _description(self) -> bytes:
        """Return the OpenAPI document, written again when it would say something else.

        That is when another generation answers, or other models of it are in memory.
        """
        models = self._models()
        loaded = frozenset(name for name, one in models.by_name.items() if not one.awaits_load)
        if self._described is None or self._described[0] != (models.number, loaded):
            operations = [endpoint.operation for endpoint in self._endpoints]
            document = describe(self._title, models.by_name, operations, secured=self._secured)
            self._described = ((models.number, loaded), _encode(document))
        return self._described[1]

    async def _refuse(self, request: Request, error: HTTPException) -> Response:
        """Answer what no route takes."""
        if error.status_code == 405:
            allowed = sorted((error.headers or {}).get("Allow", "GET").split(", "))
            allow = ", ".join(allowed)
            refusal = HttpRefusal(
                405,
                "the method is not allowed here",
                advice=f"use {allow}",
                headers={"allow": allow},
            )
        elif error.status_code == 404:
            refusal = self._unmatched(request.scope["path"])
        else:
            refusal = HttpRefusal(error.status_code, str(error.detail))
        return _error(refusal, request, "no route")

    def _unmatched(self, path: str) -> HttpRefusal:
        with suppress(NotServing):
            if _PREDICT.fullmatch(path):
                return _unknown(self._models().by_name)
        return HttpRefusal(404, "nothing answers at this path", advice=self._paths())

    def _paths(self) -> str:
        found = [f"{operation.method} {operation.path}" for operation in self.operations]
        with suppress(NotServing):
            found.append(_listed([f"POST {path}" for path in self._models().by_path]))
        return "there are " + ", ".join([*found, "GET /docs", "GET /redoc", "GET /openapi.json"])


MOST_LISTED: Final = 20
"""How many names an error lists; ``/models`` has them all."""


_PREDICT: Final = re.compile(predict_path("[^/]+"))


def _unknown(models: Mapping[str, ServedModel]) -> HttpRefusal:
    return HttpRefusal(404, "there is no model of that name", advice=_names(models))


def _names(models: Mapping[str, ServedModel]) -> str:
    return f"there are {_listed(list(models)) or 'none'}"


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - MOST_LISTED} more"] if len(names) > MOST_LISTED else []
    return ", ".join([*names[:MOST_LISTED], *more])


_UNHEALTHY: Final = {503: "No prediction can be answered; the reply is the same page."}
_UNREADY: Final = {503: "No model is served; the reply names what is missing."}
_UNPINGED: Final = {503: "No model is served."}
_STARTING: Final = {503: "The server is starting; /ready says when it answers."}
_UNKNOWN: Final = {
    404: "There is no such model; or there are several, and none is named.",
    503: "No version of it is served at the moment.",
}
_RELOAD: Final = "Ask the registry now; answered when all workers serve what it selects."
_UNRELOADED: Final = {
    404: "There is no such model.",
    409: "What the registry selects cannot be served; the last good version goes on.",
    502: "The registry answered what makes no sense; what was served goes on.",
    503: "The registry does not answer; what was served goes on.",
}


def _json(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, headers=headers, media_type="application/json")


def _error(error: Exception, request: Request, where: str) -> Response:
    note_error(request.scope, error)
    request_id = request.scope["visit"].request_id or new_prediction_id()
    reply = error_reply(error, request_id=request_id, where=where)
    return _json(reply.body, reply.status, reply.headers)
