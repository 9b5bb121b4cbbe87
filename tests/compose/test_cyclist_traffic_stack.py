"""The stack of cyclist_traffic: its document's commands, in the document's order, then bad days.

Trainings are the document's own tests on 1,000 rows, so that each takes seconds. Tests run in the
order in which they stand, as the document's reader would go.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from stack import API, MLFLOW, Stack, get, predict, stack, versions, wait_for_health
from waiting import wait_for

MODEL, CLASSES = "cyclist-traffic", "cyclist-traffic-class"
LEGACY = "http://localhost:8080"
ROW = {"counter_name": "Totem 73 boulevard de Sébastopol N-S", "date": "2021-07-15T06:00:00Z"}
TRAIN = """curl -sS -X POST "http://localhost:8000/train" \\
  -H "Content-Type: application/json" \\
  -d '{
    "model_type": "%s",
    "data_source": "reference",
    "env": "dev",
    "test_mode": true
  }'"""


@pytest.fixture(scope="module")
def cyclist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack("cyclist_traffic", tmp_path_factory.mktemp("cyclist")) as made:
        yield made


def _pull(cyclist: Stack, pointer: str) -> None:
    """Put the file behind a DVC pointer where ``dvc pull`` puts it."""
    path = cyclist.folder / "data" / pointer
    (out,) = yaml.safe_load(path.read_text())["outs"]
    store = cyclist.folder / "dvc_store" / "files" / "md5"
    shutil.copyfile(store / out["md5"][:2] / out["md5"][2:], path.with_name(out["path"]))


def _train(cyclist: Stack, kind: str) -> dict:
    return dict(json.loads(cyclist.run(TRAIN % kind)))


def _served(model: str = MODEL) -> str:
    found = {one["name"]: one["version"] for one in get(f"{API}/health")["models"]}
    return str(found[model])


def test_the_stack_builds_and_starts_without_a_key_for_google(cyclist):
    assert not (cyclist.folder / "gcp.json").exists()
    cyclist.run("docker compose up --build -d")
    cyclist.wait_until_healthy("mlflow")
    wait_for_health("unhealthy")

    assert cyclist.container("mlflow")["Name"] == "/mlflow-server"
    assert cyclist.container("regmodel-backend")["Name"] == "/regmodel-api"
    assert "No model in Production stage" in json.dumps(get(f"{API}/health"))
    assert predict(ROW).status_code == 503


def test_a_missing_key_is_one_line_and_not_a_crash(cyclist):
    lines = [line for line in cyclist.logs("regmodel-backend").splitlines() if "gcp.json" in line]

    assert len(lines) == 1
    assert "GOOGLE_APPLICATION_CREDENTIALS names /app/gcp.json, which is a folder" in lines[0]
    assert cyclist.container("regmodel-backend")["RestartCount"] == 0
    assert (cyclist.folder / "gcp.json").is_dir()


def test_the_legacy_service_is_not_started_unless_its_profile_is(cyclist):
    assert "classmodel-api" not in cyclist.run("docker compose ps -a")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{LEGACY}/health", timeout=10.0)


def test_the_documented_pages_answer_on_the_documented_ports(cyclist):
    assert json.loads(cyclist.run("curl -s http://localhost:8000/health"))["status"]
    assert cyclist.run("curl -sf http://localhost:5000/health") == "OK"
    assert "<html" in httpx.get(MLFLOW, timeout=10.0).text
    for page in ("docs", "redoc"):
        assert "<html" in httpx.get(f"{API}/{page}", timeout=10.0).text


def test_mlflow_keeps_its_files_in_the_documented_folders_which_are_the_users(cyclist):
    assert (cyclist.folder / "mlruns_dev" / "mlflow.db").stat().st_uid == 1000
    assert (cyclist.folder / "mlflow_artifacts").stat().st_uid == 1000
    assert "MLFLOW_TRACKING_URI=http://mlflow:5000" in _environment(cyclist, "regmodel-backend")
    assert "ENV=DEV" in _environment(cyclist, "regmodel-backend")
    credentials = "GOOGLE_APPLICATION_CREDENTIALS=/app/gcp.json"
    assert credentials in _environment(cyclist, "regmodel-backend")


def _environment(cyclist: Stack, service: str) -> list[str]:
    return list(cyclist.container(service)["Config"]["Env"])


def test_without_its_data_a_training_names_the_file_and_the_command_that_brings_it(cyclist):
    told = _train(cyclist, "rf")["detail"]

    assert "FileNotFoundError: data/test_sample.csv" in told
    assert "dvc pull data/test_sample.csv.dvc" in told
    assert "Traceback" not in told


def test_a_test_training_over_http_is_registered_promoted_and_served(cyclist):
    _pull(cyclist, "test_sample.csv.dvc")
    done = _train(cyclist, "rf")

    assert (done["state"], done["outcome"], done["model_version"]) == ("done", "promoted", "1")
    assert done["candidate"] == "rf"
    assert done["n_rows"] == 1_000
    assert done["trial"]
    assert done["metrics"]["r2_score"] > 0.2
    assert predict(ROW).json()["model_version"] == "1"


def test_every_model_type_can_be_trained(cyclist):
    network, classes = _train(cyclist, "nn"), _train(cyclist, "rf_class")

    assert (network["model_name"], network["candidate"]) == (MODEL, "nn")
    assert network["outcome"] in {"promoted", "refused"}
    assert (classes["model_name"], classes["outcome"]) == (CLASSES, "promoted")
    wait_for_health("healthy")
    answer = httpx.post(f"{API}/predict/class", json=ROW, timeout=10.0).json()
    assert answer["prediction"] in {"low", "medium", "high"}


def test_a_training_that_is_not_waited_for_can_be_asked_about(cyclist):
    asked = {"model_type": "rf", "test_mode": True, "wait": False}
    begun = httpx.post(f"{API}/train", json=asked, timeout=30.0)
    assert begun.status_code == 202
    job = begun.json()["job_id"]
    assert httpx.post(f"{API}/train", json=asked, timeout=30.0).status_code == 409

    wait_for(lambda: get(f"{API}/train/{job}")["state"] == "done", "the end", within_s=200.0)
    assert get(f"{API}/train/{job}")["metrics"]


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ({}, {"model_type"}),
        (
            {"model_type": "svm", "data_source": "x", "speed": 1},
            {"model_type", "data_source", "speed"},
        ),
        ({"model_type": "rf", "env": "prod"}, {"env"}),
        ({"model_type": "rf", "test_mode": "yes"}, {"test_mode"}),
    ],
)
def test_a_training_that_is_asked_for_wrongly_is_refused_by_every_field(cyclist, asked, fields):
    answer = httpx.post(f"{API}/train", json=asked, timeout=10.0)

    assert answer.status_code == 422
    assert {problem["field"] for problem in answer.json()["error"]["problems"]} == fields


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"date": "2021-07-15T06:00:00Z"}, "counter_id"),
        ({"counter_id": "x", "date": "2021-07-15T06:00:00Z"}, "counter_id"),
        ({"counter_id": "x", "date": "2021-07-15T06:00:00Z", "latitude": 48.8}, "longitude"),
        ({**ROW, "date": "yesterday"}, "date"),
        ({**ROW, "latitude": 0.0}, "latitude"),
    ],
)
def test_a_request_that_cannot_be_placed_is_refused_by_its_field(cyclist, given, field):
    answer = predict(given)

    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["error"]["problems"]] == [field]


def test_a_counter_by_id_and_a_new_place_are_answered_too(cyclist):
    by_id = predict({"counter_id": "100057445-103057445", "date": ROW["date"]}).json()
    new = {"counter_id": "new", "latitude": 48.86, "longitude": 2.35, "date": ROW["date"]}

    assert by_id["prediction"] == pytest.approx(predict(ROW).json()["prediction"])
    assert predict(new).json()["prediction"] > 0


def test_trainings_are_in_the_documented_experiment_with_their_figures(cyclist):
    url = f"{MLFLOW}/api/2.0/mlflow/experiments/get-by-name?experiment_name=regmodel"
    experiment = get(url)["experiment"]["experiment_id"]
    found = httpx.post(
        f"{MLFLOW}/api/2.0/mlflow/runs/search",
        json={"experiment_ids": [experiment], "max_results": 100},
        timeout=30.0,
    ).json()["runs"]
    metrics = {one["key"] for run in found for one in run["data"]["metrics"]}

    assert {"r2_score", "accuracy"} <= metrics
    assert any((cyclist.folder / "mlflow_artifacts").rglob("greenroom/version.json"))


def test_changed_code_is_taken_up_while_it_serves(cyclist):
    file = cyclist.folder / "app.py"
    old = "Train a model on 56 counters"
    assert old in json.dumps(get(f"{API}/openapi.json"))
    file.write_text(file.read_text().replace(old, "Train one of the models on 56 counters"))

    wait_for(
        lambda: "Train one of the models" in json.dumps(get(f"{API}/openapi.json")),
        "the changed summary",
        within_s=60.0,
    )
    assert predict(ROW).status_code == 200
    assert cyclist.container("regmodel-backend")["RestartCount"] == 0


def test_the_legacy_api_serves_the_second_model_by_itself(cyclist):
    cyclist.run("docker compose --profile legacy up -d")
    wait_for(lambda: _answers(f"{LEGACY}/health"), "the legacy API", within_s=120.0)

    assert cyclist.container("classmodel-api")["Name"] == "/classmodel-api"
    assert get(f"{LEGACY}/health")["status"] == "healthy"
    answer = httpx.post(f"{LEGACY}/predict", json=ROW, timeout=10.0).json()
    assert (answer["model_name"], answer["model_version"]) == (CLASSES, "1")
    assert answer["prediction"] in {"low", "medium", "high"}


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10.0).status_code == 200
    except httpx.TransportError:
        return False


def test_the_services_logs_can_be_read_one_by_one_and_together(cyclist):
    for words in ("", "regmodel-backend", "mlflow"):
        assert cyclist.run(f"docker compose logs {words}").strip(), words
        followed = cyclist.run(f"timeout 5 docker compose logs -f {words}", status=None)
        assert followed.strip(), words
    assert "regmodel-api" in cyclist.run("docker compose ps")


def test_a_killed_mlflow_is_back_with_every_version_and_predictions_went_on(cyclist):
    before = versions(MODEL)
    cyclist.kill("mlflow")
    assert predict(ROW).status_code == 200
    cyclist.wait_until_healthy("mlflow")

    assert versions(MODEL) == before


def test_a_killed_or_restarted_api_is_back_with_the_same_version(cyclist):
    served = _served()
    started = cyclist.container("regmodel-backend")["State"]["StartedAt"]
    cyclist.kill("regmodel-backend")
    wait_for(
        lambda: cyclist.container("regmodel-backend")["State"]["StartedAt"] > started,
        "the API is started again",
        within_s=60.0,
    )
    wait_for_health("healthy")
    assert _served() == served

    cyclist.run("docker compose restart regmodel-backend")
    wait_for_health("healthy")
    assert _served() == served


def test_taking_the_stack_down_and_up_loses_nothing(cyclist):
    before, served = versions(MODEL), _served()
    cyclist.run("docker compose --profile legacy down")
    cyclist.run("docker compose up -d")
    wait_for_health("healthy")

    assert versions(MODEL) == before
    assert _served() == served
    assert "classmodel-api" not in cyclist.run("docker compose ps -a")


def test_for_production_the_server_does_not_start_open(cyclist):
    output = cyclist.run(
        "docker compose run --rm --no-deps -e ENV=PROD -e GREENROOM_HOME=/tmp/home"
        " regmodel-backend",
        status=1,
    )

    assert "the environment is prod: there every caller has a token of its own" in output
    assert "Traceback" not in output


def test_the_image_can_be_built_by_the_services_name(cyclist):
    cyclist.run("docker compose build regmodel-backend")


def test_down_with_volumes_forgets_what_was_served_and_keeps_the_users_folders(cyclist):
    cyclist.run("docker compose --profile legacy down -v")

    assert "cyclist" not in cyclist.run("docker volume ls -q")
    assert (cyclist.folder / "mlruns_dev" / "mlflow.db").is_file()


def test_the_published_ports_stand_in_the_compose_file_as_documented(cyclist):
    text = (Path(cyclist.folder) / "docker-compose.yml").read_text()

    for port in ("5000:5000", "8000:8000", "8080:8080"):
        assert f'"{port}"' in text
