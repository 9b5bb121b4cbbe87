"""The entrance: browsers of other origins, and the access log, on either way."""

from __future__ import annotations

import json
import threading

import pytest

import greenroom.http.access_log
from greenroom.access.tokens import TokensFile
from greenroom.settings import Settings
from live_server import BODY, Client, post, running
from servers import GOOD, FakeServer, served

ORIGIN = "https://shop.example"
CROSSED = {"origin": ORIGIN}


def crossing(*origins, **settings) -> FakeServer:
    return FakeServer([served()], settings=Settings(cors_origins=origins, **settings))


def preflight(server, path="/predict", **headers):
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    ((reply),) = server.requests(("OPTIONS", path, {"headers": {**CROSSED, **asked, **headers}}))
    return reply


def test_without_the_setting_no_other_origin_is_let_in():
    server = FakeServer([served()])
    reply = server.predict(headers=CROSSED)
    assert reply.status_code == 200
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert preflight(server).status_code == 405


@pytest.mark.parametrize("path", ["/predict", "/models/credit/predict", "/invocations", "/models"])
def test_a_browser_is_told_that_an_origin_may_send_a_token_and_json(path):
    reply = preflight(crossing(ORIGIN), path)
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert {"authorization", "content-type"} <= set(
        reply.headers["access-control-allow-headers"].replace(" ", "").split(",")
    )


@pytest.mark.parametrize(
    "origin", ["https://elsewhere.example", "http://shop.example", "https://shop.example:8443"]
)
def test_an_origin_is_compared_exactly(origin):
    server = crossing(ORIGIN)
    assert preflight(server, origin=origin).status_code == 400
    reply = server.predict(headers={"origin": origin})
    assert reply.status_code == 200
    assert "access-control-allow-origin" not in reply.headers


def test_a_star_lets_every_origin_in():
    reply = crossing("*").predict(headers=CROSSED)
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.headers


def test_refusals_can_be_read_by_the_page_too(tmp_path):
    server = crossing(ORIGIN, auth="tokens", tokens_file=str(tmp_path / "tokens.json"))
    assert preflight(server).status_code == 200
    for reply in (server.predict(headers=CROSSED), server.get("/models", headers=CROSSED)):
        assert reply.status_code == 401
        assert reply.headers["access-control-allow-origin"] == ORIGIN
        assert "WWW-Authenticate" in reply.headers["access-control-expose-headers"]


def test_with_other_origins_let_in_only_what_comes_from_a_browser_takes_the_long_way():
    with running(crossing(ORIGIN)) as (port, seen, _):
        client = Client(port)
        client.send(post())
        status, headers, _ = client.reply()
        assert (status, "access-control-allow-origin" in headers) == (200, False)
        client.send(post(BODY, b"/predict", b"Origin: " + ORIGIN.encode()))
        status, headers, _ = client.reply()
        assert (status, headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert (len(seen.short_way), seen.long_way) == (1, [("POST", "/predict")])


def test_without_other_origins_a_browsers_own_header_does_not_lengthen_the_way():
    with running() as (port, seen, _):
        client = Client(port)
        client.send(post(BODY, b"/predict", b"Origin: " + ORIGIN.encode()))
        assert client.reply()[0] == 200
    assert (len(seen.short_way), seen.long_way) == (1, [])


# The access log


class Lines:
    """What is written to the access log."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.text = b""

    def write(self, lines: bytes) -> None:
        with self._lock:
            self.text += lines

    def read(self) -> list[dict]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def lines(monkeypatch):
    lines = Lines()
    monkeypatch.setattr(greenroom.http.access_log, "_write_to_standard_error", lines.write)
    return lines


def logging(**settings) -> FakeServer:
    return FakeServer([served()], settings=Settings(access_log=True, **settings))


def test_a_prediction_is_one_line_whichever_way_it_took(lines, tmp_path):
    file = TokensFile(tmp_path / "tokens.json")
    secret = file.add("shop", ["predict"]).secret.encode()
    fake = logging(auth="tokens", tokens_file=str(file.path))
    scoring = b'{"dataframe_records": [{"age": 40, "Number30-59": 1, "income": 2.0}]}'
    headers = (b"Authorization: Bearer " + secret, b"X-Request-ID: r-1")
    sent = {}
    with running(fake) as (port, seen, _):
        client = Client(port)
        for path, body in (
            (b"/predict", BODY),
            (b"/predict?age=41", BODY),
            (b"/invocations", scoring),
        ):
            client.send(post(body, path, *headers))
            status, reply_headers, _ = client.reply()
            assert status == 200
            sent[path] = int(reply_headers["content-length"])
    assert len(seen.short_way) == 1
    found = lines.read()
    for line in found:
        assert line.pop("at").endswith("Z")
        assert 0 < line.pop("latency_ms") < 60_000
        route = line.pop("route")
        assert line.pop("message") == f"POST {route} 200"
    assert [line.pop("bytes") for line in found] == list(sent.values())
    assert found[0] == found[1] == found[2]
    assert found[0] == {
        "level": "INFO",
        "worker": 0,
        "logger": "greenroom.access",
        "method": "POST",
        "status": 200,
        "model": "credit",
        "version": "3",
        "caller": "shop",
        "request_id": "r-1",
    }


def test_a_line_says_which_route_took_a_request_and_nothing_of_what_stood_in_it(lines):
    secret = "4111111111111111"
    logging().requests(
        ("GET", "/health", {"params": {"card": secret}}),
        ("GET", "/models/credit/info", {}),
        ("GET", f"/models/{secret}/info", {}),
        ("GET", f"/nothing/{secret}", {}),
        ("GET", "/docs", {}),
        ("POST", "/predict", {"json": {**GOOD, "age": int(secret)}}),
        ("POST", "/predict", {"content": secret.encode(), "headers": {"cookie": secret}}),
    )
    assert secret.encode() not in lines.text
    assert [(line["route"], line["status"]) for line in lines.read()] == [
        ("/health", 200),
        ("/models/{name}/info", 200),
        ("/models/{name}/info", 404),
        ("", 404),
        ("/docs", 200),
        ("/predict", 422),
        ("/predict", 400),
    ]


@pytest.mark.parametrize("path", [b"/predict", b"/predict?long"])
def test_refused_requests_are_lines_too(lines, tmp_path, path):
    file = TokensFile(tmp_path / "tokens.json")
    reads = file.add("board", ["read"]).secret.encode()
    with running(logging(auth="tokens", tokens_file=str(file.path))) as (port, _, _):
        client = Client(port)
        for headers in (
            (),
            (b"Authorization: Bearer nobody",),
            (b"Authorization: Bearer " + reads,),
        ):
            client.send(post(BODY, path, *headers))
            client.reply()
        client.send(b"nonsense\r\n\r\n")
        client.reply()
    assert [(line["status"], line["route"]) for line in lines.read()] == [
        (401, "/predict"),
        (401, "/predict"),
        (403, "/predict"),
        (400, ""),
    ]
    assert b"nobody" not in lines.text


def test_without_the_setting_nothing_is_written(lines):
    FakeServer([served()]).requests(("POST", "/predict", {"json": GOOD}), ("GET", "/live", {}))
    assert lines.text == b""
