"""The MLflow server of one machine: used when it answers, started when it is ours to start.

A server that answers at the tracking URI is used as it is. On loopback, where nothing answers, one
is started as a child in a process group of its own, on SQLite inside the home folder, with
artifacts proxied. Its process is written down, so that one which outlived a killed parent is
adopted: it then ends with us, like one that we started. Nothing here imports MLflow, which takes
seconds; talking to its registry is :mod:`greenroom.registry.registry`'s business.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import httpx
import msgspec

from greenroom import processes
from greenroom.errors import GreenroomError, ProcessError, RegistryUnavailable, SettingsError
from greenroom.progress import OnProgress, silent

FOLDER: Final = "mlflow"
RECORD_FILE: Final = "server.json"
LOG_FILE: Final = "server.log"
DATABASE_FILE: Final = "mlflow.db"
ARTIFACTS_FOLDER: Final = "artifacts"

_PROBE_TIMEOUT_S: Final = 5.0
_PAUSE_S: Final = 0.25
_MOST_PROBES: Final = 3
_LOG_LINES: Final = 5
_DENIED: Final = frozenset({401, 403, 407})


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs an MLflow server on this home: the server's process group, and its parent."""

    uri: str
    group: int
    owner: int
    owner_identity: str


class TrackingServer:
    """Sees to it that an MLflow server answers at ``uri``.

    Parameters
    ----------
    uri : str
        The tracking URI: http or https.
    home : Path
        The folder for state; a server started here keeps its database, artifacts and log in
        ``<home>/mlflow``.
    start_timeout_s : float
        How long a server that was started may take to answer.
    on_progress : callable
        Told once a second that it is still starting.
    environment : mapping
        What a started server inherits, and where TLS settings are read from.
    """

    def __init__(
        self,
        uri: str,
        home: Path,
        *,
        start_timeout_s: float = 180.0,
        on_progress: OnProgress = silent,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.uri = uri.rstrip("/")
        self.folder = home / FOLDER
        self.start_timeout_s = start_timeout_s
        self.state: Literal["unknown", "found", "started", "adopted", "stopped"] = "unknown"
        self.on_progress = on_progress
        self._environment = environment
        self._group = 0
        self._answered = False
        self._child: subprocess.Popen[bytes] | None = None
        self._address = _address(uri)

    @property
    def ours(self) -> bool:
        """Whether the server ends with us: we started it, or adopted it."""
        return self.state in {"started", "adopted"}

    @property
    def starting(self) -> bool:
        """Whether a server of ours has not answered yet, and may still."""
        return self.ours and not self._answered and not self._ended()

    @property
    def has_database(self) -> bool:
        """Whether a server has ever been started on this home."""
        return (self.folder / DATABASE_FILE).exists()

    @property
    def log_file(self) -> Path:
        """Where a server that we start writes its output."""
        return self.folder / LOG_FILE

    def answers(self) -> bool:
        """Whether MLflow answers at the address."""
        return self._probe() == "mlflow"

    def ensure(self) -> None:
        """Call :meth:`start`, then :meth:`wait`."""
        self.start()
        self.wait()

    def start(self) -> None:
        """Find, adopt or start the server, and return at once: it may not answer yet.

        Raises
        ------
        RegistryUnavailable
            When nothing answers, and the address is on another machine.
        ProcessError
            When the port is held by something else, or the folder cannot be written.
        """
        if not self._startable:
            self._find()
            return
        with self._locked():
            record = self._living()
            if record is not None and record.uri == self.uri:
                self._take(record)
                return
            holder = self._probe()
            if holder == "mlflow":
                self.state = "found"
                return
            if holder == "other":
                raise self._port_taken()
            if record is not None:
                self._end_elsewhere(record)
            self._launch()

    def wait(self) -> None:
        """Wait until MLflow answers.

        Raises
        ------
        ProcessError
            When it ended early, or did not answer in time; the message holds its last log lines.
        """
        began = time.monotonic()
        told = 0
        while not self.answers():
            elapsed = time.monotonic() - began
            if self._ended():
                raise self._failed("MLflow ended while it was starting", lines=1)
            if elapsed > self.start_timeout_s:
                raise self._failed(f"MLflow did not answer within {self.start_timeout_s:g} s")
            if elapsed >= told:
                share = min(elapsed / self.start_timeout_s, 1.0)
                self.on_progress(f"MLflow is starting: {told} s", share)
                told += 1
            time.sleep(_PAUSE_S)
        self._answered = True

    def stop(self, *, grace_s: float = 10.0) -> None:
        """End the server if it is ours: SIGTERM to its group, SIGKILL after ``grace_s`` seconds."""
        if not self.ours:
            return
        self.state = "stopped"
        if self._child is not None:
            processes.send_to_group(self._group, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(grace_s)
        processes.end_group(self._group, grace_s=grace_s)
        if self._child is not None:
            self._child.wait()
        (self.folder / RECORD_FILE).unlink(missing_ok=True)

    @property
    def _startable(self) -> bool:
        return self._address.scheme == "http" and processes.is_loopback(self._address.host)

    @property
    def _port(self) -> int:
        return self._address.port or 80

    @property
    def _database(self) -> str:
        return f"sqlite:///{self.folder / DATABASE_FILE}"

    def _find(self) -> None:
        found = self._probe()
        if found != "mlflow":
            what = "" if found == "silent" else ": what answers there is not MLflow"
            raise RegistryUnavailable(
                f"Failed to connect to MLflow at {self.uri}{what}",
                advice="start it there, or set MLFLOW_TRACKING_URI",
            )
        self.state = "found"

    def _probe(self) -> Literal["mlflow", "other", "silent"]:
        """Ask what answers, again where it hangs up: so does a server that is just ending."""
        for _ in range(_MOST_PROBES):
            try:
                return self._asked()
            except (httpx.ConnectError, httpx.ConnectTimeout):
                return "silent"
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                time.sleep(_PAUSE_S)
            except httpx.HTTPError:
                break
        return "other"

    def _asked(self) -> Literal["mlflow", "other"]:
        """Ask once; a server that wants credentials first counts as MLflow."""
        with self._client() as client:
            health = client.get(f"{self.uri}/health")
            if health.status_code in _DENIED:
                return "mlflow"
            version = client.get(f"{self.uri}/version")
        named = version.is_success and version.text.strip().strip('"')[:1].isdigit()
        return "mlflow" if health.is_success and named else "other"

    def _client(self) -> httpx.Client:
        """Make a client that never takes a proxy to this very machine."""
        return httpx.Client(
            timeout=_PROBE_TIMEOUT_S,
            verify=_tls(self._environment),
            trust_env=not processes.is_loopback(self._address.host),
        )

    def _living(self) -> _Record | None:
        """Return the record of a server of ours on this home that is still alive."""
        try:
            record = msgspec.json.decode((self.folder / RECORD_FILE).read_bytes(), type=_Record)
        except (OSError, msgspec.DecodeError):
            return None
        alive = any(
            processes.mentions(pid, self._database) for pid in processes.group_members(record.group)
        )
        return record if alive else None

    def _take(self, record: _Record) -> None:
        if _owned(record):
            self.state = "found"
            return
        self._group = record.group
        self._write_record()
        self.state = "adopted"

    def _end_elsewhere(self, record: _Record) -> None:
        """Two servers on one SQLite file would block each other, so the left one has to end."""
        if _owned(record):
            raise ProcessError(
                f"{self.folder} is in use by the MLflow server at {record.uri}",
                advice=f"set MLFLOW_TRACKING_URI={record.uri}, or stop that one",
            )
        processes.end_group(record.group, grace_s=10.0)

    def _launch(self) -> None:
        artifacts = self.folder / ARTIFACTS_FOLDER
        try:
            artifacts.mkdir(parents=True, exist_ok=True)
            log = self.log_file.open("wb")
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        with log:
            self._child = subprocess.Popen(
                self._command(artifacts),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=_server_environment(self._environment),
                start_new_session=True,
            )
        self._group = self._child.pid
        self.state = "started"
        self._write_record()

    def _command(self, artifacts: Path) -> list[str]:
        options = {
            "--backend-store-uri": self._database,
            "--artifacts-destination": str(artifacts),
            "--host": self._address.host,
            "--port": str(self._port),
            "--workers": "1",
        }
        words = [word for option in options.items() for word in option]
        return [sys.executable, "-P", "-m", "mlflow", "server", "--serve-artifacts", *words]

    def _write_record(self) -> None:
        owner = os.getpid()
        record = _Record(
            uri=self.uri,
            group=self._group,
            owner=owner,
            owner_identity=processes.identity(owner),
        )
        path = self.folder / RECORD_FILE
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(record))
        new.replace(path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one Greenroom at a time look for a server on this home and start it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "server.lock").open("wb")
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _ended(self) -> bool:
        if self._child is not None:
            return self._child.poll() is not None
        return self.state in {"adopted", "stopped"} and not processes.group_members(self._group)

    def _failed(self, message: str, lines: int = _LOG_LINES) -> GreenroomError:
        if not self.ours:
            return RegistryUnavailable(f"Failed to connect to MLflow at {self.uri}")
        last = " | ".join(self._last_lines(lines))
        message = f"{message}: {last}" if last else message
        return ProcessError(message, advice=f"its log is {self.log_file}")

    def _last_lines(self, count: int) -> list[str]:
        try:
            text = self.log_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        return [line.strip() for line in text.splitlines() if line.strip()][-count:]

    def _port_taken(self) -> ProcessError:
        holder = processes.port_holder(self._port)
        by = f" by {holder}" if holder else ""
        return ProcessError(
            f"port {self._port} is taken{by}, which is not MLflow",
            advice="stop it, or set MLFLOW_TRACKING_URI to another port",
        )


def _address(uri: str) -> httpx.URL:
    try:
        address = httpx.URL(uri)
    except httpx.InvalidURL as error:
        raise SettingsError(f"tracking_uri: {uri!r} is not an address: {error}") from error
    if address.scheme not in {"http", "https"} or not address.host:
        raise SettingsError(
            f"tracking_uri: {uri!r} is not the address of an MLflow server",
            advice="set MLFLOW_TRACKING_URI to http://HOST:PORT",
        )
    return address


def _tls(environment: Mapping[str, str]) -> ssl.SSLContext | bool:
    if environment.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"true", "1"}:
        return False
    bundle = environment.get("MLFLOW_TRACKING_SERVER_CERT_PATH", "")
    return ssl.create_default_context(cafile=bundle) if bundle else True


def _server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Job execution starts several more processes; a server must not be its own client."""
    inherited = {name: value for name, value in environment.items() if name not in _NOT_INHERITED}
    return {"MLFLOW_DISABLE_TELEMETRY": "true", **inherited, **_SERVER_VARIABLES}


_SERVER_VARIABLES: Final = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
_NOT_INHERITED: Final = frozenset({"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID"})


def _owned(record: _Record) -> bool:
    """Whether the Greenroom that wrote the record is alive, and another one than this."""
    alive = processes.identity(record.owner) == record.owner_identity != ""
    return alive and record.owner != os.getpid()


def _unwritable(folder: Path, error: OSError) -> ProcessError:
    reason = error.strerror or type(error).__name__
    return ProcessError(
        f"{folder} cannot be written: {reason}",
        advice="make it yours with chown, or set GREENROOM_HOME to another folder",
    )
