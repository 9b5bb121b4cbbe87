"""A worker whose versions are folders with one word in ``behaviour``; for tests of processes.

``GET /`` answers the generation, the version and the process; ``POST /reload`` and ``GET /list``
ask the supervisor; ``GET /slow?SECONDS,PATH`` makes a file when it begins, and takes so long, or
until there is a file ``PATH.end``. ``GET /block?SECONDS`` holds up the event loop for so long;
``GET /die`` ends the process.
``GET /trouble?PROBLEM`` reports that version 1 does not load on its first use.
"""

import asyncio
import json
import os
import signal
import time
from pathlib import Path

from greenroom.control import WORKER_VARIABLE, CommittedGeneration, WorkerSetup
from greenroom.errands import ListModels
from greenroom.errors import GreenroomError, VersionUnloadable
from greenroom.http.membership import Membership
from greenroom.inference.generation import Generation
from greenroom.worker import main


class FakeEngine:
    def __init__(self, committed: CommittedGeneration) -> None:
        self.committed = committed
        self.loaded: dict[int, str] = {}

    def prepare(self, generation: Generation) -> None:
        versions = []
        for deployment in generation.deployments:
            if deployment.serving is None:
                continue
            behave(Path(deployment.directory), deployment.model)
            versions.append(deployment.serving.version)
        self.loaded[generation.number] = ",".join(versions)

    def keep(self, number: int) -> None:
        self.loaded = {key: value for key, value in self.loaded.items() if key == number}

    def runtimes(self, number: int) -> dict[str, str]:
        return {"m": os.environ.get("FAKE_RUNTIME", "native")}


def behave(folder: Path, model: str) -> None:
    """Do what the version says: load, or ``hang``, ``die``, ``fail``, perhaps only ``once``."""
    behaviour, _, once = (folder / "behaviour").read_text().partition(" ")
    if once and not first(folder / "tried"):
        return
    if behaviour == "hang":
        time.sleep(600)
    elif behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif behaviour == "fail":
        raise VersionUnloadable("it is broken", model=model)


async def be_slow(query: str) -> None:
    seconds, _, path = query.partition(",")
    Path(path).touch()
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until and not Path(f"{path}.end").exists():
        await asyncio.sleep(0.02)


def first(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def misbehave(path, query, membership):
    if path == "/trouble":
        membership.report("m", "d1", query)
    elif path == "/die":
        os._exit(7)
    elif path == "/block":
        time.sleep(float(query))


def factory():
    setup = WorkerSetup.load(os.environ[WORKER_VARIABLE])
    if os.environ.get("FAKE_WORKER") == "broken":
        raise GreenroomError("this app is broken", advice="mend it")
    engine = FakeEngine(CommittedGeneration.attach(setup.committed_fd))
    membership = Membership(engine, setup.control_fd)

    async def answer(scope):
        if scope["path"] in {"/reload", "/list"}:
            try:
                if scope["path"] == "/list":
                    return {"models": len((await membership.ask(ListModels())).models)}
                status = await membership.reload()
            except GreenroomError as error:
                return {"error": type(error).__name__, "message": str(error)}
            return {"generation": status.generation}
        misbehave(scope["path"], scope["query_string"].decode(), membership)
        if scope["path"] == "/slow":
            await be_slow(scope["query_string"].decode())
        number = engine.committed()
        return {
            "generation": number,
            "version": engine.loaded[number],
            "loaded": sorted(engine.loaded),
            "pid": os.getpid(),
            "shown": membership.status().generation,
        }

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            async with membership.session():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = json.dumps(await answer(scope)).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


if __name__ == "__main__":
    main(factory)
