"""A web server that can leave while others go on: no request that comes meanwhile is lost.

Stopping, uvicorn closes the connections that are idle at that moment, and a client that is just
sending on one of them sees its request fail. A server that drains gives them time instead: it
stops accepting, answers with ``connection: close`` whatever still comes on the connections that it
has, and only closes those that stay silent. When all are gone it ends as it always does, which lets
the requests in flight finish.

Whose turn it is to leave is :mod:`greenroom.supervision.rolling_restart`'s business.
"""

from __future__ import annotations

import asyncio
import select
import signal
import socket
import threading
from collections.abc import Iterable
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

__all__ = ["CLOSE", "LINGER_S", "ConnectionState", "DrainingServer"]

CLOSE: Final = (b"connection", b"close")
"""What every reply says from the moment on when the server drains."""

LINGER_S: Final = 5.0
"""How long a connection may be silent before a server that drains closes it."""

_SETTLE_S: Final = 0.2
"""How long what was accepted at the last moment may take to count as a connection."""

_PAUSE_S: Final = 0.05


class ConnectionState(ServerState):
    """What all connections of a server share.

    Attributes
    ----------
    draining : bool
        Whether a reply has to say ``connection: close``, and its connection to close after it.
        ``default_headers`` say so too from then on, for protocols that send them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.draining = False


class DrainingServer(uvicorn.Server):
    """A server that drains and ends on SIGUSR1; on any other signal it ends as uvicorn does.

    Parameters
    ----------
    config : uvicorn.Config
        How to serve.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state: ConnectionState = ConnectionState()
        self._leaving: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections; a drain that was asked for before begins right after."""
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.drain)
        await super().startup(sockets=sockets)
        if self.server_state.draining:
            self._leave()

    def drain(self) -> None:
        """Stop accepting, let connections end by themselves, then end the server."""
        if not self.server_state.draining:
            self.server_state.draining = True
            if self.started:
                self._leave()

    def _leave(self) -> None:
        for listener in self.servers:
            listener.close()
        # A new list: connections know the one that they have written by its identity.
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        self.config.encoded_headers.append(CLOSE)  # of which uvicorn makes the next ones
        _announce(self.server_state.connections)
        self._leaving = asyncio.get_running_loop().create_task(self._end_when_silent())

    async def _end_when_silent(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + LINGER_S
        await asyncio.sleep(_SETTLE_S)
        while self.server_state.connections and loop.time() < until:
            await asyncio.sleep(_PAUSE_S)
        _close_silent(self.server_state.connections)
        self.should_exit = True


def _announce(connections: Iterable[Any]) -> None:
    """Have requests in flight say that their connection closes, which they began without.

    Not where a reply is being sent already: that one has not said so.
    """
    for connection in connections:
        exchange = connection.cycle
        if exchange is not None and not getattr(exchange, "response_started", False):
            exchange.keep_alive = False


def _close_silent(connections: Iterable[Any]) -> None:
    """Close idle connections, but none whose request has come and is not read yet.

    Looking and closing is one step: what can still be lost is a request that is on its way at
    this very instant, after seconds of silence.
    """
    for connection in list(connections):
        if not _has_come(connection.transport):
            connection.shutdown()


def _has_come(transport: asyncio.Transport) -> bool:
    """Whether there is something to read."""
    end = transport.get_extra_info("socket")
    if end is None or transport.is_closing():
        return False
    watched = select.poll()
    watched.register(end.fileno(), select.POLLIN)
    return bool(watched.poll(0))
