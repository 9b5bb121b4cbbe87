"""Hot reload: which files are watched, when a change counts, and what real workers make of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import builders
from fake_server import FakeFollower, Server, serving
from greenroom.errors import SettingsError
from greenroom.settings import Settings
from greenroom.supervision.code_watch import CodeWatch, taken_up, watched_files
from greenroom.supervision.worker_process import COMMAND
from keep_alive import post, under_load

VIEW = """
from greenroom import App, Column, Gate, Model, Route, classification

from .words import WORD

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
    routes=[Route("GET", "/word", lambda status: {"word": WORD})],
)
"""


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 90))


def test_code_and_settings_are_watched_and_data_logged_models_and_state_are_not(tmp_path):
    watched = ["app.py", "greenroom.yaml", "parts/one.py", "parts/deep/two.py", "parts/a.yml"]
    passed_over = [
        "data/rows.csv",
        "README.md",
        ".greenroom/store/1/greenroom/features.py",
        "mlruns/1/models/m-1/artifacts/greenroom/features.py",
        "mlruns/1/models/m-1/artifacts/conda.yaml",
        "parts/__pycache__/one.py",
        ".hidden.py",
    ]
    for name in watched + passed_over:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = {str(path.relative_to(tmp_path)) for path in watched_files(tmp_path)}
    assert found == set(watched)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("greenroom.supervision.code_watch.LOOK_EVERY_S", 0.05)


class Watched:
    def __init__(self, folder: Path, error: Exception | None = None) -> None:
        self.told: list[str] = []
        self.events: list[str] = []
        self.error = error
        self.watch = CodeWatch(folder, self._changed, on_event=self.events.append)

    async def _changed(self, names: str) -> None:
        self.told.append(names)
        if self.error is not None:
            raise self.error

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.told) < count:
                await asyncio.sleep(0.01)


def test_what_is_changed_new_or_gone_is_told_once_it_holds_still(tmp_path, quick):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("1")

    async def main():
        watched = Watched(tmp_path)
        task = asyncio.create_task(watched.watch.run())
        await asyncio.sleep(0.2)
        assert watched.told == []
        for n in range(20):
            (tmp_path / "a.py").write_text("1" * n)
            await asyncio.sleep(0.01)
        (tmp_path / "b.py").unlink()
        for name in "cdef":
            (tmp_path / f"{name}.py").write_text("")
        await watched.until(1)
        assert watched.told == ["a.py, b.py, c.py and 3 more"]
        (tmp_path / "notes.txt").write_text("")
        await asyncio.sleep(0.2)
        assert len(watched.told) == 1
        task.cancel()

    run(main())


def test_settings_that_cannot_be_taken_up_are_said_and_the_watch_goes_on(tmp_path, quick):
    async def main():
        watched = Watched(tmp_path, SettingsError("greenroom.yaml: port must be a number"))
        task = asyncio.create_task(watched.watch.run())
        await asyncio.sleep(0.1)
        for n in (1, 2):
            (tmp_path / "greenroom.yaml").write_text("port: x" * n)
            await watched.until(n)
        await asyncio.sleep(0.05)
        assert watched.events[0] == (
            "greenroom.yaml changed, and is not taken up: greenroom.yaml: port must be a number"
        )
        task.cancel()

    run(main())


def test_a_running_server_goes_over_to_what_workers_alone_read():
    wanted = Settings(max_in_flight=3, workers=4, port=9000)
    settings, rest = taken_up(Settings(), wanted)
    assert (settings.max_in_flight, settings.workers, settings.port) == (3, 1, 8000)
    assert rest == ("port", "workers")


@pytest.fixture
def follower(tmp_path: Path) -> FakeFollower:
    (tmp_path / "app.py").write_text(VIEW)
    (tmp_path / "words.py").write_text("WORD = 'one'\n")
    follower = FakeFollower(tmp_path)
    follower.select("1")
    builders.version(tmp_path / "version 1")
    return follower


async def _says(server: Server, word: str) -> None:
    async with asyncio.timeout(40):
        while (await server.get("/word")).get("word") != word:
            await asyncio.sleep(0.05)


@pytest.mark.slow
def test_changed_code_is_served_without_a_failed_request_and_broken_code_never(follower):
    settings = Settings(max_in_flight=7)

    async def main():
        async with serving(
            follower,
            command=COMMAND,
            app_folder=follower.folder,
            reload_on_change=True,
            load_timeout_s=60.0,
            reread=lambda: settings,
        ) as server:
            await server.joined(1)
            request = post("/models/m/predict", {"a": 1.5, "b": 3})
            async with under_load(server.supervisor.address, 0.002, 0.05, request=request) as load:
                await _says(server, "one")
                words = follower.folder / "words.py"
                words.write_text("WORD = 'second'\n")
                await _says(server, "second")
                await server.until(lambda: server.supervisor.status.restart.state == "done", 60)

                words.write_text("WORD = 'third'\nif True\n")
                await server.until(lambda: server.supervisor.status.restart.state == "failed", 60)
                told = [text for text in server.events if text.startswith("the restart stopped")]
                assert len(told) == 1
                assert "words.py:2: SyntaxError: expected ':'" in told[0]
                assert "\n" not in told[0]
                assert (await server.get("/word"))["word"] == "second"
                pids = server.pids

                words.write_text("WORD = 'fourth'\n")
                await _says(server, "fourth")
                assert server.pids != pids
                await server.until(lambda: server.supervisor.status.restart.state == "done", 60)
            assert load.failures == []
            assert "words.py changed" in server.events
            assert server.supervisor.settings.max_in_flight == 7

    run(main())


def test_nothing_is_watched_where_the_setting_does_not_say_so(follower, quick):
    async def main():
        async with serving(follower, app_folder=follower.folder) as server:
            await server.joined(1)
            pids = server.pids
            (follower.folder / "words.py").write_text("WORD = 'other'\n")
            await asyncio.sleep(0.4)
            assert server.pids == pids
            assert server.supervisor.status.restart is None

    run(main())
