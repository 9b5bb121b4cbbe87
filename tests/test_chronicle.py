"""The chronicle notes what changes, and once a minute how the server is."""

from __future__ import annotations

import math

import msgspec
import pytest

from greenroom.errands import MoveVersion, VersionMoved
from greenroom.instruments import SupervisorInstruments, WorkerInstruments, read_totals
from greenroom.log.server_events import EventBox
from greenroom.status import ModelStatus, RegistryStatus, Status, VersionStatus
from greenroom.supervision.chronicle import Chronicle
from greenroom.vitals import Vitals

VITALS = Vitals(5.0, 0.002, 0.001, 0.03, 1e8, 5.0, 1e9, 2e9)


class Clock:
    s = 0.0

    def __call__(self) -> float:
        return self.s

    def us(self) -> int:
        return int(1_795_262_400_000_000 + self.s * 1e6)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def box(tmp_path):
    return EventBox(tmp_path)


@pytest.fixture
def chronicle(box, clock):
    return Chronicle(box, ["m"], on_problem=pytest.fail, clock_s=clock, now_us=clock.us)


def status(version="3", *, registry="healthy", **more):
    serving = VersionStatus(version=version, stage="Production", run_id="r") if version else None
    model = ModelStatus(name="m", selector="Production", route="/predict", serving=serving, **more)
    return Status(
        app="a",
        greenroom_version="0",
        started_at="",
        registry=RegistryStatus(uri="http://mlflow", state=registry),
        models=(model,),
    )


def asked(version):
    return MoveVersion(
        name="m", version=version, stage="Production", archive_existing=True, who="ada"
    )


def noted(box, *kinds):
    return [event for _, event in box.waiting(100) if event.kind in kinds]


def test_a_version_that_is_taken_up_is_noted_with_the_one_before(box, clock, chronicle):
    for version in ("3", "3", "4", "3"):
        clock.s += 1
        chronicle.show(status(version))
    events = noted(box, "served")
    assert [(one.facts["version"], one.facts["from_version"]) for one in events] == [
        ("3", ""),
        ("4", "3"),
        ("3", "4"),
    ]
    assert [one.figures for one in events] == [{"served_version/m": n} for n in (3.0, 4.0, 3.0)]
    assert events[0].facts["stage"] == "Production"


def test_that_nothing_is_served_any_more_is_noted_too(box, chronicle):
    chronicle.show(status("3"))
    chronicle.show(status(""))
    last = noted(box, "served")[-1]
    assert (last.figures, last.facts["from_version"]) == ({"served_version/m": 0.0}, "3")
    assert "version" not in last.facts


def test_versions_of_a_model_that_does_not_log_to_mlflow_are_not_noted(box, clock):
    quiet = Chronicle(box, ["other"], on_problem=pytest.fail, now_us=clock.us)
    quiet.show(status())
    moved = VersionMoved(
        name="m",
        version="3",
        stage="Production",
        from_stage="None",
        archived=(),
        changed=True,
        latest_versions={},
    )
    quiet.moved(asked("3"), moved)
    assert noted(box, "served", "transition") == []


def test_health_is_noted_when_it_changes_with_what_is_wrong(box, clock, chronicle):
    problem = "two versions are in Production: " + "x" * 10_000
    for one in (status(), status("4"), status(problems=(problem,)), status()):
        clock.s += 1
        chronicle.show(one)
    events = noted(box, "health")
    assert [one.facts["status"] for one in events] == ["healthy", "degraded", "healthy"]
    assert [one.figures["health/healthy"] for one in events] == [1.0, 0.0, 1.0]
    assert len(msgspec.json.encode(events[1].facts)) < 8_000
    assert events[1].facts["problems"][0].startswith("two versions are in Production")


def test_a_registry_that_goes_away_is_noted(box, chronicle):
    chronicle.show(status())
    chronicle.show(status(registry="unavailable"))
    last = noted(box, "health")[-1]
    assert last.facts["registry_access"] == "unavailable"
    assert (last.figures["health/registry_access"], last.figures["health/serving"]) == (0.0, 1.0)


def test_a_transition_that_a_caller_asked_for_is_noted_if_it_changed_anything(box, chronicle):
    done = VersionMoved(
        name="m",
        version="4",
        stage="Production",
        from_stage="Staging",
        archived=("3",),
        changed=True,
        latest_versions={},
    )
    chronicle.moved(asked("4"), done)
    chronicle.moved(asked("4"), msgspec.structs.replace(done, changed=False))
    (event,) = noted(box, "transition")
    assert event.facts == {
        "model": "m",
        "version": "4",
        "from_stage": "Staging",
        "stage": "Production",
        "archived": ["3"],
        "who": "ada",
    }


def test_every_minute_the_health_is_noted_in_numbers(box, clock, chronicle):
    supervisor = SupervisorInstruments(1)
    worker = WorkerInstruments(supervisor.memory, seat=supervisor.take_seat())
    answers = worker.predictions("/predict", "m", "3")

    def sample(seconds):
        clock.s += seconds
        chronicle.sampled(status(), VITALS, lambda: read_totals(supervisor.memory))

    for _ in range(3):
        answers.answered(0.002)
    answers.refused(500, 0.002)
    worker.page("/health", 500, 0.001)
    sample(59)
    assert noted(box, "sample") == []
    sample(1)
    answers.refused(422, 0.002)
    sample(60)
    sample(60)
    one, two, three = (event.figures for event in noted(box, "sample"))
    assert (one["health/answers"], one["health/error_rate"]) == (4.0, 0.25)
    assert one["health/response_time_ms_p99"] == pytest.approx(30.0)
    assert (one["health/uptime_seconds"], one["health/mlflow_connection"]) == (60.0, 1.0)
    assert (two["health/answers"], two["health/error_rate"]) == (1.0, 0.0)
    assert three["health/answers"] == 0.0
    assert "health/error_rate" not in three, "of nothing there is no share"
    supervisor.memory.close()


def test_what_is_not_known_is_left_out_of_a_sample(box, clock, chronicle):
    supervisor = SupervisorInstruments(1)
    clock.s = 60.0
    unknown = Vitals(0.0, *[math.nan] * 7)
    chronicle.sampled(status(), unknown, lambda: read_totals(supervisor.memory))
    (event,) = noted(box, "sample")
    assert not [name for name in event.figures if "response_time" in name]
    supervisor.memory.close()


def test_a_disk_that_takes_nothing_is_named_once_and_stops_nothing(tmp_path):
    (tmp_path / "spool").write_text("no folder")
    told = []
    chronicle = Chronicle(EventBox(tmp_path / "spool"), ["m"], on_problem=told.append)
    chronicle.show(status("3"))
    chronicle.show(status("4"))
    assert len(told) == 1
    assert "not noted for MLflow" in told[0]
