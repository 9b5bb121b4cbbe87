"""Views of endpoints that are an app's own: from a request to the call that an endpoint knows.

What they answer is :mod:`greenroom.http.endpoints`' business; sending it,
:mod:`greenroom.http.site`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request

from greenroom.http.endpoints import Call, Endpoint
from greenroom.http.error_replies import HttpRefusal
from greenroom.http.headers import require_json
from greenroom.http.messages import read_body
from greenroom.http.pages import Later, Page


def own_view(
    endpoint: Endpoint, max_body_bytes: int
) -> Callable[[Request], Awaitable[Page | Later]]:
    """Return the view of an app's endpoint: what it asks of the request, and its page."""

    async def view(request: Request) -> Page | Later:
        body = b""
        if endpoint.operation.has_body:
            body = await _read(request, max_body_bytes)
        caller = request.scope["visit"].caller
        call = Call(
            request.path_params, body, caller, request.query_params, partial(_gone, request)
        )
        return await endpoint.answer(call)

    return view


async def _read(request: Request, max_body_bytes: int) -> bytes:
    headers = dict(request.scope["headers"])
    body = await read_body(headers, request.receive, max_body_bytes)
    if body is None:
        raise HttpRefusal(400, "the caller went away before the body was there")
    if body:
        require_json(headers)
    return body


async def _gone(request: Request) -> None:
    """Return when the caller of a request that has been read does not listen any more."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
