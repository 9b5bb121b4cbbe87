"""The table of servers: what starts each one, and which protocol it speaks.

A server is made for one version and one port. None is started here.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving.load import ALONE, BULK, BULK_ALONE, MANY, USUAL, Load
from benchmarks.serving.versions import CACHE, ROOT, Version, environment, serve_command
from benchmarks.serving.wire import PROTOCOLS, Protocol

VENVS = ROOT / "benchmarks" / ".venvs"
PEERS = ROOT / "benchmarks" / "peers"
UVICORN = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
BATCH_SIZE, BATCH_TIME_S = 32, 0.002
"""MLServer's adaptive batching: twice the usual concurrency, and a short wait."""

ALL_LOADS = (ALONE, USUAL, MANY, BULK_ALONE, BULK)


class PeerUnavailableError(Exception):
    """A peer cannot be had on this machine; the message says why."""


@dataclass(frozen=True)
class Start:
    """What starts a server."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """One line of the table.

    Parameters
    ----------
    name : str
        As the tables show it.
    protocol : Protocol
        How it is spoken to.
    start : callable
        ``(version, port, reply sizes by request size) -> Start``.
    models : tuple of str
        What it is measured with.
    loads : tuple of Load
        How it is loaded.
    install : callable
        Makes what it needs; raises `PeerUnavailableError`.
    """

    name: str
    protocol: Protocol
    start: Callable[[Version, int, Mapping[int, int]], Start]
    models: tuple[str, ...] = ("breast_cancer", "forest", "spline")
    loads: tuple[Load, ...] = (ALONE, USUAL, BULK_ALONE, BULK)
    install: Callable[[], None] = lambda: None


def greenroom(version: Version, port: int, _sizes: Mapping[int, int]) -> Start:
    """Start from the model store, with the registry away: the model is on disk."""
    settings = environment(version.home, version.tracking_uri, port)
    return Start(serve_command(version.model), settings)


def empty(_version: Version, port: int, sizes: Mapping[int, int]) -> Start:
    """Start an app on the same HTTP server that sends as many bytes as Greenroom."""
    command = [*_uvicorn("benchmarks.peers.empty_app:app", port), *UVICORN]
    command += ["--lifespan", "off", "--ws", "none", "--no-server-header", "--no-proxy-headers"]
    return Start(command, {"BENCH_REPLIES": json.dumps(sizes)})


def fastapi(version: Version, port: int, _sizes: Mapping[int, int]) -> Start:
    """Start the app that people write by hand."""
    names = json.dumps(dict(version.names))
    given = {"BENCH_MODEL": str(version.estimator_file), "BENCH_COLUMNS": names}
    return Start([*_uvicorn("benchmarks.peers.fastapi_app:app", port), *UVICORN], given)


def mlflow(version: Version, port: int, _sizes: Mapping[int, int]) -> Start:
    """Start ``mlflow models serve`` on the version's files, so that no registry is asked."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", str(version.directory), "--host", "127.0.0.1", "--port", str(port)]
    # It looks for uvicorn on the PATH, where an environment that is not activated does not have it.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return Start([*command, "--workers", "1"], {"PATH": path})


def mlserver(version: Version, port: int, _sizes: Mapping[int, int]) -> Start:
    """Start MLServer in one process, with adaptive batching and its scikit-learn runtime."""
    folder = CACHE / "mlserver" / version.model
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copyfile(version.estimator_file, folder / "model.joblib")
    server = {"host": "127.0.0.1", "http_port": port, "grpc_port": port + 1}
    server |= {"metrics_port": port + 2, "parallel_workers": 0, "debug": False}
    model = {
        "name": version.model,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "max_batch_size": BATCH_SIZE,
        "max_batch_time": BATCH_TIME_S,
        "parameters": {"uri": "./model.joblib", "version": "1"},
    }
    (folder / "settings.json").write_text(json.dumps(server), encoding="utf-8")
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    return Start([str(VENVS / "mlserver" / "bin" / "mlserver"), "start", str(folder)])


def alternative(*words: str) -> Callable[[Version, int, Mapping[int, int]], Start]:
    """Return what starts Greenroom's engine behind another HTTP server or interface."""

    def start(version: Version, port: int, sizes: Mapping[int, int]) -> Start:
        path = os.pathsep.join([str(ROOT), str(VENVS / "granian")])
        given = {"BENCH_DIRECTORY": str(version.directory), "BENCH_REPLIES": json.dumps(sizes)}
        filled = [word.format(port=port) for word in words]
        return Start([sys.executable, "-m", *filled], {**given, "PYTHONPATH": path})

    return start


def install_granian() -> None:
    """Put granian, as ``peers/granian.txt`` pins it, into a folder of its own.

    Raises
    ------
    PeerUnavailableError
        When pip cannot; the message is its last line.
    """
    folder, pins = VENVS / "granian", PEERS / "granian.txt"
    done = folder / "pins.txt"
    if done.exists() and done.read_bytes() == pins.read_bytes():
        return
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run_pip("granian", [*pip, "--no-deps", "--target", str(folder), "-r", str(pins)])
    shutil.copyfile(pins, done)


def install_mlserver() -> None:
    """Make an environment with MLServer, as ``peers/mlserver.txt`` pins it.

    Raises
    ------
    PeerUnavailableError
        When pip cannot; the message is its last line.
    """
    folder, pins = VENVS / "mlserver", PEERS / "mlserver.txt"
    done = folder / "pins.txt"
    if done.exists() and done.read_bytes() == pins.read_bytes():
        return
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run_pip("MLServer", [sys.executable, "-m", "venv", str(folder)])
    _run_pip("MLServer", [*pip, "-r", str(pins)])
    shutil.copyfile(pins, done)


def _run_pip(peer: str, command: Sequence[str]) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        lines = ran.stderr.strip().splitlines() or ["no message"]
        raise PeerUnavailableError(f"{peer} cannot be installed here: {lines[-1]}")


SERVERS = (
    Server("greenroom", PROTOCOLS["greenroom"], greenroom, loads=ALL_LOADS),
    Server("empty", PROTOCOLS["empty"], empty, ("breast_cancer",), ALL_LOADS),
    Server("fastapi", PROTOCOLS["fastapi"], fastapi, ("breast_cancer", "forest")),
    Server("mlflow", PROTOCOLS["mlflow"], mlflow),
    Server("mlserver", PROTOCOLS["mlserver"], mlserver, install=install_mlserver),
)

_GRANIAN: tuple[str, ...] = (
    *("granian", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1"),
    *("--runtime-threads", "1", "--loop", "uvloop", "--http", "1", "--no-ws"),
    *("--log-level", "warning"),
)
_PLAIN: tuple[str, ...] = (
    *("uvicorn", "--host", "127.0.0.1", "--port", "{port}", *UVICORN, "--factory"),
    *("--ws", "none", "--no-server-header", "--no-proxy-headers"),
)
_WAYS = "benchmarks.peers.alternatives"
_MODELS = ("breast_cancer", "forest")

ALTERNATIVES = (
    *(
        Server(
            name,
            PROTOCOLS["greenroom"],
            alternative("benchmarks.peers.door", name, "{port}"),
            ("breast_cancer",),
            (ALONE, USUAL),
        )
        for name in ("guarded", "bare")
    ),
    Server(
        "uvicorn-asgi",
        PROTOCOLS["greenroom"],
        alternative(*_PLAIN, f"{_WAYS}:asgi"),
        _MODELS,
        ALL_LOADS,
    ),
    Server(
        "fastapi-route",
        PROTOCOLS["greenroom"],
        alternative(*_PLAIN, f"{_WAYS}:fastapi_route"),
        _MODELS,
        ALL_LOADS,
    ),
    Server(
        "granian-asgi",
        PROTOCOLS["greenroom"],
        alternative(*_GRANIAN, "--interface", "asgi", "--factory", f"{_WAYS}:asgi"),
        _MODELS,
        ALL_LOADS,
        install_granian,
    ),
    Server(
        "granian-rsgi",
        PROTOCOLS["greenroom"],
        alternative(*_GRANIAN, "--interface", "rsgi", f"{_WAYS}:rsgi"),
        _MODELS,
        ALL_LOADS,
        install_granian,
    ),
    Server(
        "granian-empty",
        PROTOCOLS["empty"],
        alternative(*_GRANIAN, "--interface", "rsgi", f"{_WAYS}:empty_rsgi"),
        ("breast_cancer",),
        ALL_LOADS,
        install_granian,
    ),
)
"""Greenroom's engine behind other servers; measured when they are asked for by name."""


def parsed(text: str) -> Server:
    """Read a server from the command line: ``NAME:PROTOCOL:MODEL=COMMAND``.

    ``{port}``, ``{directory}`` and ``{home}`` in the command stand for the port to listen on, the
    version's files and Greenroom's home folder.

    >>> other = parsed("granian:greenroom:forest=python serve.py --port {port}")
    >>> other.name, other.models
    ('granian', ('forest',))

    Raises
    ------
    ValueError
        When it is not of that form, or there is no such protocol.
    """
    head, equals, command = text.partition("=")
    words = head.split(":")
    if not equals or len(words) != 3 or words[1] not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise ValueError(f"{text!r} is not NAME:PROTOCOL:MODEL=COMMAND; protocols: {known}")

    def start(version: Version, port: int, sizes: Mapping[int, int]) -> Start:
        places = {"port": port, "directory": version.directory, "home": version.home}
        filled = [word.format(**places) for word in shlex.split(command)]
        return Start(filled, {"BENCH_REPLIES": json.dumps(sizes)})

    return Server(words[0], PROTOCOLS[words[1]], start, (words[2],))


def logs() -> Path:
    """Return the folder for what servers print."""
    folder = CACHE / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _uvicorn(app: str, port: int) -> list[str]:
    command = [sys.executable, "-m", "uvicorn", app, "--app-dir", str(ROOT)]
    return [*command, "--host", "127.0.0.1", "--port", str(port)]
