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
ROW = {
    "longitude": -122.23,
    "latitude": 37.88,
    "housing_median_age": 41.0,
    "total_rooms": 880.0,
    "total_bedrooms": 129.0,
    "population": 322.0,
    "households": 126.0,
    "median_income": 8.3252,
    "ocean_proximity": "NEAR BAY",
}
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

    def predict(self, times: int) -> None:
        """Ask for predictions; each says that it is on its way to MLflow."""
        for _ in range(times):
            answer = httpx.post(f"{self.api}/api/predict", json=ROW, timeout=30.0).json()
            assert answer["mlflow_logged"] is True, answer

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.api}/metrics", timeout=30.0).text
        return sum(float(line.split()[1]) for line in text.splitlines() if line.split()[0] == name)

    def batches(self) -> list[str]:
        """Return the files of the documented experiment's runs in MLflow."""
        api = f"{self.mlflow}/api/2.0/mlflow"
        found = httpx.get(
            f"{api}/experiments/get-by-name", params={"experiment_name": "california_housing_api"}
        ).json()["experiment"]
        body = {"experiment_ids": [found["experiment_id"]]}
        runs = httpx.post(f"{api}/runs/search", json=body).json()["runs"]
        files = []
        for run in runs:
            about = {"run_id": run["info"]["run_id"], "path": "predictions"}
            files += httpx.get(f"{api}/artifacts/list", params=about).json().get("files", [])
        return [file["path"] for file in files]

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
            machine.predict(25)
            wait_for(
                lambda: machine.metric("housing_api_mlflow_batch_logs_total") >= 2,
                "batches of ten are in MLflow",
                within_s=120.0,
            )
            assert machine.metric("housing_api_predictions_logged_total") >= 25
            assert machine.batches(), "a run of the documented experiment has no batch's file"


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
