"""An emulator of Google Cloud Storage, and an MLflow that keeps its artifacts there.

Everything here is marked ``cloud`` and left out of ``make test``; ``make test-cloud`` runs it, with
the packages of the extras laid over ``.venv``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

HERE = Path(__file__).parent
BUCKET = "df_traffic"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cloud)


@pytest.fixture(scope="session", autouse=True)
def no_credentials() -> Iterator[None]:
    """Take away what the machine may know of Google: nothing here is to leave it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        yield


@pytest.fixture(scope="session")
def emulator(no_credentials: None) -> Iterator[str]:
    """Run the emulator with an empty bucket, for this process and those that it starts."""
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    server.start()
    host, port = server._api._httpd.socket.getsockname()[:2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def bucket(emulator: str):
    """Return the emulator's bucket, as Google's own client sees it."""
    from google.cloud import storage

    return storage.Client.create_anonymous_client().bucket(BUCKET)


@pytest.fixture(scope="session")
def mlflow(emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run an MLflow server that hands out artifacts from the bucket, by itself or by address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("mlflow")
    words = [
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--serve-artifacts"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", f"gs://{BUCKET}/behind-mlflow"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mlflow", "server", *words],
            stdout=log,
            stderr=log,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait_for(uri, process, folder / "log")
        yield uri
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


def _wait_for(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 180
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{uri}/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())
