"""The entrance: what every request passes that ASGI answers, whatever it asks for.

It is noted as a visit, for the access log; it gets its own id back; and where pages of other
origins may call from a browser, they are told so. Who is let in is not asked here but by what
answers, because that depends on what is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.http.access_log import AccessLog
from greenroom.http.headers import request_id_of
from greenroom.http.visits import Visit

__all__ = ["build_entrance"]


def build_entrance(
    app: ASGIApp, *, log: AccessLog | None = None, cors_origins: Sequence[str] = ()
) -> ASGIApp:
    """Put the entrance before an app.

    Parameters
    ----------
    app : ASGI app
        Finds the request's visit in ``scope["visit"]``, and fills it in.
    log : AccessLog, optional
        Where visits are noted.
    cors_origins : sequence of str
        Whose pages may call from a browser: origins, or ``*``; none by default.
    """
    entrance = _Entrance(app, log)
    if not cors_origins:
        return entrance
    # Cookies are neither read nor set: a page sends its token itself, in a header.
    return CORSMiddleware(
        entrance,
        allow_origins=cors_origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),
        expose_headers=("X-Request-ID", "Retry-After", "WWW-Authenticate"),
    )


class _Entrance:
    """The ASGI app; see :func:`build_entrance`."""

    def __init__(self, app: ASGIApp, log: AccessLog | None) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        visit = Visit(method=scope["method"], request_id=request_id_of(headers))
        scope["visit"] = visit
        try:
            await self._app(scope, receive, _noting(visit, send))
        finally:
            if self._log is not None:
                if not visit.route and 0 < visit.status < 400:
                    visit.route = scope["path"]  # a file of the documentation's
                self._log.note(visit)


def _noting(visit: Visit, send: Send) -> Send:
    """Return a ``send`` that notes the reply, and adds the caller's request id to it."""
    given = visit.request_id.encode("ascii")

    async def send_and_note(message: Message) -> None:
        if message["type"] == "http.response.start":
            visit.status = message["status"]
            if given:
                others = [pair for pair in message["headers"] if pair[0] != b"x-request-id"]
                message["headers"] = [*others, (b"x-request-id", given)]
        else:
            visit.n_bytes += len(message.get("body", b""))
        await send(message)

    return send_and_note
