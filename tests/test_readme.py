"""The README's session, run as it stands: ``up``, then each curl line; only the ports differ."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from waiting import wait_for

ROOT = Path(__file__).parent.parent


def _session() -> list[tuple[str, str]]:
    """The README's shell lines that show an answer, each with the answer."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [
        (line[2:], answer)
        for line, answer in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("$ curl")
    ]


@pytest.fixture(scope="module")
def port(mlflow_server, tmp_path_factory):
    """The breast_cancer app, up: on ports of its own, and with the tests' MLflow server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {
        "GREENROOM_PORT": str(found),
        "GREENROOM_HOME": str(home),
        "MLFLOW_TRACKING_URI": mlflow_server,
    }
    with (home / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "greenroom", "up", "apps/breast_cancer"],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(
            lambda: httpx.get(f"http://127.0.0.1:{found}/ready", timeout=60).status_code == 200,
            "the app is ready",
            within_s=120,
        )
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert (home / "up.log").read_text().count("http://localhost") >= 3


def test_the_readme_shows_a_session():
    assert len(_session()) >= 2


@pytest.mark.parametrize(("line", "shown"), _session())
def test_a_line_of_the_session_gives_an_answer_like_the_one_shown(port, line, shown):
    result = subprocess.run(
        ["bash", "-c", line.replace("localhost:8000", f"127.0.0.1:{port}")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    answer, expected = json.loads(result.stdout), json.loads(shown)
    assert answer.keys() == expected.keys()
    for field in ("prediction", "probabilities", "model_name", "model_stage", "status"):
        if field in expected and field != "probabilities":
            assert answer[field] == expected[field]
    if "probability" in expected:
        assert answer["probability"] == pytest.approx(expected["probability"], rel=1e-6)
