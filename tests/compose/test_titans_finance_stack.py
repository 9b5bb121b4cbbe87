"""The stack of titans_finance: its document's commands, in the document's order, then bad days.

The models are trained by the initializer, on made up transactions. Tests run in the order in which
they stand, as the document's reader would go.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from stack import (
    API,
    MLFLOW,
    Stack,
    get,
    health_is,
    stack,
    versions,
    wait_for_health,
)
from waiting import wait_for

MODELS = [
    f"titans-finance-{what}"
    for what in (
        "amount-prediction",
        "anomaly-detection",
        "cashflow-forecasting",
        "category-prediction",
    )
]
AMOUNT = MODELS[0]
HEADERS = {"Authorization": "Bearer test-token"}
REQUESTS: dict[str, dict[str, Any]] = {
    "category": {"amount": 50.00, "description": "Grocery shopping", "date": "2024-01-15"},
    "anomaly": {"amount": 10000.00, "category": "Shopping", "date": "2024-01-15"},
    "amount": {"description": "Grocery shopping", "category": "Groceries", "date": "2024-01-15"},
    "cashflow": {"horizon_days": 14},
}
CURL = (
    'curl -sf -X POST "http://localhost:8000/predict/{what}" '
    '-H "Authorization: Bearer test-token" -H "Content-Type: application/json" -d \'{body}\''
)


@pytest.fixture(scope="module")
def titans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack("titans_finance", tmp_path_factory.mktemp("titans")) as made:
        made.run("docker-compose build mlflow")
        yield made


def _predict(what: str, body: Any = None, **headers: str) -> httpx.Response:
    sent = headers or HEADERS
    url = f"{API}/predict/{what}"
    return httpx.post(url, json=body or REQUESTS[what], headers=sent, timeout=10.0)


def _served() -> dict[str, str]:
    """Return the version of each model that is loaded."""
    models = get(f"{API}/models/status")["models"]
    return {name: one["version"] for name, one in models.items() if one["loaded"]}


def _again(titans: Stack) -> list[str]:
    """Run the initializer once more, as documented; return what it said of the models."""
    before = len(titans.logs("mlflow-init").splitlines())
    titans.run("docker-compose restart mlflow-init")
    _wait_until_ended(titans)
    return titans.logs("mlflow-init").splitlines()[before:]


def _wait_until_ended(titans: Stack) -> None:
    wait_for(
        lambda: not titans.container("mlflow-init")["State"]["Running"],
        "mlflow-init has ended",
        within_s=200.0,
    )


def _train_anew(titans: Stack, rows: int) -> None:
    """Train one model with another setting, so that its files change."""
    titans.run(
        f"docker-compose run --rm --no-deps -e GREENROOM_REFERENCE_ROWS={rows} mlflow-init "
        f"greenroom train --model {AMOUNT} --into /data_science/models"
    )


def test_the_project_and_its_volumes_have_the_documented_names(titans):
    output = titans.run("COMPOSE_PROJECT_NAME= docker-compose config --format json")
    found = json.loads(output[output.index("{") :])

    assert found["name"] == "titans-finance"
    volumes = {volume["name"] for volume in found["volumes"].values()}
    assert {"titans-finance_mlflow_artifacts", "titans-finance_mlflow_runs"} <= volumes
    assert "required" not in found["services"]  # it is the profile's


def test_one_command_brings_up_the_services_in_the_documented_order(titans):
    titans.run("docker-compose up -d")
    wait_for_health("healthy")

    states = {
        name: titans.container(name)["State"]
        for name in ("postgres", "mlflow", "mlflow-init", "api")
    }
    started = [states[name]["StartedAt"] for name in states]
    assert started == sorted(started)
    assert states["mlflow-init"]["FinishedAt"] <= states["api"]["StartedAt"]
    assert states["mlflow-init"]["ExitCode"] == 0


def test_the_initializer_trains_registers_and_selects_all_four_models(titans):
    titans.run("timeout 5 docker-compose logs -f mlflow-init", status=None)
    logs = titans.run("docker-compose logs --no-log-prefix mlflow-init")

    for name in MODELS:
        assert f"{name}: registered as version 1; Production names it now" in logs
        assert [one["current_stage"] for one in versions(name)] == ["Production"]
    assert "trained on generated data" in logs


def test_the_pages_of_the_document_answer_without_a_token(titans):
    for command in (
        "curl -sf http://localhost:5000/health",
        "curl -sf http://localhost:8000/health",
        "curl -sf http://localhost:8000/models/status",
        "curl -sf http://localhost:8000/",
        "curl -sf http://localhost:8000/docs",
        "curl -sf http://localhost:5000",
    ):
        assert titans.run(command), command
    models = get(f"{API}/models/status")["models"]
    assert sorted(models) == MODELS
    assert {one["stage"] for one in models.values()} == {"Production"}
    assert {one["version"] for one in models.values()} == {"1"}
    assert all(one["generated_data"] and one["metrics"] for one in models.values())


@pytest.mark.parametrize("what", ["category", "anomaly"])
def test_the_requests_of_the_document_are_answered_as_they_stand(titans, what):
    body = json.dumps(REQUESTS[what])
    reply = json.loads(titans.run(CURL.format(what=what, body=body)))

    assert reply["model_version"] == "1"


def test_every_model_answers_at_its_documented_endpoint(titans):
    replies = {what: _predict(what).json() for what in REQUESTS}

    assert replies["category"]["category"] == "Groceries"
    assert replies["anomaly"]["is_anomaly"]
    assert replies["anomaly"]["reasons"]
    assert replies["amount"]["amount"] > 0
    assert len(replies["cashflow"]["predictions"]) == 14


@pytest.mark.parametrize("what", REQUESTS)
def test_without_a_token_or_with_a_wrong_one_nothing_is_predicted(titans, what):
    assert _predict(what, None, Accept="*/*").status_code == 401
    assert _predict(what, None, Authorization="Bearer wrong").status_code == 401


def test_bad_input_is_a_422_that_names_every_field(titans):
    reply = _predict("category", {"amount": "much", "description": 7})

    assert reply.status_code == 422
    assert {"amount", "description", "date"} <= set(
        json.dumps(reply.json()).replace('"', " ").split()
    )


def test_the_runs_hold_parameters_metrics_and_where_they_come_from(titans):
    (version,) = versions(AMOUNT)
    run = get(f"{MLFLOW}/api/2.0/mlflow/runs/get?run_id={version['run_id']}")["run"]
    params = {one["key"]: one["value"] for one in run["data"]["params"]}

    assert len(params["dataset_hash"]) == 64
    assert run["data"]["metrics"]
    assert run["info"]["status"] == "FINISHED"


def test_the_history_says_that_no_gate_was_asked(titans):
    output = titans.run(f"docker exec titans_api greenroom history {AMOUNT}")

    assert "outside the gate" in output


def test_the_trained_models_lie_in_the_documented_folder_and_are_yours(titans):
    output = titans.run("ls -la data_science/models/*/")

    for name in MODELS:
        assert f"data_science/models/{name}/" in output
    assert output.count("training.json") == 4
    place = titans.folder / "data_science" / "models" / AMOUNT
    assert place.stat().st_uid == 1000


def test_the_connection_to_mlflow_can_be_looked_at_as_documented(titans):
    assert "healthy" in titans.run("docker-compose ps mlflow")
    assert "1 received" in titans.run("docker exec titans_api ping -c 1 mlflow")
    output = titans.run("docker exec titans_api env | grep MLFLOW")
    assert "MLFLOW_TRACKING_URI=http://mlflow:5000" in output
    output = titans.run("docker-compose exec -T mlflow env")
    assert "MLFLOW_BACKEND_STORE_URI=postgresql://" in output
    assert "MLFLOW_DEFAULT_ARTIFACT_ROOT=mlflow-artifacts:/" in output
    assert titans.run("timeout 5 docker-compose logs -f api", status=None).strip()


def test_the_initializer_run_again_makes_no_version(titans):
    said = _again(titans)

    assert [line for line in said if "unchanged: version 1" in line] == [
        f"{name}: unchanged: version 1" for name in MODELS
    ]
    assert titans.exit_status("mlflow-init") == 0
    assert all(len(versions(name)) == 1 for name in MODELS)


def test_a_new_file_is_registered_by_a_restart_and_served_by_itself(titans):
    _train_anew(titans, 900)
    said = _again(titans)

    assert (
        f"{AMOUNT}: its files have changed: registered as version 2; Production names it now"
        in said
    )
    assert sum("unchanged: version 1" in line for line in said) == 3
    wait_for(lambda: _served()[AMOUNT] == "2", "version 2 is served", within_s=30.0)
    assert _predict("amount").json()["model_version"] == "2"


def test_an_initializer_that_is_killed_is_completed_by_the_next(titans):
    _train_anew(titans, 800)
    titans.run("docker-compose restart mlflow-init")
    wait_for(
        lambda: titans.logs("mlflow-init").count(f"writing the run of {AMOUNT}") == 3,
        "it is at work",
        within_s=100.0,
    )
    titans.kill("mlflow-init")
    _wait_until_ended(titans)
    assert titans.exit_status("mlflow-init") == 137
    _again(titans)

    assert titans.exit_status("mlflow-init") == 0
    assert [one["current_stage"] for one in versions(AMOUNT)] == [
        "Archived",
        "Archived",
        "Production",
    ]
    wait_for(lambda: _served()[AMOUNT] == "3", "version 3 is served", within_s=30.0)


def test_a_bare_model_in_the_folder_is_named_and_what_is_right_goes_on(titans):
    bare = titans.folder / "data_science" / "models" / "mine.pkl"
    bare.write_bytes(b"weights")
    os.chown(bare, 1000, 1000)
    said = _again(titans)
    bare.unlink()

    assert titans.exit_status("mlflow-init") == 1
    assert sum("unchanged" in line for line in said) == 4, said
    assert any("mine.pkl is a bare model" in line for line in said)
    assert health_is("healthy")


def test_postgresql_is_restarted_while_predictions_go_on(titans):
    titans.run("docker-compose stop postgres")
    wait_for_health("degraded")
    assert all(_predict(what).status_code == 200 for what in REQUESTS)
    titans.run("docker-compose start postgres")
    titans.wait_until_healthy("postgres")
    wait_for_health("healthy")

    assert len(versions(AMOUNT)) == 3


@pytest.mark.parametrize("service", ["postgres", "mlflow", "api"])
def test_a_service_that_is_killed_comes_back_with_what_it_had(titans, service):
    before = _served()
    titans.kill(service)
    if service != "api":
        assert _predict("amount").status_code == 200
    titans.wait_until_healthy(service)
    wait_for_health("healthy")

    assert _served() == before


def test_prometheus_scrapes_the_api_with_a_token_and_the_monitoring_profile(titans):
    titans.run("docker-compose --profile monitoring up -d --no-deps prometheus")
    titans.wait_until_healthy("prometheus")

    def scraped() -> bool:
        answer = get("http://localhost:9090/api/v1/targets?state=active")
        return bool([one["health"] for one in answer["data"]["activeTargets"]] == ["up"])

    wait_for(scraped, "the API is scraped", within_s=60.0)
    titans.run("docker-compose --profile monitoring rm -sf prometheus")


def test_taking_the_stack_down_and_up_loses_nothing(titans):
    titans.run("docker-compose down")
    titans.run("docker-compose up -d")
    wait_for_health("healthy")

    assert _served()[AMOUNT] == "3"
    assert titans.logs("mlflow-init").count("unchanged") == 4


def test_without_its_artifact_volumes_everything_is_registered_anew(titans):
    project = titans.environment["COMPOSE_PROJECT_NAME"]
    titans.run("docker-compose down")
    titans.run(f"docker volume rm {project}_mlflow_artifacts {project}_mlflow_runs")
    titans.run("docker-compose up -d")
    wait_for_health("healthy")

    said = titans.logs("mlflow-init")
    assert (
        f"{AMOUNT}: the files of version 3 cannot be read any more: registered as version 4" in said
    )
    assert said.count("cannot be read any more") == 4
    wait_for(lambda: _served()[AMOUNT] == "4", "version 4 is served", within_s=30.0)
    assert all(_predict(what).status_code == 200 for what in REQUESTS)
