"""Connections: the short way and the long way, told apart by nothing but their speed."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import pytest
import uvicorn

from greenroom.connection import Connection
from greenroom.draining import DrainingServer
from greenroom.schema import Schema
from greenroom.serving import MAX_SHORT_BYTES
from greenroom.settings import Settings
from servers import COLUMNS, GOOD, FakeRuntime, FakeServer, served
from waiting import wait_for

BODY = json.dumps(GOOD).encode()


class Watched:
    """The worker's ASGI app, which notes what reaches it as ASGI and what by the short way."""

    def __init__(self, app):
        self._app = app
        self.long_way, self.short_way = [], []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            self.long_way.append((scope["method"], scope["path"]))
        await self._app(scope, receive, send)

    @property
    def max_short_bytes(self):
        return self._app.max_short_bytes

    def served_at(self, url):
        return self._app.served_at(url)

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
    wait_for(lambda: server.started, "the server starts", within_s=10)
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


def test_a_prediction_takes_the_short_way_and_a_page_the_long_one():
    with running() as (port, seen, _):
        client = Client(port)
        client.send(post())
        status, headers, document = client.reply()
        assert (status, document["probability"]) == (200, 0.2)
        assert headers["content-type"] == "application/json"
        assert "date" in headers
        assert "connection" not in headers
        client.send(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.reply()[0] == 200
    assert seen.short_way == [BODY]
    assert seen.long_way == [("GET", "/health")]


def test_both_ways_answer_with_the_same_status_headers_and_fields():
    extra = (b"X-Request-ID: abc-1",)
    with running() as (port, seen, _):
        for body in (BODY, b'{"age": -1}', b"{", b"", b"[]", b'[{"age": 1, "Number30_59": 2}]'):
            replies = []
            for path in (b"/predict", b"/predict?long"):
                client = Client(port)
                client.send(post(body, path, *extra))
                status, headers, document = client.reply()
                headers.pop("date")
                if status == 200:
                    headers.pop("content-length")  # the time it took is not always as long
                    document = json.loads(json.dumps(document), object_hook=sorted)
                replies.append((status, headers, document))
            assert replies[0] == replies[1]
            assert replies[0][1]["x-request-id"] == "abc-1"
    assert len(seen.short_way) == len(seen.long_way) == 6


def test_a_body_may_come_in_pieces():
    whole = post()
    with running() as (port, seen, _):
        client = Client(port)
        client.send(whole[:20], whole[20:90], whole[90:-5], whole[-5:-1], whole[-1:])
        assert client.reply()[2]["probability"] == 0.2
    assert seen.long_way == []


@pytest.mark.parametrize(
    "request_",
    [
        post(path=b"/predict?x=1"),
        post(path=b"/models/credit/%70redict"),
        b"POST /predict HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
        post(b"[" + b",".join([BODY] * 3_000) + b"]"),
    ],
    ids=["query", "escaped", "chunked", "large"],
)
def test_an_unusual_prediction_request_is_answered_all_the_same(request_):
    with running() as (port, seen, _):
        client = Client(port)
        for _ in range(2):
            client.send(request_)
            status, _, document = client.reply()
            assert status == 200
            assert (document.get("predictions") or [document])[0]["probability"] == 0.2
    assert seen.long_way


def test_a_client_that_waits_to_be_told_to_go_on_is_told():
    with running() as (port, _, _):
        client = Client(port)
        head, _, body = post(BODY, b"/predict", b"Expect: 100-continue").partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert client._read.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert client._read.readline() == b"\r\n"
        client.send(body)
        assert client.reply()[0] == 200


def test_requests_sent_ahead_are_answered_in_their_order():
    bodies = [json.dumps({**GOOD, "age": age}).encode() for age in range(1, 21)]
    with running() as (port, seen, _):
        client = Client(port)
        client.send(b"".join(map(post, bodies)) + b"GET /live HTTP/1.1\r\nHost: t\r\n\r\n")
        found = [client.reply()[2].get("probability") for _ in range(21)]
    assert found == [*(age / 200 for age in range(1, 21)), None]
    assert seen.long_way[-1] == ("GET", "/live")


def test_other_methods_are_refused_as_ever():
    with running() as (port, _, _):
        client = Client(port)
        client.send(b"GET /predict HTTP/1.1\r\nHost: t\r\n\r\n")
        status, headers, _ = client.reply()
        assert (status, headers["allow"]) == (405, "POST")


def test_a_client_that_asks_for_it_has_its_connection_closed():
    with running() as (port, seen, _):
        client = Client(port)
        client.send(post(BODY, b"/predict", b"Connection: close"))
        status, headers, _ = client.reply()
        assert (status, headers["connection"]) == (200, "close")
        assert client.closed()
        old = Client(port)
        old.send(post().replace(b"HTTP/1.1", b"HTTP/1.0"))
        status, headers, _ = old.reply()
        assert (status, headers["connection"]) == (200, "close")
        assert old.closed()
    assert seen.long_way == []


def test_what_is_no_http_is_400_and_the_end():
    with running() as (port, _, _):
        client = Client(port)
        client.send(b"POST /predict HTTP/1.1\r\nContent-Length: -7\r\n\r\n")
        assert client._read.readline().startswith(b"HTTP/1.1 400")


def test_a_body_that_is_announced_as_too_large_is_refused_before_it_is_read():
    fake = FakeServer([served()], settings=Settings(max_body_bytes=MAX_SHORT_BYTES))
    with running(fake) as (port, seen, _):
        client = Client(port)
        client.send(b"POST /predict HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999\r\n\r\n{")
        assert client.reply()[0] == 413
    assert seen.short_way == []


def test_a_limit_below_what_the_short_way_takes_holds_there_too():
    fake = FakeServer([served()], settings=Settings(max_body_bytes=1_024))
    with running(fake) as (port, _, _):
        client = Client(port)
        client.send(post(b"[" + b",".join([BODY] * 100) + b"]"))
        assert client.reply()[0] == 413


class Slow(FakeRuntime):
    """Answers when it is allowed to, and says when it was asked."""

    def __init__(self):
        super().__init__(Schema(COLUMNS))
        self.asked, self.allowed = threading.Event(), threading.Event()

    def predict_matrix(self, X):
        self.asked.set()
        assert self.allowed.wait(10)
        return super().predict_matrix(X)


def test_a_client_that_leaves_before_its_answer_disturbs_nobody():
    slow = Slow()
    with running(FakeServer([served(runtime=slow)])) as (port, _, server):
        gone, other = Client(port), Client(port)
        gone.send(post())
        assert slow.asked.wait(10)
        gone.close()
        other.send(post())
        time.sleep(0.1)
        slow.allowed.set()
        assert other.reply()[0] == 200
        wait_for(
            lambda: len(server.server_state.connections) == 1, "the connection ends", within_s=10
        )


def test_a_request_in_flight_is_answered_before_the_server_ends_and_idle_ones_are_closed():
    slow = Slow()
    with running(FakeServer([served(runtime=slow)])) as (port, _, server):
        busy, idle = Client(port), Client(port)
        idle.send(b"GET /live HTTP/1.1\r\nHost: t\r\n\r\n")
        idle.reply()
        busy.send(post())
        assert slow.asked.wait(10)
        server.should_exit = True
        assert idle.closed()
        slow.allowed.set()
        status, headers, _ = busy.reply()
        assert (status, headers["connection"]) == (200, "close")
        assert busy.closed()


def test_an_idle_connection_is_closed_in_time_and_a_busy_one_is_not():
    with running(timeout_keep_alive=1) as (port, _, _):
        client = Client(port)
        began_s = time.monotonic()
        while time.monotonic() < began_s + 1.6:
            client.send(post())
            assert client.reply()[0] == 200
            time.sleep(0.2)
        assert client.closed()
        assert time.monotonic() < began_s + 5


def test_64_clients_at_once_each_get_their_own_answer():
    async def one(port, age):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        found = []
        for turn in range(20):
            body = json.dumps({**GOOD, "age": (age + turn) % 120}).encode()
            writer.write(post(body))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            found.append(json.loads(await reader.readexactly(length))["probability"])
        writer.close()
        return found == [(age + turn) % 120 / 200 for turn in range(20)]

    async def everybody(port):
        return await asyncio.gather(*[one(port, age) for age in range(64)])

    with running() as (port, seen, _):
        assert all(asyncio.run(everybody(port)))
    assert len(seen.short_way) == 64 * 20


def test_an_app_without_a_short_way_is_served_as_ever():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    with serving(app, lifespan="off") as server:
        client = Client(server.servers[0].sockets[0].getsockname()[1])
        client.send(post())
        assert client.reply()[0] == 200


@pytest.mark.parametrize("request_bytes", [post(), b"GET /live HTTP/1.1\r\nHost: t\r\n\r\n"])
def test_a_server_that_drains_answers_on_idle_connections_once_more_and_says_so(request_bytes):
    with running() as (port, _, server):
        client = Client(port)
        client.send(request_bytes)
        assert "connection" not in client.reply()[1]
        server.servers[0].get_loop().call_soon_threadsafe(server.drain)
        wait_for(lambda: server.server_state.draining, "it drains", within_s=10)
        client.send(request_bytes)
        status, headers, _ = client.reply()
        assert (status, headers["connection"]) == (200, "close")
        assert client.closed()
        with pytest.raises(ConnectionRefusedError):
            Client(port)
        wait_for(lambda: server.should_exit, "it ends", within_s=10)


def test_a_request_in_flight_when_draining_begins_says_that_its_connection_closes():
    slow = Slow()
    with running(FakeServer([served(runtime=slow)])) as (port, _, server):
        client = Client(port)
        client.send(post())
        assert slow.asked.wait(10)
        server.servers[0].get_loop().call_soon_threadsafe(server.drain)
        wait_for(lambda: server.server_state.draining, "it drains", within_s=10)
        slow.allowed.set()
        status, headers, _ = client.reply()
        assert (status, headers["connection"]) == (200, "close")
        assert client.closed()
