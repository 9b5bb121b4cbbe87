"""What a server notes of itself is in MLflow once, however often it is sent."""

from __future__ import annotations

import json
import shutil

import pytest

from fake_mlflow import fake_mlflow
from for_mlflow import MINUTE_US, NOON_US, RUN, moved, predicted
from greenroom.errors import RegistryError, RegistryUnavailable
from greenroom.log.mlflow_events import EventSending
from greenroom.log.mlflow_runs import MlflowRuns
from greenroom.log.mlflow_sender import MlflowSender
from greenroom.log.mlflow_setup import MlflowSetup
from greenroom.log.outbox import Outbox
from greenroom.log.server_events import EventBox, ServerEvent
from greenroom.log.spool import Spool
from greenroom.registry.mlflow_rest import MlflowRest

DAY_US = 24 * 60 * MINUTE_US
SERVER = "server 2026-11-21"


@pytest.fixture
def mlflow():
    with fake_mlflow() as fake:
        yield fake


@pytest.fixture
def box(tmp_path):
    return EventBox(tmp_path / "spool")


def sample(n, at_us=NOON_US):
    return ServerEvent(
        at_us=at_us + n * MINUTE_US, kind="sample", figures={"health/healthy": float(n)}
    )


def taken_up(version, at_us=NOON_US):
    figures = {"served_version/m": float(version)}
    facts = {"model": "m", "version": version}
    return ServerEvent(at_us=at_us, kind="served", figures=figures, facts=facts)


def sending(mlflow, box, spool_id="s"):
    return EventSending(box, MlflowRuns(MlflowRest(mlflow.uri, environment={}), "e", spool_id))


def send_all(one):
    while one.send():
        pass


def test_figures_are_metrics_by_the_second_of_the_day_and_facts_are_tags(mlflow, box):
    for event in (taken_up("3"), sample(0), sample(1)):
        box.note(event)
    send_all(sending(mlflow, box))
    noon_s, noon_ms = 43_200, NOON_US // 1_000
    assert mlflow.points(SERVER, "served_version/m") == [(noon_s, noon_ms, 3.0)]
    assert mlflow.points(SERVER, "health/healthy") == [
        (noon_s, noon_ms, 0.0),
        (noon_s + 60, noon_ms + 60_000, 1.0),
    ]
    told = json.loads(mlflow.tags(SERVER)["served.20261121T120000.000000Z"])
    assert told == {"model": "m", "version": "3"}
    assert mlflow.n_batches == 1
    assert box.empty


def test_what_was_sent_and_not_removed_is_sent_again_and_is_there_once(mlflow, box, tmp_path):
    box.note(taken_up("3"))
    box.note(sample(1))
    shutil.copytree(box.folder, tmp_path / "before")
    send_all(sending(mlflow, box))
    shutil.copytree(tmp_path / "before", box.folder, dirs_exist_ok=True)
    send_all(sending(mlflow, box))
    assert len(mlflow.runs) == 1
    assert len(mlflow.points(SERVER, "served_version/m")) == 1
    assert len(mlflow.points(SERVER, "health/healthy")) == 1
    assert len([name for name in mlflow.tags(SERVER) if name.startswith("served.")]) == 1


def test_events_wait_while_mlflow_is_away(mlflow, box):
    box.note(taken_up("3"))
    one = sending(mlflow, box)
    mlflow.away = True
    with pytest.raises(RegistryUnavailable):
        one.send()
    box.note(taken_up("4", NOON_US + MINUTE_US))
    mlflow.away = False
    send_all(one)
    assert [value for _, _, value in mlflow.points(SERVER, "served_version/m")] == [3.0, 4.0]


def test_each_day_has_a_run_and_those_that_are_over_stand_there_as_finished(mlflow, box):
    for n in range(3):
        box.note(sample(1, NOON_US + n * DAY_US))
        send_all(sending(mlflow, box))  # a process of its own: it remembers no run
    states = {run["info"]["run_name"]: run["info"]["status"] for run in mlflow.runs.values()}
    assert states == {
        SERVER: "FINISHED",
        "server 2026-11-22": "FINISHED",
        "server 2026-11-23": "RUNNING",
    }


def test_another_server_has_runs_of_its_own(mlflow, box):
    for spool_id in ("one", "two"):
        box.note(sample(1))
        send_all(sending(mlflow, box, spool_id))
    assert [run["info"]["status"] for run in mlflow.runs.values()] == ["RUNNING", "RUNNING"]


def test_no_call_holds_more_than_mlflow_takes(mlflow, box):
    figures = {f"health/{n}": 1.0 for n in range(400)}
    for n in range(5):
        box.note(ServerEvent(at_us=NOON_US + n, kind="sample", figures=figures))
    send_all(sending(mlflow, box))
    assert mlflow.largest == 800
    assert mlflow.n_batches == 3


def test_a_run_that_was_deleted_is_given_another_one(mlflow, box):
    one = sending(mlflow, box)
    box.note(sample(1))
    send_all(one)
    mlflow.runs[mlflow.run(SERVER)]["info"]["lifecycle_stage"] = "deleted"
    box.note(sample(2))
    with pytest.raises(RegistryError):
        one.send()
    send_all(one)
    assert len(mlflow.runs) == 2
    assert box.empty


def test_the_sender_sends_events_also_where_mlflow_refuses_predictions(tmp_path, mlflow, box):
    moved(tmp_path, predicted([0.1]))
    outbox = Outbox(Spool(tmp_path / "spool"))
    setup = MlflowSetup(
        tracking_uri=mlflow.uri, experiment="e", modes={"m": "each"}, batch_size=10, max_waiting=10
    )
    one = MlflowSender(setup, outbox, ship_interval_s=0.05, events=box)
    assert one.round()
    mlflow.runs[mlflow.run(RUN)]["info"]["lifecycle_stage"] = "deleted"
    moved(tmp_path, predicted([0.2], at_us=NOON_US + MINUTE_US))
    box.note(taken_up("3"))
    assert not one.round()
    assert box.empty
    assert mlflow.points(SERVER, "served_version/m")
    assert one.round(), "the predictions have a run again"
