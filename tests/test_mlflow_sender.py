"""The sender's thread, what it is set up with, and the error rates that it watches."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace

import pytest

from fake_mlflow import fake_mlflow
from for_mlflow import MINUTE_US, NOON_US, RUN, moved, predicted, version
from greenroom.app_loading import load_app
from greenroom.instruments import SupervisorInstruments, WorkerInstruments, read_totals
from greenroom.log.error_rates import ErrorRates
from greenroom.log.mlflow_sender import MlflowSender
from greenroom.log.mlflow_setup import MlflowSetup, mlflow_setup, models_for_mlflow
from greenroom.log.outbox import Outbox, OutboxBalance, RunKey
from greenroom.log.spool import Spool
from greenroom.settings import Settings
from misbehaving import says, server
from sample_app import write_app
from waiting import wait_for


def sender(outbox, uri, **more):
    setup = MlflowSetup(
        tracking_uri=uri, experiment="e", modes={"m": "each"}, batch_size=10, max_waiting=1_000
    )
    return MlflowSender(setup, outbox, ship_interval_s=0.05, **more)


def test_an_mlflow_that_is_away_is_named_once_and_once_more_when_it_is_back(tmp_path, caplog):
    outbox = moved(tmp_path, predicted([0.1, 0.2]))
    with fake_mlflow() as mlflow, caplog.at_level(logging.WARNING):
        mlflow.away = True
        one = sender(outbox, mlflow.uri)
        assert [one.round() for _ in range(3)] == [False, False, False]
        mlflow.away = False
        assert one.round()
        assert outbox.balance().n_sent == 2
    away, back = (record.getMessage() for record in caplog.records)
    assert "predictions for MLflow wait on disk: Failed to connect to MLflow" in away
    assert "go to MLflow again, after 3 tries" in back


def test_what_comes_is_sent_in_a_thread_and_the_rest_at_the_end(tmp_path):
    spool = Spool(tmp_path / "spool")
    with fake_mlflow() as mlflow:
        one = sender(Outbox(spool), mlflow.uri)
        one.start()
        moved(tmp_path, predicted([0.1]))
        wait_for(lambda: mlflow.n_batches == 1, "it is sent", within_s=30)
        moved(tmp_path, predicted([0.2], at_us=NOON_US + MINUTE_US))
        one.stop(grace_s=10.0)
        assert [value for _, _, value in mlflow.points(RUN, "probability")] == [0.1, 0.2]


def test_an_mlflow_that_hangs_does_not_hold_up_the_end(tmp_path):
    outbox = moved(tmp_path, predicted([0.1]))
    released = threading.Event()

    def hang(*_):
        released.wait(20)
        return says(200, {})()

    with server(hang) as uri:
        one = sender(outbox, uri)
        one.start()
        wait_for(lambda: bool(server.seen), "MLflow is asked", within_s=30)
        began_s = time.monotonic()
        one.stop(grace_s=0.1)
        assert time.monotonic() - began_s < 2
        released.set()
    assert outbox.balance() == OutboxBalance(0, 0, 1, 0, 0)


def test_after_an_error_of_the_disk_what_is_on_disk_counts(tmp_path, monkeypatch):
    outbox = moved(tmp_path, predicted([0.1]))
    with fake_mlflow() as mlflow:
        one = sender(outbox, mlflow.uri)

        def full(state):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(outbox, "save", full)
            assert not one.round()
        moved(tmp_path, predicted([0.2], at_us=NOON_US - MINUTE_US))
        assert one.round()
        # Nothing had been noted of the first plan, so both went together.
        assert [value for _, _, value in mlflow.points(RUN, "probability")] == [0.1, 0.2]
        assert outbox.balance() == OutboxBalance(1, 2, 0, 0, 0)


def test_whatever_goes_wrong_is_logged_and_the_thread_goes_on(tmp_path, caplog, monkeypatch):
    outbox = moved(tmp_path, predicted([0.1]))
    with fake_mlflow() as mlflow:
        one = sender(outbox, mlflow.uri)
        with monkeypatch.context() as patched:
            patched.setattr(outbox, "state", lambda: 1 / 0)
            assert [one.round(), one.round()] == [False, False]
        assert [record.exc_info is not None for record in caplog.records] == [True]
        assert one.round()
    assert outbox.balance().n_sent == 1


def test_where_several_models_are_logged_the_names_of_runs_say_which(tmp_path):
    other = version(2, model="n", name="n")
    outbox = moved(tmp_path, predicted([0.1]) + predicted([0.2], of=other))
    with fake_mlflow() as mlflow:
        setup = MlflowSetup(
            tracking_uri=mlflow.uri,
            experiment="e",
            modes={"m": "each", "n": "each"},
            batch_size=10,
            max_waiting=1_000,
        )
        assert MlflowSender(setup, outbox, ship_interval_s=0.05).round()
        assert {run["info"]["run_name"] for run in mlflow.runs.values()} == {
            "predictions m v3 2026-11-21",
            "predictions n v3 2026-11-21",
        }


def test_an_empty_outbox_asks_mlflow_nothing(tmp_path):
    assert sender(Outbox(Spool(tmp_path / "spool")), "http://127.0.0.1:9").round()


def test_the_error_rate_of_a_minute_is_of_its_own_version_and_minute():
    supervisor = SupervisorInstruments(1)
    worker = WorkerInstruments(supervisor.memory, seat=supervisor.take_seat())
    answers = worker.predictions("/predict", "m", "3")
    other = worker.predictions("/predict", "m", "4")
    rates = ErrorRates(lambda: read_totals(supervisor.memory))
    answers.answered(0.1)
    rates.watch(NOON_US)
    for _ in range(7):
        answers.answered(0.1)
    answers.refused(503, 0.1)
    answers.refused(422, 0.1)
    answers.refused(500, 0.1)
    other.refused(500, 0.1)
    rates.watch(NOON_US + 30_000_000)
    rates.watch(NOON_US + MINUTE_US + 900_000)
    answers.refused(503, 0.1)
    rates.watch(NOON_US + 2 * MINUTE_US + 30_000_000)
    key = RunKey("2026-11-21", "model", "m", "3")
    assert rates.rate(key, NOON_US) == pytest.approx(0.2)
    assert rates.rate(RunKey("2026-11-21", "model", "m", "5"), NOON_US) is None
    assert rates.rate(key, NOON_US + MINUTE_US) is None, "its end was not seen in time"
    supervisor.memory.close()


@pytest.mark.parametrize(
    ("changes", "models"),
    [
        ({}, {"sample"}),
        ({"mlflow_log": False}, set()),
        ({"mlflow_enabled": False}, set()),
    ],
)
def test_the_settings_decide_whether_an_apps_models_are_logged(tmp_path, changes, models):
    app = load_app(write_app(tmp_path, "sample"))
    logged = replace(app.models[0], name="sample", mlflow_log="batch")
    app = replace(app, models=(logged, replace(logged, name="quiet", mlflow_log="", route="/q")))
    assert models_for_mlflow(Settings(**changes), app) == models
    assert models_for_mlflow(Settings(**changes), None) == set()


def test_the_settings_say_where_how_many_and_to_which_experiment(tmp_path):
    app = load_app(write_app(tmp_path, "sample"))
    app = replace(app, models=(replace(app.models[0], mlflow_log="batch"),))
    setup = mlflow_setup(Settings(), app)
    assert setup.experiment == app.experiment
    assert setup.modes == {app.models[0].name: "batch"}
    said = Settings(
        mlflow_log_experiment="other",
        mlflow_batch_size=7,
        mlflow_max_waiting=8,
        tracking_uri="http://mlflow",
        mlflow_log=False,
    )
    setup = mlflow_setup(said, app)
    assert setup is not None, "what waits was promised"
    assert (setup.experiment, setup.batch_size, setup.max_waiting) == ("other", 7, 8)
    assert setup.tracking_uri == "http://mlflow"
