"""``POST /train`` of a served app, as a caller sees it: real trainings, a real MLflow server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from greenroom.job_store import JobStore, lives
from greenroom.registry.registry import Registry
from sample_app import write_app
from waiting import wait_for

pytestmark = pytest.mark.slow

ROUTE = """
    training=TrainingRoute(
        request=(
            Column("model_type", "category", categories=("tree", "logistic")),
            Column("env", "category", categories=("dev", "prod"), nullable=True),
            Column("test_mode", "boolean", nullable=True),
        ),
        environment="env",
        plan=lambda asked: TrainingPlan(
            model="__NAME__",
            candidates=(asked["model_type"],),
            rows=300 if asked["test_mode"] else 0,
        ),
    ),
    environment={"ENV": "environment"},
)
"""
ROW = {"amount": 12.5, "visits_30d": 3, "member": False}


def trainable(folder: Path, name: str) -> Path:
    write_app(folder, name, minimum=0.5)
    file = folder / "app.py"
    text = file.read_text().replace("Model, class", "Model, TrainingPlan, TrainingRoute, class")
    file.write_text(text.rstrip().removesuffix(")") + ROUTE.replace("__NAME__", name).lstrip("\n"))
    return folder


@contextmanager
def serving(folder: Path, uri: str, **variables: str) -> Iterator[tuple[httpx.Client, int]]:
    """Run ``greenroom serve``; gives a client for it, and its process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("MLFLOW")},
        "MLFLOW_TRACKING_URI": uri,
        "GREENROOM_PORT": str(port),
        **variables,
    }
    command = [sys.executable, "-m", "greenroom", "serve", str(folder)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            wait_for(lambda: client.get("/live").status_code == 200, "it runs", within_s=60)
            yield client, process.pid
    finally:
        process.terminate()
        process.wait(30)


def test_a_documented_call_trains_registers_promotes_and_is_served(mlflow_server, tmp_path):
    folder = trainable(tmp_path / "app", "called")
    asked = {"model_type": "logistic", "env": "dev", "test_mode": True}
    with serving(folder, mlflow_server, ENV="DEV") as (client, _):
        assert client.post("/predict", json=ROW).status_code == 503
        said = client.post("/train", json=asked).raise_for_status().json()
        assert (said["state"], said["outcome"], said["model_version"]) == ("done", "promoted", "1")
        assert said["metrics"]["roc_auc"] > 0.6
        assert said["run_id"] in said["run_url"]
        assert (said["n_rows"], said["trial"]) == (300, True)
        assert client.post("/predict", json=ROW).json()["model_version"] == "1"

        full = client.post("/train", json={"model_type": "logistic"}).raise_for_status().json()
        assert (full["model_version"], full["outcome"]) == ("2", "promoted")
        assert client.post("/predict", json=ROW).json()["model_version"] == "2"
        refused = client.post("/train", json=asked).raise_for_status().json()
        assert refused["outcome"] == "refused"
        assert "trained as a trial" in refused["reasons"][0]
        assert client.post("/predict", json=ROW).json()["model_version"] == "2"
        with Registry(mlflow_server) as registry:
            tags = registry.registered_model("called").tags
            assert any("POST /train" in text for text in tags.values())

        wrong = client.post("/train", json={**asked, "env": "prod"})
        assert wrong.status_code == 422
        assert "env is not what this server is for, dev" in wrong.json()["detail"]


def test_a_server_that_was_killed_leaves_a_training_that_the_next_one_takes_over(
    mlflow_server, tmp_path
):
    folder = trainable(tmp_path / "app", "left-alone")
    store = JobStore(folder / ".greenroom")
    with serving(folder, mlflow_server) as (client, pid):
        begun = client.post("/train", params={"wait": "false"}, json={"model_type": "tree"})
        job = store.read(begun.json()["job_id"])
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: store.read(job.id).report.doing != "", "it trains", within_s=30)
    assert lives(job.process)
    with serving(folder, mlflow_server) as (client, _):
        again = client.post("/train", json={"model_type": "tree"})
        assert (again.status_code, job.id in again.text) == (409, True)
        shown = f"/train/{job.id}"
        wait_for(lambda: client.get(shown).json()["state"] != "running", "it ends", within_s=90)
        assert client.get(shown).json()["outcome"] == "promoted"
        wait_for(
            lambda: client.post("/predict", json=ROW).status_code == 200, "it serves", within_s=30
        )


def test_a_training_whose_data_are_missing_fails_in_one_line_and_serving_does_not_notice(
    mlflow_server, tmp_path
):
    folder = trainable(tmp_path / "app", "without-data")
    (folder / "data" / "rows.csv").unlink()
    with serving(folder, mlflow_server) as (client, _):
        failed = client.post("/train", json={"model_type": "tree"})
        assert failed.status_code == 500
        assert "data/rows.csv" in failed.json()["error"]["message"]
        assert "\n" not in failed.json()["error"]["message"]
        assert client.get("/live").status_code == 200
