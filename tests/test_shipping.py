"""Shipping: every prediction is in its model's table once, whatever ends the process in between."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from greenroom.errors import LogUnavailable
from greenroom.log.log_reading import PredictionLogReader
from greenroom.log.log_records import (
    Answers,
    Observation,
    Observations,
    Request,
    Version,
    encode,
)
from greenroom.log.log_rows import column_names, prediction_rows
from greenroom.log.log_tables import LogTables
from greenroom.log.shipping import ship_all
from greenroom.log.spool import Balance, Spool
from greenroom.log.spooling import Spooler
from greenroom.prediction_id import new_prediction_ids
from greenroom.schema import Column

COLUMNS = (
    Column("age", "integer", nullable=True),
    Column("income"),
    Column("region", "category", categories=("north", "south")),
    Column("since", "date", nullable=True),
    Column("seen", "datetime"),
    Column("member", "boolean"),
    Column("note", "string"),
)
ROW = {
    "age": 40,
    "income": 1234.5,
    "region": "north",
    "since": "2020-02-29",
    "seen": "2026-11-21T10:00:00Z",
    "member": True,
    "note": "a, b",
}
NOON_US = 1_795_262_400_000_000


class Killed(BaseException):
    """Stands for the end of the process."""


def version(number=1, columns=COLUMNS, **changes):
    described = {"model": "m", "name": "m", "version": "3", "task": "classification"}
    outputs = ("prediction", "probability", "probabilities")
    filled = {**described, "outputs": outputs, "classes": (0, 1), **changes}
    return Version(number=number, columns=columns, process="p", **filled)


def request(rows, ids, *, first=0, form="body"):
    body = json.dumps(rows).encode()
    return Request(ids, first, isinstance(rows, dict), 1_500, "me", "/predict", "r1", form, body)


def answers(*requests, number=1, call=7, at_us=NOON_US):
    n_rows = sum(len(one.ids) for one in requests)
    outputs = [[1] * n_rows, [0.75] * n_rows, [[0.25, 0.75]] * n_rows]
    return Answers(number, call, n_rows, at_us, list(requests), outputs)


def spooled(folder, *noted):
    """Append records, each with the version that it is of, and seal; return the spool."""
    spool = Spool(folder / "spool")
    writer = Spooler(spool, fsync_s=0.01, seal_s=60.0, max_bytes=2**30)
    for described, record in noted:
        n_rows = sum(len(one.ids) for one in getattr(record, "requests", ()))
        number = described.number if described else -1
        writer.append(encode(record), n_rows, number, lambda of=described: encode(of))
    writer.close()
    return spool


def rows_of(tables, model="m"):
    return [
        row
        for uri in tables.predictions(model)
        for row in tables.open(uri).to_pyarrow_table().to_pylist()
    ]


def test_a_row_has_the_request_in_its_own_types_beside_what_was_answered(tmp_path):
    (one,) = new_prediction_ids(1)
    spool = spooled(tmp_path, (version(), answers(request(ROW, [one]))))
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spool, tables)
    (row,) = rows_of(tables)
    assert {name: row[name] for name in ROW} == {
        "age": 40,
        "income": 1234.5,
        "region": "north",
        "since": dt.date(2020, 2, 29),
        "seen": dt.datetime(2026, 11, 21, 10, tzinfo=dt.UTC),
        "member": True,
        "note": "a, b",
    }
    assert (row["prediction"], row["probability"]) == (1, 0.75)
    assert row["probabilities"] == [0.25, 0.75]
    assert (row["prediction_id"], row["version"], row["caller"]) == (one, "3", "me")
    assert (row["latency_ms"], row["call"], row["call_rows"]) == (1.5, 7, 1)
    assert row["answered_at"] == dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
    assert row["day"] == dt.date(2026, 11, 21)
    assert json.loads(row["request_body"]) == ROW


def test_rows_of_lists_of_columns_and_single_ones_stand_in_their_order(tmp_path):
    ids = new_prediction_ids(6)
    rows = [{**ROW, "income": float(n)} for n in range(6)]
    by_column = {name: [row[name] for row in rows[3:5]] for name in ROW}
    spool = spooled(
        tmp_path,
        (
            version(),
            answers(
                request(rows[0], ids[:1]),
                request(rows[1:3], ids[1:3], first=1),
                request(by_column, ids[3:5], first=3, form="columns"),
                request(rows[5], ids[5:], first=5),
            ),
        ),
    )
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spool, tables)
    found = {row["prediction_id"]: row for row in rows_of(tables)}
    assert [found[one]["income"] for one in ids] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert [found[one]["call_row"] for one in ids] == [0, 1, 1, 3, 3, 5]
    assert [found[one]["request_row"] for one in ids] == [0, 0, 1, 0, 1, 0]
    assert [found[one]["request_key"] for one in ids] == [ids[n] for n in (0, 1, 1, 3, 3, 5)]
    assert [found[one]["request_body"] is None for one in ids] == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]


def test_rows_are_the_same_whatever_requests_they_are_shipped_with(tmp_path):
    ids = new_prediction_ids(9)
    rows = [{**ROW, "age": None, "income": float(n)} for n in range(9)]
    requests = [
        request(rows[0], ids[:1]),
        request(rows[1], ids[1:2], first=1),
        request(rows[2:4], ids[2:4], first=2),
        request({name: [row[name] for row in rows[4:6]] for name in ROW}, ids[4:6], form="columns"),
        request(rows[6:7], ids[6:7], form="redacted"),
        request(rows[7], ids[7:9]),  # one row that was asked, two that were answered
    ]
    described = version()
    together = prediction_rows(described, [answers(*requests)]).drop_columns("call_rows")
    alone = [prediction_rows(described, [answers(one)]) for one in requests]
    assert together == pa.concat_tables(alone).drop_columns("call_rows").combine_chunks()


def test_the_least_and_greatest_value_of_what_was_asked_stand_nowhere_in_a_tables_files(tmp_path):
    (one,) = new_prediction_ids(1)
    ship_all(
        spooled(tmp_path, (version(), answers(request(ROW, [one])))),
        LogTables(str(tmp_path / "log")),
    )
    (path,) = (tmp_path / "log").rglob("*.parquet")
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(place) for place in range(group.num_columns)]
    noted = {one.path_in_schema for one in columns if one.statistics and one.statistics.has_min_max}
    assert noted == {"prediction_id", "request_key", "answered_at"}
    assert {one.compression for one in columns} == {"ZSTD"}


def test_a_missing_value_is_null_and_not_a_number(tmp_path):
    row = {**ROW, "age": None}
    del row["since"]
    spool = spooled(tmp_path, (version(), answers(request(row, new_prediction_ids(1)))))
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spool, tables)
    (found,) = rows_of(tables)
    assert (found["age"], found["since"]) == (None, None)


def test_one_request_that_stands_for_several_rows_is_beside_each_of_them(tmp_path):
    ids = new_prediction_ids(3)
    spool = spooled(tmp_path, (version(), answers(request(ROW, ids))))
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spool, tables)
    assert [(row["income"], row["request_row"]) for row in rows_of(tables)] == [
        (1234.5, 0),
        (1234.5, 1),
        (1234.5, 2),
    ]


def test_what_is_inside_of_a_field_stands_there_as_json_and_a_day_as_an_instant(tmp_path):
    columns = (
        Column("horizon", "integer"),
        Column("history", "records", columns=(Column("day", "date"), Column("amount"))),
    )
    described = version(1, columns, task="forecast", classes=(), outputs=("prediction", "time"))
    asked = {"horizon": 2, "history": [{"day": "2026-11-20", "amount": 1.5}]}
    days = np.array(["2026-11-21", "2026-11-22"], dtype="datetime64[us]").tolist()
    said = Answers(1, 7, 1, NOON_US, [request(asked, new_prediction_ids(2))], [[5.0, 6.0], days])
    ship_all(spooled(tmp_path, (described, said)), LogTables(str(tmp_path / "log")))
    first, second = rows_of(LogTables(str(tmp_path / "log")))
    assert json.loads(first["history"]) == asked["history"]
    assert (first["horizon"], second["prediction"]) == (2, 6.0)
    assert second["time"] == dt.datetime(2026, 11, 22, tzinfo=dt.UTC)


STEPS = ("write a", "write b", "write feedback", "note", "remove", "write a", "note")


@pytest.mark.parametrize("killed_at", range(len(STEPS) + 4))
def test_whatever_step_the_process_ends_at_everything_is_there_once_in_the_end(tmp_path, killed_at):
    ids = new_prediction_ids(40)
    a, b = version(1, name="a"), version(2, name="b")
    noted = [(a, answers(request(ROW, [one]))) for one in ids[:10]]
    noted += [(b, answers(request(ROW, [one]), number=2)) for one in ids[10:20]]
    noted.append((None, Observations(NOON_US, "me", [Observation(ids[0], 1)])))
    spool = spooled(tmp_path, *noted)
    spooled(tmp_path, *[(a, answers(request(ROW, [one]))) for one in ids[20:]])
    left = killed_at

    def on_step(step):
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed(step)

    tables = LogTables(str(tmp_path / "log"))
    try:
        ship_all(spool, tables, on_step=on_step)
    except Killed:
        balance = spool.balance()
        assert balance.balanced, balance
    ship_all(Spool(tmp_path / "spool"), LogTables(str(tmp_path / "log")))
    tables = LogTables(str(tmp_path / "log"))
    assert sorted(row["prediction_id"] for row in rows_of(tables, "a")) == [*ids[:10], *ids[20:]]
    assert sorted(row["prediction_id"] for row in rows_of(tables, "b")) == ids[10:20]
    (feedback,) = tables.feedback()
    assert DeltaTable(feedback).to_pyarrow_table().num_rows == 1
    assert spool.balance() == Balance(40, 40, 0)
    assert list((tmp_path / "spool").glob("*/*.sealed")) == []


def test_a_column_of_another_type_begins_another_table_and_nothing_is_rounded(tmp_path):
    whole, broken = (Column("x", "integer"),), (Column("x", "number"),)
    ids = new_prediction_ids(3)
    tables = LogTables(str(tmp_path / "log"))
    for number, (columns, value, one) in enumerate(
        [(whole, 1, ids[0]), (broken, 1.5, ids[1]), (whole, 2, ids[2])], start=1
    ):
        described = version(number, columns)
        spool = spooled(tmp_path, (described, answers(request({"x": value}, [one]), number=number)))
        ship_all(spool, tables)
    first, second = tables.predictions("m")
    assert DeltaTable(first).to_pyarrow_table()["x"].to_pylist() == [2, 1]
    assert DeltaTable(second).to_pyarrow_table()["x"].to_pylist() == [1.5]


def test_two_versions_in_one_segment_go_together_where_their_columns_agree(tmp_path):
    one, other = new_prediction_ids(2)
    fewer = (Column("income"),)
    spool = spooled(
        tmp_path,
        (version(1), answers(request(ROW, [one]))),
        (version(2, fewer, version="4"), answers(request({"income": 2.0}, [other]), number=2)),
    )
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spool, tables)
    (uri,) = tables.predictions("m")
    found = {row["prediction_id"]: row for row in DeltaTable(uri).to_pyarrow_table().to_pylist()}
    assert (found[one]["version"], found[one]["age"]) == ("3", 40)
    assert (found[other]["version"], found[other]["age"]) == ("4", None)


def test_a_new_column_is_added_and_is_null_in_what_was_there(tmp_path):
    tables = LogTables(str(tmp_path / "log"))
    fewer = (Column("income"),)
    for number, (columns, row) in enumerate([(fewer, {"income": 1.0}), (COLUMNS, ROW)], start=1):
        asked = answers(request(row, new_prediction_ids(1)), number=number)
        ship_all(spooled(tmp_path, (version(number, columns), asked)), tables)
    assert len(tables.predictions("m")) == 1
    assert sorted(row["age"] or 0 for row in rows_of(tables)) == [0, 40]


def test_a_store_that_cannot_be_written_loses_nothing_and_is_named(tmp_path):
    spool = spooled(tmp_path, (version(), answers(request(ROW, new_prediction_ids(1)))))
    (tmp_path / "log").write_text("in the way")
    with pytest.raises(LogUnavailable, match="log/m/predictions-0001 cannot be"):
        ship_all(spool, LogTables(str(tmp_path / "log")))
    assert spool.balance() == Balance(1, 0, 1)
    (tmp_path / "log").unlink()
    ship_all(spool, LogTables(str(tmp_path / "log")))
    assert spool.balance() == Balance(1, 1, 0)


def test_the_open_segment_of_a_living_writer_is_left_alone(tmp_path):
    spool = Spool(tmp_path / "spool")
    writer = Spooler(spool, fsync_s=0.01, seal_s=60.0, max_bytes=2**30)
    asked = answers(request(ROW, new_prediction_ids(1)))
    writer.append(encode(asked), 1, 1, lambda: encode(version()))
    tables = LogTables(str(tmp_path / "log"))
    assert ship_all(spool, tables).n_rows == 0
    writer.close()
    assert ship_all(spool, tables).n_rows == 1


def test_names_that_a_table_does_not_take_are_changed_without_a_clash():
    names = column_names(["day", "DAY", "a b", "a_b", "prediction"], ["prediction"])
    assert len({name.lower() for name in names.values()}) == 5
    assert names["a b"] == "a_b"
    assert names["day"] == "input_day"


@pytest.mark.parametrize("name", ["risk model", "modèle", "100%~sure"])
def test_whatever_a_model_is_called_its_predictions_are_found_under_its_name(tmp_path, name):
    spool = spooled(tmp_path, (version(name=name), answers(request(ROW, new_prediction_ids(1)))))
    ship_all(spool, LogTables(str(tmp_path / "log")))
    tables = LogTables(str(tmp_path / "log"))
    assert tables.models() == [name]
    assert len(PredictionLogReader(tables).predictions(name)) == 1
