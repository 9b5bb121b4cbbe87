"""The housing document's commands on one machine: its MLflow, its entry points, its checks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

APP = Path(__file__).parents[1] / "apps" / "california_housing"
MODEL = "california_housing_best_model"
DOCUMENTED_MLFLOW = (
    "mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db --default-artifact-root ./mlruns "
    "--host 0.0.0.0 --port 5000"
)
CHECKS = (
    "MLflow Initialization",
    "Model Registry",
    "Model Loading",
    "Experiment Tracking",
    "API Integration",
    "Prediction with MLflow",
)


class Machine:
    """A copy of the app, free ports in place of the documented ones, and the commands run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mlflow_port, self.api_port = _free_port(), _free_port()
        kept = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW")}
        self.environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": self.mlflow,
            "PORT": str(self.api_port),
            "PYTHONIOENCODING": "utf-8",
            "OMP_NUM_THREADS": "1",
        }

    @property
    def mlflow(self) -> str:
        return f"http://localhost:{self.mlflow_port}"

    @property
    def api(self) -> str:
        return f"http://localhost:{self.api_port}"

    def run(self, command: str, *, status: int = 0) -> str:
        done = subprocess.run(
            command.split(),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, command: str, answers: str, *, folder: Path | None = None) -> Iterator[None]:
        """Run a command until the block ends; it is up when ``answers`` is answered."""
        log = self.folder / f"{command.split()[0]}.log"
        words = command.replace("0.0.0.0", "127.0.0.1").replace("5000", str(self.mlflow_port))
        with log.open("wb") as output:
            process = subprocess.Popen(
                words.split(),
                cwd=folder or self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        try:
            wait_for(lambda: _status(answers) is not None, answers, within_s=180.0)
            yield
        finally:
            process.terminate()
            process.wait(60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _status(url: str) -> int | None:
    try:
        return httpx.get(url, timeout=10.0).status_code
    except httpx.TransportError:
        return None


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("machine") / "california_housing"
    left_out = shutil.ignore_patterns("__pycache__", ".greenroom", "mlruns", "models")
    shutil.copytree(APP, folder, ignore=left_out)
    # src/models is one of the two that are called so.
    shutil.copytree(APP / "src" / "models", folder / "src" / "models")
    header, *rows = (APP / "data" / "housing.csv").read_text("utf-8").splitlines(keepends=True)
    (folder / "data" / "housing.csv").write_text("".join([header, *rows[::12]]), "utf-8")
    return Machine(folder)


def test_the_documents_way_from_an_empty_folder_to_its_six_checks(machine: Machine) -> None:
    def move(stage: str) -> None:
        url = f"{machine.api}/api/mlflow/models/{MODEL}/transition"
        body = {"version": "1", "stage": stage, "archive_existing": True}
        assert httpx.post(url, json=body, timeout=30.0).json()["stage"] == stage

    with machine.running(DOCUMENTED_MLFLOW, f"{machine.mlflow}/health"):
        assert (machine.folder / "mlruns" / "mlflow.db").is_file()
        output = machine.run("python src/models/train.py")
        assert "registered as version 1, not selected" in output
        assert (machine.folder / "models" / "model.pkl").is_file()
        with machine.running("python src/api/app.py", f"{machine.api}/health"):
            assert _status(f"{machine.api}/health") == 503
            move("Staging")
            move("Production")
            reload = f"{machine.api}/api/model/reload"
            assert httpx.post(reload, json={"force_mlflow": True}, timeout=60.0).is_success
            output = machine.run("python test_mlflow_integration.py")
            assert output.splitlines() == [f"✅ {name}" for name in CHECKS]


def test_an_api_whose_mlflow_is_gone_answers_with_what_it_had_and_the_checks_say_so(
    machine: Machine,
) -> None:
    with machine.running("python src/api/app.py", f"{machine.api}/health"):
        wait_for(lambda: _status(f"{machine.api}/health") == 200, "it serves", within_s=60.0)
        output = machine.run("python test_mlflow_integration.py", status=1)

    first, *others = output.splitlines()
    assert first.startswith(f"❌ {CHECKS[0]}: nothing answers at {machine.mlflow}/health")
    assert [line.partition(":")[0] for line in others] == [f"❌ {name}" for name in CHECKS[1:]]
    assert "Error:" not in output  # each says what is missing, in words


def test_without_models_in_the_registry_the_checks_name_what_makes_one(
    machine: Machine, tmp_path: Path
) -> None:
    plain = "mlflow ui --host 0.0.0.0 --port 5000"
    with machine.running(plain, f"{machine.mlflow}/health", folder=tmp_path):
        output = machine.run("python test_mlflow_integration.py", status=1)

    assert "✅ MLflow Initialization" in output
    assert f"❌ Model Registry: {MODEL} has no version: python src/models/train.py" in output
