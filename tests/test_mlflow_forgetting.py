"""A person's rows go from what waits for MLflow, and from the batches that it has."""

from __future__ import annotations

import io

import pyarrow.parquet as pq
import pytest

from fake_mlflow import fake_mlflow
from for_mlflow import MINUTE_US, NOON_US, Killed, send_all, sending
from greenroom.errors import LogError, RegistryUnavailable
from greenroom.log.forgetting import Condition, Subject
from greenroom.log.log_records import read_record
from greenroom.log.mlflow_forgetting import InMlflow, forget_batches, forget_waiting
from greenroom.log.outbox import Outbox, n_for_mlflow
from greenroom.log.segments import Segment
from greenroom.log.spool import Spool
from greenroom.prediction_id import new_prediction_ids
from greenroom.registry.mlflow_rest import MlflowRest
from greenroom.schema import Column
from test_shipping import answers, request, spooled, version

COLUMNS = (
    Column("customer", "string", request_name="Customer"),
    Column("age", "integer"),
    Column("born", "date"),
)
EVE = Subject("customer", "eve")


def asked(customer, age=40):
    return {"Customer": customer, "age": age, "born": "1986-01-02"}


def waiting(folder):
    """An outbox in which eve stands alone and in a list with ann, and bob alone."""
    of = version(columns=COLUMNS, model="m", to_mlflow=True)
    ids = new_prediction_ids(5)
    spool = spooled(
        folder,
        (of, answers(request(asked("eve"), ids[:1]))),
        (
            of,
            answers(
                request([asked("ann"), asked("eve"), asked("ann", 30)], ids[1:4], first=1),
                at_us=NOON_US + 1,
            ),
        ),
        (of, answers(request(asked("bob"), ids[4:]), at_us=NOON_US + 2)),
    )
    outbox = Outbox(spool)
    for slot in spool.slots():
        for segment in slot.segments():
            outbox.take(segment, 5)
    return ids, outbox


def everything(outbox):
    return b"".join(item.path.read_bytes() for item in outbox.items())


def batches(mlflow):
    return [
        one
        for name in sorted(mlflow.files)
        for one in pq.read_table(io.BytesIO(mlflow.files[name])).to_pylist()
    ]


@pytest.fixture
def mlflow():
    with fake_mlflow() as fake:
        yield fake


@pytest.fixture
def rest(mlflow):
    with MlflowRest(mlflow.uri, environment={}) as opened:
        yield opened


def test_what_waits_loses_the_persons_inputs_and_keeps_the_others(tmp_path, mlflow):
    ids, outbox = waiting(tmp_path)
    assert forget_waiting(outbox, "m", EVE, set(), dry_run=True) == 2
    assert b"eve" in everything(outbox)
    assert forget_waiting(outbox, "m", EVE, set()) == 2
    assert b"eve" not in everything(outbox)
    assert forget_waiting(outbox, "m", EVE, set()) == 0
    (item,) = outbox.items()
    records = [read_record(payload) for payload in Segment(item.path).frames()]
    assert n_for_mlflow(records) == item.n_rows == 5, "what is sent keeps its steps"
    send_all(sending(outbox, mlflow.uri, "batch"))
    rows = batches(mlflow)
    assert [one["prediction_id"] for one in rows] == [ids[1], ids[3], ids[4]]
    assert [(one["customer"], one["age"], str(one["born"])) for one in rows] == [
        ("ann", 40, "1986-01-02"),
        ("ann", 30, "1986-01-02"),
        ("bob", 40, "1986-01-02"),
    ]


def test_of_another_model_nothing_goes(tmp_path):
    _, outbox = waiting(tmp_path)
    before = everything(outbox)
    assert forget_waiting(outbox, "other", EVE, set()) == 0
    assert everything(outbox) == before


def test_a_batch_that_was_on_its_way_is_sent_again_without_the_rows(tmp_path, mlflow):
    _, outbox = waiting(tmp_path)

    def killed(step):
        if step == "note":
            raise Killed(step)

    one = sending(outbox, mlflow.uri, "batch", on_step=killed)
    with pytest.raises(Killed):
        send_all(one)
    assert "eve" in {row["customer"] for row in batches(mlflow)}
    forget_waiting(outbox, "m", EVE, set())
    send_all(sending(outbox, mlflow.uri, "batch"))
    assert [row["customer"] for row in batches(mlflow)] == ["ann", "ann", "bob"]
    assert len(mlflow.files) == 1


def test_a_sender_that_has_read_a_segment_reads_it_anew(tmp_path, mlflow):
    _, outbox = waiting(tmp_path)
    one = sending(outbox, mlflow.uri, "batch", batch_size=1)
    late = NOON_US + 60 * MINUTE_US
    assert one.send(late)
    assert forget_waiting(outbox, "m", EVE, set()) == 2
    send_all(one)
    assert [row["customer"] for row in batches(mlflow)] == ["eve", "ann", "ann", "bob"]


def test_batches_in_mlflow_are_replaced_by_ones_without_the_rows(tmp_path, mlflow, rest):
    ids, outbox = waiting(tmp_path)
    send_all(sending(outbox, mlflow.uri, "batch"))
    mlflow.runs["run1"]["info"]["lifecycle_stage"] = "deleted"
    assert forget_batches(rest, "m", EVE, set(), dry_run=True) == InMlflow(2)
    assert len(batches(mlflow)) == 5
    assert forget_batches(rest, "m", EVE, set()) == InMlflow(2)
    rows = batches(mlflow)
    assert [one["prediction_id"] for one in rows] == [ids[1], ids[3], ids[4]]
    assert [one["request_form"] for one in rows] == ["forgotten", "forgotten", "body"]
    assert b"eve" not in b"".join(mlflow.files.values())
    assert "eve" not in str(rows), "the body of the request that she was part of is gone too"
    assert forget_batches(rest, "m", EVE, set()) == InMlflow(0)
    assert forget_batches(rest, "other", EVE, set()) == InMlflow(0)


def test_a_condition_finds_rows_in_batches_too_and_may_name_columns_that_they_lack(
    tmp_path, mlflow, rest
):
    _, outbox = waiting(tmp_path)
    send_all(sending(outbox, mlflow.uri, "batch"))
    lacking = Condition("debt > 3 OR (customer = 'ann' AND age < 35)")
    assert forget_batches(rest, "m", lacking, {"debt"}, dry_run=True).n_rows == 1
    with pytest.raises(LogError, match="no column 'debt'"):
        forget_batches(rest, "m", lacking, set())


def test_a_run_whose_files_cannot_be_replaced_is_named(tmp_path, mlflow, rest):
    _, outbox = waiting(tmp_path)
    send_all(sending(outbox, mlflow.uri, "batch"))
    mlflow.read_only = True
    (held,) = forget_batches(rest, "m", EVE, set()).held
    assert held.startswith("predictions v3 2026-11-21 (run1): ")


def test_a_run_without_batches_is_not_looked_into(tmp_path, mlflow, rest):
    _, outbox = waiting(tmp_path)
    send_all(sending(outbox, mlflow.uri, "each"))
    mlflow.runs["run1"]["info"]["artifact_uri"] = "/nowhere/on/this/machine"
    assert forget_batches(rest, "m", EVE, set()) == InMlflow()


def test_an_mlflow_that_is_away_is_an_error(mlflow, rest):
    mlflow.away = True
    with pytest.raises(RegistryUnavailable):
        forget_batches(rest, "m", EVE, set())


def test_nobody_sends_while_rows_are_forgotten(tmp_path):
    import threading

    outbox = Outbox(Spool(tmp_path / "spool"))
    entered = threading.Event()

    def other():
        with Outbox(Spool(tmp_path / "spool")).alone():
            entered.set()

    with outbox.alone():
        thread = threading.Thread(target=other)
        thread.start()
        assert not entered.wait(0.1)
    assert entered.wait(5)
    thread.join()
