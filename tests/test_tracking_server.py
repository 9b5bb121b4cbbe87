import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from greenroom import processes
from greenroom.errors import ProcessError, RegistryUnavailable, SettingsError
from greenroom.tracking_server import TrackingServer

PARENT = """
import sys, time
from pathlib import Path
from greenroom.tracking_server import TrackingServer
server = TrackingServer(sys.argv[1], Path(sys.argv[2]))
server.start()
print(server.state, flush=True)
time.sleep(300)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def answering(pages: dict[str, tuple[int, str]]) -> Iterator[str]:
    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = pages.get(self.path, (404, ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fake_launch(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Start a few lines of Python in place of MLflow; the database is in its command line."""
    monkeypatch.setattr(
        TrackingServer,
        "_command",
        lambda self, artifacts: [sys.executable, "-c", code, self._database, str(self._port)],
    )


def test_a_server_that_answers_is_used_and_left_alone(tmp_path: Path) -> None:
    with answering({"/health": (200, "OK"), "/version": (200, "3.17.2")}) as uri:
        server = TrackingServer(uri, tmp_path)
        server.ensure()
        assert server.state == "found"
        assert not server.ours
        server.stop()
        assert server.answers()


def test_a_server_that_wants_credentials_counts_as_answering(tmp_path: Path) -> None:
    with answering({"/health": (401, "who are you?")}) as uri:
        assert TrackingServer(uri, tmp_path).answers()


def test_a_port_held_by_something_else_is_one_line_naming_the_port(tmp_path: Path) -> None:
    with answering({}) as uri, pytest.raises(ProcessError) as caught:
        TrackingServer(uri, tmp_path).start()
    message = str(caught.value)
    assert f"port {uri.rpartition(':')[2]} is taken by process {os.getpid()}" in message
    assert "which is not MLflow" in message
    assert "MLFLOW_TRACKING_URI" in message
    assert "\n" not in message


def test_a_server_that_hangs_up_because_it_is_ending_does_not_hold_the_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_launch(monkeypatch, "import time; time.sleep(300)")
    with socket.create_server(("127.0.0.1", 0)) as ending:
        server = TrackingServer(f"http://127.0.0.1:{ending.getsockname()[1]}", tmp_path)

        def hang_up() -> None:
            ending.accept()[0].close()
            ending.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        server.start()
        thread.join()
    assert server.state == "started"
    server.stop()


def test_what_hangs_up_every_time_is_not_mlflow(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:

        def hang_up() -> None:
            for _ in range(3):
                rude.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(ProcessError, match="which is not MLflow"):
            TrackingServer(f"http://127.0.0.1:{rude.getsockname()[1]}", tmp_path).start()
        thread.join()


def test_another_machine_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    uri = "http://mlflow.invalid:5000"
    with pytest.raises(RegistryUnavailable, match=f"Failed to connect to MLflow at {uri}"):
        TrackingServer(uri, tmp_path).start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "mlruns", "http://"])
def test_an_address_that_is_no_server_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="tracking_uri"):
        TrackingServer(uri, tmp_path)


def test_a_server_that_ends_early_says_so_with_the_last_line_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_launch(monkeypatch, "print('starting'); raise SystemExit('the database is locked')")
    server = TrackingServer(f"http://127.0.0.1:{free_port()}", tmp_path)
    with pytest.raises(ProcessError) as caught:
        server.ensure()
    assert "MLflow ended while it was starting: the database is locked" in str(caught.value)
    assert str(server.log_file) in str(caught.value)
    server.stop()


def test_a_server_that_never_answers_is_given_up_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_launch(monkeypatch, "import time; print('hm', flush=True); time.sleep(300)")
    told: list[str] = []
    server = TrackingServer(
        f"http://127.0.0.1:{free_port()}",
        tmp_path,
        start_timeout_s=1.2,
        on_progress=lambda text, share: told.append(text),
    )
    with pytest.raises(ProcessError, match=r"did not answer within 1\.2 s: hm"):
        server.ensure()
    # A busy machine may not come by in each second.
    assert told[0] == "MLflow is starting: 0 s"
    assert set(told) <= {"MLflow is starting: 0 s", "MLflow is starting: 1 s"}
    group = server._group
    assert processes.group_members(group)
    server.stop(grace_s=5)
    assert not processes.group_members(group)


def test_a_left_server_on_another_port_ends_before_a_new_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_launch(monkeypatch, "import time; time.sleep(300)")
    left = TrackingServer(f"http://127.0.0.1:{free_port()}", tmp_path)
    left.start()
    new = TrackingServer(f"http://127.0.0.1:{free_port()}", tmp_path)
    new.start()
    assert new.state == "started"
    assert left._child is not None
    assert left._child.wait(10) == -signal.SIGTERM
    new.stop()


def test_a_server_in_use_by_another_greenroom_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_launch(monkeypatch, "import time; time.sleep(300)")
    first = TrackingServer(f"http://127.0.0.1:{free_port()}", tmp_path)
    first.start()
    record = tmp_path / "mlflow" / "server.json"
    other = os.getppid()
    written = msgspec.json.decode(record.read_bytes())
    written |= {"owner": other, "owner_identity": processes.identity(other)}
    record.write_bytes(msgspec.json.encode(written))
    try:
        same = TrackingServer(first.uri, tmp_path)
        same.start()
        assert same.state == "found"
        with pytest.raises(ProcessError, match=f"in use by the MLflow server at {first.uri}"):
            TrackingServer(f"http://127.0.0.1:{free_port()}", tmp_path).start()
    finally:
        first.stop()


def test_an_unwritable_home_is_named(tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("not a folder")
    with pytest.raises(ProcessError, match=f"{home}/mlflow cannot be written: Not a directory"):
        TrackingServer(f"http://127.0.0.1:{free_port()}", home).start()


@pytest.mark.slow
def test_a_real_server_is_started_adopted_after_its_parent_was_killed_and_stopped(
    tmp_path: Path,
) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, uri, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        parent.kill()
    told: list[str] = []
    server = TrackingServer(uri, tmp_path, on_progress=lambda text, share: told.append(text))
    try:
        server.start()
        assert server.state == "adopted"
        assert server.starting
        server.wait()
        assert not server.starting
        assert told[0] == "MLflow is starting: 0 s"
        assert server.answers()
        assert (tmp_path / "mlflow" / "mlflow.db").exists()
    finally:
        server.stop()
    assert not processes.group_members(server._group)
    assert not server.answers()
    assert not (tmp_path / "mlflow" / "server.json").exists()
