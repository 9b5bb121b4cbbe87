"""The site: every route says whom it lets in, and lets nobody else in."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from starlette.routing import Mount

from greenroom import Route
from greenroom.access.tokens import SCOPES, TokensFile
from greenroom.http.protocol_endpoints import ENDPOINTS
from greenroom.openapi.openapi import Operation
from greenroom.settings import Settings
from servers import GOOD, FakeServer, served
from test_serving import an_app

PAGE = Path(__file__).parents[1] / "docs" / "http-api.md"
_ROW = re.compile(
    r"^\| (?P<routes>[^|]+) \| (?P<method>GET|POST) \| (?P<scope>\w+) \|", re.MULTILINE
)

DOCUMENTATION = {"/openapi.json", "/docs", "/redoc", "/docs/static", "/redoc/static"}
"""Open to everyone; with their scripts."""


def documented() -> dict[tuple[str, str], str]:
    """Return the scope that the page gives each method and path."""
    found = {}
    for routes, method, scope in _ROW.findall(PAGE.read_text(encoding="utf-8")):
        for path in re.findall(r"`(/[^`]*)`", routes):
            found[method, path] = scope
    return found


@pytest.fixture
def secrets(tmp_path) -> dict[str, str]:
    """A token for each scope alone."""
    file = TokensFile(tmp_path / "tokens.json")
    return {scope: file.add(scope, [scope]).secret for scope in SCOPES}


@pytest.fixture
def server(tmp_path, secrets) -> FakeServer:
    settings = Settings(auth="tokens", tokens_file=str(tmp_path / "tokens.json"))
    return FakeServer([served()], settings=settings)


def statuses(server, method, path, secrets) -> dict[str, int]:
    """Ask without a token and with each, and return what came of it."""
    path = path.replace("{name}", "credit").replace("{version}", "3")
    headers = {"": {}} | {
        scope: {"authorization": f"Bearer {secret}"} for scope, secret in secrets.items()
    }
    given = {"json": GOOD} if method == "POST" else {}
    replies = server.requests(
        *[(method, path, {"headers": sent, **given}) for sent in headers.values()]
    )
    return {name: reply.status_code for name, reply in zip(headers, replies, strict=True)}


@pytest.mark.parametrize(("method", "path", "scope"), [(*k, v) for k, v in documented().items()])
def test_a_route_lets_in_whom_it_says_and_nobody_else(server, secrets, method, path, scope):
    found = statuses(server, method, path, secrets)
    if scope == "open":
        assert set(found.values()) == {200}
        return
    assert found.pop("") == 401
    assert found.pop(scope) not in {401, 403}
    assert set(found.values()) == {403}


def test_every_route_that_is_answered_stands_in_the_page_with_its_scope(server):
    rows = documented()
    described = server.get("/openapi.json").json()["paths"]
    for path, methods in described.items():
        for method in methods:
            assert (method.upper(), path.replace("/credit/", "/{name}/")) in rows, path


def test_the_document_says_which_scope_each_operation_needs(server):
    document = server.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    rows = documented()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            scope = rows[method.upper(), path.replace("/credit/", "/{name}/")]
            expected = None if scope == "open" else [{"token": [scope]}]
            assert operation.get("security") == expected, path
            assert ("401" in operation["responses"]) == (scope != "open")
    refused = document["paths"]["/invocations"]["post"]["responses"]["403"]
    (content,) = refused["content"].values()
    assert content["example"]["error_code"] == "PERMISSION_DENIED"


def test_without_auth_the_document_asks_for_no_token():
    document = FakeServer([served()]).get("/openapi.json").json()
    assert "securitySchemes" not in document["components"]
    assert not any("security" in o for m in document["paths"].values() for o in m.values())


def test_no_route_is_reached_past_the_table_that_gives_it_a_scope():
    site = FakeServer([served()]).asgi().site
    declared = {operation.path for operation in site.operations}
    for route in site.asgi.routes:
        if route.path not in declared:
            assert route.path in DOCUMENTATION or route.path.startswith("/redoc/static/")
            assert isinstance(route, Mount) or route.methods <= {"GET", "HEAD"}


def test_an_operation_without_a_scope_cannot_be_made():
    with pytest.raises(TypeError, match="scope"):
        Operation(method="GET", path="/x", summary="X.", tag="x")


def test_an_apps_view_needs_read_unless_it_says_that_it_is_open(tmp_path, secrets):
    settings = Settings(auth="tokens", tokens_file=str(tmp_path / "tokens.json"))
    routes = (
        Route("GET", "/own", lambda status: {}),
        Route("GET", "/news", lambda status: {}, scope="open"),
    )
    server = FakeServer([served()], app=an_app(routes=routes), settings=settings)
    found = statuses(server, "GET", "/own", secrets)
    assert (found[""], found["predict"], found["read"]) == (401, 403, 200)
    assert set(statuses(server, "GET", "/news", secrets).values()) == {200}


@pytest.mark.parametrize("path", ["/docs/static/swagger-ui.css", "/redoc", "/docs"])
def test_the_documentation_is_open(server, path):
    assert server.get(path).status_code == 200


def test_a_head_request_needs_what_the_page_needs(server, secrets):
    found = statuses(server, "HEAD", "/models", secrets)
    assert (found[""], found["predict"], found["read"]) == (401, 403, 200)


def test_a_reload_that_is_refused_asks_nobody(server):
    server.after_reload = [served(version="4")]
    assert server.post("/model/reload").status_code == 401
    assert server.number == 1


def test_a_reload_does_not_keep_a_place_when_its_caller_leaves(server, secrets):
    asgi = server.asgi()

    async def reload():
        await asyncio.sleep(60)

    async def main():
        headers = [(b"authorization", b"Bearer " + secrets["admin"].encode())]
        scope = {
            "type": "http", "method": "POST", "path": "/model/reload", "headers": headers,
            "query_string": b"", "http_version": "1.1", "root_path": "", "scheme": "http",
        }  # fmt: skip
        waiting = server.asgi(reload=reload)

        async def receive():
            return {"type": "http.request", "body": b""}

        async def send(message):
            raise AssertionError

        task = asyncio.create_task(waiting(scope, receive, send))
        await asyncio.sleep(0.05)
        assert waiting._admission.in_flight[0] == 1
        task.cancel()
        await asyncio.wait([task])
        assert waiting._admission.in_flight[0] == 0

    asyncio.run(main())
    assert asgi._admission.in_flight[0] == 0


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: f"{one.method} {one.path}")
def test_the_open_inference_protocol_lets_in_whom_it_says(server, secrets, endpoint):
    path = endpoint.path.replace("{version}", "3")
    found = statuses(server, endpoint.method, path, secrets)
    if endpoint.scope == "open":
        assert set(found.values()) == {200}
        return
    assert found.pop("") == 401
    assert found.pop(endpoint.scope) not in {401, 403}
    assert set(found.values()) == {403}
    refused = server.requests((endpoint.method, path.replace("{name}", "credit"), {}))[0]
    assert set(refused.json()) == {"error"}
    assert refused.headers["www-authenticate"].startswith("Bearer")
