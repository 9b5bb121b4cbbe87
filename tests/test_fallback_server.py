"""A fallback file on a real server with two workers, while the registry goes and comes."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import httpx
import pytest

import builders
from app_versions import fitted
from fake_server import serving as server_of
from greenroom.deployment.deployments import Target
from greenroom.deployment.fallback_file import write_fallback
from greenroom.deployment.following import Follower
from greenroom.errors import RegistryUnavailable
from greenroom.registry.registered import ModelVersion
from greenroom.selector import Selector
from greenroom.supervision.worker_process import COMMAND
from greenroom.versions.model_store import ModelStore
from real_server import following
from scraped import single
from test_following import FakeRegistry
from waiting import wait_for

pytestmark = pytest.mark.slow

ROW = {"a": 1.0, "b": 2}
DOWN = RegistryUnavailable("Failed to connect to MLflow at http://mlflow:5000", advice="start it")
DATABASE_AWAY = RegistryUnavailable(
    "Failed to connect to MLflow at http://mlflow:5000: HTTP 500", mlflow_answers=True
)
SIXTEEN = 16


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    rows = builders.numbers()
    directory = tmp_path_factory.mktemp("version") / "3"
    y = builders.labels(rows)
    return fitted(directory, builders.COLUMNS, rows, builders.classifier(rows), y)


@pytest.fixture
def registry(tmp_path):
    return FakeRegistry(tmp_path / "registry")


@pytest.fixture
def path(tmp_path, version):
    path = tmp_path / "models" / "model.pkl"
    write_fallback(path, version, ModelVersion("m", "3", created_at_ms=1_000))
    return path


@pytest.fixture
def follower(tmp_path, registry, path):
    target = Target("m", "m", Selector.parse("Production"), "/predict", fallback_path=str(path))
    return Follower(registry, ModelStore(tmp_path / "store"), [target], keep_versions=3)


def select(registry: FakeRegistry, number: int, version: Path) -> None:
    """Register a version's files under a number, and put it into Production."""
    shutil.copytree(version, registry.folder / "m" / str(number))
    registry.add(number, "m", files={}, stage="Production")


def of_every_worker(url: str, method: str, path: str, **more) -> list[httpx.Response]:
    """Ask on so many connections that both workers have answered."""
    return [httpx.request(method, url + path, **more) for _ in range(SIXTEEN)]


def sources(url: str) -> set[str | None]:
    replies = of_every_worker(url, "POST", "/predict", json=ROW)
    assert {reply.status_code for reply in replies} == {200}
    assert {reply.json().get("model_source") == "fallback" for reply in replies} == {
        reply.headers.get("x-model-source") == "fallback" for reply in replies
    }
    return {reply.json().get("model_source") for reply in replies}


def health(url: str) -> dict:
    return httpx.get(f"{url}/health").json()


def metrics(url: str) -> list[str]:
    return [reply.text for reply in of_every_worker(url, "GET", "/metrics")]


def test_every_answer_of_a_fallback_says_so_until_the_registry_is_back(registry, follower, version):
    registry.failure = DOWN
    with following(follower, workers=2, whole=False) as url:
        assert sources(url) == {"fallback"}
        (reply,) = httpx.post(f"{url}/predict", json=[ROW]).json()["predictions"]
        assert reply["prediction"] in {0, 1}
        _every_page_says_so(url)

        failed = _asking_all_the_time(url)
        registry.failure = None
        select(registry, 4, version)
        wait_for(lambda: sources(url) == {None}, "the registry's version answers", within_s=30)
        assert failed() == []
        assert {
            reply.json()["model_version"]
            for reply in of_every_worker(url, "POST", "/predict", json=ROW)
        } == {"4"}
        found = health(url)
        assert (found["status"], found["model_source"]) == ("healthy", "registry")
        for text in metrics(url):
            labels = {"name": "m", "stage": "Production"}
            assert single(text, "greenroom_model_version", **labels) == 4
            assert single(text, "greenroom_mlflow_connection_status") == 1

        registry.failure = DATABASE_AWAY
        wait_for(lambda: health(url)["status"] == "degraded", "the page says so", within_s=30)
        assert sources(url) == {None}
        found = health(url)
        assert found["mlflow_connection"] == "healthy"
        assert found["registry_access"] == "unavailable"
        assert any("HTTP 500" in problem for problem in found["problems"])
        assert single(httpx.get(f"{url}/metrics").text, "greenroom_mlflow_connection_status") == 1
        assert single(httpx.get(f"{url}/metrics").text, "greenroom_registry_up") == 0


def _every_page_says_so(url: str) -> None:
    found = health(url)
    assert (found["status"], found["model_loaded"], found["model_version"]) == (
        "degraded",
        True,
        "3",
    )
    assert found["model_source"] == found["models"][0]["source"] == "fallback"
    assert found["models"][0]["since"]
    assert found["mlflow_connection"] == found["registry_access"] == "unavailable"
    assert any("Failed to load from MLflow registry" in problem for problem in found["problems"])
    info = httpx.get(f"{url}/model/info").json()
    assert (info["model_source"], info["model_stage"]) == ("fallback", "fallback")
    scored = httpx.post(f"{url}/invocations", json={"dataframe_records": [ROW]})
    assert scored.status_code == 200
    assert scored.headers["x-model-source"] == "fallback"
    tensors = [
        {"name": "a", "shape": [1], "datatype": "FP64", "data": [1.0]},
        {"name": "b", "shape": [1], "datatype": "INT64", "data": [2]},
    ]
    inferred = httpx.post(f"{url}/v2/models/m/infer", json={"inputs": tensors})
    assert inferred.status_code == 200, inferred.text
    assert inferred.headers["x-model-source"] == "fallback"
    reply = httpx.get(f"{url}/openapi.json").json()["components"]["schemas"]["m.Reply"]
    assert reply["properties"]["model_source"]["examples"] == ["fallback"]
    for text in metrics(url):
        assert single(text, "greenroom_model_version", name="m", stage="fallback") == 3
        assert single(text, "greenroom_mlflow_connection_status") == 0


def _asking_all_the_time(url: str):
    """Send predictions until the function that is returned is called; it returns what failed."""
    over, failed = threading.Event(), []

    def ask() -> None:
        with httpx.Client() as client:
            while not over.is_set():
                reply = client.post(f"{url}/predict", json=ROW)
                if reply.status_code != 200:
                    failed.append(reply.text)

    callers = [threading.Thread(target=ask) for _ in range(3)]
    for caller in callers:
        caller.start()

    def end() -> list[str]:
        over.set()
        for caller in callers:
            caller.join()
        return failed

    return end


def test_the_file_answers_with_the_same_bits_as_its_version(registry, follower, version):
    select(registry, 4, version)
    asked = builders.numbers(50, seed=7)
    rows = [{"a": a, "b": int(b)} for a, b in zip(asked["a"], asked["b"], strict=True)]

    def answers(url: str) -> list[float]:
        replies = httpx.post(f"{url}/predict", json=rows).json()["predictions"]
        return [reply["probability"] for reply in replies]

    registry.failure = DOWN
    with following(follower, whole=False) as url:
        assert sources(url) == {"fallback"}
        assert httpx.get(f"{url}/model/info").json()["runtime"] == "compiled"
        of_the_file = answers(url)
        registry.failure = None
        wait_for(lambda: sources(url) == {None}, "the registry's version answers", within_s=30)
        assert answers(url) == of_the_file


@pytest.mark.parametrize("compiled", [True, False])
def test_where_nothing_is_unpickled_the_graph_of_the_file_answers_or_nobody(
    tmp_path, registry, follower, path, compiled
):
    if not compiled:
        write_fallback(path, builders.version(tmp_path / "native"), ModelVersion("m", "3"))
    registry.failure = DOWN
    with following(follower, whole=False, trust="onnx") as url:
        if compiled:
            assert sources(url) == {"fallback"}
        else:
            reply = httpx.post(f"{url}/predict", json=ROW)
            assert reply.status_code == 503
            assert "trust is onnx" in reply.text


def test_a_harmed_file_is_refused_in_one_line_and_nothing_answers(registry, follower, path):
    path.write_bytes(path.read_bytes() + b" ")
    registry.failure = DOWN
    with following(follower, whole=False) as url:
        reply = httpx.post(f"{url}/predict", json=ROW)
        assert reply.status_code == 503
        assert "the SHA-256 differs" in reply.json()["error"]["message"]
        found = httpx.get(f"{url}/health")
        assert found.status_code == 503
        assert any("the SHA-256 differs" in problem for problem in found.json()["problems"])


def test_the_log_says_it_in_the_documented_words(registry, follower, path):
    registry.failure = DOWN

    async def run() -> list[str]:
        async with server_of(follower, command=COMMAND) as server:
            await server.until(lambda: server.supervisor.status.generation)
            return server.events

    warning = [text for text in asyncio.run(run()) if text.startswith("Warning: ")]
    assert len(warning) == 1
    assert warning[0].startswith(
        "Warning: Failed to load from MLflow registry: Failed to connect to MLflow"
    )
    assert f"the fallback file {path} answers since" in warning[0]
    assert "\n" not in warning[0]
