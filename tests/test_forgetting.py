"""A person's rows go from every table, with all that was kept of them, and from the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from greenroom.errors import LogError, LogUnavailable
from greenroom.log import forgetting
from greenroom.log.forgetting import Condition, Forgotten, Subject, forget
from greenroom.log.log_records import Observation, Observations
from greenroom.log.log_tables import LogTables
from greenroom.log.outbox import Outbox
from greenroom.log.settling import settle
from greenroom.log.shipper import Shipper, ShipperSetup
from greenroom.log.shipping import ship_all
from greenroom.log.spool import Spool
from greenroom.log.spooling import Spooler
from greenroom.prediction_id import new_prediction_ids
from greenroom.redaction import hashed
from greenroom.schema import Column
from test_shipping import NOON_US, answers, request, rows_of, spooled, version

KEY = b"0123456789abcdef"
COLUMNS = (Column("customer", "string"), Column("age", "integer"))
DAY_US = 86_400_000_000


def row(customer, age=40):
    return {"customer": customer, "age": age}


def logged(folder, *records):
    tables = LogTables(str(folder / "log"))
    ship_all(spooled(folder, *records), tables)
    return tables


def files_with(folder: Path, text: str) -> list[Path]:
    """Return what holds a text, as it is or inside of a Parquet file."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and (
            text.encode() in path.read_bytes()
            or (path.suffix == ".parquet" and text in str(pq.read_table(path).to_pylist()))
        )
    ]


@pytest.fixture
def three(tmp_path):
    """Two people on two days; one of them alone, in a list with the other, and with feedback."""
    ids = new_prediction_ids(5)
    of = version(columns=COLUMNS)
    first = answers(
        request(row("eve"), ids[:1]),
        request([row("ann"), row("eve"), row("ann", 30)], ids[1:4], first=1),
    )
    second = answers(request(row("eve", 41), ids[4:]), at_us=NOON_US + DAY_US)
    seen = [Observation(ids[0], 1), Observation(ids[1], 0), Observation(ids[4], 1)]
    records = [(of, first), (of, second), (None, Observations(NOON_US, "me", seen))]
    return ids, logged(tmp_path, *records), tmp_path / "log"


def test_rows_of_all_days_feedback_bodies_and_files_go(three):
    ids, tables, folder = three
    assert files_with(folder, "eve"), "nothing was there to be found"
    found = forget(tables, "m", Condition("customer = 'eve'"))
    assert found == Forgotten(3, 1, 2)
    rows = {one["prediction_id"]: one for one in rows_of(tables)}
    assert set(rows) == {ids[1], ids[3]}
    assert (rows[ids[1]]["request_body"], rows[ids[1]]["request_form"]) == (None, "forgotten")
    (left,) = [
        one for uri in tables.feedback() for one in tables.open(uri).to_pyarrow_table().to_pylist()
    ]
    assert left["prediction_id"] == ids[1]
    assert not files_with(folder, "eve")


def test_done_again_it_finds_nothing_and_does_no_harm(three):
    _, tables, _ = three
    forget(tables, "m", Subject("customer", "eve"))
    assert forget(tables, "m", Subject("customer", "eve")) == Forgotten()
    assert len(rows_of(tables)) == 2


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", ["_forget_bodies", "_forget_feedback", "_clean"])
def test_what_a_run_that_was_killed_has_left_goes_with_the_next_one(three, monkeypatch, step):
    _, tables, folder = three

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(forgetting, step, killed)
        with pytest.raises(Killed):
            forget(tables, "m", Subject("customer", "eve"))
    assert files_with(folder, "eve")
    forget(tables, "m", Subject("customer", "eve"))
    assert not files_with(folder, "eve")
    assert len(rows_of(tables)) == 2
    feedback = [tables.open(uri).to_pyarrow_table().num_rows for uri in tables.feedback()]
    assert feedback == [1]


def test_a_dry_run_counts_and_deletes_nothing(three):
    _, tables, folder = three
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    assert forget(tables, "m", Condition("customer = 'eve'"), dry_run=True) == Forgotten(3, 1, 2)
    assert len(rows_of(tables)) == 5
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before


def test_segments_that_were_shipped_are_not_written_again_afterwards(tmp_path):
    ids = new_prediction_ids(1)
    spool = spooled(tmp_path, (version(columns=COLUMNS), answers(request(row("eve"), ids))))
    (segment,) = [one.path for slot in spool.slots() for one in slot.segments()]
    content = segment.read_bytes()
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spool, tables)
    forget(tables, "m", Subject("customer", "eve"))
    # The shipper was killed before it noted what it had shipped: it comes again.
    segment.write_bytes(content)
    (spool.slots()[0].folder / "ledger.json").unlink()
    assert ship_all(spool, tables).n_again == 1
    assert rows_of(tables) == []


def test_a_value_is_found_plain_in_one_table_hashed_in_the_next_and_absent_from_a_third(tmp_path):
    ids = new_prediction_ids(4)
    number = version(1, columns=(Column("customer", "integer"),))
    secret = version(2, columns=(Column("customer", "string"),))
    other = version(3, columns=(Column("age", "boolean"), Column("customer", "integer")))
    tables = logged(
        tmp_path,
        (number, answers(request({"customer": 42}, ids[:1]))),
        (
            secret,
            answers(
                request([{"customer": hashed(KEY, "42")}], ids[1:2], form="redacted"), number=2
            ),
        ),
        (other, answers(request({"age": True, "customer": 7}, ids[2:3]), number=3)),
    )
    assert len(tables.predictions("m")) == 2
    assert forget(tables, "m", Subject("customer", "42", KEY)).n_rows == 2
    assert [one["prediction_id"] for one in rows_of(tables)] == ids[2:3]
    # `age` is in one of the tables alone.
    assert forget(tables, "m", Condition("age OR customer = '42'"), dry_run=True).n_rows == 1


@pytest.mark.parametrize(
    ("sought", "message"),
    [
        (Condition("custmer = 'eve'"), "no column 'custmer', only"),
        (Condition("customer = 'eve"), "the condition of --where cannot be read"),
        (Subject("name", "eve"), "no column 'name', only"),
        (Subject("age", "eve"), "column 'age' holds whole numbers, and the value is nothing"),
        (Subject("age", "nan"), "column 'age' holds whole numbers"),
        (Subject("age", "40.5"), "column 'age' holds whole numbers"),
    ],
)
def test_a_condition_that_cannot_be_used_is_refused_without_the_value(three, sought, message):
    with pytest.raises(LogError, match=message) as refused:
        forget(three[1], "m", sought)
    assert "eve" not in str(refused.value)
    assert len(rows_of(three[1])) == 5


KINDS = (
    Column("member", "boolean"),
    Column("income"),
    Column("born", "date"),
    Column("seen", "datetime"),
)


@pytest.mark.parametrize(
    ("column", "value", "n_rows"),
    [
        ("member", "True", 1),
        ("member", "0", 0),
        ("income", "1234.50", 1),
        ("income", "1e3", 0),
        ("born", "2020-02-29", 1),
        ("seen", "2026-11-21T10:00:00Z", 1),
        ("seen", "2026-11-21T12:00:00+02:00", 1),
        ("seen", "2026-11-21T10:00", 1),
        ("seen", "2026-11-21T10:00:01", 0),
        ("member", "yes", "holds true or false"),
        ("income", "inf", "holds numbers"),
        ("income", "lots", "holds numbers"),
        ("born", "long ago", "holds days"),
        ("seen", "long ago", "holds times"),
    ],
)
def test_a_value_is_read_as_its_column_has_it_and_what_is_none_finds_nobody(
    tmp_path, column, value, n_rows
):
    asked = {"member": True, "income": 1234.5, "born": "2020-02-29"}
    asked["seen"] = "2026-11-21T10:00:00Z"
    (one,) = new_prediction_ids(1)
    tables = logged(tmp_path, (version(columns=KINDS), answers(request(asked, [one]))))
    if isinstance(n_rows, int):
        assert forget(tables, "m", Subject(column, value)).n_rows == n_rows
    else:
        with pytest.raises(LogError, match=n_rows):
            forget(tables, "m", Subject(column, value))
        assert len(rows_of(tables)) == 1


def test_a_value_that_one_table_could_not_hold_is_found_in_another(tmp_path):
    ids = new_prediction_ids(2)
    number, text = (
        version(n, columns=(Column("x", k),)) for n, k in ((1, "integer"), (2, "string"))
    )
    tables = logged(
        tmp_path,
        (number, answers(request({"x": 42}, ids[:1]))),
        (text, answers(request({"x": "K-42"}, ids[1:]), number=2)),
    )
    assert len(tables.predictions("m")) == 2
    assert forget(tables, "m", Subject("x", "K-42")).n_rows == 1
    assert forget(tables, "m", Subject("x", "42.0")).n_rows == 1


def test_a_model_without_a_table_is_named(tmp_path):
    with pytest.raises(LogError, match="no table of 'x'"):
        forget(LogTables(str(tmp_path / "log")), "x", Condition("TRUE"))


def test_a_quote_in_a_value_is_a_part_of_it(tmp_path):
    (one,) = new_prediction_ids(1)
    of = version(columns=COLUMNS)
    tables = logged(tmp_path, (of, answers(request(row("O'Neil"), [one]))))
    assert forget(tables, "m", Subject("customer", "x' OR '1'='1")).n_rows == 0
    assert forget(tables, "m", Subject("customer", "O'Neil")).n_rows == 1


def test_what_waits_is_shipped_first_where_no_server_does_it(tmp_path):
    (one,) = new_prediction_ids(1)
    spool = spooled(tmp_path, (version(columns=COLUMNS), answers(request(row("eve"), [one]))))
    tables = LogTables(str(tmp_path / "log"))
    settle(spool, tables, timeout_s=1)
    assert json.loads(rows_of(tables)[0]["request_body"]) == row("eve")
    settle(spool, tables, timeout_s=1)


def test_where_a_server_ships_it_is_waited_for(tmp_path):
    (one,) = new_prediction_ids(1)
    spool = spooled(tmp_path, (version(columns=COLUMNS), answers(request(row("eve"), [one]))))
    uri = str(tmp_path / "log")
    theirs = Shipper(ShipperSetup(spool=str(spool.folder), uri=uri, interval_s=1.0))
    waited = []
    with pytest.raises(LogUnavailable, match="has not shipped what waits"):
        settle(spool, LogTables(uri), timeout_s=0.2, on_wait=lambda: waited.append(1))
    assert waited
    settle(spool, LogTables(uri), timeout_s=5, on_wait=theirs.round)
    assert len(rows_of(LogTables(uri))) == 1
    theirs.close()


def test_predictions_of_a_process_that_still_runs_are_not_taken_for_shipped(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = Spooler(spool, fsync_s=0.01, seal_s=60.0, max_bytes=2**30)
    writer.append(b"x" * 10, 1, -1, lambda: b"")
    with pytest.raises(LogUnavailable, match="of a process that still runs"):
        settle(spool, LogTables(str(tmp_path / "log")), timeout_s=1)
    writer.close()


def test_a_segment_that_its_shipper_left_beside_the_outbox_is_taken_there(tmp_path):
    of = version(columns=COLUMNS, to_mlflow=True)
    spool = spooled(tmp_path, (of, answers(request(row("eve"), new_prediction_ids(1)))))
    tables = LogTables(str(tmp_path / "log"))

    def killed(step):
        if step == "hand over":
            raise Killed

    with pytest.raises(Killed):
        ship_all(spool, tables, on_step=killed)
    assert Outbox(spool).items() == []
    settle(spool, tables, timeout_s=1)
    assert len(Outbox(spool).items()) == 1
