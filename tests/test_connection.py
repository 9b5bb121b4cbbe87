"""Connections: the short way and the long way, told apart by nothing but their speed."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from greenroom.http.serving import MAX_SHORT_BYTES
from greenroom.settings import Settings
from live_server import BODY, Client, Slow, post, running, serving
from servers import GOOD, FakeServer, served
from waiting import wait_for


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
        post(BODY + b" " * MAX_SHORT_BYTES),
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
        status, headers, document = client.reply()
        assert (status, headers["connection"]) == (400, "close")
        assert document["error"]["message"] == "this is not HTTP as it can be read here"
        assert client.closed()


HEAD_LIMIT = Settings().max_header_bytes


def head(n_bytes, path=b"/predict", n_headers=1):
    """Return a request whose head has about as many bytes, in so many headers."""
    each = n_bytes // n_headers - 12
    filler = b"".join(b"X-%05d: %b\r\n" % (n, b"a" * each) for n in range(n_headers))
    start = b"POST %b HTTP/1.1\r\nHost: t\r\n" % path
    return start + filler + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


@pytest.mark.parametrize("n_headers", [1, 500])
@pytest.mark.parametrize("path", [b"/predict", b"/predict?long"])
def test_a_head_within_its_bound_is_taken_and_a_larger_one_is_431_and_the_end(path, n_headers):
    with running() as (port, _, _):
        client = Client(port)
        client.send(head(HEAD_LIMIT - 1_000, path, n_headers))
        assert client.reply()[0] == 200
        client.send(head(HEAD_LIMIT + 1_000, path, n_headers))
        status, headers, document = client.reply()
        assert (status, headers["connection"]) == (431, "close")
        assert "the request's head is too large" in document["detail"]
        assert client.closed()


@pytest.mark.parametrize(
    "start",
    [
        b"POST /predict HTTP/1.1\r\nHost: t\r\nX-Endless: ",
        b"GET /",
        b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
        b"POST /predict?x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}POST /predict HTTP/1.1\r\nX-A: ",
    ],
    ids=["header", "address", "trailer", "pipelined"],
)
def test_a_head_without_end_is_not_read_on(start):
    settings = Settings(max_header_bytes=8_192, max_body_bytes=16_384)
    with running(FakeServer([served()], settings=settings)) as (port, _, server):
        client = Client(port)
        client.socket.sendall(start)
        sent = 0
        with pytest.raises(OSError):  # noqa: PT012 - when exactly is the server's business
            while sent < 64 * 1024 * 1024:
                client.socket.sendall(b"a" * 65_536)
                sent += 65_536
        # What the system's own buffers hold was sent too, but never read.
        assert sent < 32 * 1024 * 1024
        wait_for(lambda: not server.server_state.connections, "it ends", within_s=30)


def test_a_head_may_come_in_pieces_of_any_size():
    whole = head(20_000, n_headers=10)
    pieces = [whole[at : at + 997] for at in range(0, len(whole), 997)]
    with running() as (port, _, _):
        client = Client(port)
        client.send(*pieces)
        assert client.reply()[0] == 200


def test_many_requests_at_once_are_not_taken_for_a_large_head():
    with running() as (port, _, _):
        client = Client(port)
        client.send(b"".join([post()] * 2_000) + post()[:30])
        assert {client.reply()[0] for _ in range(2_000)} == {200}
        client.send(post()[30:])
        assert client.reply()[0] == 200


@pytest.mark.parametrize("path", [b"/predict", b"/predict?long", b"/invocations"])
@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_a_hundred_thousand_brackets_are_refused(path, bracket):
    with running() as (port, _, _):
        client = Client(port)
        client.send(post(bracket * 100_000, path))
        assert client.reply()[0] == 400
        client.send(post())
        assert client.reply()[0] == 200


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
            lambda: len(server.server_state.connections) == 1, "the connection ends", within_s=30
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
        wait_for(lambda: server.server_state.draining, "it drains", within_s=30)
        client.send(request_bytes)
        status, headers, _ = client.reply()
        assert (status, headers["connection"]) == (200, "close")
        assert client.closed()
        with pytest.raises(ConnectionRefusedError):
            Client(port)
        wait_for(lambda: server.should_exit, "it ends", within_s=30)


def test_a_request_in_flight_when_draining_begins_says_that_its_connection_closes():
    slow = Slow()
    with running(FakeServer([served(runtime=slow)])) as (port, _, server):
        client = Client(port)
        client.send(post())
        assert slow.asked.wait(10)
        server.servers[0].get_loop().call_soon_threadsafe(server.drain)
        wait_for(lambda: server.server_state.draining, "it drains", within_s=30)
        slow.allowed.set()
        status, headers, _ = client.reply()
        assert (status, headers["connection"]) == (200, "close")
        assert client.closed()
