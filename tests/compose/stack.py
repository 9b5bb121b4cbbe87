"""A copy of an app with its compose file, and the commands of its document run in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from waiting import wait_for

ROOT = Path(__file__).parents[2]
COPIED = ("src", "deploy", "pyproject.toml", "README.md", "LICENSE", ".dockerignore")
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".greenroom", "mlflow", "mlruns", "*.csv", ".env")
MLFLOW = "http://localhost:5000"
API = "http://localhost:8000"
STARTED_WITHIN_S = 400.0
ANSWERED_WITHIN_S = 60.0


class Stack:
    """An app's folder in a copy of what its image is built from.

    Its project has a name of its own, so that no volume of somebody's stack is ever touched.
    """

    def __init__(self, folder: Path, project: str, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {**os.environ, "COMPOSE_PROJECT_NAME": project, **environment}

    def run(self, command: str, *, status: int | None = 0) -> str:
        """Run a line of a document in the app's folder; return its output, both streams of it."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
            check=False,
        )
        assert status is None or done.returncode == status, f"{command}: {done.stdout[-3000:]}"
        return done.stdout

    def container(self, service: str) -> dict[str, Any]:
        """Return what the engine says about a service's container, running or not."""
        name = self.run(f"docker compose ps -aq {service}").split()[-1]
        (found,) = json.loads(self.run(f"docker inspect {name}"))
        return dict(found)

    def exit_status(self, service: str) -> int:
        return int(self.container(service)["State"]["ExitCode"])

    def logs(self, service: str) -> str:
        return self.run(f"docker compose logs --no-log-prefix {service}")

    def kill(self, service: str) -> None:
        """Kill a service's first process from outside, as the kernel would when memory is short.

        Returns when the engine knows it: until then it calls the service healthy.
        """
        pid = self.container(service)["State"]["Pid"]
        assert pid > 0, f"{service} has ended already"
        os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda: self.container(service)["State"]["Pid"] != pid,
            f"the engine notices the death of {service}",
            within_s=ANSWERED_WITHIN_S,
        )

    def wait_until_healthy(self, service: str) -> None:
        def healthy() -> bool:
            state = self.container(service)["State"]
            return bool(state["Running"] and state["Health"]["Status"] == "healthy")

        wait_for(healthy, f"{service} is healthy", within_s=STARTED_WITHIN_S)


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Name what is not copied: data and state, and models that were trained here.

    An app may have code in a folder called so, too.
    """
    trained = "models" in names and not any(Path(folder, "models").glob("*.py"))
    return LEFT_OUT(folder, names) | ({"models"} if trained else set())


@contextmanager
def stack(app: str, folder: Path, **environment: str) -> Iterator[Stack]:
    """Copy an app and what builds its image; when the block ends nothing of it is left."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=_left_out)
        else:
            shutil.copy2(source, target)
    place = folder / "apps" / app
    shutil.copytree(ROOT / "apps" / app, place, ignore=_left_out)
    made = Stack(place, f"greenroom-test-{app.replace('_', '-')}", environment)
    everything = "docker compose --profile '*' down -v --remove-orphans -t 5"
    made.run(everything)
    try:
        yield made
    finally:
        made.run(everything, status=None)


def get(url: str) -> Any:
    return httpx.get(url, timeout=10.0).json()


def predict(row: Any) -> httpx.Response:
    return httpx.post(f"{API}/predict", json=row, timeout=10.0)


def health_is(status: str) -> bool:
    return bool(get(f"{API}/health")["status"] == status)


def wait_for_health(status: str) -> None:
    wait_for(lambda: health_is(status), f"/health says {status}", within_s=ANSWERED_WITHIN_S)


def versions(model: str) -> list[dict[str, Any]]:
    """Return the versions of a registered model, as MLflow's REST interface lists them."""
    answer = httpx.get(
        f"{MLFLOW}/api/2.0/mlflow/model-versions/search",
        params={"filter": f"name='{model}'"},
        timeout=30.0,
    )
    found = answer.json().get("model_versions", [])
    return sorted(found, key=lambda version: int(version["version"]))
