"""What goes to MLflow, seen by a real MLflow: away and back, nothing twice, each at its time."""

from __future__ import annotations

import io
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from for_mlflow import (
    MINUTE_US,
    NOON_US,
    RUN,
    SECOND_US,
    Killed,
    moved,
    predicted,
    send_all,
    sending,
)
from greenroom.errors import RegistryUnavailable
from greenroom.log.forgetting import Condition
from greenroom.log.mlflow_forgetting import InMlflow, forget_batches
from greenroom.log.mlflow_planning import Plan, Planner
from greenroom.log.mlflow_runs import MlflowRuns
from greenroom.log.mlflow_sending import Sending
from greenroom.log.outbox import Outbox, OutboxBalance
from greenroom.log.spool import Spool
from greenroom.registry.artifacts import PROXY
from greenroom.registry.mlflow_rest import MlflowRest
from greenroom.unfinished_runs import end_runs

pytestmark = pytest.mark.slow


@pytest.fixture
def rest(mlflow_server):
    with MlflowRest(mlflow_server, timeout_s=30, environment={}) as opened:
        yield opened


def sending_to(rest, outbox, experiment, mode="each", on_step=lambda _: None):
    planner = Planner(outbox, Plan({"m": mode}, 10, 100_000))
    return Sending(outbox, planner, MlflowRuns(rest, experiment, outbox.spool_id), on_step=on_step)


def ends_at(wanted):
    def on_step(step):
        if step == wanted:
            raise Killed(step)

    return on_step


def again(folder):
    """The outbox, as the next process finds it."""
    return Outbox(Spool(folder / "spool"))


def runs_of(rest, experiment):
    found = rest.get("experiments/get-by-name", experiment_name=experiment)["experiment"]
    body = {"experiment_ids": [found["experiment_id"]], "max_results": 10}
    return rest.post("runs/search", body).get("runs", [])


def points(rest, run_id, metric):
    found = rest.get("metrics/get-history", run_id=run_id, metric_key=metric, max_results=10_000)
    return sorted(
        (int(one.get("step", 0)), int(one["timestamp"]), one["value"])
        for one in found.get("metrics", [])
    )


def test_a_real_mlflow_has_every_prediction_once_after_it_was_away_and_kills_in_between(
    tmp_path, rest
):
    values = [n / 1_000 for n in range(1_100)]
    outbox = moved(tmp_path, predicted(values[:600], every_us=1_000))
    with pytest.raises(RegistryUnavailable):
        send_all(sending(outbox, "http://127.0.0.1:9"))
    moved(tmp_path, predicted(values[600:], at_us=NOON_US + SECOND_US, every_us=1_000))
    # Killed after each call that MLflow has carried out, before that is noted.
    for step in ("note run", "note", "note"):
        with pytest.raises(Killed):
            send_all(sending_to(rest, outbox, "away", on_step=ends_at(step)))
        outbox = again(tmp_path)
    send_all(sending_to(rest, outbox, "away"))
    (run,) = runs_of(rest, "away")
    assert run["info"]["run_name"] == RUN
    assert points(rest, run["info"]["run_id"], "probability") == [
        (step, NOON_US // 1_000 + (step if step < 600 else 400 + step), value)
        for step, value in enumerate(values)
    ]
    assert outbox.balance() == OutboxBalance(2, 1_100, 0, 0, 0)


def test_a_real_mlflow_keeps_the_file_and_the_figures_of_a_batch_once(tmp_path, rest):
    outbox = moved(tmp_path, predicted([n / 100 for n in range(20)]))
    with pytest.raises(Killed):
        send_all(sending_to(rest, outbox, "batches", "batch", on_step=ends_at("note")))
    send_all(sending_to(rest, again(tmp_path), "batches", "batch"))
    (run,) = runs_of(rest, "batches")
    sizes = points(rest, run["info"]["run_id"], "batch/predictions")
    assert [(step, value) for step, _, value in sizes] == [(0, 10.0), (1, 10.0)]
    root = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/").strip("/")
    seen = []
    for number in range(2):
        path = f"{root}/predictions/batch-{number:06d}.parquet"
        with rest.download(f"{PROXY}/{quote(path)}") as chunks:
            seen += pq.read_table(io.BytesIO(b"".join(chunks)))["x"].to_pylist()
    assert seen == [n / 100 for n in range(20)]

    few = Condition("x < 0.05")
    assert forget_batches(rest, "m", few, set()) == InMlflow(5)
    assert forget_batches(rest, "m", few, set()) == InMlflow(0)
    with rest.download(f"{PROXY}/{quote(root)}/predictions/batch-000000.parquet") as chunks:
        left = pq.read_table(io.BytesIO(b"".join(chunks)))["x"].to_pylist()
    assert left == [n / 100 for n in range(5, 10)]


def test_a_real_mlflow_keeps_the_figures_of_a_minute(tmp_path, rest):
    outbox = moved(tmp_path, predicted([0.1, 0.3]), predicted([0.5], at_us=NOON_US + MINUTE_US))
    send_all(sending_to(rest, outbox, "minutes", "summary"))
    (run,) = runs_of(rest, "minutes")
    found = points(rest, run["info"]["run_id"], "minute/probability_mean")
    assert found == [(0, NOON_US // 1_000, 0.2), (1, NOON_US // 1_000 + 60_000, 0.5)]


def test_a_real_mlflow_shows_the_runs_of_a_killed_job_as_failed_and_no_others(rest):
    rest.post("experiments/create", {"name": "jobs"})
    found = rest.get("experiments/get-by-name", experiment_name="jobs")["experiment"]

    def run(**tags):
        listed = [{"key": key, "value": value} for key, value in tags.items()]
        body = {"experiment_id": found["experiment_id"], "start_time": 1, "tags": listed}
        return rest.post("runs/create", body)["run"]["info"]["run_id"]

    parent = run(**{"greenroom.job": "killed"})
    child = run(**{"mlflow.parentRunId": parent})
    other = run(**{"greenroom.job": "another"})
    assert end_runs(rest, "killed", "its process was killed (SIGKILL)") == 2
    assert end_runs(rest, "killed", "again") == 0
    infos = {one["info"]["run_id"]: one for one in runs_of(rest, "jobs")}
    states = {run_id: one["info"]["status"] for run_id, one in infos.items()}
    assert states == {parent: "FAILED", child: "FAILED", other: "RUNNING"}
    assert infos[parent]["info"]["end_time"] > 1_000
    tags = {tag["key"]: tag["value"] for tag in infos[parent]["data"]["tags"]}
    assert tags["greenroom.problem"] == "its process was killed (SIGKILL)"
