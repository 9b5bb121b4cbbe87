"""The stack of california_housing: its document's commands, in the document's order, then bad days.

Every fourth block group of the file, so that a training takes half a minute. Tests run in the order
in which they stand, as the document's reader would go.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from stack import ANSWERED_WITHIN_S, MLFLOW, ROOT, Stack, get, stack, versions
from waiting import wait_for

API = "http://localhost:5001"
MODEL = "california_housing_best_model"
TRANSITION = f"{API}/api/mlflow/models/{MODEL}/transition"
NOTHING = "No model in Production stage"
JSON = '-H "Content-Type: application/json"'
DOCUMENTED_ROW = (
    '{"longitude": -122.23, "latitude": 37.88, "housing_median_age": 41.0, "total_rooms": 880.0, '
    '"total_bedrooms": 129.0, "population": 322.0, "households": 126.0, "median_income": 8.3252, '
    '"ocean_proximity": "NEAR BAY"}'
)
DOCUMENTED_REPLY = [
    "prediction",
    "model_version",
    "model_name",
    "timestamp",
    "processing_time_ms",
    "mlflow_logged",
]
CHECKS = """✅ MLflow Initialization
✅ Model Registry
✅ Model Loading
✅ Experiment Tracking
✅ API Integration
✅ Prediction with MLflow
"""


@pytest.fixture(scope="module")
def housing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack("california_housing", tmp_path_factory.mktemp("housing")) as made:
        data = ROOT / "apps" / "california_housing" / "data" / "housing.csv"
        header, *rows = data.read_text(encoding="utf-8").splitlines(keepends=True)
        (made.folder / "data" / "housing.csv").write_text("".join([header, *rows[::4]]))
        made.run("docker-compose build mlflow")
        yield made


def _said(housing: Stack, command: str) -> Any:
    """Run one of the document's curl lines; return the JSON that it prints."""
    return json.loads(housing.run(command.replace("curl", "curl -sS")))


def _move(version: str, stage: str, **more: bool) -> httpx.Response:
    body = {"version": version, "stage": stage, **more}
    return httpx.post(TRANSITION, json=body, timeout=30.0)


def _predict() -> httpx.Response:
    row = json.loads(DOCUMENTED_ROW)
    return httpx.post(f"{API}/api/predict", json=row, timeout=10.0)


def _reload() -> httpx.Response:
    return httpx.post(f"{API}/api/model/reload", json={"force_mlflow": True}, timeout=60.0)


def _wait_for_health(status: str) -> None:
    def so() -> bool:
        return bool(get(f"{API}/health")["status"] == status)

    wait_for(so, f"/health says {status}", within_s=ANSWERED_WITHIN_S)


def _restart_api(housing: Stack, **environment: str) -> None:
    """Start the API on a new machine: its model store is empty."""
    housing.run("docker-compose rm -sf api")
    project = housing.environment["COMPOSE_PROJECT_NAME"]
    housing.run(f"docker volume rm {project}_state")
    given = " ".join(f"{name}={text}" for name, text in environment.items())
    housing.run(f"{given} docker-compose up -d --no-deps api")


def test_the_documented_command_starts_mlflow_with_its_database_where_the_document_has_it(housing):
    command = ["docker-compose", "up", "mlflow"]
    foreground = subprocess.Popen(
        command,
        cwd=housing.folder,
        env=housing.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(
            lambda: housing.run("docker compose ps -aq mlflow").strip(), "MLflow", within_s=120.0
        )
        housing.wait_until_healthy("mlflow")
    finally:
        os.killpg(foreground.pid, signal.SIGKILL)  # only what shows the logs; MLflow goes on
        foreground.wait(30)

    assert httpx.get(f"{MLFLOW}/health", timeout=10.0).text == "OK"
    assert "<html" in httpx.get(MLFLOW, timeout=10.0).text
    assert (housing.folder / "mlruns" / "mlflow.db").stat().st_uid == 1000


def test_training_registers_a_version_in_no_stage_and_writes_the_fallback_file(housing):
    output = housing.run("docker-compose up trainer")

    assert housing.exit_status("trainer") == 0
    assert f"outcome  {MODEL}: registered as version 1, not selected" in output
    assert "fallback /app/models/model.pkl holds version 1" in output
    for candidate in ("linear regression", "decision tree", "boosting with neighbours"):
        assert candidate in output
    (version,) = versions(MODEL)
    assert version["current_stage"] == "None"
    assert {path.name for path in (housing.folder / "models").iterdir()} == {
        "model.pkl",
        "model.pkl.json",
        "model.pkl.zip",
    }


def test_an_api_without_a_version_in_production_serves_nothing_not_even_the_fallback(housing):
    housing.run("docker-compose up -d api")
    _wait_for_health("unhealthy")

    assert NOTHING in json.dumps(get(f"{API}/health"))
    assert _predict().status_code == 503
    info = get(f"{API}/api/model/info")["model_info"]
    assert (info["model_loaded"], info["model_metadata"]) == (False, None)
    assert info["registry_info"]["latest_versions"] == {"None": "1"}


def test_the_documents_deployment_workflow(housing):
    staged = _said(
        housing,
        f'curl -X POST {TRANSITION} {JSON} -d \'{{"version": "1", "stage": "Staging"}}\'',
    )
    assert (staged["previous_stage"], staged["stage"]) == ("None", "Staging")
    moved = _said(
        housing,
        f"curl -X POST {TRANSITION} {JSON} "
        '-d \'{"version": "1", "stage": "Production", "archive_existing": true}\'',
    )
    assert moved["latest_versions"] == {"Production": "1"}
    assert _predict().status_code == 503  # nothing is followed before it is due

    reloaded = _said(
        housing, f"curl -X POST {API}/api/model/reload {JSON} -d '{{\"force_mlflow\": true}}'"
    )
    assert (reloaded["reloaded"], reloaded["model_version"]) == (True, "1")


def test_the_manual_requests_of_the_document_are_answered_in_its_shapes(housing):
    listed = _said(housing, f"curl {API}/api/mlflow/models")
    assert listed["count"] == 1
    (model,) = listed["registered_models"]
    assert (model["name"], model["latest_versions"]) == (MODEL, {"Production": "1"})
    assert model["creation_timestamp"] > 0

    assert _said(housing, f"curl {API}/api/model/info") == {
        "model_info": {
            "model_loaded": True,
            "model_metadata": {
                "name": MODEL,
                "version": "1",
                "stage": "Production",
                "model_uri": f"models:/{MODEL}/1",
            },
            "mlflow_enabled": True,
            "registry_info": {"name": MODEL, "latest_versions": {"Production": "1"}},
        }
    }
    answer = _said(housing, f"curl -X POST {API}/api/predict {JSON} -d '{DOCUMENTED_ROW}'")
    assert list(answer) == DOCUMENTED_REPLY
    assert 300_000 < answer["prediction"] < 520_000
    assert (answer["model_version"], answer["model_name"]) == ("1", MODEL)


def test_health_has_the_documented_fields(housing):
    health = get(f"{API}/health")

    wanted = {
        "status": "healthy",
        "model_loaded": True,
        "model_version": "1",
        "model_name": MODEL,
        "mlflow_connection": "healthy",
        "registry_access": "healthy",
    }
    assert {name: health[name] for name in wanted} == wanted
    assert health["uptime_seconds"] > 0
    assert health["resources"]["memory_bytes"] > 0
    assert health["response_times"]["window_seconds"] > 0


def test_the_documented_metrics_say_which_version_answers_and_that_mlflow_does(housing):
    lines = httpx.get(f"{API}/metrics", timeout=10.0).text.splitlines()

    assert f'housing_api_model_version{{name="{MODEL}",stage="Production"}} 1.0' in lines
    assert "housing_api_mlflow_connection_status 1.0" in lines


def test_the_six_integration_checks_pass(housing):
    output = housing.run("docker-compose exec -T api python test_mlflow_integration.py")

    assert output == CHECKS


def test_a_second_training_takes_the_place_of_the_first_when_it_is_told_to(housing):
    housing.run("docker-compose up trainer")
    assert [version["version"] for version in versions(MODEL)] == ["1", "2"]
    refused = _move("2", "Production", archive_existing=False)
    assert refused.status_code == 409
    assert "version 1" in refused.text

    moved = _move("2", "Production", archive_existing=True).json()
    assert (moved["archived"], moved["latest_versions"]["Production"]) == (["1"], "2")
    assert _predict().json()["model_version"] == "1"
    assert _reload().json()["model_version"] == "2"
    assert _predict().json()["model_version"] == "2"
    details = get(f"{API}/api/mlflow/models/{MODEL}")
    stages = {version["version"]: version["stage"] for version in details["versions"]}
    assert stages == {"1": "Archived", "2": "Production"}
    assert details["history"][-1]["outside_gate"] is True


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "named"),
    [
        ("POST", "/api/predict", '{"longitude": "west"}', 422, "longitude"),
        ("POST", "/api/predict", DOCUMENTED_ROW.replace("41.0", "NaN"), 422, "housing_median_age"),
        ("POST", "/api/predict", DOCUMENTED_ROW.replace("NEAR BAY", "SEA"), 422, "ocean_proximity"),
        ("POST", "/api/predict", "", 400, "body"),
        ("POST", "/api/predict", f'{{"a": "{"x" * 5_000_000}"}}', 413, "body"),
        ("GET", "/api/mlflow/models/none", "", 404, "none"),
        ("POST", "/api/mlflow/models/none/transition", '{"version": "1"}', 422, "stage"),
        (
            "POST",
            "/api/mlflow/models/none/transition",
            '{"version": "1", "stage": "Staging"}',
            404,
            "none",
        ),
        (
            "POST",
            f"/api/mlflow/models/{MODEL}/transition",
            '{"version": "9", "stage": "Staging"}',
            404,
            "9",
        ),
        (
            "POST",
            f"/api/mlflow/models/{MODEL}/transition",
            '{"version": "1", "stage": "Live"}',
            422,
            "stage",
        ),
        ("POST", "/api/model/reload", '{"force": true}', 422, "force"),
        ("GET", "/api/nowhere", "", 404, "/api/predict"),  # what there is is listed
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.usefixtures("housing")
def test_what_is_wrong_with_a_request_is_named(method, path, body, status, named):
    headers = {"Content-Type": "application/json"} if method == "POST" else {}
    answer = httpx.request(method, API + path, content=body, headers=headers, timeout=30.0)

    assert answer.status_code == status, answer.text[:500]
    assert named in answer.text
    assert "Traceback" not in answer.text


def test_a_killed_api_is_back_with_the_same_version(housing):
    started = housing.container("api")["State"]["StartedAt"]
    housing.kill("api")
    wait_for(
        lambda: housing.container("api")["State"]["StartedAt"] > started,
        "the API is started again",
        within_s=60.0,
    )
    _wait_for_health("healthy")

    assert _predict().json()["model_version"] == "2"


def test_mlflow_dying_is_noticed_and_predictions_go_on(housing):
    housing.kill("mlflow")
    housing.run("docker-compose stop mlflow")
    _wait_for_health("degraded")

    health = get(f"{API}/health")
    assert health["mlflow_connection"] == "unavailable"
    assert "Failed to connect to MLflow" in json.dumps(health)
    assert _predict().json()["model_version"] == "2"
    assert _reload().status_code == 503
    assert get(f"{API}/api/model/info")["model_info"]["model_loaded"] is True
    assert httpx.get(f"{API}/api/mlflow/models", timeout=30.0).status_code == 503


def test_an_api_on_a_new_machine_answers_from_the_fallback_file_while_mlflow_is_away(housing):
    _restart_api(housing)
    _wait_for_health("degraded")

    answer = _predict()
    assert list(answer.json()) == [*DOCUMENTED_REPLY, "model_source"]
    assert (answer.json()["model_source"], answer.headers["x-model-source"]) == ("fallback",) * 2
    assert answer.json()["model_version"] == "2"
    info = get(f"{API}/api/model/info")["model_info"]
    assert info["model_metadata"]["stage"] == "fallback"
    assert "Warning: Failed to load from MLflow registry" in housing.logs("api")


def test_it_goes_back_to_the_registry_by_itself(housing):
    housing.run("docker-compose up -d mlflow")
    housing.wait_until_healthy("mlflow")
    _wait_for_health("healthy")

    answer = _predict()
    assert list(answer.json()) == DOCUMENTED_REPLY
    assert "x-model-source" not in answer.headers


def test_with_mlflow_disabled_the_fallback_file_alone_is_served(housing):
    _restart_api(housing, MLFLOW_ENABLED="false")
    _wait_for_health("healthy")

    health = get(f"{API}/health")
    assert (health["mlflow_connection"], health["registry_access"]) == ("disabled", "disabled")
    assert get(f"{API}/api/model/info")["model_info"]["mlflow_enabled"] is False
    answer = _predict().json()
    assert (answer["model_source"], answer["mlflow_logged"]) == ("fallback", False)
    assert _reload().status_code == 503


def test_the_variables_of_the_document_are_taken_over_the_file(housing):
    _restart_api(housing, MLFLOW_MODEL_STAGE="Archived", LOG_LEVEL="DEBUG")
    _wait_for_health("healthy")

    assert _predict().json()["model_version"] == "1"


def test_prometheus_scrapes_the_documented_port(housing):
    housing.run("docker compose --profile monitoring up -d --no-deps prometheus")
    housing.wait_until_healthy("prometheus")

    def scraped() -> bool:
        found = get("http://localhost:9090/api/v1/targets?state=active")["data"]["activeTargets"]
        return [(one["scrapeUrl"], one["health"]) for one in found] == [
            ("http://api:5001/metrics", "up")
        ]

    wait_for(scraped, "the API is scraped", within_s=60.0)


def test_taking_the_stack_down_loses_no_version_and_no_fallback_file(housing):
    before = [version["run_id"] for version in versions(MODEL)]
    housing.run("docker-compose --profile monitoring down -v")
    housing.run("docker-compose up -d mlflow api")
    housing.wait_until_healthy("mlflow")
    _wait_for_health("healthy")

    assert [version["run_id"] for version in versions(MODEL)] == before
    assert _predict().json()["model_version"] == "2"
    assert (housing.folder / "models" / "model.pkl").is_file()
