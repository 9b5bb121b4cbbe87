"""Reading the log: what is shipped and what waits, by window, by id, each prediction once."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from greenroom.errors import LogError
from greenroom.log.log_reading import PredictionLogReader, Window, id_instant
from greenroom.log.log_records import Observation, Observations
from greenroom.log.log_rows import joined_rows
from greenroom.log.log_tables import LogTables
from greenroom.log.shipping import ship_all
from greenroom.prediction_id import new_prediction_ids
from greenroom.schema import Column
from test_shipping import NOON_US, ROW, answers, request, spooled, version

HOUR_US = 3_600_000_000
NOON = dt.datetime.fromtimestamp(NOON_US / 1e6, dt.UTC)


def at_hours(ids, *hours):
    return [
        (version(), answers(request(ROW, [one]), at_us=NOON_US + hour * HOUR_US))
        for one, hour in zip(ids, hours, strict=True)
    ]


def test_what_is_shipped_and_what_waits_is_given_in_order_and_once(tmp_path):
    ids = new_prediction_ids(4)
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spooled(tmp_path, *at_hours(ids[:2], 0, 2)), tables)
    spool = spooled(tmp_path, *at_hours(ids[2:], 1, 3))
    found = PredictionLogReader(tables, spool).predictions("m")
    assert found["prediction_id"].to_pylist() == [ids[0], ids[2], ids[1], ids[3]]
    # Shipped between the two looks: in the spool and in the table.
    copy = LogTables(str(tmp_path / "log"))
    waiting = [segment.path.read_bytes() for slot in spool.slots() for segment in slot.segments()]
    ship_all(spool, copy)
    again = spool.slots()[0].folder / "000000000099.sealed"
    again.write_bytes(waiting[0][:24] + bytes(8) + waiting[0][32:])
    assert found.num_rows == PredictionLogReader(copy, spool).predictions("m").num_rows


def test_a_window_has_its_beginning_and_not_its_end(tmp_path):
    ids = new_prediction_ids(4)
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spooled(tmp_path, *at_hours(ids, 0, 13, 26, 39)), tables)
    reader = PredictionLogReader(tables)
    window = Window(NOON + dt.timedelta(hours=13), NOON + dt.timedelta(hours=39))
    found = reader.predictions("m", window, columns=["prediction_id", "income"])
    assert found.to_pylist() == [{"prediction_id": one, "income": 1234.5} for one in ids[1:3]]
    assert reader.predictions("m", limit=1)["prediction_id"].to_pylist() == ids[3:]


def test_a_prediction_is_found_by_its_id_wherever_it_is(tmp_path):
    one, other = new_prediction_ids(2)
    now_us = int(id_instant(one).timestamp() * 1e6)
    tables = LogTables(str(tmp_path / "log"))
    shipped = (version(), answers(request(ROW, [one]), at_us=now_us))
    ship_all(spooled(tmp_path, shipped), tables)
    spool = spooled(tmp_path, (version(), answers(request(ROW, [other]), at_us=now_us)))
    reader = PredictionLogReader(tables, spool)
    for sought in (one, other):
        model, row = reader.find(sought, ["n", "m"])
        assert (model, row["prediction_id"], row["income"]) == ("m", sought, 1234.5)
    assert reader.find(new_prediction_ids(1)[0], ["m"]) is None
    assert reader.find("nonsense", ["m"]) is None


def test_feedback_is_read_from_both_places(tmp_path):
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spooled(tmp_path, (None, Observations(NOON_US, "me", [Observation("a", 1)]))), tables)
    later = Observations(NOON_US + 1, "me", [Observation("b", "high", NOON_US)])
    spool = spooled(tmp_path, (None, later))
    found = PredictionLogReader(tables, spool).feedback().to_pylist()
    assert [(row["prediction_id"], row["actual"]) for row in found] == [("a", "1"), ("b", '"high"')]
    assert [row["observed_at"] for row in found] == [None, NOON]


def test_feedback_that_is_shipped_between_the_two_looks_is_given_once(tmp_path):
    tables = LogTables(str(tmp_path / "log"))
    told = Observations(NOON_US, "me", [Observation("a", 1), Observation("b", 1)])
    ship_all(spooled(tmp_path, (None, told)), tables)
    spool = spooled(tmp_path, (None, told))
    assert PredictionLogReader(tables, spool).feedback().num_rows == 2


def test_a_model_of_which_nothing_is_logged_is_named(tmp_path):
    with pytest.raises(LogError, match="has no prediction of 'x'"):
        PredictionLogReader(LogTables(str(tmp_path / "log"))).predictions("x")


def test_a_window_is_given_part_by_part_with_what_waits_and_each_row_once(tmp_path):
    ids = new_prediction_ids(5)
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spooled(tmp_path / "a", *at_hours(ids[:3], 0, 1, 30)), tables)
    spool = spooled(tmp_path / "b", *at_hours(ids[3:], 2, 40))
    # Shipped since the spool was read: in both.
    ship_all(spooled(tmp_path / "c", *at_hours(ids[3:4], 2)), tables)
    reader = PredictionLogReader(tables, spool)
    window = Window(NOON, NOON + dt.timedelta(hours=24))
    parts = list(reader.batches("m", window, columns=["income", "prediction_id", "nothing"]))
    found = [row for part in parts for row in part.to_pylist()]
    assert sorted(row["prediction_id"] for row in found) == sorted([*ids[:2], ids[3]])
    assert {"income", "prediction_id"} == {name for row in found for name in row}
    some = ds.field("prediction_id").isin([ids[1], ids[3], ids[4]])
    chosen = [
        row["prediction_id"]
        for part in reader.batches("m", window, columns=["prediction_id"], where=some)
        for row in part.to_pylist()
    ]
    assert sorted(chosen) == sorted([ids[1], ids[3]])
    with pytest.raises(LogError, match="no prediction of 'x'"):
        list(reader.batches("x", window, columns=["income"]))


def test_a_process_that_ends_right_after_it_has_read_ends_well(tmp_path):
    address = str(tmp_path / "log")
    ship_all(spooled(tmp_path, *at_hours(new_prediction_ids(1), 0)), LogTables(address))
    program = (
        "import sys; from greenroom.log.log_tables import LogTables, table_dataset;"
        "tables = LogTables(sys.argv[1]); table = tables.open(tables.predictions('m')[0]);"
        "print(table_dataset(table).to_table(columns=['prediction_id']).num_rows, flush=True)"
    )
    # Several at once: whether a thread of Arrow's is in the way at the end is a matter of luck.
    started = [
        subprocess.Popen([sys.executable, "-c", program, address], stdout=subprocess.PIPE)
        for _ in range(6)
    ]
    said = [(process.communicate(timeout=60)[0], process.returncode) for process in started]
    assert said == [(b"1\n", 0)] * 6


def test_rows_before_and_after_a_column_had_another_type_are_read_together_as_text(tmp_path):
    ids = new_prediction_ids(3)
    now_us = int(id_instant(ids[0]).timestamp() * 1e6)
    tables = LogTables(str(tmp_path / "log"))
    kinds = [("date", "2020-02-29"), ("string", "a"), ("string", "b")]
    for number, ((kind, value), one) in enumerate(zip(kinds, ids, strict=True), start=1):
        described = version(number, (Column("x", kind), Column("y")), version=str(number))
        asked = request({"x": value, "y": number / 2}, [one])
        record = answers(asked, number=number, call=number, at_us=now_us + number)
        ship_all(spooled(tmp_path, (described, record)), tables)
    assert len(tables.predictions("m")) == 2
    reader = PredictionLogReader(tables)
    assert reader.predictions("m")["x"].to_pylist() == ["2020-02-29", "a", "b"]
    assert reader.predictions("m")["y"].to_pylist() == [0.5, 1.0, 1.5]
    # Where rows of one type alone are asked for, they keep it; also those of one call.
    first = Window(None, dt.datetime.fromtimestamp((now_us + 2) / 1e6, dt.UTC))
    assert reader.predictions("m", first)["x"].to_pylist() == [dt.date(2020, 2, 29)]
    for one in ids:
        model, row = reader.find(one, ["m"])
        assert [each["x"] for each in reader.call(model, row)] == [row["x"]]


@pytest.mark.parametrize(
    ("one", "other", "texts"),
    [
        ([1.5], ["a"], ["1.5", "a"]),
        ([True], [2], ["true", "2"]),
        ([[0.5, None]], ["a"], ["[0.5,null]", "a"]),
        ([None, [0.5]], [1], [None, "[0.5]", "1"]),
        ([NOON], [NOON.date()], ["2026-11-21 12:00:00.000000Z", "2026-11-21"]),
        ([1], [2.5], [1.0, 2.5]),
        ([1], [None], [1, None]),
    ],
)
def test_values_of_types_with_nothing_in_common_are_text(one, other, texts):
    parts = [pa.table({"x": one}), pa.table({"x": other, "y": other}), pa.table({"x": ["no rows"]})]
    found = joined_rows([*parts[:2], parts[2].slice(1)])
    assert found["x"].to_pylist() == texts
    assert found["y"].to_pylist() == [None] * len(one) + other
    assert joined_rows([parts[2].slice(1)]).column_names == ["x"]
