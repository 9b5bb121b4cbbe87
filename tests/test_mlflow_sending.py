"""Sending: MLflow has every prediction once, in order, whatever ends the process in between."""

from __future__ import annotations

import io

import msgspec
import pyarrow.parquet as pq
import pytest

from fake_mlflow import fake_mlflow
from for_mlflow import (
    MINUTE_US,
    NOON_US,
    RUN,
    SECOND_US,
    Ends,
    Killed,
    moved,
    predicted,
    send_all,
    sending,
    shipped,
    spooled,
    version,
)
from greenroom.errors import RegistryError, RegistryUnavailable, SpoolCorrupt
from greenroom.log.log_tables import LogTables
from greenroom.log.outbox import Outbox, OutboxBalance
from greenroom.log.shipping import ship_all
from greenroom.log.spool import Balance, Spool
from greenroom.schema import Column


@pytest.fixture
def mlflow():
    with fake_mlflow() as fake:
        yield fake


def probabilities(mlflow, name=RUN):
    return [value for _, _, value in mlflow.points(name, "probability")]


def test_every_prediction_is_a_metric_with_its_step_and_time_in_the_run_of_its_version_and_day(
    tmp_path, mlflow
):
    evening = NOON_US + 12 * 60 * MINUTE_US
    outbox = moved(
        tmp_path,
        predicted([0.1, 0.2, 0.3]),
        predicted([0.4], at_us=NOON_US + MINUTE_US),
        predicted([0.5], at_us=NOON_US + 2 * MINUTE_US, of=version(version="4")),
        predicted([0.6], at_us=evening),
    )
    send_all(sending(outbox, mlflow.uri))
    noon = NOON_US // 1_000
    assert mlflow.points(RUN, "probability") == [
        (0, noon, 0.1),
        (1, noon + 1_000, 0.2),
        (2, noon + 2_000, 0.3),
        (3, noon + 60_000, 0.4),
    ]
    assert mlflow.points("predictions v4 2026-11-21", "probability") == [(0, noon + 120_000, 0.5)]
    assert probabilities(mlflow, "predictions v3 2026-11-22") == [0.6]
    assert mlflow.runs[mlflow.run(RUN)]["info"]["start_time"] == noon
    assert outbox.items() == []
    assert outbox.balance() == OutboxBalance(3, 6, 0, 0, 0)


def test_the_run_of_a_day_that_is_over_stands_there_as_finished(tmp_path, mlflow):
    outbox = moved(
        tmp_path, predicted([0.1]), predicted([0.2], at_us=NOON_US + 24 * 60 * MINUTE_US)
    )
    send_all(sending(outbox, mlflow.uri))
    states = {run["info"]["run_name"]: run["info"]["status"] for run in mlflow.runs.values()}
    assert states == {RUN: "FINISHED", "predictions v3 2026-11-22": "RUNNING"}


def test_what_is_not_for_mlflow_does_not_get_there(tmp_path, mlflow):
    own = version(2, model="other", to_mlflow=False)
    outbox = shipped(
        tmp_path, predicted([0.1]) + predicted([0.9], of=own), predicted([0.8], of=own)
    )
    send_all(sending(outbox, mlflow.uri))
    assert probabilities(mlflow) == [0.1]
    assert len(mlflow.runs) == 1
    assert outbox.balance().n_taken == 1


def test_no_call_holds_more_metrics_than_mlflow_takes(tmp_path, mlflow):
    outbox = moved(tmp_path, predicted(range(1_500)), predicted(range(1_500, 2_200)))
    send_all(sending(outbox, mlflow.uri))
    assert (mlflow.n_batches, mlflow.largest) == (3, 1_000)
    assert probabilities(mlflow) == [float(n) for n in range(2_200)]


def test_what_is_no_number_is_left_out_and_its_step_too(tmp_path, mlflow):
    outbox = moved(tmp_path, predicted([0.1, None, 0.3]))
    send_all(sending(outbox, mlflow.uri))
    assert [(step, value) for step, _, value in mlflow.points(RUN, "probability")] == [
        (0, 0.1),
        (2, 0.3),
    ]


def test_a_batch_is_a_file_with_inputs_outputs_times_and_version_and_its_figures(tmp_path, mlflow):
    hundredths = [n / 100 for n in range(25)]
    outbox = moved(tmp_path, predicted(hundredths[:7]), predicted(hundredths[7:]))
    one = sending(outbox, mlflow.uri, "batch")
    send_all(one, NOON_US + 30 * SECOND_US)
    run_id = mlflow.run(RUN)
    names = [f"1/{run_id}/artifacts/predictions/batch-00000{n}.parquet" for n in range(3)]
    assert sorted(mlflow.files) == names[:2]
    rows = pq.read_table(io.BytesIO(mlflow.files[names[1]])).to_pylist()
    assert [row["x"] for row in rows] == [n / 100 for n in range(10, 20)]
    assert [row["probability"] for row in rows] == [n / 100 for n in range(10, 20)]
    assert {row["version"] for row in rows} == {"3"}
    assert rows[0]["answered_at"].isoformat() == "2026-11-21T12:00:03+00:00"
    assert [(step, value) for step, _, value in mlflow.points(RUN, "batch/predictions")] == [
        (0, 10.0),
        (1, 10.0),
    ]
    (_, first), (_, second) = [
        (step, value) for step, _, value in mlflow.points(RUN, "batch/probability_mean")
    ]
    assert (first, second) == pytest.approx((0.045, 0.145))
    assert outbox.balance() == OutboxBalance(2, 20, 5, 0, 0)
    # What has waited for a minute goes without the others.
    send_all(one, NOON_US + 3 * MINUTE_US)
    assert sorted(mlflow.files) == names
    assert outbox.balance() == OutboxBalance(3, 25, 0, 0, 0)


def test_a_batch_has_predictions_from_before_and_after_a_column_had_another_type(tmp_path, mlflow):
    hashed = msgspec.structs.replace(version(), columns=(Column("x", "string"),))
    ((_, later),) = predicted([0.5], at_us=NOON_US + SECOND_US)
    asked = msgspec.structs.replace(later.requests[0], form="redacted", body=b'[{"x":"c0ffee"}]')
    told = [(hashed, msgspec.structs.replace(later, requests=[asked]))]
    outbox = moved(tmp_path, predicted([0.25]), told)
    send_all(sending(outbox, mlflow.uri, "batch"), NOON_US + 3 * MINUTE_US)
    (file,) = mlflow.files.values()
    rows = pq.read_table(io.BytesIO(file))
    assert rows["x"].to_pylist() == ["0.25", "c0ffee"]
    assert outbox.balance() == OutboxBalance(1, 2, 0, 0, 0)


def test_with_batches_goes_the_error_rate_of_the_minutes_before_them(tmp_path, mlflow):
    def rate(_, minute_us):
        return {NOON_US - MINUTE_US: 0.25, NOON_US: 0.5}.get(minute_us)

    outbox = moved(tmp_path, predicted(range(10), every_us=10 * SECOND_US))
    send_all(sending(outbox, mlflow.uri, "batch", rate=rate))
    noon = 12 * 60
    assert mlflow.points(RUN, "minute/error_rate") == [
        (noon - 1, (NOON_US - MINUTE_US) // 1_000, 0.25),
        (noon, NOON_US // 1_000, 0.5),
    ]


def test_batches_grow_where_more_wait_than_mlflow_could_take_one_by_one(tmp_path, mlflow):
    outbox = moved(tmp_path, predicted(range(400), every_us=10))
    send_all(sending(outbox, mlflow.uri, "batch"))
    assert len(mlflow.files) < 35
    assert outbox.balance().n_sent == 400


def test_a_summary_holds_the_figures_of_a_minute_that_is_over(tmp_path, mlflow):
    outbox = moved(
        tmp_path,
        predicted([0.1, 0.2]),
        predicted([0.3], at_us=NOON_US + 30 * SECOND_US),
        predicted([0.9], at_us=NOON_US + MINUTE_US),
    )
    one = sending(outbox, mlflow.uri, "summary", rate=lambda key, at_us: 0.25)
    send_all(one, NOON_US + MINUTE_US)
    assert mlflow.runs == {}  # some of the minute may still be on its way
    send_all(one, NOON_US + MINUTE_US + 10 * SECOND_US)
    figures = {name: value for name, _, _, value in mlflow.metrics[mlflow.run(RUN)]}
    assert figures["minute/predictions"] == 3.0
    assert figures["minute/probability_mean"] == pytest.approx(0.2)
    assert figures["minute/probability_p50"] == 0.2
    assert figures["minute/latency_ms_p99"] == 2.0
    assert figures["minute/error_rate"] == 0.25
    send_all(one)
    assert mlflow.points(RUN, "minute/predictions") == [
        (0, NOON_US // 1_000, 3.0),
        (1, NOON_US // 1_000 + 60_000, 1.0),
    ]
    assert outbox.balance() == OutboxBalance(2, 0, 0, 4, 0)


def test_more_than_may_wait_becomes_summaries_that_are_counted_and_the_rest_goes_singly(
    tmp_path, mlflow
):
    mlflow.away = True
    minutes = [predicted([n / 100] * 10, at_us=NOON_US + n * MINUTE_US) for n in range(6)]
    outbox = moved(tmp_path, *minutes[:2])
    one = sending(outbox, mlflow.uri, max_waiting=20)
    with pytest.raises(RegistryUnavailable):
        send_all(one)
    assert outbox.balance() == OutboxBalance(0, 0, 20, 0, 0)
    moved(tmp_path, *minutes[2:])
    one = sending(outbox, mlflow.uri, max_waiting=20)
    with pytest.raises(RegistryUnavailable):
        send_all(one)
    # The parcel that was planned before stays what it was.
    assert outbox.balance() == OutboxBalance(0, 0, 40, 0, 20)
    mlflow.away = False
    send_all(sending(outbox, mlflow.uri, max_waiting=20))
    assert probabilities(mlflow) == sorted([0.0] * 10 + [0.01] * 10 + [0.04] * 10 + [0.05] * 10)
    assert [value for _, _, value in mlflow.points(RUN, "minute/probability_mean")] == [
        pytest.approx(0.02),
        pytest.approx(0.03),
    ]
    assert outbox.balance() == OutboxBalance(3, 40, 0, 0, 20)
    assert outbox.items() == []


def test_a_segment_of_which_the_first_half_is_on_its_way_stays_when_the_rest_is_summarised(
    tmp_path, mlflow
):
    mlflow.away = True
    outbox = moved(tmp_path, predicted(range(1_500), every_us=1_000))
    with pytest.raises(RegistryUnavailable):
        send_all(sending(outbox, mlflow.uri, max_waiting=2_000))
    with pytest.raises(RegistryUnavailable):
        send_all(sending(outbox, mlflow.uri, max_waiting=100))
    assert outbox.balance() == OutboxBalance(0, 0, 1_000, 0, 500)
    mlflow.away = False
    send_all(sending(outbox, mlflow.uri, max_waiting=100))
    assert probabilities(mlflow) == [float(n) for n in range(1_000)]
    assert outbox.balance() == OutboxBalance(2, 1_000, 0, 0, 500)


SHIPPING_STEPS = 6

KILLS = [
    *[("each", step) for step in range(SHIPPING_STEPS + 7)],
    *[("batch", step) for step in range(SHIPPING_STEPS, SHIPPING_STEPS + 13)],
    *[("summary", step) for step in range(SHIPPING_STEPS, SHIPPING_STEPS + 9)],
]


@pytest.mark.parametrize(("mode", "killed_at"), KILLS)
def test_whatever_step_the_process_ends_at_mlflow_has_everything_once(
    tmp_path, mlflow, mode, killed_at
):
    values = [n / 100 for n in range(40)]
    spool = spooled(tmp_path, predicted(values[:20], every_us=10 * SECOND_US))
    spooled(tmp_path, predicted(values[20:], at_us=NOON_US + 5 * MINUTE_US))
    ends = Ends(killed_at)
    outbox = Outbox(spool)
    try:
        ship_all(spool, LogTables(str(tmp_path / "log")), on_step=ends)
        send_all(sending(outbox, mlflow.uri, mode, on_step=ends))
    except Killed:
        assert spool.balance().balanced
    spool = Spool(tmp_path / "spool")
    ship_all(spool, LogTables(str(tmp_path / "log")))
    outbox = Outbox(spool)
    # As somebody who changes the settings before the next start.
    send_all(sending(outbox, mlflow.uri, mode, batch_size=15 if killed_at % 2 else 10))
    assert spool.balance() == Balance(40, 40, 0)
    balance = outbox.balance()
    assert (balance.n_taken, balance.n_waiting) == (40, 0)
    assert len(mlflow.runs) == 1
    assert outbox.items() == []
    if mode == "each":
        points = mlflow.points(RUN, "probability")
        assert [(step, value) for step, _, value in points] == list(enumerate(values))
    elif mode == "batch":
        files = [pq.read_table(io.BytesIO(mlflow.files[name])) for name in sorted(mlflow.files)]
        assert [x for file in files for x in file["x"].to_pylist()] == values
        points = mlflow.points(RUN, "batch/predictions")
        assert [step for step, _, _ in points] == list(range(len(files)))
        assert sum(value for _, _, value in points) == 40
    else:
        points = mlflow.points(RUN, "minute/predictions")
        assert [step for step, _, _ in points] == list(range(len(points)))
        assert sum(value for _, _, value in points) == 40


@pytest.mark.parametrize("mode", ["each", "batch", "summary"])
def test_a_write_that_mlflow_carried_out_without_an_answer_is_not_doubled(tmp_path, mlflow, mode):
    outbox = moved(tmp_path, predicted(range(30)))
    mlflow.swallows = 5
    one = sending(outbox, mlflow.uri, mode)
    for _ in range(6):
        try:
            send_all(one)
        except RegistryUnavailable:
            continue
    assert len(mlflow.runs) == 1
    assert outbox.balance().n_waiting == 0
    name = {"each": "probability", "batch": "batch/predictions", "summary": "minute/predictions"}
    steps = [step for step, _, _ in mlflow.points(RUN, name[mode])]
    assert steps == sorted(set(steps))


def test_away_mlflow_gets_what_waited_in_order_when_it_is_back(tmp_path, mlflow):
    mlflow.away = True
    outbox = moved(tmp_path, predicted(range(10)))
    one = sending(outbox, mlflow.uri)
    with pytest.raises(RegistryUnavailable, match="Failed to connect to MLflow"):
        send_all(one)
    moved(tmp_path, predicted(range(10, 20), at_us=NOON_US + MINUTE_US))
    with pytest.raises(RegistryUnavailable):
        send_all(one)
    assert outbox.balance() == OutboxBalance(0, 0, 20, 0, 0)
    mlflow.away = False
    send_all(one)
    assert probabilities(mlflow) == [float(n) for n in range(20)]


def test_a_run_that_somebody_deleted_is_followed_by_another_one(tmp_path, mlflow):
    outbox = moved(tmp_path, predicted([0.1]))
    one = sending(outbox, mlflow.uri)
    send_all(one)
    deleted = mlflow.run(RUN)
    mlflow.runs[deleted]["info"]["lifecycle_stage"] = "deleted"
    moved(tmp_path, predicted([0.2], at_us=NOON_US + MINUTE_US))
    with pytest.raises(RegistryError, match="must be active"):
        send_all(one)
    send_all(one)
    (other,) = set(mlflow.runs) - {deleted}
    assert [value for *_, value in mlflow.metrics[other]] == [0.2]
    assert outbox.balance() == OutboxBalance(2, 2, 0, 0, 0)


def test_two_servers_write_to_runs_of_their_own(tmp_path, mlflow):
    for name in ("a", "b"):
        send_all(sending(moved(tmp_path / name, predicted([0.1, 0.2])), mlflow.uri))
    assert [run["info"]["run_name"] for run in mlflow.runs.values()] == [RUN, RUN]
    assert [len(points) for points in mlflow.metrics.values()] == [2, 2]


def test_a_deleted_experiment_is_named_with_what_to_do(tmp_path, mlflow):
    mlflow.experiments["e"] = {"experiment_id": "1", "lifecycle_stage": "deleted"}
    one = sending(moved(tmp_path, predicted([0.1])), mlflow.uri)
    with pytest.raises(RegistryError, match="'e' is deleted") as refused:
        send_all(one)
    assert "mlflow_log_experiment" in refused.value.advice


def test_a_state_that_cannot_be_read_is_named_and_nothing_is_sent(tmp_path, mlflow):
    outbox = moved(tmp_path, predicted([0.1]))
    state = outbox.folder / "state.json"
    state.write_bytes(b"{")
    with pytest.raises(SpoolCorrupt, match=r"outbox/state\.json cannot be read"):
        sending(outbox, mlflow.uri)
    state.write_bytes(msgspec.json.encode({"format": 2}))
    with pytest.raises(SpoolCorrupt, match="format 2"):
        sending(outbox, mlflow.uri)
