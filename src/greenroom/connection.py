"""Connections: uvicorn's, with a short way for predictions.

A prediction request of the usual kind (POST, at a model's own path, with a body whose length is
announced and moderate) is read, answered and written without the objects that ASGI needs for each
request: a scope, a task, an event, four messages. That is more than half of what a request costs.
Everything that is unusual in any way goes to the ASGI app, which knows all of HTTP: other pages and
methods, bodies that are chunked, large or waited for (``Expect``), requests that were sent before
the one before was answered.

What a request means is not known here; that is :mod:`greenroom.serving`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from greenroom.draining import ConnectionState
from greenroom.serving import Replied, Reply
from greenroom.traffic import Routed

__all__ = ["Connection"]

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class ShortWay(Protocol):
    """What answers predictions: :class:`greenroom.serving.Server`.

    Attributes
    ----------
    max_short_bytes : int
        A body that is longer takes the long way.
    """

    max_short_bytes: int

    def served_at(self, url: bytes) -> Routed | None:
        """Return the model whose predictions are asked for at a URL."""

    def ask(
        self, routed: Routed, headers: Mapping[bytes, bytes], body: bytes, replied: Replied
    ) -> None:
        """Answer a request; tell ``replied`` the reply."""


class _NoEvent:
    """In the place of what an ASGI app would wait for: here nobody waits."""

    def set(self) -> None:
        """Do nothing."""


class _Exchange:
    """A prediction request and its reply, as far as uvicorn has to know about them.

    uvicorn asks a connection's exchange whether it is over, tells it to close the connection when
    it is (``keep_alive``), and that the client is gone (``disconnected``).
    """

    __slots__ = ("disconnected", "headers", "keep_alive", "parts", "response_complete", "routed")

    message_event: Final = _NoEvent()

    def __init__(self, routed: Routed, headers: Mapping[bytes, bytes], *, keep_alive: bool) -> None:
        self.routed = routed
        self.headers = headers
        self.keep_alive = keep_alive
        self.parts: list[bytes] = []
        self.disconnected = False
        self.response_complete = False


class Connection(HttpToolsProtocol):
    """One connection of a client; uvicorn makes it."""

    server_state: ConnectionState
    _written: ClassVar[tuple[Any, bytes]] = (None, b"")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._short_way: ShortWay | None = self.app if hasattr(self.app, "served_at") else None
        self._exchange: _Exchange | None = None

    def on_message_begin(self) -> None:
        """Keep what every request needs; the scope is made for those that ASGI is to answer."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Decide which way a request takes."""
        self._exchange = self._begun()
        if self._exchange is not None:
            # What uvicorn asks of a request's cycle, an exchange knows as well.
            self.cycle = self._exchange  # type: ignore[assignment]
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a part of a body."""
        if self._exchange is None:
            super().on_body(body)
        else:
            self._exchange.parts.append(body)

    def on_message_complete(self) -> None:
        """Have a request answered, now that all of it is here."""
        exchange = self._exchange
        if exchange is None or self._short_way is None:
            super().on_message_complete()
            return
        self._exchange = None
        parts = exchange.parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._short_way.ask(
            exchange.routed, exchange.headers, body, lambda reply: self._reply(exchange, reply)
        )

    def _begun(self) -> _Exchange | None:
        """Begin an exchange; None for a request that is unusual in any way."""
        parser = self.parser
        if self._short_way is None or parser.get_method() != b"POST":
            return None
        routed = self._short_way.served_at(self.url)
        if routed is None:
            return None
        headers = dict(self.headers)
        length = headers.get(b"content-length", b"")
        unusual = (
            not length.isdigit()
            or int(length) > self._short_way.max_short_bytes
            or self.expect_100_continue
            or parser.should_upgrade()
            or self.flow.write_paused
            or (self.cycle is not None and not self.cycle.response_complete)
        )
        if unusual:
            return None
        return _Exchange(routed, headers, keep_alive=parser.should_keep_alive())

    def _reply(self, exchange: _Exchange, reply: Reply) -> None:
        exchange.response_complete = True
        if exchange.disconnected or self.transport.is_closing():
            return
        status, body, more = reply
        draining = self.server_state.draining
        # While it drains, the usual headers say so already.
        further = b"" if exchange.keep_alive or draining else b"connection: close\r\n"
        for name, value in more.items():
            further += f"{name}: {value}\r\n".encode("latin-1")
        self.transport.write(
            b"%b%b%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (_STATUS_LINES[status], self._usual_headers(), further, len(body), body)
        )
        if draining or not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _usual_headers(self) -> bytes:
        """Return the headers of every reply as bytes; uvicorn makes them anew each second."""
        headers = self.server_state.default_headers
        known, written = Connection._written
        if headers is not known:
            written = b"".join(b"%b: %b\r\n" % header for header in headers)
            Connection._written = headers, written
        return written
