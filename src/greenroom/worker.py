"""One worker process: ``python -m greenroom.worker``, started by the supervisor.

It serves the ASGI app that :func:`greenroom.wiring.worker` builds on a socket that it inherits, and
ends when its supervisor does, however that happened. On SIGUSR1 it drains and ends
(:mod:`greenroom.draining`). Log lines go to standard error, one JSON object a line; they hold no
values of requests.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import os
import select
import signal
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import msgspec
import uvicorn

from greenroom.access.tls import Certificate
from greenroom.control import WORKER_VARIABLE, WorkerSetup
from greenroom.draining import DrainingServer
from greenroom.errors import GreenroomError
from greenroom.http.connection import Connection
from greenroom.settings import Settings

APP: Final = "greenroom.wiring:worker"
BACKLOG: Final = 2048
KEEP_ALIVE_S: Final = 75
"""Longer than the idle time-outs of common clients and balancers, so that they close first."""

_DRAIN_MARGIN_S: Final = 2.0
_FRAMES: Final = 12


def main(app: str | Callable[[], Any] = APP) -> None:
    """Serve until told to end, or until the supervisor is gone.

    Parameters
    ----------
    app : str or callable
        What builds the ASGI app, as ``module:function`` or itself.
    """
    setup = WorkerSetup.load(os.environ.get(WORKER_VARIABLE, ""))
    _log_as_json(setup)
    _end_with_the_supervisor(setup)
    server = DrainingServer(_config(app, setup))
    try:
        server.run(sockets=[socket.socket(fileno=setup.listener_fd)])
    except GreenroomError as error:
        logging.getLogger(__name__).critical(str(error))
        sys.exit(1)


def _config(app: str | Callable[[], Any], setup: WorkerSetup) -> uvicorn.Config:
    """Say how to serve.

    ``uvicorn --fd`` would not do: it takes any socket for a Unix one, and leaves Nagle's delay on.
    """
    return uvicorn.Config(
        app,
        factory=True,
        interface="asgi3",
        lifespan="on",
        loop="uvloop",
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(setup.settings.drain_timeout_s),
        ssl_context_factory=_tls(setup.settings),
    )


def _tls(settings: Settings) -> Callable[..., ssl.SSLContext] | None:
    """Return what gives the TLS context, where the settings name a certificate."""
    certificate = Certificate.of(settings)
    return None if certificate is None else lambda *_: certificate.context


def _end_with_the_supervisor(setup: WorkerSetup) -> None:
    """Watch the channel from a thread, so that a busy or hanging event loop does not matter."""
    threading.Thread(
        target=_wait_for_the_end,
        args=(os.dup(setup.control_fd), setup.settings.drain_timeout_s),
        name="supervisor-watch",
        daemon=True,
    ).start()


def _wait_for_the_end(control_fd: int, drain_timeout_s: float) -> None:
    watched = select.poll()
    watched.register(control_fd, select.POLLHUP)
    watched.poll()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(drain_timeout_s + _DRAIN_MARGIN_S)
    os._exit(1)


class JsonLines(logging.Formatter):
    """One JSON object a line: when, how bad, which worker, what.

    Of an exception its type and the frames it came through; its text only where it is one of
    ours, because a library's may quote what a caller sent.
    """

    def __init__(self, slot: int) -> None:
        super().__init__()
        self._slot = slot

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, Any] = {
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "worker": self._slot,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line |= _described(record.exc_info[1], record.exc_info[2])
        return msgspec.json.encode(line).decode()


def _described(error: BaseException | None, trace: TracebackType | None) -> dict[str, Any]:
    frames = traceback.extract_tb(trace)[-_FRAMES:]
    described: dict[str, Any] = {
        "error": type(error).__name__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if isinstance(error, GreenroomError):
        described["problem"] = str(error)
    return described


def _log_as_json(setup: WorkerSetup) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(setup.slot))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(setup.settings.log_level)
    for name in ("uvicorn.error", "httpx", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


if __name__ == "__main__":
    main()
