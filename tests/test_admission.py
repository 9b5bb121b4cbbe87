"""Admission: that nobody comes in unasked, or beyond what a worker can do, on either way."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from greenroom.access.tokens import TokensFile
from greenroom.errors import NotAuthenticated, TooBusy
from greenroom.http.admission import Admission
from greenroom.settings import Settings
from live_server import BODY, Client, Slow, post, running
from servers import FakeServer, served
from waiting import wait_for

CHUNKED = b"POST /predict HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n%b\r\n" + (
    b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
)
SCORING = b'{"dataframe_records": [{"age": 40, "Number30-59": 1, "income": 2.0}]}'


def prediction(way: str, *headers: bytes) -> bytes:
    """Return a request for a prediction that takes a way of its own through the server."""
    match way:
        case "short":
            return post(BODY, b"/predict", *headers)
        case "by name":
            return post(BODY, b"/models/credit/predict", *headers)
        case "long":
            return post(BODY, b"/predict?x=1", *headers)
        case "chunked":
            return CHUNKED % b"".join(header + b"\r\n" for header in headers)
        case _:
            return post(SCORING, b"/invocations", *headers)


WAYS = ("short", "by name", "long", "chunked", "scoring")
every_way = pytest.mark.parametrize("way", WAYS)


def token(secret: str) -> bytes:
    return b"Authorization: Bearer " + secret.encode()


def message_of(way: str, document: dict) -> str:
    """Check the shape that an error has there, and return what it says."""
    if way == "scoring":
        assert set(document) == {"error_code", "message"}
        return document["message"]
    assert set(document) == {"error", "detail"}
    return document["detail"]


@pytest.fixture
def file(tmp_path):
    return TokensFile(tmp_path / "tokens.json")


def secured(file, runtime=None, **settings) -> FakeServer:
    model = served(runtime=runtime) if runtime else replace(served(), quick_rows=32)
    given = {"auth": "tokens", "tokens_file": str(file.path), **settings}
    return FakeServer([model], settings=Settings(**given))


def asked(port, request):
    client = Client(port)
    client.send(request)
    return client.reply()


@every_way
def test_a_prediction_needs_a_known_token_with_the_scope(file, way):
    predicts = file.add("shop", ["predict"]).secret
    reads = file.add("board", ["read", "admin", "feedback"]).secret
    with running(secured(file)) as (port, seen, _):
        status, headers, document = asked(port, prediction(way))
        assert status == 401
        assert headers["www-authenticate"] == 'Bearer realm="greenroom"'
        assert "this needs a token" in message_of(way, document)

        status, headers, document = asked(port, prediction(way, token("gr_unknown")))
        assert status == 401
        assert headers["www-authenticate"].endswith('error="invalid_token"')
        assert "gr_unknown" not in str(document)
        message_of(way, document)

        status, headers, document = asked(port, prediction(way, token(reads)))
        assert status == 403
        assert headers["www-authenticate"].endswith('scope="predict"')
        assert "board does not allow this" in message_of(way, document)

        assert asked(port, prediction(way, token(predicts)))[0] == 200
    assert len(seen.short_way) == (4 if way in {"short", "by name"} else 0)
    assert seen.server._admission.in_flight[0] == 0


def test_scoring_errors_have_mlflows_own_codes(file):
    reads = file.add("board", ["read"]).secret
    with running(secured(file)) as (port, _, _):
        found = [
            asked(port, prediction("scoring", *headers))[2]["error_code"]
            for headers in ((), (token(reads),))
        ]
    assert found == ["UNAUTHENTICATED", "PERMISSION_DENIED"]


@every_way
def test_a_caller_without_a_token_is_refused_before_anything_else_is_said(file, way):
    file.add("shop", ["predict"])
    with running(secured(file)) as (port, _, _):
        request = prediction(way).replace(b'{"', b'["')
        assert asked(port, request.replace(b"application/json", b"text/html"))[0] == 401


def test_a_long_body_is_not_read_for_a_caller_without_a_token(file):
    file.add("shop", ["predict"])
    with running(secured(file)) as (port, _, _):
        head = b"POST /predict HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n"
        assert asked(port, head)[0] == 401


@every_way
def test_a_revoked_token_is_refused_soon_on_a_connection_that_stays_open(file, way):
    secret = file.add("shop", ["predict"]).secret
    with running(secured(file)) as (port, _, _):
        client = Client(port)

        def status() -> int:
            client.send(prediction(way, token(secret)))
            return client.reply()[0]

        assert status() == 200
        file.revoke("shop")
        wait_for(lambda: status() == 401, "the token is refused", within_s=30)


@every_way
def test_without_auth_a_token_is_not_looked_at(way):
    with running() as (port, _, _):
        assert asked(port, prediction(way, token("whatever")))[0] == 200
        assert asked(port, prediction(way))[0] == 200


@every_way
def test_requests_beyond_the_bound_are_told_to_come_again(way):
    slow = Slow()
    fake = FakeServer([served(runtime=slow)], settings=Settings(max_in_flight=2))
    with running(fake) as (port, seen, _):
        first, second = Client(port), Client(port)
        first.send(prediction("short"))
        second.send(prediction("long"))
        assert slow.asked.wait(10)
        admission = seen.server._admission
        wait_for(lambda: admission.in_flight[0] == 2, "both are in", within_s=30)

        status, headers, document = asked(port, prediction(way))
        assert (status, headers["retry-after"]) == (503, "1")
        assert "2 requests are being answered" in message_of(way, document)

        slow.allowed.set()
        assert (first.reply()[0], second.reply()[0]) == (200, 200)
        wait_for(lambda: admission.in_flight[0] == 0, "both are out", within_s=30)
        assert asked(port, prediction(way))[0] == 200


def test_a_server_with_too_much_to_do_says_that_it_lives():
    slow = Slow()
    fake = FakeServer([served(runtime=slow)], settings=Settings(max_in_flight=1))
    with running(fake) as (port, _, _):
        Client(port).send(prediction("short"))
        assert slow.asked.wait(10)
        for path in (b"/live", b"/ready", b"/health", b"/openapi.json"):
            assert asked(port, b"GET %b HTTP/1.1\r\nHost: t\r\n\r\n" % path)[0] == 200
        status, headers, _ = asked(port, b"GET /models HTTP/1.1\r\nHost: t\r\n\r\n")
        assert (status, headers["retry-after"]) == (503, "1")
        slow.allowed.set()


@every_way
def test_a_request_is_out_again_however_it_ends(way):
    bad = (b'{"age": -1}', b"{", b"", b"[]")
    with running() as (port, seen, _):
        for body in bad:
            request = prediction(way)
            for whole in (BODY, SCORING):
                request = request.replace(whole, body + b" " * (len(whole) - len(body)))
            assert 400 <= asked(port, request)[0] < 500
        assert seen.server._admission.in_flight[0] == 0


@every_way
def test_a_caller_that_leaves_is_out_when_its_answer_is_there(way):
    slow = Slow()
    with running(FakeServer([served(runtime=slow)])) as (port, seen, _):
        gone = Client(port)
        gone.send(prediction(way))
        assert slow.asked.wait(10)
        gone.close()
        time.sleep(0.05)
        slow.allowed.set()
        wait_for(lambda: seen.server._admission.in_flight[0] == 0, "it is out", within_s=30)


def test_the_bound_holds_when_everybody_comes_at_once():
    slow = Slow()
    fake = FakeServer([served(runtime=slow)], settings=Settings(max_in_flight=8))
    statuses: list[int] = []

    with running(fake) as (port, seen, _):
        clients = [Client(port) for _ in range(32)]
        for client in clients:
            client.send(prediction("short"))
        threads = [
            threading.Thread(target=lambda one=client: statuses.append(one.reply()[0]))
            for client in clients
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(statuses) == 24, "the others are refused", within_s=30)
        assert set(statuses) == {503}
        assert seen.server._admission.in_flight[0] == 8
        slow.allowed.set()
        for thread in threads:
            thread.join()
    assert sorted(statuses) == [200] * 8 + [503] * 24


def test_a_refused_request_is_not_counted():
    def nobody(authorization, scope):
        raise NotAuthenticated("no", challenge="")

    admission = Admission(nobody, max_in_flight=1)
    for _ in range(3):
        with pytest.raises(NotAuthenticated):
            admission.enter({}, "predict")
    assert admission.in_flight[0] == 0


def test_what_is_open_is_counted_and_let_in_without_a_token():
    def nobody(authorization, scope):
        raise NotAuthenticated("no", challenge="")

    admission = Admission(nobody, max_in_flight=1)
    for _ in range(2):
        with admission.admitted({}, "open"), admission.admitted({}, "open"):
            assert admission.in_flight[0] == 2
    assert admission.in_flight[0] == 0


def test_a_bound_of_one_lets_one_in_at_a_time():
    admission = Admission(None, max_in_flight=1)
    admission.enter({}, "predict")
    with pytest.raises(TooBusy):
        admission.enter({}, "read")
    admission.in_flight[0] -= 1
    admission.enter({}, "read")
