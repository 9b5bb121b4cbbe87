"""``greenroom up`` as a person uses it: one command, a real MLflow, Ctrl-C, and again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sample_app import write_app
from waiting import wait_for

REQUEST = {"amount": 12.5, "visits_30d": 3, "member": True}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    """An app with ports of its own, and the commands that a person calls on it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = write_app(folder, name)
        self.name = name
        self.port, self.mlflow_port = _free_port(), _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{key: text for key, text in os.environ.items() if "GREENROOM" not in key},
            "GREENROOM_PORT": str(self.port),
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.mlflow_port}",
            "PYTHONUNBUFFERED": "1",
        }

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "greenroom", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[bytes]]:
        log = self.folder / "up.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "greenroom", "up"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()

    def log(self) -> str:
        return (self.folder / "up.log").read_text(encoding="utf-8")

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60)

    def predict(self) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", json=REQUEST, timeout=60)


def _processes_of(site: Site) -> list[str]:
    """Command lines of all processes that know the app's folder or its ports."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environment = (entry / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(site.folder) in line or f"GREENROOM_PORT={site.port}" in environment:
                found.append(line)
    return found


@pytest.mark.timeout(400)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for left processes in /proc")
@pytest.mark.slow
def test_up_from_nothing_to_a_swap_under_load_ctrl_c_and_a_second_start(tmp_path):
    site = Site(tmp_path / "app", "up-sample")

    with site.up() as process:
        wait_for(lambda: site.get("/ready").status_code == 200, site.log(), within_s=240)
        answer = site.predict()
        assert answer.status_code == 200, answer.text
        assert answer.json()["model_version"] == "1"
        assert site.get("/model/info").json()["model_stage"] == "Production"
        wait_for(lambda: site.get("/health").json()["status"] == "healthy", "healthy", within_s=30)
        assert "/docs" in site.log()
        _swap_under_load(site)
        _nothing_selected_is_said(site)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, site.log()
    assert _processes_of(site) == []
    assert "Traceback" not in site.log()

    with site.up() as process:
        took = wait_for(lambda: site.predict().status_code == 200, "second start", within_s=15)
        assert took < 15
        assert site.predict().json()["model_version"] == "2"
        # A kill leaves MLflow behind and nothing else; the next start takes it over.
        process.kill()
        process.wait()
    wait_for(
        lambda: all("mlflow" in line for line in _processes_of(site)), "workers end", within_s=20
    )

    with site.up() as process:
        wait_for(lambda: site.get("/health").json()["status"] == "healthy", "adopted", within_s=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert _processes_of(site) == []


def _swap_under_load(site: Site) -> None:
    """Promote while requests run: none fails, and the version changes once, within 3 s."""
    trained = site.call("train", "--no-promote")
    assert trained.returncode == 0, trained.stderr
    versions: list[tuple[str, float]] = []
    failures: list[str] = []
    stop = threading.Event()

    def load() -> None:
        with httpx.Client() as client:
            while not stop.is_set():
                answer = client.post(f"{site.url}/predict", json=REQUEST)
                if answer.status_code != 200:
                    failures.append(answer.text)
                    continue
                version = answer.json()["model_version"]
                if not versions or versions[-1][0] != version:
                    versions.append((version, time.monotonic()))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        promoted = site.call("promote", site.name)
        done = time.monotonic()
        assert promoted.returncode == 0, promoted.stderr
        wait_for(lambda: len(versions) == 2, "the new version is served", within_s=30)
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert [version for version, _ in versions] == ["1", "2"]
    assert versions[1][1] - done < 3


def _nothing_selected_is_said(site: Site) -> None:
    """Archive what is served, as a person does in MLflow's pages: nothing is served then."""
    _transition(site, "2", "Archived")
    wait_for(lambda: site.predict().status_code == 503, "nothing is served", within_s=30)
    refused = site.predict().json()
    assert "No model in Production stage" in refused["error"]["message"]
    assert "greenroom promote up-sample" in refused["error"]["advice"]
    assert site.get("/ready").status_code == 503
    assert site.get("/live").status_code == 200
    _transition(site, "2", "Production")
    wait_for(lambda: site.predict().status_code == 200, "served again", within_s=30)
    history = site.call("history", site.name)
    assert history.returncode == 0
    assert "promotion" in history.stdout


def _transition(site: Site, version: str, stage: str) -> None:
    uri = site.environment["MLFLOW_TRACKING_URI"]
    httpx.post(
        f"{uri}/api/2.0/mlflow/model-versions/transition-stage",
        content=json.dumps(
            {
                "name": site.name,
                "version": version,
                "stage": stage,
                "archive_existing_versions": False,
            }
        ),
        headers={"content-type": "application/json"},
        timeout=30,
    ).raise_for_status()


def test_a_taken_port_is_one_line_that_names_it(tmp_path):
    site = Site(tmp_path / "app", "taken-sample")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", site.port))
        holder.listen()
        result = site.call("up")

    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert str(site.port) in line
    assert "GREENROOM_PORT" in line or "--port" in line


def test_missing_data_are_said_before_mlflow_is_started(tmp_path):
    site = Site(tmp_path / "app", "absent-sample")
    (site.folder / "data" / "rows.csv").unlink()

    result = site.call("up")

    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert "FileNotFoundError: data/rows.csv" in line
    assert not (site.folder / ".greenroom" / "mlflow").exists()


def test_a_home_that_cannot_be_made_is_one_line_that_names_it(tmp_path):
    site = Site(tmp_path / "app", "unwritable-sample")
    (tmp_path / "file").write_text("in the way")
    site.environment["GREENROOM_HOME"] = str(tmp_path / "file" / "home")

    result = site.call("up")

    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert str(tmp_path / "file" / "home") in line
