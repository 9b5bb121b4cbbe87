"""Connections: uvicorn's, with a short way for predictions.

A prediction request of the usual kind (POST, at a model's own path, with a body whose length is
announced and moderate) is read, answered and written without the objects that ASGI needs for each
request: a scope, a task, an event, four messages. That is more than half of what a request costs.
Everything that is unusual in any way goes to the ASGI app, which knows all of HTTP: other pages and
methods, bodies that are chunked, large or waited for (``Expect``), requests that were sent before
the one before was answered.

Here it is also seen to that nobody sends a head without end, or takes for ever to send anything:
such a connection is told so and closed.

What a request means is not known here; that is :mod:`greenroom.http.serving`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from greenroom.draining import ConnectionState
from greenroom.http.deadlines import Deadlines
from greenroom.http.messages import Reply
from greenroom.http.predicting import Replied
from greenroom.http.traffic import Routed

__all__ = ["Connection"]

MOST_UNSEEN_BYTES: Final = 4_096
"""A request that is not longer is within every bound, and is not measured."""

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class ShortWay(Protocol):
    """What answers predictions: :class:`greenroom.http.serving.Server`.

    Attributes
    ----------
    max_short_bytes : int
        A body that is longer takes the long way.
    max_head_bytes, max_message_bytes : int
        A head, or a message with its body, that is longer is not read on.
    crosses_origins : bool
        Whether pages of other origins may call: what they send (``Origin``) takes the long way.
    deadlines : Deadlines
        Looks after connections that are slow.
    """

    max_short_bytes: int
    max_head_bytes: int
    max_message_bytes: int
    crosses_origins: bool
    deadlines: Deadlines

    def served_at(self, url: bytes) -> Routed | None:
        """Return the model whose predictions are asked for at a URL."""

    def ask(
        self, routed: Routed, headers: Mapping[bytes, bytes], body: bytes, replied: Replied
    ) -> None:
        """Answer a request; tell ``replied`` the reply."""

    def refuse(self, status: int, message: str, advice: str = "") -> Reply:
        """Return the reply to what cannot be read as a request."""


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
    """One connection of a client; uvicorn makes it.

    Attributes
    ----------
    awaited : object or None
        What the client owes: the connection itself stands for its first request, a list of headers
        for a head, a cycle for a body; None where it owes nothing.
    """

    server_state: ConnectionState
    _written: ClassVar[tuple[Any, bytes]] = (None, b"")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._short_way: ShortWay | None = self.app if hasattr(self.app, "served_at") else None
        self._exchange: _Exchange | None = None
        self._owed: object | None = self
        self._n_bytes = 0
        self._n_chunk_bytes = 0

    @property
    def awaited(self) -> object | None:
        """What the client owes; nothing while it is we who do not read."""
        return None if self.flow.read_paused else self._owed

    def connection_made(self, transport: Any) -> None:
        """Have an eye on the client from now on."""
        super().connection_made(transport)
        if self._short_way is not None:
            self._short_way.deadlines.watch(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        if self._short_way is not None:
            self._short_way.deadlines.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, as long as it is no more than a request may be."""
        self._n_chunk_bytes = len(data)
        if self._owed is not None:
            # A part of what was begun before; what begins in it counts anew.
            self._n_bytes += self._n_chunk_bytes
        super().data_received(data)
        if self._n_bytes > MOST_UNSEEN_BYTES and self._short_way is not None:
            self._look_at_size(self._short_way)

    def on_message_begin(self) -> None:
        """Keep what every request needs; the scope is made for those that ASGI is to answer."""
        self.url = b""
        self.headers = self._owed = []
        self.expect_100_continue = False
        self._n_bytes = 0

    def on_headers_complete(self) -> None:
        """Decide which way a request takes."""
        if self._n_bytes + self._n_chunk_bytes > MOST_UNSEEN_BYTES:
            self._require_bearable_head()
        self._exchange = self._begun()
        if self._exchange is not None:
            # What uvicorn asks of a request's cycle, an exchange knows as well.
            self.cycle = self._owed = self._exchange  # type: ignore[assignment]  # stands in for a cycle
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()
        self._owed = self.cycle

    def on_body(self, body: bytes) -> None:
        """Keep a part of a body."""
        if self._exchange is None:
            super().on_body(body)
        else:
            self._exchange.parts.append(body)

    def on_message_complete(self) -> None:
        """Have a request answered, now that all of it is here."""
        self._owed = None
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
            or (self._short_way.crosses_origins and b"origin" in headers)
        )
        if unusual:
            return None
        return _Exchange(routed, headers, keep_alive=parser.should_keep_alive())

    def _reply(self, exchange: _Exchange, reply: Reply) -> None:
        exchange.response_complete = True
        if exchange.disconnected or self.transport.is_closing():
            return
        self._write(reply, keep_alive=exchange.keep_alive)
        if self.server_state.draining or not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _write(self, reply: Reply, *, keep_alive: bool) -> None:
        status, body, more = reply
        draining = self.server_state.draining
        # While it drains, the usual headers say so already.
        further = b"" if keep_alive or draining else b"connection: close\r\n"
        for name, value in more.items():
            further += f"{name}: {value}\r\n".encode("latin-1")
        self.transport.write(
            b"%b%b%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (_STATUS_LINES[status], self._usual_headers(), further, len(body), body)
        )

    def _usual_headers(self) -> bytes:
        """Return the headers of every reply as bytes; uvicorn makes them anew each second."""
        headers = self.server_state.default_headers
        known, written = Connection._written
        if headers is not known:
            written = b"".join(b"%b: %b\r\n" % header for header in headers)
            Connection._written = headers, written
        return written

    # What is no request, or does not become one in time.

    def took_too_long(self, timeout_s: float) -> None:
        """Give up a client that does not send what it began, or anything at all."""
        if self._owed is self:
            self.transport.close()
            return
        self._hang_up(408, f"the request did not arrive within {timeout_s:g} s")

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser cannot read; uvicorn calls it."""
        del msg
        self._hang_up(400, "this is not HTTP as it can be read here")

    def _require_bearable_head(self) -> None:
        """End the reading of a head that is too large, which the parser reports to uvicorn."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if self._short_way is not None and size > self._short_way.max_head_bytes:
            self._refuse_head(self._short_way)
            raise ValueError

    def _look_at_size(self, short_way: ShortWay) -> None:
        """Stop reading a request that is longer than any that could be answered."""
        owed = self._owed
        if isinstance(owed, list) and self._n_bytes > short_way.max_head_bytes:
            self._refuse_head(short_way)
        elif owed is not None and self._n_bytes > short_way.max_message_bytes:
            self._hang_up(413, "the request is too large")

    def _refuse_head(self, short_way: ShortWay) -> None:
        advice = f"send at most {short_way.max_head_bytes} bytes of address and headers"
        self._hang_up(431, "the request's head is too large", advice)

    def _hang_up(self, status: int, message: str, advice: str = "") -> None:
        """Say why, unless another answer is on its way, and close."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        waits_for_it = self._owed is cycle and not getattr(cycle, "response_started", False)
        if self._short_way is not None and (
            cycle is None or cycle.response_complete or waits_for_it
        ):
            reply = self._short_way.refuse(status, message, advice)
            self._write(reply, keep_alive=False)
        if cycle is not None and not cycle.response_complete:
            # Whoever still works on it is told that nobody listens.
            cycle.disconnected = True
            cycle.message_event.set()
        self._owed = None
        self.transport.close()
