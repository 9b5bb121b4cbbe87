"""Deadlines: what arrives or is answered too slowly is given up, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import time

import pytest

from greenroom.errors import TookTooLong
from greenroom.http.deadlines import Deadlines
from greenroom.settings import Settings
from live_server import BODY, Client, Slow, post, running
from servers import FakeServer, served
from waiting import wait_for

QUICKLY = Settings(request_timeout_s=0.4)


class FakeConnection:
    def __init__(self, awaited=None):
        self.awaited = awaited
        self.given_up_after = []

    def took_too_long(self, timeout_s):
        self.given_up_after.append(timeout_s)


@pytest.fixture
def given_up():
    return []


@pytest.fixture
def deadlines(given_up):
    return Deadlines(10.0, lambda before_s, reason: given_up.append((before_s, reason())))


def test_a_connection_that_owes_the_same_for_too_long_is_given_up(deadlines):
    slow, idle = FakeConnection(awaited=object()), FakeConnection()
    for connection in (slow, idle):
        deadlines.watch(connection)
    for now_s in (0.0, 5.0, 9.0):
        deadlines.look(now_s)
        assert slow.given_up_after == []
    deadlines.look(10.0)
    assert (slow.given_up_after, idle.given_up_after) == ([10.0], [])


def test_a_connection_that_sends_one_request_after_the_other_is_not(deadlines):
    busy = FakeConnection()
    deadlines.watch(busy)
    for now_s in range(100):
        busy.awaited = [] if now_s % 3 else None
        deadlines.look(float(now_s))
    assert busy.given_up_after == []


def test_a_connection_that_has_ended_is_looked_at_no_more(deadlines):
    gone = FakeConnection(awaited=object())
    deadlines.watch(gone)
    deadlines.look(0.0)
    deadlines.forget(gone)
    deadlines.look(20.0)
    deadlines.forget(gone)
    assert gone.given_up_after == []


def test_requests_that_came_a_time_out_ago_are_given_up_with_what_to_do(deadlines, given_up):
    deadlines.look(100.0)
    ((before_s, reason),) = given_up
    assert before_s == 90.0
    assert isinstance(reason, TookTooLong)
    assert "within 10 s" in reason.message
    assert "request_timeout_s" in reason.advice


@pytest.mark.parametrize(
    "path", [b"/predict", b"/predict?long", b"/invocations"], ids=["short", "long", "scoring"]
)
def test_a_body_that_does_not_come_is_408_and_the_end(path):
    whole = post(path=path)
    with running(FakeServer([served()], settings=QUICKLY)) as (port, seen, server):
        client = Client(port)
        client.send(whole[:-5])
        status, headers, document = client.reply()
        assert (status, headers["connection"]) == (408, "close")
        assert "did not arrive within 0.4 s" in document["detail"]
        assert client.closed()
        wait_for(lambda: not server.server_state.tasks, "nobody waits any more", within_s=30)
        assert seen.server._admission.in_flight[0] == 0


def test_a_body_in_drops_is_given_up_too():
    whole = post(BODY + b" " * 200)
    with running(FakeServer([served()], settings=QUICKLY)) as (port, _, _):
        client = Client(port)
        client.send(whole[:-200])
        began_s = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012 - when exactly is the server's business
            for _ in range(200):
                client.socket.sendall(b" ")
                time.sleep(0.02)
        assert time.monotonic() - began_s < 2.0
        assert client.reply()[0] == 408


@pytest.mark.parametrize("sent", [b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: t\r\nX-A: "])
def test_a_head_that_does_not_end_is_408_and_the_end(sent):
    with running(FakeServer([served()], settings=QUICKLY)) as (port, _, _):
        client = Client(port)
        client.send(sent)
        assert client.reply()[0] == 408
        assert client.closed()


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
def test_a_connection_that_never_asks_for_anything_is_closed(sent):
    with running(FakeServer([served()], settings=QUICKLY)) as (port, _, _):
        client = Client(port)
        client.send(sent)
        assert client.closed()


def test_a_connection_may_rest_between_requests_for_longer_than_a_request_may_take():
    with running(FakeServer([served()], settings=QUICKLY)) as (port, _, _):
        client = Client(port)
        for _ in range(2):
            client.send(post())
            assert client.reply()[0] == 200
            time.sleep(0.9)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (b"/predict", BODY),
        (b"/predict?long", BODY),
        (b"/predict", b"[" + b",".join([BODY] * 3_000) + b"]"),
        (b"/invocations", b'{"dataframe_records": [{"age": 40, "Number30-59": 1, "income": 2.0}]}'),
    ],
    ids=["short", "long", "large", "scoring"],
)
def test_an_answer_that_does_not_come_is_504_and_the_connection_goes_on(path, body):
    slow = Slow()
    with running(FakeServer([served(runtime=slow)], settings=QUICKLY)) as (port, seen, _):
        running_one, waiting_one = Client(port), Client(port)
        running_one.send(post(body, path))
        assert slow.asked.wait(10)
        waiting_one.send(post(body, path))
        for client in (running_one, waiting_one):
            status, _, document = client.reply()
            assert status == 504
            assert "within 0.4 s" in str(document)
        assert seen.server._admission.in_flight[0] == 0
        slow.allowed.set()
        for client in (running_one, waiting_one):
            client.send(post())
            assert client.reply()[0] == 200


def test_what_was_given_up_while_it_waited_is_not_worked_on_later():
    slow = Slow()
    calls = []
    answer = slow._answer
    slow._answer = lambda first: calls.append(list(first)) or answer(first)
    with running(FakeServer([served(runtime=slow)], settings=QUICKLY)) as (port, _, _):
        first, second = Client(port), Client(port)
        first.send(post(b'{"age": 1, "Number30_59": 0}'))
        assert slow.asked.wait(10)
        second.send(post(b'{"age": 2, "Number30_59": 0}'))
        assert (first.reply()[0], second.reply()[0]) == (504, 504)
        slow.allowed.set()
        third = Client(port)
        third.send(post(b'{"age": 3, "Number30_59": 0}'))
        assert third.reply()[0] == 200
    assert calls == [[1.0], [3.0]]


def test_the_clock_goes_on_when_a_connection_cannot_be_given_up(caplog):
    class Broken(FakeConnection):
        def took_too_long(self, timeout_s):
            super().took_too_long(timeout_s)
            raise OSError

    async def main():
        deadlines = Deadlines(0.05, lambda before_s, reason: None)
        broken = Broken(awaited=object())
        async with deadlines.kept():
            deadlines.watch(broken)
            while len(broken.given_up_after) < 2:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 10))
    assert "could not be given up" in caplog.text
