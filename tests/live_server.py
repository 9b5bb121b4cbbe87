"""A worker's app under uvicorn in a thread, and a client that sends bytes as they are."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import uvicorn

from greenroom.draining import DrainingServer
from greenroom.http.connection import Connection
from greenroom.schema import Schema
from servers import COLUMNS, GOOD, FakeRuntime, FakeServer, served
from waiting import wait_for

BODY = json.dumps(GOOD).encode()


class Watched:
    """The worker's ASGI app, which notes what reaches it as ASGI and what by the short way."""

    def __init__(self, app):
        self.server = self._app = app
        self.long_way, self.short_way = [], []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            self.long_way.append((scope["method"], scope["path"]))
        await self._app(scope, receive, send)

    def __getattr__(self, name):
        return getattr(self._app, name)

    def ask(self, served, headers, body, replied):
        self.short_way.append(body)
        self._app.ask(served, headers, body, replied)


@contextmanager
def serving(app, **changes):
    """Run an app under uvicorn in a thread; yields uvicorn's server."""
    given = {"loop": "uvloop", "log_config": None, "port": 0, "proxy_headers": False, **changes}
    server = DrainingServer(uvicorn.Config(app, http=Connection, **given))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started, "the server starts", within_s=30)
    try:
        yield server
    finally:
        while Client.opened:
            Client.opened.pop().close()
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def running(fake=None, **changes):
    """Run a worker's app; yields its port, what it saw, and uvicorn's server."""
    fake = fake or FakeServer([replace(served(), quick_rows=32)])
    watched = Watched(fake.asgi())
    with serving(watched, lifespan="on", **changes) as server:
        yield server.servers[0].sockets[0].getsockname()[1], watched, server


class Client:
    """A client that sends bytes as they are and reads whole replies."""

    opened: ClassVar = []

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._read = self.socket.makefile("rb")
        Client.opened.append(self)

    def send(self, *parts):
        for part in parts:
            self.socket.sendall(part)
            time.sleep(0.02 * (len(parts) > 1))

    def reply(self):
        """Read one reply: status, headers, body."""
        line = self._read.readline()
        if not line:
            raise EOFError
        headers = {}
        while field := self._read.readline().strip():
            name, _, value = field.decode().partition(": ")
            assert name not in headers, f"{name} twice"
            headers[name] = value
        body = self._read.read(int(headers["content-length"]))
        return int(line.split()[1]), headers, json.loads(body) if body else None

    def close(self):
        self._read.close()
        self.socket.close()

    def closed(self):
        return self._read.read(1) == b""


def post(body=BODY, path=b"/predict", *headers):
    lines = [b"POST %b HTTP/1.1" % path, b"Host: test", b"Content-Type: application/json"]
    return b"\r\n".join([*lines, *headers, b"Content-Length: %d" % len(body), b"", body])


class Slow(FakeRuntime):
    """Answers when it is allowed to, and says when it was asked."""

    def __init__(self):
        super().__init__(Schema(COLUMNS))
        self.asked, self.allowed = threading.Event(), threading.Event()

    def predict_matrix(self, X):
        self.asked.set()
        assert self.allowed.wait(10)
        return super().predict_matrix(X)
