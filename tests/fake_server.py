"""A supervisor with fake workers and a fake registry: in a test, or as a process of its own."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from greenroom.app_loading import load_app
from greenroom.inference.generation import Deployment
from greenroom.log.shipper_process import ShipperProcess
from greenroom.log_opening import build_shipper
from greenroom.monitoring_wiring import build_monitoring
from greenroom.registry_errands import RegistryErrands
from greenroom.settings import Settings
from greenroom.status import RegistryStatus, VersionStatus
from greenroom.supervision.chronicle import Chronicle
from greenroom.supervision.supervisor import Supervisor

COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("fake_worker.py")))


class FakePoll(NamedTuple):
    deployments: tuple[Deployment, ...]
    registry: RegistryStatus
    unfinished: bool = False


class FakeFollower:
    """Selects what it is told to; remembers what it was told back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.restored = nothing()
        self.selected = nothing()
        self.previous = nothing()
        self.accepted_versions: list[str] = []
        self.rejections: list[tuple[str, str]] = []
        self.registry = RegistryStatus(uri="http://registry", state="healthy")
        self.answers = threading.Event()
        self.answers.set()
        self.polls = 0
        self.unfinished = 0

    def select(self, version: str, behaviour: str = "load") -> Deployment:
        self.selected = self.version(version, behaviour)
        return self.selected

    def version(self, version: str, behaviour: str = "load") -> Deployment:
        folder = self.folder / f"version {version}"
        folder.mkdir(exist_ok=True)
        (folder / "behaviour").write_text(behaviour)
        serving = VersionStatus(version=version, stage="Production", digest=f"d{version}")
        return Deployment(
            model="m",
            name="M",
            selector="Production",
            route="/",
            serving=serving,
            directory=str(folder),
        )

    def restore(self) -> tuple[Deployment, ...]:
        self.previous = self.restored
        return (self.restored,)

    def poll(self, *, force: bool = False) -> FakePoll:
        assert self.answers.wait(60)
        self.polls += 1
        return FakePoll((self.selected,), self.registry, self.polls <= self.unfinished)

    def registry_answers(self) -> bool:
        return self.registry.is_whole

    def accepted(self, deployments: tuple[Deployment, ...]) -> None:
        (self.previous,) = deployments
        self.accepted_versions += [one.serving.version for one in deployments if one.serving]

    def rejected(self, deployment: Deployment, problem: str) -> None:
        assert deployment.serving is not None
        self.rejections.append((deployment.serving.version, problem))
        back = self.previous if self.previous.serving != deployment.serving else nothing()
        self.selected = Deployment(
            **{name: getattr(back, name) for name in Deployment.__struct_fields__}
            | {"problems": (f"version {deployment.serving.version} does not load: {problem}",)}
        )


def nothing() -> Deployment:
    return Deployment(
        model="m", name="M", selector="Production", route="/", reason="nothing is selected"
    )


class Server:
    """A supervisor that runs, and a client for it."""

    def __init__(self, supervisor: Supervisor, follower: FakeFollower) -> None:
        self.supervisor = supervisor
        self.follower = follower
        self.events: list[str] = []
        self.lines: list[str] = []
        self.client = httpx.AsyncClient(timeout=30, trust_env=False)

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.supervisor.address)

    @property
    def pids(self) -> set[int]:
        return {worker.pid for worker in self.supervisor._rollout.crew.living.values()}

    async def get(self, path: str = "/") -> dict[str, object]:
        """Ask on a connection of its own, so that any worker may answer."""
        answer = await self.client.get(self.url + path, headers={"connection": "close"})
        return answer.json()

    async def until(self, condition, timeout_s: float = 30) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.02)

    async def joined(self, count: int) -> None:
        await self.until(lambda: len(self.supervisor._rollout.crew.joined) == count)


@asynccontextmanager
async def serving(
    follower: FakeFollower,
    *,
    command: Sequence[str] = COMMAND,
    app_folder: Path | None = None,
    registry_starts: Callable[[], bool] = lambda: False,
    registry_errands: RegistryErrands | None = None,
    home: Path | None = None,
    train: Sequence[str] = (),
    reread: Callable[[], Settings] | None = None,
    chronicle: Chronicle | None = None,
    **settings: object,
) -> AsyncIterator[Server]:
    if home is not None:
        settings["home"] = str(home)
    defaults = {"port": 0, "poll_interval_s": 0.05, "load_timeout_s": 20.0, "drain_timeout_s": 5.0}
    # Tests keep all processors busy themselves.
    defaults["log_ship_patience_s"] = 0
    state = {"log": False} if home is None else {"log": False, "home": str(home)}
    chosen = Settings(**{**defaults, **state, **settings})
    supervisor = Supervisor(
        settings=chosen,
        follower=follower,
        app_name="fake",
        on_event=lambda text: server.events.append(text),
        on_log=lambda text: server.lines.append(text),
        command=command,
        app_folder=app_folder,
        registry_starts=registry_starts,
        registry_errands=registry_errands,
        monitoring=build_monitoring(
            chosen, app_folder, config=None, on_event=lambda text: server.events.append(text)
        )
        if home is not None
        else None,
        shipper=_shipper(chosen, lambda text: server.events.append(text), app_folder),
        chronicle=chronicle,
        home=home,
        train=train,
        reread=reread,
    )
    server = Server(supervisor, follower)
    running = asyncio.create_task(supervisor.run())
    try:
        ready = asyncio.create_task(supervisor.ready.wait())
        await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield server
    finally:
        supervisor.stop()
        await server.client.aclose()
        await running


def _shipper(
    settings: Settings, on_event: Callable[[str], None], app_folder: Path | None
) -> ShipperProcess | None:
    if not settings.log:
        return None
    app = load_app(app_folder) if app_folder else None
    return build_shipper(settings, on_event, on_event, app)


def main() -> None:
    """Serve version 1 with two workers; write port and process ids when ready."""

    async def serve() -> None:
        folder = Path(sys.argv[1])
        follower = FakeFollower(folder)
        follower.select("1")
        home = folder / ".greenroom"
        async with serving(follower, home=home, workers=2, drain_timeout_s=1.0) as server:
            await server.joined(2)
            print(server.supervisor.address[1], os.getpid(), *server.pids, flush=True)
            await server.supervisor._stop.wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
