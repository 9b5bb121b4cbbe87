"""A server managed over HTTP as documented: a real MLflow, real workers, a settings file."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import builders
from greenroom.registry.mlflow_rest import MlflowRest
from greenroom.registry.registry import Registry
from mlflow_versions import files_in, register_files
from waiting import wait_for

pytestmark = pytest.mark.slow

APP_FILE = """
from greenroom import App, Column, Gate, Management, Model, Route, SettingsFile, classification


def model_info(status):
    (model,) = status.models
    serving = model.serving
    return {
        "model_info": {
            "model_loaded": serving is not None,
            "model_metadata": {
                "name": model.name,
                "version": serving.version,
                "stage": serving.stage,
                "model_uri": serving.model_uri,
            } if serving else {},
            "registry_info": {"name": model.name, "latest_versions": model.latest_versions},
        }
    }


app = App(
    name="tiny",
    experiment="managed",
    models=[
        Model(
            name="m",
            task=classification,
            columns=[Column("a", minimum=-10, maximum=10), Column("b", "integer", minimum=0)],
            dataset="data.csv",
            target="y",
            candidates=lambda seed: {},
            gate=Gate("accuracy", minimum=0.5),
            route="/api/predict",
            mlflow_log="batch",
        )
    ],
    routes=[Route("GET", "/api/model/info", model_info)],
    settings_file=SettingsFile(
        "config/mlflow_config.yaml",
        {
            "mlflow.enabled": "mlflow_enabled",
            "mlflow.tracking_uri": "tracking_uri",
            "mlflow.model.name": "models.m.name",
            "mlflow.model.stage": "models.m.serve",
            "mlflow.model.reload_interval": "poll_interval_s",
            "mlflow.experiment.batch_size": "mlflow_batch_size",
        },
    ),
    environment={"PORT": "port", "LOG_LEVEL": "log_level"},
    management=Management(
        reload="/api/model/reload",
        models="/api/mlflow/models",
        model="/api/mlflow/models/{name}",
        transition="/api/mlflow/models/{name}/transition",
    ),
)
"""
CONFIG = """
mlflow:
  enabled: true
  tracking_uri: "{uri}"
  model:
    name: "{name}"
    stage: "Production"
    reload_interval: 3600
  experiment:
    batch_size: 10
"""
ROW = {"a": 1.5, "b": 3}


@contextmanager
def serving(folder: Path) -> Iterator[httpx.Client]:
    """Run ``greenroom serve`` for the app in ``folder``; gives a client for it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW")}
    environment |= {"PORT": str(port), "GREENROOM_WORKERS": "2", "LOG_LEVEL": "DEBUG"}
    command = [sys.executable, "-m", "greenroom", "serve", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_for(lambda: client.get("/live").status_code == 200, "it runs", within_s=60)
            yield client
    finally:
        process.terminate()
        assert process.wait(30) == 0, (folder / "log").read_text()


@pytest.fixture
def two(mlflow_server, tmp_path) -> tuple[str, Path]:
    """The name of a registered model with two versions in no stage, and the app that serves it."""
    name = f"managed-{secrets.token_hex(4)}"
    with Registry(mlflow_server, timeout_s=20, environment={}) as registry:
        for number, C in (("1", 1.0), ("2", 0.001)):
            made = builders.version(tmp_path / number, estimator=builders.classifier(C=C))
            register_files(registry, name, files_in(made))
    folder = tmp_path / "app"
    (folder / "config").mkdir(parents=True)
    (folder / "app.py").write_text(APP_FILE)
    config = CONFIG.format(uri=mlflow_server, name=name)
    (folder / "config" / "mlflow_config.yaml").write_text(config)
    return name, folder


class Managed:
    """A client of the management routes, for one registered model."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self.client = client
        self.name = name

    def move(self, version: str, stage: str, **more: bool) -> httpx.Response:
        body = {"version": version, "stage": stage, **more}
        return self.client.post(f"/api/mlflow/models/{self.name}/transition", json=body)

    def info(self) -> dict:
        return self.client.get("/api/model/info").json()["model_info"]

    def reload(self) -> dict:
        reply = self.client.post("/api/model/reload", json={"force_mlflow": True})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def answering(self) -> set[str]:
        replies = [self.client.post("/api/predict", json=ROW) for _ in range(20)]
        return {reply.json().get("model_version") for reply in replies}


def first_version(server: Managed) -> None:
    """Bring version 1 to where it is served, when it is asked for."""
    wait_for(lambda: server.info()["registry_info"]["latest_versions"], "it asked", within_s=30)
    assert server.info()["model_loaded"] is False
    assert server.client.post("/api/predict", json=ROW).status_code == 503
    assert server.move("1", "Staging").json()["previous_stage"] == "None"
    assert server.move("1", "Production", archive_existing=True).status_code == 200
    assert server.info()["registry_info"]["latest_versions"] == {"None": "2", "Production": "1"}
    assert server.info()["model_loaded"] is False  # nothing is followed before it is due
    assert server.reload()["reloaded"] is True
    assert server.info()["model_metadata"]["model_uri"] == f"models:/{server.name}/1"
    assert server.answering() == {"1"}


def second_version(server: Managed) -> None:
    """Bring version 2 in the place of version 1, after a request that would keep both."""
    assert server.move("2", "Staging").status_code == 200
    refused = server.move("2", "Production", archive_existing=False)
    assert refused.status_code == 409
    assert "version 1" in refused.json()["error"]["message"]
    done = server.move("2", "Production", archive_existing=True).json()
    assert (done["previous_stage"], done["archived"]) == ("Staging", ["1"])
    assert server.answering() == {"1"}
    assert server.reload()["models"][0]["previous_version"] == "1"
    assert server.answering() == {"2"}
    assert server.client.get("/health").json()["status"] == "healthy"
    assert server.reload()["reloaded"] is False


def noted(uri: str, kind: str, name: str) -> list[dict]:
    """What servers have noted of a model in MLflow, in its order."""
    with MlflowRest(uri, timeout_s=20, environment={}) as rest:
        found = rest.get("experiments/get-by-name", experiment_name="managed")["experiment"]
        wanted = "attributes.run_name LIKE 'server %'"
        body = {"experiment_ids": [found["experiment_id"]], "filter": wanted}
        runs = rest.post("runs/search", body)["runs"]
    tags = {tag["key"]: tag["value"] for run in runs for tag in run["data"]["tags"]}
    told = [json.loads(tags[key]) for key in sorted(tags) if key.startswith(f"{kind}.")]
    return [facts for facts in told if facts.get("model", name) == name]


def test_the_documented_deployment_workflow(two, mlflow_server):
    name, folder = two
    with serving(folder) as client:
        server = Managed(client, name)
        first_version(server)
        second_version(server)

        listed = client.get("/api/mlflow/models").json()
        assert listed["count"] == len(listed["registered_models"])
        (ours,) = [one for one in listed["registered_models"] if one["name"] == name]
        assert ours["latest_versions"] == {"Archived": "1", "Production": "2"}
        described = client.get(f"/api/mlflow/models/{name}").json()
        assert [one["stage"] for one in described["versions"]] == ["Production", "Archived"]
        assert described["aliases"] == {"production": "2"}
        assert {(one["who"], one["outside_gate"]) for one in described["history"]} == {
            ("anonymous", True)
        }
        assert client.get("/api/mlflow/models/nobody").status_code == 404
        assert server.move("9", "Staging").json()["error"]["message"] == f"{name} has no version 9"
        assert server.move("9" * 18, "Staging").status_code == 404
    moves = noted(mlflow_server, "transition", name)
    assert [(one["version"], one["stage"], one["who"]) for one in moves] == [
        ("1", "Staging", "anonymous"),
        ("1", "Production", "anonymous"),
        ("2", "Staging", "anonymous"),
        ("2", "Production", "anonymous"),
    ]
    assert moves[-1]["archived"] == ["1"]
    assert [one["version"] for one in noted(mlflow_server, "served", name)] == ["1", "2"]
    assert noted(mlflow_server, "health", name)[-1]["status"] == "healthy"
    log = (folder / "log").read_text()
    searched = "GET /api/2.0/mlflow/registered-models/search: HTTP"
    assert f"DEBUG greenroom.registry.mlflow_rest: {searched}" in log
    assert '"level":"DEBUG"' in log  # a worker's line
    assert " is loaded after " in log
