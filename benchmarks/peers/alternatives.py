"""The ways not taken: Greenroom's own engine behind other HTTP servers and interfaces.

Each does what a worker does with a prediction (decode, predict, id, timestamp, encode) and nothing
else, so that only the way from the socket to the engine differs. ``BENCH_DIRECTORY`` names the
files of the version that is served.
"""

from __future__ import annotations

import asyncio
import json
import os
from functools import cache
from typing import Any

from greenroom.http.messages import Reply
from greenroom.http.serving import Server, build_asgi
from greenroom.inference.generation import Deployment, Generation
from greenroom.inference.inference import Engine
from greenroom.inference.runtime import load_runtime
from greenroom.instruments import WorkerInstruments
from greenroom.settings import Settings
from greenroom.status import RegistryStatus, Status, VersionStatus

JSON = (("content-type", "application/json"),)


@cache
def server() -> Server:
    """Return what a worker would serve, with what is on by default."""
    return build(Settings(), WorkerInstruments())


def build(settings: Settings, instruments: WorkerInstruments) -> Server:
    """Load the version and return what a worker would serve."""
    load = lambda directory, *_: load_runtime(directory)  # noqa: E731
    engine = Engine(lambda: 1, load)
    deployment = Deployment(
        model="bench",
        name="bench",
        selector="1",
        route="/predict",
        serving=VersionStatus(version="1", stage="None"),
        directory=os.environ["BENCH_DIRECTORY"],
    )
    engine.prepare(Generation(number=1, deployments=(deployment,)))
    registry = RegistryStatus(uri="", state="unavailable")
    status = Status(
        app="", greenroom_version="", started_at="", generation=1, registry=registry, models=()
    )

    async def reload() -> Status:
        return status

    return build_asgi(
        engine,
        lambda: status,
        app=None,
        settings=settings,
        reload=reload,
        instruments=instruments,
    )


async def answer(body: bytes) -> Reply:
    """Answer a prediction's body."""
    asked = server()
    served = asked.served_at(b"/predict")
    if served is None:
        raise RuntimeError("the version is not loaded")
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    asked.ask(served, {}, body, future.set_result)
    return await future


def asgi() -> Server:
    """Return the ASGI app: on uvicorn without the short way, and on granian."""
    return server()


def fastapi_route() -> Any:
    """Return FastAPI's router with a raw route."""
    import fastapi

    app = fastapi.FastAPI()

    async def predict(request: Any) -> Any:
        reply = await answer(await request.body())
        return fastapi.Response(reply.body, reply.status, media_type="application/json")

    app.add_route("/predict", predict, methods=["POST"])
    server()
    return app


class Rsgi:
    """granian's own interface: no scope, no messages, a reply in one call."""

    def __rsgi_init__(self, _loop: Any) -> None:
        """Load before the first request."""
        server()

    async def __rsgi__(self, _scope: Any, protocol: Any) -> None:
        """Answer any request as a prediction."""
        reply = await answer(await protocol())
        protocol.response_bytes(reply.status, list(JSON), reply.body)


class EmptyRsgi:
    """The ceiling of granian: reads the body, and sends as many bytes as Greenroom would."""

    def __init__(self) -> None:
        sizes = json.loads(os.environ.get("BENCH_REPLIES", "{}"))
        self._replies = {int(size): b"x" * reply for size, reply in sizes.items()}

    async def __rsgi__(self, _scope: Any, protocol: Any) -> None:
        """Answer any request."""
        body = await protocol()
        protocol.response_bytes(200, list(JSON), self._replies.get(len(body), b"x"))


rsgi = Rsgi()
empty_rsgi = EmptyRsgi()
