"""A worker by itself, on the short way: with tokens and metrics (``guarded``), or ``bare``.

Both read the same requests; the bare one looks at no token and counts nothing, which no setting
of Greenroom's can have. ``BENCH_DIRECTORY`` names the files of the version that is served.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

from benchmarks.peers.alternatives import build
from benchmarks.serving.load import TOKEN
from greenroom.draining import DrainingServer
from greenroom.http.connection import Connection
from greenroom.instruments import Answers, WorkerInstruments
from greenroom.settings import Settings


class Silent(WorkerInstruments):
    """Counts nothing."""

    def predictions(self, *_: Any, **__: Any) -> Answers:
        """Return what takes every answer and forgets it."""
        return Answers(lambda _: lambda _: None)

    def batched(self, model: str, n_rows: int) -> None:
        """Forget how many rows a call had."""


def main(kind: str, port: int) -> None:
    """Serve until told to end."""
    if kind == "guarded":
        tokens = (f"bench:predict:{TOKEN}",)
        app = build(Settings(auth="tokens", development_tokens=tokens), WorkerInstruments())
    else:
        app = build(Settings(), Silent())
    config = uvicorn.Config(
        app,
        http=Connection,
        loop="uvloop",
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        host="127.0.0.1",
        port=port,
    )
    DrainingServer(config).run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
