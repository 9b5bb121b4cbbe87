"""A server as it runs in production, on a machine where anything may be killed at any time.

What is real: ``greenroom serve`` with its supervisor, workers and shipper, the spool and the Delta
tables on disk, and an MLflow server with its registry. Nothing is a stand-in.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from deltalake import DeltaTable

from greenroom.log.log_tables import LogTables
from greenroom.log.spool import Spool
from greenroom.processes import group_members
from greenroom.tracking_server import TrackingServer
from sample_app import write_app
from test_up import REQUEST, _free_port
from waiting import wait_for

NAME = "faulty"


class Machine:
    """An app with two versions, its server, and the MLflow that says which one is served."""

    def __init__(self, folder: Path, *, workers: int) -> None:
        self.folder = write_app(folder / "app", NAME)
        self.home = self.folder / ".greenroom"
        self.port = _free_port()
        self.workers = workers
        self.mlflow = TrackingServer(f"http://127.0.0.1:{_free_port()}", folder / "mlflow")
        self.process: subprocess.Popen[bytes] | None = None
        self._mlflow_starts: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def server_log(self) -> Path:
        return self.folder / "serve.log"

    def train(self) -> None:
        """Register a version."""
        subprocess.run(
            [sys.executable, "-m", "greenroom", "train"],
            cwd=self.folder, env=self._environment(), check=True, capture_output=True, timeout=240,
        )  # fmt: skip

    def start(self) -> None:
        """Start the server and wait until it answers; its address is free by then."""
        with self.server_log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "greenroom", "serve"],
                cwd=self.folder,
                env=self._environment(),
                stdout=output,
                stderr=output,
            )
        wait_for(self._answers, "the server answers", within_s=90)

    def stop(self) -> None:
        """End the server as Ctrl-C does: what was noted is shipped before it has ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    def kill_worker(self, place: int) -> bool:
        """Kill one worker; return whether there was one."""
        found = self._children("greenroom.worker")
        return bool(found) and _kill(found[place % len(found)])

    def kill_shipper(self) -> bool:
        """Kill what ships; return whether it was there."""
        found = self._children("greenroom.log.shipper")
        return bool(found) and _kill(found[0])

    def kill_supervisor(self) -> bool:
        """Kill the supervisor, see its processes end, and start the server again."""
        assert self.process is not None
        left = self._children("")
        self.process.kill()
        self.process.wait()
        # They notice by themselves, and end; the address is theirs until then.
        wait_for(lambda: not any(_lives(pid) for pid in left), "all have ended", within_s=60)
        self.start()
        return True

    def kill_everything(self) -> None:
        """Kill the server with all its processes, at a stroke."""
        assert self.process is not None
        for pid in [self.process.pid, *self._children("")]:
            _kill(pid)
        self.process.wait()

    def kill_mlflow(self) -> bool:
        """Kill MLflow and start it again; return False when it is still starting."""
        if self._mlflow_starts is not None and self._mlflow_starts.is_alive():
            return False
        for pid in group_members(self.mlflow._group):
            _kill(pid)
        self.mlflow.stop()
        self._mlflow_starts = threading.Thread(target=self.mlflow.ensure, daemon=True)
        self._mlflow_starts.start()
        return True

    def select(self, version: str) -> bool:
        """Have another version served from the next poll on; return whether MLflow took it."""
        body = {"name": NAME, "version": version, "stage": "Production"}
        where = f"{self.mlflow.uri}/api/2.0/mlflow/model-versions/transition-stage"
        try:
            reply = httpx.post(where, json={**body, "archive_existing_versions": True}, timeout=10)
        except httpx.HTTPError:
            return False
        return reply.is_success

    def spool(self) -> Spool:
        return Spool(self.home / "spool")

    def rows(self) -> list[dict[str, str]]:
        """Return id and version of every prediction in the log's tables."""
        uris = LogTables(str(self.home / "log")).predictions(NAME)
        columns = ["prediction_id", "version"]
        tables = [DeltaTable(uri).to_pyarrow_table(columns=columns) for uri in uris]
        return [row for table in tables for row in table.to_pylist()]

    def close(self) -> None:
        """End everything."""
        self.stop()
        if self._mlflow_starts is not None:
            self._mlflow_starts.join(120)
        self.mlflow.stop()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.server_log.read_text()[-2_000:]
        return httpx.post(f"{self.url}/predict", json=REQUEST, timeout=30).status_code == 200

    def _children(self, named: str) -> list[int]:
        """Return the server's processes whose command holds a word, the oldest first."""
        assert self.process is not None
        found = []
        with contextlib.suppress(OSError):
            tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
            found = [int(pid) for task in tasks for pid in task.read_text().split()]
        return sorted(pid for pid in found if named in _command(pid))

    def _environment(self) -> dict[str, str]:
        kept = {key: text for key, text in os.environ.items() if "GREENROOM" not in key}
        return {
            **kept,
            "GREENROOM_PORT": str(self.port),
            "GREENROOM_WORKERS": str(self.workers),
            "GREENROOM_POLL_INTERVAL_S": "1",
            "GREENROOM_LOG_SHIP_INTERVAL_S": "0.5",
            "GREENROOM_LOG_SHIP_PATIENCE_S": "1",
            "MLFLOW_TRACKING_URI": self.mlflow.uri,
        }


@contextmanager
def machine(folder: Path, *, workers: int = 2) -> Iterator[Machine]:
    """Give a machine with versions 1 and 2 registered, of which 1 is to be served."""
    found = Machine(folder, workers=workers)
    try:
        found.mlflow.ensure()
        found.train()
        found.train()
        assert found.select("1")
        yield found
    finally:
        found.close()


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _lives(pid: int) -> bool:
    """Whether a process is there, and not just its entry, which nobody has read yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""
