"""Whether MLflow and the API work together: six checks against the ones that run.

``python test_mlflow_integration.py`` asks the MLflow server and the API that the app's settings
name, so both have to run, with a version in the stage that is served. Nothing stays behind. Exit
status 0 when all checks pass, else 1.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from greenroom.app_loading import load_app
from greenroom.settings_sources import load_settings

FOLDER = Path(__file__).resolve().parent
TIMEOUT_S = 30
REPLY = {
    "prediction",
    "model_version",
    "model_name",
    "timestamp",
    "processing_time_ms",
    "mlflow_logged",
}


class Checks:
    """The checks, in order; each raises what it finds wrong, and later ones use what it found."""

    def __init__(self) -> None:
        app = load_app(FOLDER)
        self.model = app.model()
        self.settings = load_settings(
            FOLDER, documented=app.environment, documented_file=app.settings_file
        )
        deployed = self.settings.models[self.model.name]
        self.name = deployed.name or self.model.name
        self.stage = deployed.serve or self.model.serve
        self.api = f"{self.settings.scheme}://localhost:{self.settings.port}"
        self.row = json.loads((FOLDER / "tests" / "sample_input.json").read_text())
        self.client: Any = None
        self.version: Any = None
        self.predicted = float("nan")

    def mlflow_initialization(self) -> None:
        """See that MLflow answers, and lets itself be asked for experiments."""
        answer = _ask(f"{self.settings.tracking_uri}/health", as_json=False)
        _require(answer == "OK", f"MLflow's /health says {answer!r}")
        import mlflow

        mlflow.set_tracking_uri(self.settings.tracking_uri)
        self.client = mlflow.MlflowClient()
        self.client.search_experiments(max_results=1)

    def model_registry(self) -> None:
        """See that the registry has the model, and exactly one version in the stage."""
        _require(self.client, "there is no MLflow to ask")
        found = self.client.search_model_versions(f"name = '{self.name}'")
        staged = [version for version in found if version.current_stage == self.stage]
        _require(found, f"{self.name} has no version: python src/models/train.py makes one")
        _require(
            len(staged) == 1, f"{len(staged)} versions of {self.name} are in stage {self.stage}"
        )
        (self.version,) = staged

    def model_loading(self) -> None:
        """Let plain MLflow, without the API, load that version and predict."""
        self._require_version()
        import mlflow.pyfunc
        import pandas as pd

        loaded = mlflow.pyfunc.load_model(f"models:/{self.name}/{self.version.version}")
        self.predicted = float(loaded.predict(pd.DataFrame([self.row]))[0])
        _require(10_000 < self.predicted < 1_000_000, f"it predicts {self.predicted}")

    def experiment_tracking(self) -> None:
        """See that the training is on record, and that the API's experiment can be written."""
        self._require_version()
        run = self.client.get_run(self.version.run_id)
        metric = self.model.gate.metric
        _require(metric in run.data.metrics, f"run {run.info.run_id} has no {metric}")
        name = self.settings.mlflow_log_experiment
        known = self.client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self.client.create_experiment(name)
        made = self.client.create_run(experiment, run_name="integration test").info.run_id
        try:
            self.client.log_metric(made, "answer", 42.0)
            read = self.client.get_run(made).data.metrics
            _require(read == {"answer": 42.0}, f"what was logged came back as {read}")
        finally:
            self.client.delete_run(made)

    def api_integration(self) -> None:
        """See that the API is healthy, and serves what the registry selects."""
        self._require_version()
        health = _ask(f"{self.api}/health")
        _require(health["status"] == "healthy", f"/health: {'; '.join(health['problems'])}")
        _require(health["mlflow_connection"] == "healthy", "the API does not reach MLflow")
        listed = _ask(f"{self.api}/api/mlflow/models")["registered_models"]
        (model,) = [one for one in listed if one["name"] == self.name]
        staged = model["latest_versions"].get(self.stage)
        served = _ask(f"{self.api}/api/model/info")["model_info"]["model_metadata"]["version"]
        _require(
            served == staged == self.version.version,
            f"version {served} is served and {self.version.version} is in {self.stage}: "
            "POST /api/model/reload",
        )

    def prediction_with_mlflow(self) -> None:
        """See that the API answers as the version that MLflow has loaded."""
        self._require_version()
        answer = _ask(f"{self.api}/api/predict", self.row)
        _require(set(answer) == REPLY, f"the reply has the fields {', '.join(sorted(answer))}")
        _require(answer["model_version"] == self.version.version, "another version answered")
        _require(
            isinstance(answer["mlflow_logged"], bool), "mlflow_logged is neither true nor false"
        )
        apart = abs(answer["prediction"] - self.predicted) / self.predicted
        _require(apart < 1e-6, f"it answers {answer['prediction']}, MLflow {self.predicted}")

    def _require_version(self) -> None:
        _require(self.version, f"no version of {self.name} is known to be in stage {self.stage}")


def _require(fulfilled: object, problem: str) -> None:
    if not fulfilled:
        raise ValueError(problem)


def _ask(url: str, body: Any = None, *, as_json: bool = True) -> Any:
    """Return what ``url`` answers; an error's own text where there is one."""
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("GREENROOM_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - of the settings
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - http alone
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        if not (as_json and url.endswith("/health")):
            raise ValueError(f"{url} answers {error.code}: {error.read().decode()}") from error
        text = error.read().decode()
    except urllib.error.URLError as error:
        raise ValueError(f"nothing answers at {url}: {error.reason}") from error
    return json.loads(text) if as_json else text


def main() -> int:
    """Run the checks in their order; return the exit status."""
    # MLflow's own messages would stand between the checks.
    logging.disable(logging.WARNING)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    checks = Checks()
    rows: list[tuple[str, Callable[[], None]]] = [
        ("MLflow Initialization", checks.mlflow_initialization),
        ("Model Registry", checks.model_registry),
        ("Model Loading", checks.model_loading),
        ("Experiment Tracking", checks.experiment_tracking),
        ("API Integration", checks.api_integration),
        ("Prediction with MLflow", checks.prediction_with_mlflow),
    ]
    failed = 0
    for name, check in rows:
        try:
            check()
        except Exception as error:  # noqa: BLE001 - whatever it is, the check has failed
            failed += 1
            told = (
                f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            )
            print(f"❌ {name}: {told}")
        else:
            print(f"✅ {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
