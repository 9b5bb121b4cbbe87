"""What watches a server runs beside it, and never takes it down."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys

import msgspec
import pytest

from greenroom.findings import findings_file
from greenroom.instruments import SupervisorInstruments, WorkerInstruments, read_totals
from greenroom.settings import Settings
from greenroom.status import ModelStatus, RegistryStatus, Status, VersionStatus
from greenroom.supervision.server_monitoring import ServerMonitoring, Watched

AWAY = Status(
    app="a",
    greenroom_version="0",
    started_at="2026-11-18T11:06:40.000Z",
    generation=1,
    registry=RegistryStatus(
        uri="http://mlflow", state="unavailable", since="2026-11-18T11:06:40.000Z"
    ),
)


@pytest.fixture
def instruments():
    made = SupervisorInstruments(1)
    yield made
    made.memory.close()


def watch(monitoring, watched, until):
    async def scenario():
        task = asyncio.create_task(monitoring.run(watched))
        async with asyncio.timeout(20):
            while not until():
                assert not task.done()
                await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_what_fires_is_shown_once_and_every_look_is_noted(tmp_path, instruments):
    shown, events = [], []
    settings = Settings(home=str(tmp_path), alert_interval_s=0.1, alert_registry_s=1.0)
    monitoring = ServerMonitoring(settings, on_event=events.append)
    looked = []

    def until():
        looked.append(read_totals(instruments.memory).number("evaluated"))
        return len(set(looked)) > 4

    watch(monitoring, Watched(8000, instruments, lambda: AWAY, shown.append), until)
    assert len(shown) == 1
    assert shown[0][0].startswith("GreenroomRegistryStale")
    assert len(events) == 1
    assert (tmp_path / "alerts" / "8000.json").exists()


def test_a_fault_in_a_look_is_told_and_the_next_look_is_taken(tmp_path, instruments):
    events, calls = [], []

    def status():
        calls.append(1)
        if len(calls) < 3:
            raise ZeroDivisionError("a fault")
        return AWAY

    settings = Settings(home=str(tmp_path), alert_interval_s=0.1, alert_registry_s=None)
    monitoring = ServerMonitoring(settings, on_event=events.append)
    watch(monitoring, Watched(8000, instruments, status, lambda _: None), lambda: len(calls) > 4)
    assert events == ["monitoring: ZeroDivisionError: a fault"] * 2


def test_findings_that_cannot_be_read_are_told_once(tmp_path, instruments):
    findings_file(tmp_path).parent.mkdir()
    findings_file(tmp_path).write_text("{")
    events, calls = [], []

    def status():
        calls.append(1)
        return AWAY

    settings = Settings(home=str(tmp_path), alert_interval_s=0.1, alert_registry_s=None)
    monitoring = ServerMonitoring(settings, on_event=events.append)
    watch(monitoring, Watched(8000, instruments, status, lambda _: None), lambda: len(calls) > 4)
    assert len(events) == 1
    assert "run `greenroom monitor` again" in events[0]


def test_an_app_is_monitored_as_a_whole_and_without_one_each_version_that_was_asked(
    tmp_path, instruments
):
    worker = WorkerInstruments(instruments.memory, seat=instruments.take_seat())
    for model in ("asked", "not asked", "gone"):
        answers = worker.predictions("/predict", model, "1")
        if model != "not asked":
            answers.answered(0.001)
    serving = VersionStatus(version="1", stage="Production")
    models = tuple(
        ModelStatus(name=name, selector="Production", route="/", serving=version)
        for name, version in (("asked", serving), ("not asked", serving), ("gone", None))
    )
    status = msgspec.structs.replace(AWAY, models=models)
    watched = Watched(8000, instruments, lambda: status, print)
    settings = Settings(home=str(tmp_path))
    without = ServerMonitoring(settings, on_event=print)
    assert without._subjects(watched) == ["asked/1"]
    with_app = ServerMonitoring(settings, app_folder=tmp_path, on_event=print)
    assert with_app._subjects(watched) == [str(tmp_path)]


def test_a_server_that_stops_waits_until_its_monitoring_run_has_been_ended(tmp_path, instruments):
    seen = []

    class Runs:
        async def run(self, subjects, on_ended):
            seen.append("begun")
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.2)  # as a process takes, to end when it is told to
                seen.append("ended")

    monitoring = ServerMonitoring(
        Settings(home=str(tmp_path), alert_interval_s=0.1), runs=Runs(), on_event=print
    )
    ended_by_then = []
    watched = Watched(8000, instruments, lambda: AWAY, lambda _: None)

    async def scenario():
        task = asyncio.create_task(monitoring.run(watched))
        while not seen:
            await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        ended_by_then.extend(seen)

    asyncio.run(scenario())
    assert ended_by_then == ["begun", "ended"]


def test_what_watches_a_server_brings_nothing_heavy_into_its_process():
    heavy = (
        "pyarrow",
        "scipy",
        "sklearn",
        "matplotlib",
        "pandas",
        "deltalake",
        "mlflow",
        "onnxruntime",
    )
    program = (
        "import sys; import greenroom.supervision.supervisor, greenroom.monitoring_wiring;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr
