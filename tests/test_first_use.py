"""Requests wait for one load together, the event loop does not; failures are told and paused."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise

import pytest

from greenroom.errors import NotServing, VersionUnloadable
from greenroom.http.first_use import FIRST_PAUSE_S, LONGEST_PAUSE_S, FirstUse
from greenroom.inference.generation import Deployment
from greenroom.inference.residency import BoundedEngine
from greenroom.inference.served_model import ServedModel
from test_inference import Committed, Sum, deployment, generation

NAMES = "abc"


class Server:
    """An engine whose loads can be held up and made to fail, and what waits for them."""

    def __init__(self, *, timeout_s=10.0, max_loaded=2):
        self.committed = Committed()
        self.now_s = 0.0
        self.troubles = []
        self.loads = []
        self.problem = ""
        self.held = self.broken = ""  # which directory; empty: all
        self.go_on = threading.Event()
        self.go_on.set()
        self.at_once = self.most_at_once = 0
        self.engine = BoundedEngine(self.committed, self._load, max_loaded=max_loaded)
        self.first_use = FirstUse(
            self.engine,
            timeout_s=timeout_s,
            on_trouble=lambda *told: self.troubles.append(told),
            clock_s=lambda: self.now_s,
        )
        self.swap(1)

    def swap(self, number):
        deployments = [
            deployment(f"{number}{i}", f"/{n}", str(number)) for i, n in enumerate(NAMES)
        ]
        self.engine.prepare(generation(number, *deployments))
        self.committed.number = number
        self.engine.keep(number)

    def _load(self, directory, *_):
        self.loads.append(directory.name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.held in {"", directory.name}:
            assert self.go_on.wait(10)
        self.at_once -= 1
        if self.problem and self.broken in {"", directory.name}:
            raise VersionUnloadable(self.problem)
        return Sum(float(directory.name))

    def served(self, name):
        return self.engine.current().models[f"/{name}"]

    async def ask(self, name):
        return (await self.first_use.loaded(self.served(name))).runtime.add


def test_a_model_is_loaded_when_it_is_asked_for_and_then_it_is_there():
    server = Server()
    assert asyncio.run(server.ask("b")) == 11.0
    assert asyncio.run(server.ask("b")) == 11.0
    assert server.loads == ["11"]


def test_a_request_that_began_before_the_model_was_there_does_not_wait_for_other_loads():
    server = Server()
    early = server.served("a")

    async def behind_another_load():
        await server.ask("a")
        server.go_on.clear()
        other = asyncio.create_task(server.ask("b"))
        while len(server.loads) < 2:
            await asyncio.sleep(0.001)
        found = await asyncio.wait_for(server.first_use.loaded(early), 5)
        server.go_on.set()
        await other
        return found.runtime.add

    assert asyncio.run(behind_another_load()) == 10.0


def test_requests_that_come_together_share_one_load():
    server = Server()

    async def all_at_once():
        return await asyncio.gather(*[server.ask("a") for _ in range(20)])

    assert asyncio.run(all_at_once()) == [10.0] * 20
    assert server.loads == ["10"]


def test_loads_are_done_one_after_the_other_and_each_gets_its_own():
    server = Server(max_loaded=1)

    async def all_at_once():
        return await asyncio.gather(*[server.ask(name) for name in "abcabc"])

    assert asyncio.run(all_at_once()) == [10.0, 11.0, 12.0] * 2
    assert server.most_at_once == 1
    assert len(server.loads) == 3


def test_the_event_loop_and_what_is_in_memory_go_on_while_a_model_is_loaded():
    server = Server()

    async def meanwhile():
        await server.ask("a")
        server.go_on.clear()
        waiting = asyncio.create_task(server.ask("b"))
        while len(server.loads) < 2:
            await asyncio.sleep(0.001)
        answered = [await server.ask("a") for _ in range(10)]
        assert not waiting.done()
        server.go_on.set()
        return answered, await waiting

    assert asyncio.run(meanwhile()) == ([10.0] * 10, 11.0)


def test_whoever_goes_away_takes_the_load_from_nobody():
    server = Server()

    async def one_goes():
        server.go_on.clear()
        gone, stays = (asyncio.create_task(server.ask("a")) for _ in range(2))
        while not server.loads:
            await asyncio.sleep(0.001)
        gone.cancel()
        server.go_on.set()
        return await stays

    assert asyncio.run(one_goes()) == 10.0
    assert server.loads == ["10"]


def test_a_load_that_fails_is_told_with_the_reason_and_when_it_is_tried_again():
    server = Server()
    server.problem = "it is broken"
    for _ in range(3):
        with pytest.raises(NotServing, match="sum version 1 does not load: it is broken") as found:
            asyncio.run(server.ask("a"))
        assert "tried again in 5 s" in found.value.advice
    assert server.loads == ["10"]
    ((model, digest, problem),) = server.troubles
    assert (model, digest) == ("sum", "10")
    assert "it is broken" in problem


def test_each_further_failure_is_left_alone_for_longer_up_to_a_limit():
    server = Server()
    server.problem = "it is broken"
    tried_at_s = []
    for second in range(1_500):
        server.now_s = float(second)
        with pytest.raises(NotServing):
            asyncio.run(server.ask("a"))
        if len(server.loads) > len(tried_at_s):
            tried_at_s.append(second)
    pauses = [later - before for before, later in pairwise(tried_at_s)]
    assert pauses[0] == FIRST_PAUSE_S
    assert max(pauses) == LONGEST_PAUSE_S
    assert pauses == sorted(pauses)


def test_what_loads_after_all_is_served_and_the_trouble_is_over():
    server = Server()
    server.problem = "no memory"
    with pytest.raises(NotServing):
        asyncio.run(server.ask("a"))
    server.problem = ""
    server.now_s = FIRST_PAUSE_S
    assert asyncio.run(server.ask("a")) == 10.0
    assert [problem for _, _, problem in server.troubles][1:] == [""]


def test_one_that_takes_too_long_is_answered_so_and_holds_up_nobody_else():
    server = Server(timeout_s=0.2)

    async def slow_and_quick():
        server.go_on.clear()
        with pytest.raises(NotServing, match=r"still being loaded after 0\.2 s"):
            await server.ask("a")
        server.go_on.set()
        quick = await server.ask("b")
        while server.served("a").awaits_load:
            await asyncio.sleep(0.001)
        return quick, await server.ask("a")

    assert asyncio.run(slow_and_quick()) == (11.0, 10.0)
    assert server.loads == ["10", "11"]


def test_a_request_whose_version_fails_gets_the_one_that_was_committed_meanwhile():
    server = Server()

    async def overtaken():
        server.held = "10"
        server.go_on.clear()
        waiting = asyncio.create_task(server.ask("a"))
        while not server.loads:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(server.swap, 2)
        server.broken = "10"
        server.problem = "its files are gone"
        server.go_on.set()
        return await waiting

    assert asyncio.run(overtaken()) == 20.0
    assert server.troubles == []


def test_nothing_to_serve_is_not_waited_for():
    server = Server()
    nothing = ServedModel(Deployment(model="m", name="m", selector="Production", route="/m"))
    assert asyncio.run(server.first_use.loaded(nothing)) is nothing
