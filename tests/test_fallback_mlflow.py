"""A fallback file with a real MLflow that is away at the start, comes, and goes again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from greenroom.tracking_server import TrackingServer
from sample_app import write_app
from test_up import REQUEST, _free_port
from waiting import wait_for

pytestmark = pytest.mark.slow

FILE = "models/model.pkl"


class Machine:
    """An app on a machine, and an MLflow elsewhere that can be started and stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_app(folder / "app", "fallback-sample")
        settings = {"models": {"fallback-sample": {"fallback_path": FILE}}}
        (self.folder / "greenroom.yaml").write_text(json.dumps(settings), encoding="utf-8")
        self.mlflow_folder = folder / "mlflow"
        self.mlflow_url = f"http://127.0.0.1:{_free_port()}"
        self.url = ""

    @contextmanager
    def mlflow(self) -> Iterator[None]:
        server = TrackingServer(self.mlflow_url, self.mlflow_folder)
        try:
            server.ensure()
            yield
        finally:
            server.stop()

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: text for key, text in os.environ.items() if "GREENROOM" not in key}
        return {**kept, "MLFLOW_TRACKING_URI": self.mlflow_url, "PYTHONUNBUFFERED": "1", **more}

    def train(self) -> str:
        command = [sys.executable, "-m", "greenroom", "train"]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment(), check=True, capture_output=True,
            text=True, timeout=240,
        ).stdout  # fmt: skip

    @contextmanager
    def serving(self, **more: str) -> Iterator[None]:
        """Serve as a machine does that has never seen the registry before."""
        shutil.rmtree(self.folder / ".greenroom", ignore_errors=True)
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        given = self.environment(GREENROOM_PORT=str(port), GREENROOM_WORKERS="2", **more)
        with self.log_file.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "greenroom", "serve"],
                cwd=self.folder, env=given, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            wait_for(lambda: self.get("/live").status_code == 200, "it lives", within_s=60)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)

    @property
    def log_file(self) -> Path:
        return self.folder / "serve.log"

    def log(self) -> str:
        return " ".join(self.log_file.read_text(encoding="utf-8").split())

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30)

    def health(self) -> dict:
        return self.get("/health").json()

    def predict(self) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", json=REQUEST, timeout=30)

    def source(self) -> str | None:
        reply = self.predict()
        return reply.json().get("model_source") if reply.status_code == 200 else reply.text


@contextmanager
def asking(machine: Machine) -> Iterator[list[str]]:
    """Ask all the time; what fails is in the list."""
    over, failed = threading.Event(), []

    def ask() -> None:
        with httpx.Client(timeout=30) as client:
            while not over.is_set():
                reply = client.post(f"{machine.url}/predict", json=REQUEST)
                if reply.status_code != 200:
                    failed.append(reply.text)

    caller = threading.Thread(target=ask)
    caller.start()
    try:
        yield failed
    finally:
        over.set()
        caller.join()


@pytest.mark.timeout(600)
def test_the_file_answers_while_mlflow_is_away_and_the_registry_when_it_is_there(tmp_path):
    machine = Machine(tmp_path)
    with machine.mlflow():
        printed = machine.train()
    assert "models/model.pkl holds version 1" in " ".join(printed.split())

    with machine.serving():
        wait_for(lambda: machine.source() == "fallback", "the file answers", within_s=60)
        of_the_file = machine.predict().json()
        assert (of_the_file["model_version"], of_the_file["model_stage"]) == ("1", "fallback")
        found = machine.health()
        assert (found["status"], found["mlflow_connection"]) == ("degraded", "unavailable")
        assert "Warning: Failed to load from MLflow registry: Failed to connect" in machine.log()

        with asking(machine) as failed:
            with machine.mlflow():
                wait_for(lambda: machine.source() is None, "the registry answers", within_s=20)
                wait_for(lambda: machine.health()["status"] == "healthy", "healthy", within_s=30)
                of_the_registry = machine.predict().json()
                assert of_the_registry["model_stage"] == "Production"
                assert of_the_registry["probability"] == of_the_file["probability"]
            wait_for(lambda: machine.health()["status"] == "degraded", "it is away", within_s=20)
            assert machine.source() is None
            assert machine.health()["model_source"] == "registry"
        assert failed == []

    with machine.serving(GREENROOM_MLFLOW_ENABLED="false"):
        wait_for(lambda: machine.source() == "fallback", "the file answers", within_s=60)
        found = machine.health()
        assert (found["status"], found["mlflow_connection"]) == ("healthy", "disabled")
        assert "Warning" not in machine.log()

    path = machine.folder / FILE
    path.write_bytes(path.read_bytes() + b" ")
    with machine.serving():
        wait_for(lambda: "SHA-256 differs" in (machine.source() or ""), "refused", within_s=60)
        assert machine.get("/health").status_code == 503
