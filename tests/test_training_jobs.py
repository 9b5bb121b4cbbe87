"""Training over HTTP with real workers: what goes on meanwhile, and what survives what.

The registry is in memory and a small program stands in for ``greenroom train``; that is in
``test_training_over_http.py``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

import builders
from fake_server import FakeFollower, Server, serving
from greenroom.job_store import JobStore
from greenroom.supervision.worker_process import COMMAND
from keep_alive import post, under_load
from scraped import single

TRAIN = (sys.executable, "-P", str(Path(__file__).with_name("fake_training.py")))
APP_FILE = """
from greenroom import App, Column, Gate, Model, TrainingPlan, TrainingRoute, classification

app = App(
    name="lamps",
    experiment="lamps",
    models=[
        Model(
            name="m",
            task=classification,
            dataset="data.csv",
            target="late",
            columns=(Column("a"), Column("b", "integer")),
            candidates=lambda seed: {},
            gate=Gate("roc_auc"),
        )
    ],
    training=TrainingRoute(
        request=(Column("what", "string"),),
        plan=lambda asked: TrainingPlan(model="m", dataset=asked["what"]),
    ),
)
"""


@pytest.fixture
def follower(tmp_path: Path) -> FakeFollower:
    (tmp_path / "app.py").write_text(APP_FILE)
    follower = FakeFollower(tmp_path)
    follower.select("1")
    builders.version(tmp_path / "version 1")
    return follower


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 90))


def lamps(follower: FakeFollower, **settings: object):
    return serving(
        follower,
        command=COMMAND,
        app_folder=follower.folder,
        home=follower.folder / ".greenroom",
        train=TRAIN,
        load_timeout_s=60.0,
        **settings,
    )


def store(follower: FakeFollower) -> JobStore:
    return JobStore(follower.folder / ".greenroom")


def go(follower: FakeFollower) -> None:
    store(follower).folder("go").write_text("")


async def train(server: Server, what: str, **more: Any) -> httpx.Response:
    # On a connection of its own, so that any worker may answer.
    headers = {"connection": "close"}
    return await server.client.post(
        f"{server.url}/train", json={"what": what, **more}, headers=headers
    )


async def fitting(server: Server, job_id: str) -> None:
    await server.until(lambda: store(server.follower).read(job_id).report.doing == "fitting")


@pytest.mark.slow
def test_predictions_go_on_while_a_training_waits_runs_and_is_killed(follower):
    async def scenario():
        async with lamps(follower, workers=2, request_timeout_s=1.0, max_in_flight=4) as server:
            await server.joined(2)
            before = server.pids
            request = post("/models/m/predict", {"a": 1.5, "b": 3})
            async with under_load(server.supervisor.address, 0.002, 0.01, request=request) as load:
                begun = await train(server, "wait", wait=False)
                assert begun.status_code == 202
                job = begun.json()
                await fitting(server, job["job_id"])
                assert (await server.get(f"/train/{job['job_id']}"))["share"] == 0.5
                for _ in range(4):
                    refused = await train(server, "train")
                    assert refused.status_code == 409
                    assert job["job_id"] in refused.json()["detail"]
                seen = len(load.answers)
                # Longer than request_timeout_s, which is for predictions.
                await asyncio.sleep(1.5)
                pid = store(follower).read(job["job_id"]).process.pid
                os.kill(pid, signal.SIGKILL)
                await server.until(lambda: store(follower).running() is None)
                shown = await server.get(f"/train/{job['job_id']}")
                await server.until(lambda: len(load.answers) > seen + 100)
            assert load.failures == []
            assert shown["state"] == "failed"
            assert "SIGKILL" in shown["problem"]
            assert server.pids == before
            done = await train(server, "train")
            assert (done.status_code, done.json()["model_version"]) == (200, "7")

    run(scenario())


@pytest.mark.slow
def test_a_client_that_waits_longer_than_the_time_out_gets_its_answer_or_may_go(follower):
    async def scenario():
        async with lamps(follower, request_timeout_s=0.5) as server:
            await server.joined(1)
            with pytest.raises(httpx.ReadTimeout):
                await server.client.post(
                    f"{server.url}/train", json={"what": "wait"}, timeout=httpx.Timeout(0.4)
                )
            (left,) = (await server.get("/train"))["jobs"]
            assert left["state"] == "running"
            go(follower)
            await server.until(lambda: store(follower).running() is None)
            assert (await server.get(f"/train/{left['job_id']}"))["state"] == "done"
            store(follower).folder("go").unlink()

            waiting = asyncio.create_task(train(server, "wait"))
            await asyncio.sleep(1.5)
            assert not waiting.done()
            go(follower)
            answer = await waiting
            assert (answer.status_code, answer.json()["state"]) == (200, "done")

    run(scenario())


@pytest.mark.slow
def test_a_worker_that_dies_or_is_replaced_leaves_its_training_running(follower):
    async def scenario():
        async with lamps(follower) as server:
            await server.joined(1)
            waiting = asyncio.create_task(train(server, "wait"))
            await server.until(lambda: store(follower).running() is not None)
            job_id = store(follower).running().id
            server.supervisor.restart()
            answer = await waiting
            assert (answer.status_code, answer.json()["job_id"]) == (202, job_id)
            await server.until(lambda: server.supervisor.status.restart.state == "done")
            (pid,) = server.pids
            os.kill(pid, signal.SIGKILL)
            await server.until(lambda: pid not in server.pids)
            await server.joined(1)
            refused = await train(server, "train")
            assert (refused.status_code, job_id in refused.text) == (409, True)
            go(follower)
            await server.until(lambda: store(follower).running() is None)
            assert (await server.get(f"/train/{job_id}"))["state"] == "done"

    run(scenario())


def test_what_is_promoted_is_served_when_the_answer_comes(follower):
    async def scenario():
        async with lamps(follower, poll_interval_s=60.0) as server:
            await server.joined(1)
            builders.version(follower.folder / "version 2")
            follower.select("2")
            answer = await train(server, "promote")
            assert answer.json()["outcome"] == "promoted"
            assert (await server.get("/model/info"))["model_version"] == "2"
            failed = await train(server, "fail")
            assert (failed.status_code, "data/x.csv is not there" in failed.text) == (500, True)
            text = (await server.client.get(f"{server.url}/metrics")).text
            assert single(text, "greenroom_training_jobs_total", state="done") == 1
            assert single(text, "greenroom_training_jobs_total", state="failed") == 1

    run(scenario())


@pytest.mark.slow
def test_a_server_that_stops_ends_its_training_and_the_next_one_says_so(follower):
    async def scenario():
        async with lamps(follower) as server:
            await server.joined(1)
            job_id = (await train(server, "wait", wait=False)).json()["job_id"]
            await fitting(server, job_id)
        async with lamps(follower) as server:
            await server.joined(1)
            shown = await server.get(f"/train/{job_id}")
            assert shown["problem"] == "it was cut off: the server was stopped"
            assert (await train(server, "train")).status_code == 200

    run(scenario())
