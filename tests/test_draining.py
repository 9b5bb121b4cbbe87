"""Draining: which connections a server may close while clients may be sending."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

from greenroom.draining import _close_silent


class FakeConnection:
    """A connection that is its own transport."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.was_shut_down = False

    @property
    def transport(self) -> FakeConnection:
        return self

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> socket.socket:
        assert name == "socket"
        return self.end

    def shutdown(self) -> None:
        self.was_shut_down = True


@contextmanager
def connected() -> Iterator[tuple[FakeConnection, socket.socket]]:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        yield FakeConnection(ours), theirs


def test_a_silent_connection_is_closed() -> None:
    with connected() as (connection, _):
        _close_silent({connection})
        assert connection.was_shut_down


def test_a_connection_whose_request_has_come_and_is_not_read_yet_is_left_open() -> None:
    with connected() as (connection, client):
        client.sendall(b"GET / HTTP/1.1")
        _close_silent({connection})
        assert not connection.was_shut_down
