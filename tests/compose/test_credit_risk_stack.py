"""The stack of credit_risk: its document's commands, in the document's order, then bad days.

The first 30,000 borrowers of the real file where it is on this machine, so that a training takes a
minute; else generated ones. Tests run in the order in which they stand, as the document's reader
would go.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scraped import single
from stack import (
    API,
    MLFLOW,
    ROOT,
    Stack,
    get,
    predict,
    stack,
    versions,
    wait_for_health,
)
from waiting import wait_for

REAL_FILE = ROOT.parent / "shared" / "data" / "credit_risk" / "cs-training.csv"
N_ROWS = 30_000
MODEL = "credit-risk-model"
NOTHING = "No model in Production stage"


@pytest.fixture(scope="module")
def credit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environment = {} if REAL_FILE.exists() else {"GREENROOM_GENERATED": "1"}
    with stack("credit_risk", tmp_path_factory.mktemp("credit"), **environment) as made:
        made.run("docker-compose build mlflow")
        yield made


@pytest.fixture
def row(credit: Stack):
    return json.loads((credit.folder / "tests" / "sample_input.json").read_text())


def _put_data(credit: Stack) -> None:
    if REAL_FILE.exists():
        with (
            REAL_FILE.open() as real,
            (credit.folder / "data" / "cs-training.csv").open("w") as few,
        ):
            few.writelines(itertools.islice(real, N_ROWS + 1))


def test_without_mlflow_a_training_ends_with_the_documented_words(credit):
    output = credit.run("docker-compose run --rm --no-deps trainer", status=1)

    assert "Failed to connect to MLflow at http://mlflow:5000" in output
    assert "Traceback" not in output


def test_mlflow_starts_by_itself_and_its_files_belong_to_who_containers_run_as(credit):
    credit.run("docker-compose up -d mlflow")
    credit.wait_until_healthy("mlflow")

    assert credit.container("mlflow")["Name"] == "/mlflow-server"
    assert httpx.get(f"{MLFLOW}/health", timeout=10.0).text == "OK"
    assert "<html" in httpx.get(MLFLOW, timeout=10.0).text
    assert "Uvicorn running" in credit.run("docker-compose logs mlflow")
    assert (credit.folder / "mlflow" / "mlflow.db").stat().st_uid == 1000


def test_the_mlflow_server_answers_under_every_name_that_a_document_uses(credit):
    for name in ("mlflow", "mlflow-server", "mlflow_server", "localhost", "127.0.0.1"):
        url = f"{MLFLOW}/api/2.0/mlflow/registered-models/search?max_results=1"
        hosts = {"Host": f"{name}:5000"}
        assert httpx.get(url, headers=hosts, timeout=10.0).status_code == 200, name
    hosts = {"Host": "elsewhere.example:5000"}
    assert httpx.get(url, headers=hosts, timeout=10.0).status_code == 403


def test_without_the_data_a_training_names_the_file_and_both_ways_on(credit):
    command = "docker-compose run --rm -e GREENROOM_GENERATED= trainer"
    output = credit.run(command, status=1)

    assert "FileNotFoundError: data/cs-training.csv" in output
    assert "--generated" in output
    assert f"{credit.folder}/data" in credit.run("docker-compose config | grep data")


def test_an_api_without_a_model_in_production_says_so_and_answers_503(credit, row):
    credit.run("docker-compose up -d api")
    wait_for_health("unhealthy")

    assert NOTHING in json.dumps(get(f"{API}/health"))
    assert predict(row).status_code == 503
    assert NOTHING in predict(row).text
    wait_for(lambda: NOTHING in credit.run("docker-compose logs api"), "the log", within_s=30.0)


def test_training_in_a_container_registers_promotes_and_is_served(credit, row):
    _put_data(credit)
    output = credit.run("docker-compose up trainer")
    wait_for_health("healthy")

    assert "outcome  credit-risk-model: version 1 is selected" in output
    assert credit.exit_status("trainer") == 0
    assert predict(row).json()["model_version"] == "1"


def test_the_data_that_a_version_was_trained_on_are_known_by_their_hash(credit):
    run_id = versions(MODEL)[0]["run_id"]
    run = get(f"{MLFLOW}/api/2.0/mlflow/runs/get?run_id={run_id}")["run"]["data"]
    params = {param["key"]: param["value"] for param in run["params"]}

    assert len(params["dataset_hash"]) == 64
    assert run["metrics"]


def test_the_documents_verification_script_passes(credit):
    output = credit.run("./tests/verify_phase2.sh")

    assert "✅ All checks passed!" in output


def test_the_requests_of_the_document_are_answered(credit):
    for command in (
        "curl -sf http://localhost:8000/",
        "curl -sf http://localhost:8000/health",
        "curl -sf http://localhost:8000/model/info",
        'curl -sf -X POST http://localhost:8000/predict -H "Content-Type: application/json"'
        " -d @tests/sample_input.json",
    ):
        assert isinstance(json.loads(credit.run(command)), dict), command


def test_each_training_makes_a_version_and_an_equal_one_is_promoted(credit):
    credit.run("docker-compose up --build trainer")

    found = {version["version"]: version["current_stage"] for version in versions(MODEL)}
    assert found["2"] == "Production"
    assert found["1"] != "Production"
    wait_for(
        lambda: get(f"{API}/model/info")["model_version"] == "2",
        "version 2 is served",
        within_s=30.0,
    )


def test_greenroom_promote_in_the_mlflow_container_moves_what_is_served(credit):
    promote = "docker exec mlflow-server greenroom promote credit-risk-model --version"
    credit.run(f"{promote} 1")
    wait_for(lambda: _served() == "1", "version 1 is served", within_s=30.0)
    credit.run(f"{promote} 2")
    wait_for(lambda: _served() == "2", "version 2 is served", within_s=30.0)


def test_a_refused_promotion_is_no_failed_training_and_a_failed_promote(credit):
    file = credit.folder / "data" / "cs-training.csv"
    _scramble_target(credit, file)
    output = credit.run("docker-compose up trainer")

    assert "version 3 registered and refused by the gate" in output
    assert credit.exit_status("trainer") == 0
    assert "roc_auc" in output
    command = "docker exec mlflow-server greenroom promote credit-risk-model --version 3"
    assert "roc_auc" in credit.run(command, status=3)
    assert _served() == "2"
    _put_data(credit)


def test_the_services_logs_can_be_read_one_by_one_and_together(credit):
    for words in ("", "trainer", "api", "mlflow", "--tail=100"):
        assert credit.run(f"docker-compose logs {words}").strip(), words
    for service in ("trainer", "api"):
        # Following ends by itself where the service has ended.
        followed = credit.run(f"timeout 5 docker-compose logs -f {service}", status=None)
        assert followed.strip(), service


def test_the_published_ports_stand_in_the_compose_file_as_documented(credit):
    text = (credit.folder / "docker-compose.yml").read_text()

    assert '"8000:8000"' in text
    assert '"5000:5000"' in text


def test_a_killed_mlflow_is_back_with_every_version_and_predictions_went_on(credit, row):
    before = versions(MODEL)
    credit.kill("mlflow")
    assert predict(row).json()["model_version"] == "2"
    credit.wait_until_healthy("mlflow")

    assert versions(MODEL) == before


def test_every_probability_is_in_mlflow_in_the_run_of_its_version_and_day(credit, row):
    answered = predict({**row, "MonthlyIncome": 1234.0}).json()  # nobody asked for it before
    day = answered["timestamp"][:10] if "timestamp" in answered else ""
    name = f"predictions v{answered['model_version']} {day}"

    def last() -> list[float]:
        logged = _logged("credit-risk-prediction", "probability")
        return [points[-1] for run, points in logged if run.startswith(name) and points]

    wait_for(lambda: last() == [answered["probability"]], "it is sent", within_s=60.0)

    def sent() -> float:
        counts = httpx.get(f"{API}/metrics", timeout=10.0).text
        return single(counts, "greenroom_mlflow_sent_predictions_total")

    def logged() -> int:
        points = (points for _, points in _logged("credit-risk-prediction", "probability"))
        return sum(map(len, points))

    wait_for(lambda: sent() == logged(), "what was sent is counted", within_s=60.0)


def _logged(experiment: str, metric: str) -> list[tuple[str, list[float]]]:
    """The values of a metric in each run with predictions: the run's name, and its values."""
    api = f"{MLFLOW}/api/2.0/mlflow"
    found = get(f"{api}/experiments/get-by-name?experiment_name={experiment}")["experiment"]
    body = {
        "experiment_ids": [found["experiment_id"]],
        "filter": "attributes.run_name LIKE 'predictions v%'",
    }
    runs = httpx.post(f"{api}/runs/search", json=body, timeout=10.0).json().get("runs", [])
    logged = []
    for run in (one["info"] for one in runs):
        history = f"{api}/metrics/get-history?run_id={run['run_id']}&metric_key={metric}"
        points = sorted(get(history).get("metrics", []), key=lambda one: int(one.get("step", 0)))
        logged.append((run["run_name"], [one["value"] for one in points]))
    return logged


def test_a_killed_api_is_back_with_the_same_version(credit, row):
    started = credit.container("api")["State"]["StartedAt"]
    credit.kill("api")
    wait_for(
        lambda: credit.container("api")["State"]["StartedAt"] > started,
        "the API is started again",
        within_s=60.0,
    )
    wait_for_health("healthy")
    assert predict(row).json()["model_version"] == "2"


def test_restarting_a_service_as_documented_loses_nothing(credit, row):
    credit.run("docker-compose restart api")
    wait_for_health("healthy")

    assert predict(row).json()["model_version"] == "2"


def test_everything_started_at_once_after_down_finds_what_there_was(credit, row):
    credit.run("docker-compose down")
    credit.run("docker-compose up -d --build")
    wait_for_health("healthy")
    assert {"1", "2", "3"} <= {version["version"] for version in versions(MODEL)}
    assert predict(row).json()["model_version"] in {"2", "4"}

    wait_for(lambda: not credit.container("trainer")["State"]["Running"], "training", within_s=900)
    assert credit.exit_status("trainer") == 0
    credit.run("docker-compose up -d mlflow api")  # again: nothing changes
    wait_for(lambda: _served() == "4", "the trainer's version is served", within_s=30.0)


def test_the_clean_slate_of_the_document_begins_again_with_nothing(credit):
    credit.run("docker-compose down -v && rm -rf mlflow/ && docker-compose up -d mlflow")
    credit.wait_until_healthy("mlflow")

    assert versions(MODEL) == []


def test_a_folder_that_cannot_be_written_is_one_line_with_the_command_that_mends_it(credit):
    credit.run("docker-compose down -v")
    os.chown(credit.folder / "mlflow", 0, 0)  # not empty: nobody takes it for a new one
    output = credit.run("docker-compose run --rm --no-deps mlflow", status=1)

    (line,) = [text for text in output.splitlines() if text.startswith("greenroom: ")]
    assert "/app/mlflow cannot be written by user 1000:1000" in line
    assert "sudo chown -R 1000:1000 mlflow/" in line

    credit.run("chown -R 1000:1000 mlflow/ && chmod -R 755 mlflow/")
    credit.run("docker-compose up -d mlflow")
    credit.wait_until_healthy("mlflow")
    credit.run("docker-compose down -v")
    shutil.rmtree(credit.folder / "mlflow")


def _served() -> str:
    return str(get(f"{API}/model/info")["model_version"])


def _scramble_target(credit: Stack, file: Path) -> None:
    """Give the borrowers each other's fate: nothing can be learnt from that."""
    lines = (
        file.read_text().splitlines()
        if file.exists()
        else _generated_file(credit, file).read_text().splitlines()
    )
    header, rows = lines[0], [line.split(",") for line in lines[1:8001]]
    column = header.split(",").index("SeriousDlqin2yrs")
    fates = [cells[column] for cells in rows]
    random.Random(1).shuffle(fates)
    for cells, fate in zip(rows, fates, strict=True):
        cells[column] = fate
    file.write_text("\n".join([header, *(",".join(cells) for cells in rows)]) + "\n")


def _generated_file(credit: Stack, file: Path) -> Path:
    """Write the app's generated borrowers as a file."""
    import sys

    import pandas as pd

    sys.path.insert(0, str(credit.folder))
    try:
        from generated import generated
    finally:
        sys.path.remove(str(credit.folder))
    pd.DataFrame(generated(1)).to_csv(file)
    return file
