import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from fake_server import FakeFollower, serving
from greenroom import processes
from greenroom.errors import ProcessError, RegistryUnavailable, SettingsError, VersionUnloadable
from greenroom.inference.generation import Deployment
from greenroom.log.server_events import EventBox
from greenroom.settings import Settings
from greenroom.status import RegistryStatus
from greenroom.supervision import pursuit
from greenroom.supervision import supervisor as supervisor_module
from greenroom.supervision.chronicle import Chronicle
from greenroom.supervision.supervisor import Supervisor
from greenroom.vitals import watch

pytestmark = pytest.mark.slow


@pytest.fixture
def follower(tmp_path: Path) -> FakeFollower:
    return FakeFollower(tmp_path)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 120))


def bound(follower: FakeFollower, **settings: object) -> Supervisor:
    supervisor = Supervisor(settings=Settings(**settings), follower=follower, app_name="fake")
    try:
        supervisor.bind()
    finally:
        supervisor._committed.close()
    return supervisor


def test_a_taken_port_is_one_line_naming_the_port_and_who_has_it(follower: FakeFollower) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ProcessError) as caught:
            bound(follower, port=port)
    expected = f"port {port} is taken by process {os.getpid()} ("
    assert str(caught.value).startswith(expected)
    assert str(caught.value).endswith("; stop it, or set GREENROOM_PORT")


def test_an_address_of_another_machine_is_named(follower: FakeFollower) -> None:
    with pytest.raises(ProcessError, match=r"cannot listen on 192\.0\.2\.1 port 8123: .*HOST"):
        bound(follower, host="192.0.2.1", port=8123, allow_open=True)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1"])
def test_other_machines_are_not_let_in_by_accident(host: str, follower: FakeFollower) -> None:
    with pytest.raises(SettingsError, match="GREENROOM_ALLOW_OPEN=1"):
        bound(follower, host=host, port=0)


def test_other_machines_are_let_in_when_that_is_meant(follower: FakeFollower) -> None:
    supervisor = bound(follower, host="0.0.0.0", port=0, allow_open=True)
    supervisor._listener.close()


def test_a_swap_is_seen_by_all_clients_of_two_workers_at_one_instant(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, workers=2, poll_interval_s=600.0) as server:
            await server.joined(2)
            answers: list[tuple[float, float, dict[str, Any]]] = []
            done = asyncio.Event()

            async def ask() -> None:
                while not done.is_set():
                    began = time.perf_counter()
                    answer = await server.get()
                    answers.append((began, time.perf_counter(), answer))

            clients = [asyncio.create_task(ask()) for _ in range(4)]
            for version in ("2", "3", "4"):
                follower.select(version)
                seen = len(answers)
                answer = await server.client.post(server.url + "/reload")
                assert answer.json()["generation"] == server.supervisor.status.generation
                after = await server.get()
                assert after["version"] == version, "a reload has returned: no old version any more"
                assert after["shown"] == after["generation"]
                await server.until(lambda seen=seen: len(answers) > seen + 20)
            done.set()
            await asyncio.gather(*clients)

            assert {answer["pid"] for _, _, answer in answers} == server.pids
            assert {answer["version"] for _, _, answer in answers} == {"1", "2", "3", "4"}
            for began, _, answer in answers:
                before = [other["generation"] for _, ended, other in answers if ended < began]
                assert answer["generation"] >= max(before, default=0)
            assert (await server.get())["loaded"] == [server.supervisor.status.generation]
            assert follower.accepted_versions == ["1", "2", "3", "4"]

    run(scenario())


def test_the_status_names_the_runtime_that_workers_really_answer_with(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        made = follower.version("1")
        compiled = msgspec.structs.replace(made.serving, runtime="compiled")
        follower.selected = msgspec.structs.replace(made, serving=compiled)
        async with serving(follower) as server:
            await server.until(lambda: follower.accepted_versions == ["1"])
            (model,) = server.supervisor.status.models
            assert model.serving.runtime == "native", "what the worker said"
            assert "its estimator serves" in model.problems[0]
            assert server.supervisor.status.health == "degraded"
            generation = server.supervisor.status.generation
            polls = follower.polls
            await server.until(lambda: follower.polls > polls + 2)
            assert server.supervisor.status.generation == generation, "that is nothing to swap for"

    run(scenario())


def test_a_version_that_does_not_load_leaves_the_last_good_one(follower: FakeFollower) -> None:
    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, workers=2) as server:
            await server.until(lambda: follower.accepted_versions == ["1"])
            # A worker that is still starting has no vote, and may be the one that fails.
            await server.joined(2)
            follower.select("2", "fail once")  # on one of the two workers
            await server.until(lambda: follower.rejections)
            assert follower.rejections == [("2", "it is broken")]
            await server.until(lambda: server.supervisor.status.models[0].problems)
            status = server.supervisor.status
            assert status.models[0].serving.version == "1"
            assert status.health == "degraded"
            assert "M version 2 was refused: it is broken" in server.events
            for _ in range(6):
                assert (await server.get())["version"] == "1"

            follower.selected = follower.version("3", "fail")
            with pytest.raises(VersionUnloadable, match="version 3 was refused: it is broken"):
                await server.supervisor.reload()
            follower.select("4")
            await server.until(lambda: follower.accepted_versions[-1] == "4")
            assert (await server.get())["loaded"] == [server.supervisor.status.generation]
            assert server.supervisor.status.health == "healthy"

    run(scenario())


def test_a_killed_worker_is_replaced_while_requests_go_on(follower: FakeFollower) -> None:
    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, workers=2) as server:
            await server.joined(2)
            victim, survivor = sorted(server.pids)
            failed = 0
            answered: set[object] = set()
            done = asyncio.Event()

            async def ask() -> None:
                nonlocal failed
                while not done.is_set():
                    try:
                        answered.add((await server.get())["pid"])
                    except httpx.TransportError:
                        failed += 1  # in flight on the worker that was killed

            clients = [asyncio.create_task(ask()) for _ in range(4)]
            await server.until(lambda: answered == {victim, survivor})
            os.kill(victim, signal.SIGKILL)
            await server.until(lambda: victim not in server.pids)
            await server.joined(2)
            (new,) = server.pids - {survivor}
            await server.until(lambda: new in answered)
            done.set()
            await asyncio.gather(*clients)
            assert failed <= len(clients)
            assert (
                f"(process {victim}) ended (SIGKILL); another one is started" in server.events[-1]
            )

    run(scenario())


def test_a_worker_that_hangs_while_it_loads_is_replaced_and_the_rest_swaps(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, workers=2, load_timeout_s=4.0) as server:
            await server.joined(2)
            before = server.pids
            follower.select("2", "hang once")
            await server.until(lambda: follower.accepted_versions[-1] == "2")
            assert follower.rejections == []
            await server.joined(2)
            assert len(server.pids & before) == 1
            assert any("did not answer in time and was killed" in text for text in server.events)
            for _ in range(6):
                assert (await server.get())["version"] == "2"

    run(scenario())


def test_a_version_that_kills_the_only_worker_twice_is_refused(follower: FakeFollower) -> None:
    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, workers=1) as server:
            follower.select("2", "die once")
            await server.until(lambda: follower.accepted_versions == ["1", "2"])
            assert (await server.get())["version"] == "2"
            follower.select("3", "die")
            await server.until(lambda: follower.rejections)
            assert follower.rejections == [("3", "the worker ended while it loaded it")]
            assert (await server.get())["version"] == "2"

    run(scenario())


def test_what_the_store_remembers_is_served_while_the_registry_is_still_away(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        follower.restored = follower.version("7")
        follower.selected = follower.version("8")
        follower.answers.clear()
        async with serving(follower) as server:
            try:
                assert (await server.get())["version"] == "7"
                assert server.supervisor.status.registry.state == "starting"
                assert server.supervisor.status.health == "degraded"
            finally:
                follower.answers.set()
            await server.until(lambda: follower.accepted_versions == ["8"])
            assert (await server.get())["version"] == "8"
            assert server.supervisor.status.health == "healthy"
            assert server.events[:3] == [
                "M: version 7 (Production) is served",
                "MLflow answers at http://registry",
                "M: version 8 (Production) is served",
            ]

    run(scenario())


def test_a_remembered_version_that_does_not_load_is_not_served(follower: FakeFollower) -> None:
    async def scenario() -> None:
        follower.restored = follower.version("7", "fail")
        follower.answers.clear()
        async with serving(follower) as server:
            try:
                assert (await server.get())["version"] == ""
                (model,) = server.supervisor.status.models
                assert model.serving is None
                assert model.problems == ("M version 7 does not load: it is broken",)
                assert follower.rejections == [("7", "it is broken")]
            finally:
                follower.answers.set()

    run(scenario())


def test_what_was_committed_is_given_up_when_it_loads_nowhere_any_more(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        deployment = follower.select("1")
        async with serving(follower, poll_interval_s=600.0) as server:
            await server.until(lambda: follower.accepted_versions == ["1"])
            (Path(deployment.directory) / "behaviour").write_text("fail")
            os.kill(*server.pids, signal.SIGKILL)
            await server.until(lambda: follower.rejections == [("1", "it is broken")])
            await server.joined(1)
            assert (await server.get())["version"] == ""

    run(scenario())


def test_a_registry_that_goes_away_is_noticed_long_before_the_next_poll(
    follower: FakeFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pursuit, "WATCH_INTERVAL_S", 0.05)
    monkeypatch.setattr(pursuit, "AWAY_INTERVAL_S", 0.05)

    box = EventBox(follower.folder)
    chronicle = Chronicle(box, ["M"], on_problem=pytest.fail)

    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, poll_interval_s=600.0, chronicle=chronicle) as server:
            await server.until(lambda: follower.accepted_versions == ["1"])
            polls = follower.polls
            follower.select("2")
            await asyncio.sleep(0.3)
            assert (await server.get())["version"] == "1"  # what is selected is not looked at
            assert follower.polls == polls
            follower.select("1")

            follower.registry = RegistryStatus(uri="http://registry", state="unavailable")
            await server.until(lambda: server.supervisor.status.health == "degraded")
            follower.registry = RegistryStatus(uri="http://registry", state="healthy")
            await server.until(lambda: server.supervisor.status.health == "healthy")
            assert (await server.get())["version"] == "1"

    run(scenario())
    noted = [event for _, event in box.waiting(100)]
    seen = [event.facts["status"] for event in noted if event.kind == "health"]
    assert seen[-3:] == ["healthy", "degraded", "healthy"], "it is noted for MLflow"
    assert [event.facts["version"] for event in noted if event.kind == "served"] == ["1"]


def test_a_reload_says_when_the_registry_is_away(follower: FakeFollower) -> None:
    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, poll_interval_s=600.0) as server:
            await server.until(lambda: follower.accepted_versions == ["1"])
            problem = "Failed to connect to MLflow at http://registry"
            follower.registry = RegistryStatus(
                uri="http://registry", state="unavailable", problem=problem
            )
            answer = (await server.client.post(server.url + "/reload")).json()
            assert answer == {"error": "RegistryUnavailable", "message": problem}
            assert (await server.get())["version"] == "1"
            assert server.supervisor.status.health == "degraded"
            assert problem in server.events
            with pytest.raises(RegistryUnavailable):
                await server.supervisor.reload()

    run(scenario())


def test_a_registry_that_cannot_be_followed_is_told_once_and_asked_again(
    follower: FakeFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        follower.select("1")
        async with serving(follower) as server:
            await server.until(lambda: follower.accepted_versions == ["1"])
            calls = 0

            def broken(*, force: bool = False) -> None:
                nonlocal calls
                calls += 1
                raise ValueError("a bug")

            with monkeypatch.context() as patch:
                patch.setattr(follower, "poll", broken)
                await server.until(lambda: calls >= 3)
            follower.select("2")
            await server.until(lambda: follower.accepted_versions == ["1", "2"])
            told = [text for text in server.events if "could not be followed" in text]
            assert told == ["the registry could not be followed: ValueError"]

    run(scenario())


def test_workers_that_never_start_end_the_server_with_their_last_line(
    follower: FakeFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_WORKER", "broken")

    async def scenario() -> None:
        async with serving(follower):
            pass

    with pytest.raises(ProcessError, match="workers do not start: this app is broken; mend it"):
        run(scenario())


def test_a_stop_lets_the_request_in_flight_finish(follower: FakeFollower) -> None:
    async def scenario() -> None:
        follower.select("1")
        async with serving(follower) as server:
            begun = follower.folder / "begun"
            slow = asyncio.create_task(server.get(f"/slow?1,{begun}"))
            await server.until(begun.exists)
            server.supervisor.stop()
            assert (await slow)["version"] == "1"
            await server.until(lambda: not server.pids)
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url, trust_env=False)

    run(scenario())


def test_a_second_ctrl_c_does_not_wait_for_requests(follower: FakeFollower) -> None:
    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, drain_timeout_s=100.0) as server:
            begun = follower.folder / "begun"
            slow = asyncio.create_task(server.get(f"/slow?100,{begun}"))
            await server.until(begun.exists)
            os.kill(os.getpid(), signal.SIGINT)
            await server.until(lambda: server.supervisor._stop.is_set())
            await asyncio.sleep(0.2)
            assert server.pids, "the first one waits for the request"
            os.kill(os.getpid(), signal.SIGINT)
            await server.until(lambda: not server.pids, timeout_s=5)
            with pytest.raises(httpx.TransportError):
                await slow

    run(scenario())


def test_a_server_with_an_empty_store_waits_a_moment_for_the_registry_and_then_says_so(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        follower.select("1")
        async with serving(follower) as server:
            await server.until(lambda: server.supervisor.status.models)
            assert "nothing is served" not in " ".join(server.events)
        follower.answers.clear()
        async with serving(follower) as server:
            try:
                assert (await server.get())["version"] == ""
                (model,) = server.supervisor.status.models
                assert model.problems == ("nothing is selected",)
            finally:
                follower.answers.set()
            await server.until(lambda: follower.accepted_versions == ["1", "1"])

    run(scenario())


def test_a_registry_that_is_being_started_is_not_called_unavailable(tmp_path: Path) -> None:
    follower = FakeFollower(tmp_path)
    starting = True

    async def scenario() -> None:
        nonlocal starting
        follower.restored = follower.select("1")
        follower.registry = RegistryStatus(uri="http://registry", state="unavailable", problem="x")
        async with serving(follower, registry_starts=lambda: starting) as server:
            await server.until(lambda: follower.polls > 1)
            assert server.supervisor.status.registry.state == "starting"
            starting = False
            await server.until(lambda: server.supervisor.status.registry.state == "unavailable")

    run(scenario())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_however_the_supervisor_ends(
    number: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, str(Path(__file__).with_name("fake_server.py")), str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        assert server.stdout is not None
        port, supervisor, *workers = map(int, server.stdout.readline().split())
        assert httpx.get(f"http://127.0.0.1:{port}/").json()["version"] == "1"
        server.send_signal(number)
        assert server.wait(20) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        assert len(workers) == 2
        until = time.monotonic() + 20
        while any(processes.identity(pid) for pid in workers) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(processes.identity(pid) for pid in [supervisor, *workers])


def test_a_first_use_that_fails_is_in_the_status_until_it_succeeds_or_its_worker_is_gone(
    follower: FakeFollower,
) -> None:
    follower.select("1")

    async def scenario() -> None:
        async with serving(follower, workers=2) as server:
            await server.joined(2)

            def problems() -> tuple[str, ...]:
                return server.supervisor.status.models[0].problems

            answer = await server.get("/trouble?broken")
            await server.until(lambda: problems() == ("broken",))
            assert server.supervisor.status.health == "degraded"
            assert server.events.count("broken") == 1
            while (await server.get("/trouble?"))["pid"] != answer["pid"]:
                pass
            await server.until(lambda: problems() == ())
            answer = await server.get("/trouble?broken")
            await server.until(lambda: problems() == ("broken",))
            os.kill(answer["pid"], signal.SIGKILL)
            await server.until(lambda: problems() == ())

    run(scenario())


def test_a_poll_that_left_something_is_followed_by_the_next_at_once(follower: FakeFollower) -> None:
    follower.select("1")
    follower.unfinished = 4

    async def scenario() -> None:
        async with serving(follower, poll_interval_s=600.0) as server:
            await server.until(lambda: follower.polls == 5)
            await asyncio.sleep(0.1)
            assert follower.polls == 5

    run(scenario())


def test_a_transition_is_shown_at_once_and_by_no_poll_that_asked_before(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, poll_interval_s=600.0) as server:
            await server.until(lambda: follower.accepted_versions == ["1"])

            def shown() -> dict[str, str]:
                return server.supervisor.status.models[0].latest_versions

            follower.answers.clear()
            under_way = asyncio.create_task(server.supervisor.reload())
            await asyncio.sleep(0.05)
            server.supervisor._pursuit.show_stages("M", {"Production": "2"})
            server.supervisor._pursuit.show_stages("other", {"Production": "9"})
            assert shown() == {"Production": "2"}
            follower.answers.set()
            await under_way
            assert shown() == {"Production": "2"}

            follower.registry = RegistryStatus(uri="http://registry", state="unavailable")
            with pytest.raises(RegistryUnavailable):
                await server.supervisor.reload()
            assert shown() == {"Production": "2"}
            follower.registry = RegistryStatus(uri="http://registry", state="healthy")
            await server.supervisor.reload()
            assert shown() == {}

    run(scenario())


class Failing:
    """Errands that fail in a way that nobody foresaw."""

    def run(self, errand: object) -> None:
        raise ZeroDivisionError


def test_an_errand_that_cannot_be_done_is_an_error_without_what_it_held(
    follower: FakeFollower,
) -> None:
    async def scenario() -> None:
        follower.select("1")
        for errands, message in (
            (None, "this server does not manage the registry"),
            (Failing(), "what was asked for failed: ZeroDivisionError"),
        ):
            async with serving(follower, registry_errands=errands) as server:
                await server.joined(1)
                assert await server.get("/list") == {"error": "ProcessError", "message": message}

    run(scenario())


def test_a_state_folder_that_cannot_be_written_is_in_the_status_and_requests_go_on(
    follower: FakeFollower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "watch", partial(watch, interval_s=0.05))
    home, away = tmp_path / "home", tmp_path / "away"

    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, home=home) as server:
            await server.joined(1)
            assert server.supervisor.status.problems == ()
            home.rename(away)
            home.write_text("a file where the folder was")
            await server.until(lambda: server.supervisor.status.problems)
            (problem,) = server.supervisor.status.problems
            assert f"the state folder {home} cannot be written" in problem
            assert server.supervisor.status.health == "degraded"
            assert (await server.get())["version"] == "1"
            home.unlink()
            away.rename(home)
            await server.until(lambda: not server.supervisor.status.problems)
            assert server.supervisor.status.health == "healthy"
            assert "the state folder can be written to again" in server.events

    run(scenario())


def test_what_the_store_could_not_remember_is_tried_again_and_served_meanwhile(
    follower: FakeFollower,
) -> None:
    class Full(FakeFollower):
        room = False

        def accepted(self, deployments: tuple[Deployment, ...]) -> None:
            if not self.room:
                raise ProcessError("the model store is full")
            super().accepted(deployments)

    full = Full(follower.folder)
    full.select("1")

    async def scenario() -> None:
        async with serving(full) as server:
            await server.joined(1)
            assert (await server.get())["version"] == "1"
            polls = full.polls
            await server.until(lambda: full.polls > polls + 2)
            assert server.events.count("the model store is full") == 1
            assert full.accepted_versions == []
            full.room = True
            await server.until(lambda: full.accepted_versions)
            assert set(full.accepted_versions) == {"1"}

    run(scenario())


def test_where_a_fallback_answers_the_registry_is_asked_again_soon(
    follower: FakeFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.supervision.pursuit.AWAY_INTERVAL_S", 0.05)
    selected = follower.select("1")
    serving_now = msgspec.structs.replace(selected.serving, source="fallback")
    follower.selected = msgspec.structs.replace(selected, serving=serving_now)

    async def scenario() -> None:
        async with serving(follower, poll_interval_s=600.0) as server:
            await server.joined(1)
            polls = follower.polls
            await server.until(lambda: follower.polls >= polls + 3)
            follower.select("2")
            await server.until(lambda: "2" in follower.accepted_versions)
            polls = follower.polls
            await asyncio.sleep(0.3)
            assert follower.polls == polls

    run(scenario())


def test_a_reload_where_the_registry_is_not_to_be_asked_is_no_failure(
    follower: FakeFollower,
) -> None:
    follower.select("1")
    follower.registry = RegistryStatus(uri="http://registry", state="disabled")

    async def scenario() -> None:
        async with serving(follower, poll_interval_s=600.0) as server:
            await server.joined(1)
            follower.select("2")
            status = await server.supervisor.reload()
            assert status.health == "healthy"
            assert status.models[0].serving.version == "2"
            assert "MLflow is not asked: mlflow_enabled is false" in server.events

    run(scenario())
