"""Endpoints of an app's own, beside the server's pages: what each is for, and what answers it.

No web framework here: a call comes as its parts, and a page goes back. Routing, letting callers in
and writing the page is :mod:`greenroom.http.site`'s business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from greenroom.app import Route
from greenroom.http.pages import Later, Page
from greenroom.openapi.openapi import Operation
from greenroom.status import Status

__all__ = ["Action", "Call", "Endpoint", "route_endpoint"]


class Call(NamedTuple):
    """A request that was let in.

    Parameters
    ----------
    parameters : mapping of str to str
        What stands in the path.
    body : bytes
        The whole body; of a GET, nothing.
    caller : str
        The name of the caller's token; empty where nobody is asked for one.
    query : mapping of str to str
        What stands in the address behind the path.
    gone : callable, optional
        Returns when the caller does not listen any more; for an answer that takes long.
    """

    parameters: Mapping[str, str]
    body: bytes = b""
    caller: str = ""
    query: Mapping[str, str] = MappingProxyType({})
    gone: Callable[[], Awaitable[None]] | None = None


Action: TypeAlias = Callable[[Call], Awaitable[Page | Later]]


@dataclass(frozen=True)
class Endpoint:
    """A path and what answers there."""

    operation: Operation
    answer: Action = field(repr=False)


def route_endpoint(route: Route, status: Callable[[], Status]) -> Endpoint:
    """Return the endpoint of a view of the server's status."""
    operation = Operation(
        method=route.method,
        path=route.path,
        scope=route.scope,
        tag="app",
        summary=route.summary or "The app's own.",
        statuses={500: "The app's view failed; the log says more."},
    )

    async def answer(_: Call) -> Page:
        return Page(route.view(status()))

    return Endpoint(operation, answer)
