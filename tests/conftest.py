"""What tests of several modules share: a real MLflow server, and calling the command line."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from greenroom.cli import main
from greenroom.tracking_server import TrackingServer

collect_ignore = ["clients", "log_plain_models.py"]
"""What `make test-clients` runs with an environment of its own, and a program that a test runs."""


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server as Greenroom starts one; it takes 30-60 s to answer.

    Tests share it, so each uses names of its own.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: os.environ[name] for name in os.environ if not name.startswith("MLFLOW_")}
    server = TrackingServer(
        f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("mlflow"), environment=kept
    )
    try:
        server.ensure()
        yield server.uri
    finally:
        server.stop()


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Call the command line in an empty folder; gives exit status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*words])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
