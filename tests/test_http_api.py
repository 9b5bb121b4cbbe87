"""docs/http-api.md: every request and reply in it, sent and compared."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from fake_registry import FakeRegistry
from greenroom import Management
from greenroom.deployments import Target
from greenroom.protocol_endpoints import ENDPOINTS
from greenroom.registry_errands import RegistryErrands
from greenroom.selector import Selector
from greenroom.status import RegistryStatus
from greenroom.transitions import transition
from servers import FakeServer, nothing_served, served, with_status
from test_serving import an_app

PAGE = Path(__file__).parents[1] / "docs" / "http-api.md"
_SECTION = re.compile(r"^### (?P<method>GET|POST) (?P<path>/\S*?)(?P<when>, .*)?$", re.MULTILINE)
_BLOCK = re.compile(r"^```json ?(?P<status>\d*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_MADE_ANEW = {
    "prediction_id",
    "timestamp",
    "processing_time_ms",
    "creation_timestamp",
    "last_updated_timestamp",
    "at",
}


def sections():
    text = PAGE.read_text(encoding="utf-8")
    headings = list(_SECTION.finditer(text))
    for heading in headings:
        end = re.compile(r"^##", re.MULTILINE).search(text, heading.end())
        blocks = _BLOCK.findall(text[heading.end() : end.start() if end else len(text)])
        yield pytest.param(*heading.groups(), blocks, id=f"{heading[0]} ({heading.start()})")


def managed():
    """Return a server with management routes, over two versions in MLflow."""
    registry = FakeRegistry()
    for number in ("1", "2", "3"):
        registry.add("credit", run_id=f"r{number}", source=f"models:/m-{number}")
    registry.remove("credit", "1")
    transition(registry, "credit", "3", "Production", archive_existing=False, who="ada")
    management = Management(
        reload="/api/model/reload",
        models="/api/mlflow/models",
        model="/api/mlflow/models/{name}",
        transition="/api/mlflow/models/{name}/transition",
    )
    app = dataclasses.replace(an_app(), management=management)
    target = Target("credit", "credit", Selector.parse("Production"), "/predict")
    return FakeServer([served()], app=app, errands=RegistryErrands(registry, (target,)))


def server(when):
    if when == ", with nothing in Production":
        return FakeServer([nothing_served()])
    if when == ", where an app declares it":
        return managed()
    assert when in {"", None, ", with bad values"}
    model = with_status(served(), latest_versions={"Production": "3"})
    registry = RegistryStatus(
        uri="http://mlflow:5000", state="healthy", since="2026-11-21T04:47:55.000Z"
    )
    return FakeServer([model], registry=registry)


def lasting(node):
    """Take out what is another in every reply."""
    if isinstance(node, dict):
        return {name: lasting(value) for name, value in node.items() if name not in _MADE_ANEW}
    return [lasting(value) for value in node] if isinstance(node, list) else node


@pytest.mark.parametrize(("method", "path", "when", "blocks"), list(sections()))
def test_a_documented_request_gets_the_documented_reply(method, path, when, blocks):
    *sent, documented = blocks if blocks else [None]
    more = {"json": json.loads(sent[0][1])} if sent else {}
    (reply,) = server(when).requests((method, path, more))
    if documented is None:
        assert reply.status_code == (503 if when else 200)
        return
    status, text = documented
    expected = json.loads(text)
    assert reply.status_code == int(status or 200)
    assert lasting(reply.json()) == lasting(expected)
    assert list(reply.json()) == list(expected)


def test_every_route_is_documented():
    text = PAGE.read_text(encoding="utf-8")
    documented = {path for _, path, *_ in (section.values for section in sections())}
    for path in server("").get("/openapi.json").json()["paths"]:
        assert f"`{path.replace('/credit/', '/{name}/')}`" in text, path
        assert path.replace("{name}", "credit") in documented, path
    for endpoint in ENDPOINTS:
        assert f"| `{endpoint.path}` | {endpoint.method} |" in text, endpoint
        assert endpoint.path.format(name="credit", version="3") in documented, endpoint


def test_every_status_that_is_answered_is_documented():
    text = PAGE.read_text(encoding="utf-8")
    for methods in server("").get("/openapi.json").json()["paths"].values():
        for operation in methods.values():
            for status in operation["responses"]:
                assert status == "200" or f"| {status} |" in text
