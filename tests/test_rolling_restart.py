"""Rolling restarts with real processes, under load of clients that keep their connections."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

import builders
from fake_server import FakeFollower, Server, serving
from greenroom import processes
from greenroom.draining import LINGER_S
from greenroom.supervision.worker_process import COMMAND
from keep_alive import REQUEST, post, under_load
from scraped import counted, single
from test_wiring import APP_FILE

pytestmark = pytest.mark.slow

PAUSES_S = (0.0, 0.002, 0.002, 0.01, 0.05, 0.3)
"""Of a client that sends without a pause, and of some that are idle when their worker leaves."""


@pytest.fixture
def follower(tmp_path: Path) -> FakeFollower:
    follower = FakeFollower(tmp_path)
    follower.select("1")
    return follower


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 120))


async def ask_to_restart(server: Server) -> None:
    """Ask as ``greenroom restart`` does, and wait until it begins."""
    before = server.supervisor.status.restart
    os.kill(os.getpid(), signal.SIGUSR1)
    await server.until(lambda: server.supervisor.status.restart is not before)


async def over(server: Server, state: str) -> None:
    """Wait until a restart is over, and see how it went."""
    await server.until(lambda: server.supervisor.status.restart.state != "running", timeout_s=90)
    assert server.supervisor.status.restart.state == state, server.events


async def accepts_no_more(server: Server, pid: int) -> None:
    """Wait until another worker answers whoever connects."""
    await server.joined(2)
    in_a_row = 0
    while in_a_row < 5:
        in_a_row = in_a_row + 1 if (await server.get())["pid"] != pid else 0
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 3])
def test_no_request_fails_while_all_workers_are_restarted_five_times(
    workers: int, follower: FakeFollower
) -> None:
    async def scenario() -> None:
        async with serving(follower, workers=workers) as server:
            await server.joined(workers)
            async with under_load(server.supervisor.address, *PAUSES_S) as load:
                for _ in range(5):
                    before = server.pids
                    await ask_to_restart(server)
                    await over(server, "done")
                    assert len(server.pids) == workers
                    assert not server.pids & before
                seen = len(load.answers)
                await server.until(lambda: len(load.answers) > seen + 200)
            assert load.failures == []
            assert load.n_connections > len(PAUSES_S), "no client has met a worker that left"
            assert {answer["pid"] for answer in load.answers[seen:]} <= server.pids
            assert not any("another one is started" in text for text in server.events)
            assert server.supervisor.status.health == "healthy"

    run(scenario())


def test_no_prediction_fails_while_a_real_worker_is_restarted(follower: FakeFollower) -> None:
    (follower.folder / "app.py").write_text(APP_FILE)
    builders.version(follower.folder / "version 1")
    request = post("/models/m/predict", {"a": 1.5, "b": 3})

    async def scenario() -> None:
        async with serving(
            follower, command=COMMAND, app_folder=follower.folder, load_timeout_s=60.0
        ) as server:
            await server.joined(1)
            before = server.pids
            pauses_s = (0.002, 0.005, 0.05)
            async with under_load(server.supervisor.address, *pauses_s, request=request) as load:
                await ask_to_restart(server)
                await over(server, "done")
                seen = len(load.answers)
                await server.until(lambda: len(load.answers) > seen + 200)
            assert load.failures == []
            assert {answer["model_version"] for answer in load.answers} == {"1"}
            assert load.n_connections == 2 * len(pauses_s), "every client has met the one that left"
            assert not server.pids & before
            text = (await server.client.get(server.url + "/metrics")).text
            answers = counted(text)["/models/{name}/predict", "M", "1", "200"]
            assert answers == len(load.answers), "the new one goes on from the old one's counts"
            assert single(text, "greenroom_workers") == 1
            assert single(text, "greenroom_worker_restarts_total") == 0

    run(scenario())


def test_versions_are_swapped_while_workers_are_restarted(follower: FakeFollower) -> None:
    async def scenario() -> None:
        async with serving(follower, workers=2) as server:
            await server.joined(2)
            before = server.pids
            async with under_load(server.supervisor.address, *PAUSES_S) as load:
                await ask_to_restart(server)
                version = 1
                while server.supervisor.status.restart.state == "running":
                    version += 1
                    follower.select(str(version))
                    await server.until(lambda v=version: follower.accepted_versions[-1] == str(v))
                await over(server, "done")
            assert version > 3, "no swap came in the middle"
            assert load.failures == []
            assert follower.rejections == []
            assert not server.pids & before
            generations = [answer["generation"] for answer in load.answers]
            assert len(set(generations)) > 3
            for _ in range(4):
                assert (await server.get())["version"] == str(version)

    run(scenario())


def test_the_old_worker_stays_where_the_new_one_does_not_come_up(
    follower: FakeFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serving(follower, workers=2) as server:
            await server.joined(2)
            before = server.pids
            async with under_load(server.supervisor.address, *PAUSES_S) as load:
                with monkeypatch.context() as patch:
                    patch.setenv("FAKE_WORKER", "broken")
                    await ask_to_restart(server)
                    await over(server, "failed")
                assert server.pids == before
                status = server.supervisor.status
                assert "did not come up: this app is broken; mend it" in status.restart.problem
                assert status.health == "degraded"
                assert f"the restart stopped: {status.restart.problem}" in server.events
                await ask_to_restart(server)
                await over(server, "done")
            assert load.failures == []
            assert not server.pids & before
            assert server.supervisor.status.health == "healthy"

    run(scenario())


def test_the_old_worker_stays_where_the_new_one_cannot_load_what_is_served(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        async with serving(follower) as server:
            before = server.pids
            (follower.folder / "version 1" / "behaviour").write_text("fail")
            await ask_to_restart(server)
            await over(server, "failed")
            assert "did not come up: m: it is broken;" in server.supervisor.status.restart.problem
            assert server.pids == before
            assert follower.rejections == []
            assert (await server.get())["version"] == "1"

    run(scenario())


def test_a_restart_stops_where_a_new_worker_ends_while_the_old_one_still_drains(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        async with serving(follower) as server:
            (old,) = server.pids
            begun = follower.folder / "begun"
            slow = asyncio.create_task(server.client.get(f"{server.url}/slow?60,{begun}"))
            await server.until(begun.exists)
            await ask_to_restart(server)
            await accepts_no_more(server, old)
            with pytest.raises(httpx.TransportError):
                await server.get("/die")
            begun.with_name("begun.end").touch()
            await over(server, "failed")
            assert "came up and ended again" in server.supervisor.status.restart.problem
            assert (await slow).json()["pid"] == old
            await server.joined(1)
            assert (await server.get())["pid"] in server.pids

    run(scenario())


def test_a_worker_that_dies_while_its_successor_starts_is_succeeded_by_it(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        async with serving(follower) as server:
            await server.joined(1)
            (old,) = server.pids
            await ask_to_restart(server)
            await server.until(lambda: len(server.pids) == 2)
            os.kill(old, signal.SIGKILL)
            await over(server, "done")
            assert old not in server.pids
            assert len(server.pids) == 1
            assert (await server.get())["pid"] in server.pids

    run(scenario())


def test_a_request_in_flight_is_finished_by_the_worker_that_leaves(follower: FakeFollower) -> None:
    async def scenario() -> None:
        async with serving(follower) as server:
            (old,) = server.pids
            begun = follower.folder / "begun"
            slow = asyncio.create_task(server.client.get(f"{server.url}/slow?60,{begun}"))
            await server.until(begun.exists)
            await ask_to_restart(server)
            await accepts_no_more(server, old)
            begun.with_name("begun.end").touch()
            answer = await slow
            assert answer.json()["pid"] == old
            assert answer.headers["connection"] == "close"
            await over(server, "done")

    run(scenario())


def test_a_worker_that_does_not_finish_its_requests_in_time_is_not_waited_for(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        async with serving(follower, drain_timeout_s=0.5) as server:
            (old,) = server.pids
            begun = follower.folder / "begun"
            endless = asyncio.create_task(server.client.get(f"{server.url}/slow?600,{begun}"))
            await server.until(begun.exists)
            await ask_to_restart(server)
            await over(server, "done")
            assert not processes.identity(old)
            await asyncio.wait([endless])
            assert endless.exception() or endless.result().status_code == 500

    run(scenario())


def test_an_idle_connection_is_answered_once_more_and_closed_when_it_stays_silent(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        async with serving(follower) as server:
            speaking = await asyncio.open_connection(*server.supervisor.address)
            silent = await asyncio.open_connection(*server.supervisor.address)
            for reader, writer in (speaking, silent):
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"connection" not in head
                await reader.readuntil(b"}")
            (old,) = server.pids
            began = time.monotonic()
            await ask_to_restart(server)
            await server.until(lambda: len(server.supervisor._rollout.crew.joined) == 2)
            await asyncio.sleep(1)

            reader, writer = speaking
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"connection: close" in head
            assert f'"pid": {old}'.encode() in await reader.read()
            assert await silent[0].read() == b""
            assert time.monotonic() - began > LINGER_S
            await over(server, "done")
            for _, writer in (speaking, silent):
                writer.close()

    run(scenario())


def test_a_second_restart_is_not_begun_in_the_middle_of_one(follower: FakeFollower) -> None:
    async def scenario() -> None:
        async with serving(follower) as server:
            await ask_to_restart(server)
            os.kill(os.getpid(), signal.SIGUSR1)
            await over(server, "done")
            assert server.events.count("the workers are restarted, one after the other") == 1
            assert "a restart of the workers is going on already" in server.events

    run(scenario())


def test_a_stop_in_the_middle_of_a_restart_leaves_no_process(follower: FakeFollower) -> None:
    async def scenario() -> None:
        async with serving(follower, workers=2) as server:
            await server.joined(2)
            await ask_to_restart(server)
            await server.until(lambda: len(server.pids) == 3)
            pids = server.pids
            server.supervisor.stop()
            await server.until(lambda: not server.pids, timeout_s=10)
            assert not any(processes.identity(pid) for pid in pids)

    run(scenario())


def test_a_worker_whose_event_loop_hangs_is_replaced(follower: FakeFollower) -> None:
    async def scenario() -> None:
        async with serving(follower, worker_silent_s=3.0) as server:
            (old,) = server.pids
            blocked = asyncio.create_task(server.client.get(f"{server.url}/block?600"))
            await server.until(lambda: old not in server.pids)
            await asyncio.wait([blocked])
            assert blocked.exception() is not None
            await server.joined(1)
            assert (await server.get())["pid"] != old
            expected = f"(process {old}) has said nothing for 3 s and was killed; another one"
            assert any(expected in text for text in server.events)

    run(scenario())


def test_a_worker_that_is_busy_for_less_than_the_limit_stays(follower: FakeFollower) -> None:
    async def scenario() -> None:
        async with serving(follower, worker_silent_s=4.0) as server:
            (old,) = server.pids
            assert (await server.get("/block?2"))["pid"] == old
            assert (await server.get())["pid"] == old

    run(scenario())
