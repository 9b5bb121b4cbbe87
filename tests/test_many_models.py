"""200 models in one server: real workers, real versions, and no more in memory than is allowed."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from builders import foreign
from fake_server import Server, serving
from greenroom.deployment.deployments import Target
from greenroom.deployment.following import Follower
from greenroom.selector import Selector
from greenroom.supervision.worker_process import COMMAND
from greenroom.versions.model_store import ModelStore
from test_following import FakeRegistry

pytestmark = pytest.mark.slow

N_MODELS = 200
MAX_LOADED = 10
N_CALLERS = 4
BALLAST_MB = 8
ANSWERS_S = 3.0
INPUTS = [{"name": "a", "type": "double", "required": True}]


class Ballast:
    """Nothing on disk, and as much as this in memory."""

    def __reduce__(self):
        return np.ones, (BALLAST_MB * 1024 * 1024 // 8,)


class Broken:
    """What cannot be loaded."""

    def __reduce__(self):
        return int, ("no number",)


def estimator(adds: float, **attributes: Any) -> LinearRegression:
    made = LinearRegression().fit([[0.0], [1.0]], [adds, adds + 1.0])
    vars(made).update(attributes)
    return made


class Registry(FakeRegistry):
    """200 models with a version each; the answer tells which one it is."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for number in range(N_MODELS):
            self.write(number, 1, ballast_=Ballast())

    def write(self, number: int, version: int, **attributes: Any) -> None:
        name = f"model-{number}"
        directory = self.folder / name / str(version)
        foreign(directory, estimator(1000.0 * version + number, **attributes), INPUTS)
        self.add(version, name, stage="Production", files={}, tagged=True)
        if version > 1:
            self.move(version - 1, "Archived", name)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return ModelStore(tmp_path_factory.mktemp("store"))


@pytest.fixture
def follower(registry: Registry, store: ModelStore) -> Follower:
    targets = [
        Target(name, name, Selector.parse("Production"), f"/models/{name}/predict")
        for name in (f"model-{number}" for number in range(N_MODELS))
    ]
    return Follower(registry, store, targets, keep_versions=3)


@asynccontextmanager
async def many(follower: Follower, *, workers: int = 1) -> AsyncIterator[Server]:
    """Serve with real workers; what is selected has been found, and nothing is in memory."""
    given = {"max_loaded": MAX_LOADED, "poll_interval_s": 0.5, "load_timeout_s": 60.0}
    async with serving(follower, command=COMMAND, workers=workers, **given) as server:
        await server.joined(workers)
        await server.until(lambda: all_are_served(server))
        yield server


def all_are_served(server: Server) -> bool:
    models = server.supervisor.status.models
    return bool(models) and all(model.serving is not None for model in models)


async def ask(server: Server, number: int) -> float:
    reply = await server.client.post(
        f"{server.url}/models/model-{number}/predict",
        json={"a": 0.5},
        headers={"connection": "close"},
    )
    assert reply.status_code == 200, reply.text
    return float(reply.json()["prediction"])


def resident_mb(pid: int) -> float:
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in fields if line.startswith("VmRSS"))


async def in_memory(server: Server) -> int:
    listed = (await server.get("/models"))["models"]
    return sum(model["in_memory"] for model in listed)


# The quick tests hold the same bound in test_residency.py, and real workers to it below.
@pytest.mark.slow
def test_all_of_200_models_are_answered_by_two_workers_that_hold_ten_each(follower):
    async def scenario() -> None:
        async with many(follower, workers=2) as server:
            assert await in_memory(server) == 0
            until = time.monotonic() + ANSWERS_S
            asked: set[int] = set()

            async def call(caller: int) -> None:
                # All go round in one order, each beginning elsewhere: soon all have been asked.
                first = caller * N_MODELS // N_CALLERS
                for number in itertools.cycle(order[first:] + order[:first]):
                    assert abs(await ask(server, number) - (1000.5 + number)) < 1e-6
                    asked.add(number)
                    if time.monotonic() > until and len(asked) == N_MODELS:
                        return

            async def watch() -> None:
                while True:
                    counts.append(await in_memory(server))
                    sizes.append(max(map(resident_mb, server.pids)))
                    await asyncio.sleep(0.05)

            order = random.Random(0).sample(range(N_MODELS), N_MODELS)
            counts: list[int] = []
            sizes: list[float] = []
            watching = asyncio.create_task(watch())
            try:
                await asyncio.gather(*map(call, range(N_CALLERS)))
            finally:
                watching.cancel()
            assert max(counts) == MAX_LOADED
            # Far from what all of them would take, of which each worker was asked for most.
            assert max(sizes) < N_MODELS * BALLAST_MB * 0.4
            health = await server.get("/health")
            assert health["status"] == "healthy"
            assert len(health["models"]) == N_MODELS

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_a_promotion_among_200_is_on_all_workers_when_the_reload_returns(follower, registry):
    async def scenario() -> None:
        async with many(follower, workers=2) as server:
            assert await ask(server, 0) == pytest.approx(1000.5)
            registry.write(0, 2)  # in the memory of one worker at least
            registry.write(1, 2)  # in that of none
            reply = await server.client.post(f"{server.url}/models/model-0/reload")
            assert reply.status_code == 200, reply.text
            for _ in range(8):
                assert await ask(server, 0) == pytest.approx(2000.5)
                assert await ask(server, 1) == pytest.approx(2001.5)
            registry.write(2, 2, broken_=Broken())
            reply = await server.client.post(f"{server.url}/models/model-2/reload")
            assert reply.status_code == 409, reply.text
            for _ in range(4):
                assert await ask(server, 2) == pytest.approx(1002.5)
            health = await server.get("/health")
            assert health["status"] == "degraded"
            (problem,) = health["problems"]
            assert "model-2 version 2 does not load" in problem
            for number in range(3, 3 + 2 * MAX_LOADED):
                assert await ask(server, number) == pytest.approx(1000.5 + number)
                assert await in_memory(server) <= MAX_LOADED

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_a_first_use_that_fails_is_said_by_the_answer_and_by_every_workers_health(
    registry, store, tmp_path
):
    registry.write(900, 1, broken_=Broken())
    target = Target("model-900", "model-900", Selector.parse("Production"), "/predict")
    good = Target("model-3", "model-3", Selector.parse("Production"), "/other")
    broken = Follower(registry, ModelStore(tmp_path), [target, good], keep_versions=3)

    async def scenario() -> None:
        async with many(broken, workers=2) as server:
            assert (await server.get("/health"))["status"] == "healthy"
            reply = await server.client.post(f"{server.url}/predict", json={"a": 1.0})
            assert reply.status_code == 503
            assert "model-900 version 1 does not load" in reply.json()["error"]["message"]
            assert "tried again in" in reply.json()["error"]["advice"]
            async with asyncio.timeout(10):
                while (await server.get("/health"))["status"] != "degraded":
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
            for _ in range(6):
                health = await server.get("/health")
                assert "does not load" in health["problems"][0]
            assert await ask(server, 3) == pytest.approx(1003.5)

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("workers", [1, 4])
def test_a_quiet_poll_is_one_search_however_many_workers_there_are(tmp_path, workers):
    registry = FakeRegistry(tmp_path / "registry")
    names = [f"model-{number}" for number in range(N_MODELS)]
    for name in names:
        registry.add(1, name, stage="Production", files={"behaviour": "load"})
    targets = [Target(name, name, Selector.parse("Production"), f"/{name}") for name in names]
    store = ModelStore(tmp_path / "store")
    # With a clock that stands still nothing falls due but what changes.
    fake = Follower(registry, store, targets, keep_versions=3, clock_s=lambda: 0.0)

    async def scenario() -> None:
        async with serving(fake, workers=workers, poll_interval_s=0.05) as server:
            await server.joined(workers)
            await server.until(lambda: all_are_served(server))
            registry.calls.clear()
            await server.until(lambda: registry.calls["search"] >= 10)
            assert set(registry.calls) == {"search"}
            searched, began_s = registry.calls["search"], time.monotonic()
            await asyncio.sleep(0.5)
            # Each poll comes up to a tenth earlier than planned.
            most = (time.monotonic() - began_s) / (0.05 * 0.9) + 1
            assert registry.calls["search"] - searched <= most

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_pages_of_200_models_are_quick(follower):
    async def scenario() -> None:
        async with many(follower) as server:
            await ask(server, 7)
            info = await server.get("/models/model-7/info")
            assert [column["name"] for column in info["columns"]] == ["a"]
            # Asking what a version is needs it in memory, so it is a use like any other.
            assert (await server.get("/models/model-8/info"))["model_version"] == "1"
            for path in ("/health", "/models", "/ready", "/"):
                took_s = []
                for _ in range(5):
                    began_s = time.perf_counter()
                    await server.get(path)
                    took_s.append(time.perf_counter() - began_s)
                assert min(took_s) < 0.1, path
            missing = await server.client.get(f"{server.url}/models/nobody/info")
            assert missing.status_code == 404
            assert len(missing.text) < 2_000
            described = await server.client.get(f"{server.url}/openapi.json")
            paths = described.json()["paths"]
            assert "/models/model-199/predict" in paths

    asyncio.run(asyncio.wait_for(scenario(), 60))
