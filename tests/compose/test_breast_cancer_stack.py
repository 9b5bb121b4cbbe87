"""The stack of breast_cancer: brought up from nothing, killed, restarted, removed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from stack import (
    API,
    MLFLOW,
    Stack,
    get,
    health_is,
    predict,
    stack,
    versions,
    wait_for_health,
)
from waiting import wait_for

MODEL = "ClassificationModel"
OLD_TRAINER = """
import pickle

import mlflow
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
scaler = StandardScaler().set_output(transform="pandas").fit(X)
with mlflow.start_run():
    with open("/tmp/scaler.pkl", "wb") as file:
        pickle.dump(scaler, file)
    mlflow.log_artifact("/tmp/scaler.pkl", artifact_path="preprocessing")
    scaled = scaler.transform(X)
    mlflow.sklearn.log_model(
        LogisticRegression().fit(scaled, y),
        name="model",
        input_example=scaled.head(1),
        registered_model_name="ClassificationModel",
    )
"""


@pytest.fixture(scope="module")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("cancer")
    with stack("breast_cancer", folder, GIT_COMMIT="c" * 40) as made:
        made.run("docker compose up -d --build")
        made.wait_until_healthy("model_api")
        yield made


@pytest.fixture
def row(cancer):
    return json.loads((cancer.folder / "tests" / "sample_input.json").read_text())


def test_one_command_brings_up_the_services_in_the_documented_order(cancer):
    finished = cancer.container("trainer")["State"]["FinishedAt"]

    assert cancer.exit_status("trainer") == 0
    assert cancer.container("mlflow_server")["State"]["StartedAt"] < finished
    assert cancer.container("model_api")["State"]["StartedAt"] > finished


def test_the_trainer_registers_the_first_version_and_says_what_it_did(cancer):
    assert [version["version"] for version in versions(MODEL)] == ["1"]
    assert "outcome  ClassificationModel: version 1 is selected" in cancer.logs("trainer")


def test_the_documented_endpoints_answer_on_the_documented_ports(cancer, row):
    assert httpx.get(f"{MLFLOW}/", timeout=10.0).status_code == 200
    assert get(f"{API}/health")["status"] == "healthy"
    answer = predict(row).json()
    assert (answer["prediction"], answer["model_version"]) == (0, "1")


def test_the_run_holds_the_documented_parameters_metrics_and_artifacts(cancer):
    run_id = versions(MODEL)[0]["run_id"]
    run = get(f"{MLFLOW}/api/2.0/mlflow/runs/get?run_id={run_id}")["run"]["data"]
    artifacts = f"{MLFLOW}/api/2.0/mlflow/artifacts/list?run_id={run_id}"
    paths = {
        file["path"]
        for folder in ("", "&path=preprocessing", "&path=figures")
        for file in get(artifacts + folder)["files"]
    }

    assert {"C", "penalty", "dataset_name"} <= {param["key"] for param in run["params"]}
    metrics = {metric["key"] for metric in run["metrics"]}
    assert {"accuracy", "precision", "recall", "f1_score"} <= metrics
    assert "preprocessing/scaler.pkl" in paths
    assert {"classification_report.txt", "figures/confusion_matrix.png"} <= paths


def test_the_version_knows_the_commit_that_its_image_was_built_from(cancer):
    assert get(f"{API}/model/info")["params"]["git_commit"] == "c" * 40


def test_the_start_up_line_says_that_the_server_is_open(cancer):
    (line,) = [text for text in cancer.logs("model_api").splitlines() if " API " in text]
    assert line.split()[-1] == "open"


def test_every_container_runs_without_root_rights_on_a_read_only_root(cancer):
    for service in ("mlflow_server", "trainer", "model_api"):
        found = cancer.container(service)
        assert found["Config"]["User"] == "1000:1000"
        assert found["HostConfig"]["ReadonlyRootfs"] is True
        assert found["HostConfig"]["CapDrop"] == ["ALL"]


def test_starting_again_trains_nothing_that_is_registered_already(cancer):
    cancer.run("docker compose up -d")
    wait_for(
        lambda: "already registered as version 1" in cancer.logs("trainer"),
        "the trainer says so",
        within_s=300.0,
    )

    assert len(versions(MODEL)) == 1


def test_a_killed_api_is_back_with_the_same_version(cancer, row):
    started = cancer.container("model_api")["State"]["StartedAt"]
    cancer.kill("model_api")
    wait_for(
        lambda: cancer.container("model_api")["State"]["StartedAt"] > started,
        "the API is started again",
        within_s=60.0,
    )
    wait_for_health("healthy")

    assert predict(row).json()["model_version"] == "1"


def test_predictions_go_on_while_mlflow_is_stopped_and_health_says_so(cancer, row):
    cancer.run("docker compose stop mlflow_server")
    wait_for_health("degraded")
    assert predict(row).json()["model_version"] == "1"
    assert "Failed to connect to MLflow" in json.dumps(get(f"{API}/health"))

    cancer.run("docker compose start mlflow_server")
    cancer.wait_until_healthy("mlflow_server")
    wait_for_health("healthy")


def test_the_api_starts_without_mlflow_from_what_it_keeps(cancer, row):
    cancer.run("docker compose stop mlflow_server model_api")
    cancer.run("docker compose up -d --no-deps model_api")
    wait_for_health("degraded")

    assert predict(row).json()["model_version"] == "1"
    cancer.run("docker compose start mlflow_server")
    cancer.wait_until_healthy("mlflow_server")


def test_taking_the_stack_down_and_up_loses_nothing(cancer, row):
    run_id = versions(MODEL)[0]["run_id"]
    cancer.run("docker compose down")
    cancer.run("docker compose up -d")
    cancer.wait_until_healthy("model_api")
    wait_for(lambda: health_is("healthy"), "health", within_s=60.0)

    assert [version["run_id"] for version in versions(MODEL)] == [run_id]
    assert predict(row).json()["model_version"] == "1"


def test_a_bare_version_of_an_old_trainer_is_refused_and_predictions_go_on(cancer, row):
    cancer.run(f"docker compose run --rm --no-deps -T trainer python - <<'END'\n{OLD_TRAINER}\nEND")
    wait_for_health("degraded")

    assert "version 2: it is a bare model" in json.dumps(get(f"{API}/health"))
    assert predict(row).json()["model_version"] == "1"


def test_down_with_volumes_removes_everything(cancer):
    cancer.run("docker compose down -v")

    project = cancer.environment["COMPOSE_PROJECT_NAME"]
    for what in ("volume ls -q", "ps -aq", "network ls -q"):
        label = f"label=com.docker.compose.project={project}"
        assert cancer.run(f"docker {what} --filter {label}") == ""
