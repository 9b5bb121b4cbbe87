"""A supervisor and real workers over versions on disk, run in a thread; the registry is a fake."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fake_server import FakeFollower, FakePoll, Server, serving
from greenroom.inference.generation import Deployment
from greenroom.status import VersionStatus
from greenroom.supervision.worker_process import COMMAND


def deployed(directory: Path, model: str = "m", *, route: str = "/predict", number: str = "1"):
    """Return what a follower says of a version that it has brought to disk."""
    serving = VersionStatus(version=number, stage="Production", digest=f"{directory}")
    return Deployment(
        model=model,
        name=model,
        selector="Production",
        route=route,
        serving=serving,
        directory=str(directory),
    )


class Selected(FakeFollower):
    """Selects several deployments at once."""

    def __init__(self, *deployments: Deployment) -> None:
        super().__init__(Path())
        self.deployments = deployments

    def restore(self) -> tuple[Deployment, ...]:
        return ()

    def poll(self, *, force: bool = False) -> FakePoll:
        return FakePoll(self.deployments, self.registry)

    def accepted(self, deployments: tuple[Deployment, ...]) -> None: ...


def served(*deployments: Deployment, app_folder: Path | None = None, **settings):
    """Serve ``deployments``; gives the server's address once every worker serves them."""
    return following(Selected(*deployments), app_folder=app_folder, **settings)


@contextmanager
def following(
    follower: Any,
    *,
    app_folder: Path | None = None,
    whole: bool = True,
    said: list[str] | None = None,
    **settings,
) -> Iterator[str]:
    """Serve what ``follower`` finds; gives the server's address once something is served.

    Unless it is not to be ``whole``, nothing may be wrong with it then. What its processes wrote is
    in ``said`` when it has ended.
    """
    told: queue.Queue[str | BaseException] = queue.Queue()
    leave = threading.Event()

    async def live() -> None:
        try:
            async with serving(
                follower, command=COMMAND, app_folder=app_folder, **settings
            ) as server:
                await _all_serve(server, settings.get("workers", 1), whole=whole)
                told.put(server.url)
                while not leave.is_set():
                    await asyncio.sleep(0.05)
            if said is not None:
                said.extend([*server.lines, *server.events])
        except BaseException as error:
            told.put(error)
            raise

    thread = threading.Thread(target=lambda: asyncio.run(live()), daemon=True)
    thread.start()
    try:
        url = told.get(timeout=60)
        if not isinstance(url, str):
            raise url
        yield url
    finally:
        leave.set()
        thread.join(30)


async def _all_serve(server: Server, workers: int, *, whole: bool) -> None:
    await server.joined(workers)
    await server.until(lambda: server.supervisor.status.generation)
    problems = [problem for model in server.supervisor.status.models for problem in model.problems]
    assert not (problems and whole), problems
