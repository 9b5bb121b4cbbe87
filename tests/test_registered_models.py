"""``greenroom serve NAME``: models that plain MLflow code logged, answered by real workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from greenroom.cli import cli
from greenroom.errors import SettingsError
from greenroom.registry.registry import Registry
from waiting import wait_for

pytestmark = pytest.mark.slow

PREFIX = "plain"
LOGGER = Path(__file__).with_name("log_plain_models.py")
SCHEMA = "- {name: a, kind: number, minimum: -10, maximum: 10}\n- {name: b, kind: number}\n"


@pytest.fixture(scope="module")
def logged(mlflow_server: str) -> dict:
    """By registered name: rows, and what the model itself answers for them."""
    ended = subprocess.run(
        [sys.executable, str(LOGGER), mlflow_server, PREFIX],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    line = next(line for line in ended.stdout.splitlines() if line.startswith("ANSWERS "))
    return json.loads(line.removeprefix("ANSWERS "))


def environment(uri: str) -> dict[str, str]:
    kept = {key: text for key, text in os.environ.items() if "GREENROOM" not in key}
    return {**kept, "MLFLOW_TRACKING_URI": uri, "PYTHONUNBUFFERED": "1"}


@contextmanager
def serve(uri: str, folder: Path, *words: str) -> Iterator[str]:
    """Serve what ``words`` say; gives the server's address once it knows what is selected."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "greenroom", "serve", *words, "--port", str(port)]
    log = folder / "serve.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=folder, env=environment(uri), stdout=output, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:

        def decided() -> bool:
            """Whether something is served, or it is known why nothing is."""
            assert server.poll() is None, log.read_text()
            return "not been asked" not in httpx.get(f"{url}/health", timeout=5).text

        wait_for(decided, "the registry is asked", within_s=120)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0, log.read_text()


class Door:
    """An address of its own for a server; whoever asks there is refused while it is shut."""

    def __init__(self, uri: str) -> None:
        self._behind = (urlsplit(uri).hostname, urlsplit(uri).port)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._address = probe.getsockname()
        self.uri = "http://{}:{}".format(*self._address)

    @contextmanager
    def opened(self) -> Iterator[None]:
        opened: list[socket.socket] = []
        listening = socket.create_server(self._address)
        thread = threading.Thread(target=self._accept, args=(listening, opened), daemon=True)
        thread.start()
        try:
            yield
        finally:
            for one in (listening, *opened):
                with suppress(OSError):  # The other side may have gone already.
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            thread.join()

    def _accept(self, listening: socket.socket, opened: list[socket.socket]) -> None:
        with suppress(OSError):
            while True:
                ends = (listening.accept()[0], socket.create_connection(self._behind))
                opened += ends
                for source, target in (ends, ends[::-1]):
                    threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(1 << 16):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def answered_as_the_model_answers(url: str, name: str, expected: dict) -> None:
    reply = httpx.post(f"{url}/models/{name}/predict", json=expected["rows"], timeout=30)
    assert reply.status_code == 200, reply.text
    rows = reply.json()["predictions"]
    answers = [row["prediction"] for row in rows]
    if isinstance(answers[0], str):
        assert answers == expected["prediction"]
    else:
        assert np.allclose(answers, expected["prediction"], 1e-6, 1e-9)
    if "probabilities" in expected:
        found = [list(row["probabilities"].values()) for row in rows]
        assert np.allclose(found, expected["probabilities"], 1e-6, 1e-9)


def test_models_of_each_flavour_answer_as_their_estimators_do(mlflow_server, logged, tmp_path):
    names = [name for name in logged if not name.endswith("unnamed")]
    with serve(mlflow_server, tmp_path, *[f"{name}@champion" for name in names]) as url:
        assert httpx.get(f"{url}/health").json()["problems"] == []
        for name in names:
            answered_as_the_model_answers(url, name, logged[name])
        paths = httpx.get(f"{url}/openapi.json").json()["paths"]
        assert {f"/models/{name}/predict" for name in names} <= paths.keys()
        assert "/predict" not in paths
    assert (tmp_path / ".greenroom").is_dir()


def test_a_model_without_a_signature_is_served_with_the_columns_of_a_file(
    mlflow_server, logged, tmp_path
):
    name = f"{PREFIX}-unnamed"
    with serve(mlflow_server, tmp_path, f"{name}/1") as url:
        reply = httpx.post(f"{url}/predict", json={})
        assert reply.status_code == 503
        assert "no signature" in reply.text
        assert "--schema FILE" in reply.text
    (tmp_path / "columns.yaml").write_text(SCHEMA)
    with serve(mlflow_server, tmp_path, f"{name}/1", "--schema", "columns.yaml") as url:
        answered_as_the_model_answers(url, name, logged[name])
        (row, *_) = logged[name]["rows"]
        assert httpx.post(f"{url}/predict", json=row).status_code == 200
        scored = httpx.post(f"{url}/invocations", json={"dataframe_records": logged[name]["rows"]})
        assert np.allclose(scored.json()["predictions"], logged[name]["prediction"], 1e-6, 1e-9)
        refused = httpx.post(f"{url}/predict", json={**row, "a": 11})
        assert refused.status_code == 422


def test_a_registry_that_is_dead_at_start_and_dies_later_costs_no_answer_once_there_was_one(
    mlflow_server, logged, tmp_path
):
    name = f"{PREFIX}-xgb"
    (row, *_) = logged[name]["rows"]
    door = Door(mlflow_server)

    def health(url: str) -> dict:
        return httpx.get(f"{url}/health", timeout=30).json()

    def registry_is(url: str, state: str) -> None:
        wait_for(lambda: health(url)["registry"]["state"] == state, state, within_s=60)

    with serve(door.uri, tmp_path, f"{name}@champion") as url:
        registry_is(url, "unavailable")
        assert httpx.get(f"{url}/ready").status_code == 503
        refused = httpx.post(f"{url}/predict", json=row)
        assert refused.status_code == 503
        assert door.uri in refused.json()["error"]["message"]
        with door.opened():
            wait_for(lambda: httpx.get(f"{url}/ready").is_success, "ready", within_s=60)
            registry_is(url, "healthy")
            before = httpx.post(f"{url}/predict", json=row).json()
        registry_is(url, "unavailable")
        assert health(url)["status"] == "degraded"
        assert httpx.post(f"{url}/predict", json=row).json()["prediction"] == before["prediction"]
        assert httpx.post(f"{url}/model/reload", timeout=30).status_code == 503
    with serve(door.uri, tmp_path, f"{name}@champion") as url:
        wait_for(lambda: httpx.get(f"{url}/ready").is_success, "from disk", within_s=30)
        assert httpx.post(f"{url}/predict", json=row).json()["prediction"] == before["prediction"]
        registry_is(url, "unavailable")
        with door.opened():
            registry_is(url, "healthy")
            assert health(url)["status"] == "healthy"


def call(uri: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "greenroom", *words],
        cwd=folder,
        env=environment(uri),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def runtimes(url: str, names: list[str]) -> list[str]:
    return [httpx.get(f"{url}/models/{name}/info").json()["runtime"] for name in names]


def test_compiled_versions_are_taken_up_by_a_running_server_and_answer_as_before(
    mlflow_server, logged, tmp_path
):
    names = [f"{PREFIX}-{name}" for name in ("scaled", "xgb", "lgb")]
    with serve(mlflow_server, tmp_path, *[f"{name}/1" for name in names]) as url:
        assert runtimes(url, names) == ["native"] * 3
        for name in names:
            ended = call(mlflow_server, tmp_path, "compile", f"{name}/1")
            assert ended.returncode == 0, ended.stderr
            assert f"{name} version 1: compiled, and proved equal" in ended.stdout
            assert "/model/reload" in ended.stderr
        assert httpx.post(f"{url}/model/reload", timeout=60).status_code == 200
        assert runtimes(url, names) == ["compiled"] * 3
        for name in names:
            answered_as_the_model_answers(url, name, logged[name])
    (tmp_path / "greenroom.yaml").write_text("trust: onnx\n")
    with serve(mlflow_server, tmp_path, *[f"{name}/1" for name in names]) as url:
        assert runtimes(url, names) == ["compiled"] * 3
        for name in names:
            answered_as_the_model_answers(url, name, logged[name])


def test_what_cannot_be_compiled_ends_with_status_3_and_the_reason(mlflow_server, logged, tmp_path):
    ended = call(mlflow_server, tmp_path, "compile", f"{PREFIX}-texts@champion")
    assert ended.returncode == 3
    line = ended.stderr.strip().splitlines()[-1]
    assert "texts version 1 is not compiled: the column 'code' holds no numbers" in line
    assert list((tmp_path / ".greenroom/store/compiled").iterdir()) == []
    unknown = call(mlflow_server, tmp_path, "compile", f"{PREFIX}-nowhere/1")
    assert unknown.returncode == 1
    assert "nowhere" in unknown.stderr


def test_all_registered_models_are_served_also_those_that_are_promoted_later(
    mlflow_server, logged, tmp_path
):
    names = sorted(name for name in logged if not name.endswith("unnamed"))
    with Registry(mlflow_server) as registry:
        registry.transition(names[0], "1", "Production")
        with serve(mlflow_server, tmp_path, "--all", "--prefix", f"{PREFIX}-") as url:
            answered_as_the_model_answers(url, names[0], logged[names[0]])
            health = httpx.get(f"{url}/health").json()
            assert (health["status"], health["problems"]) == ("healthy", [])
            assert {model["name"] for model in health["models"]} == set(logged)
            listed = {one["name"]: one for one in httpx.get(f"{url}/models").json()["models"]}
            assert listed[names[0]]["in_memory"]
            assert listed[names[1]]["model_version"] is None
            reply = httpx.post(f"{url}/models/{names[1]}/predict", json={})
            assert reply.status_code == 503
            assert "No model in Production stage" in reply.text
            registry.transition(names[1], "1", "Production")
            assert httpx.post(f"{url}/model/reload", timeout=60).status_code == 200
            answered_as_the_model_answers(url, names[1], logged[names[1]])
        for name in names[:2]:
            registry.transition(name, "1", "None")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--all", "m"], "names and --all exclude each other"),
        (["--all", "--schema", "f.yaml"], "--schema and --all exclude each other"),
        (["m", "--prefix", "p"], "--prefix is for --all"),
    ],
)
def test_all_and_names_are_not_mixed(words, said, capsys):
    with pytest.raises(SettingsError, match=said):
        cli.main(["serve", *words], standalone_mode=False)


def test_what_is_neither_an_app_nor_registered_is_one_line(mlflow_server, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "greenroom", "serve", "nowhere"],
        cwd=tmp_path,
        env=environment(mlflow_server),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert "nowhere is not registered" in line
    assert "there is no app 'nowhere'" in line
