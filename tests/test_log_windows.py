"""Windows of the log as a stream: the rows of the window, of one version, each once."""

from __future__ import annotations

import datetime as dt

import pytest

from greenroom.log.log_reading import Window
from greenroom.log.log_tables import LogTables
from greenroom.log.log_windows import LogWindows
from greenroom.log.shipping import ship_all
from greenroom.prediction_id import new_prediction_ids
from test_shipping import NOON_US, ROW, answers, request, spooled, version

HOUR_US = 3_600_000_000
NOON = dt.datetime.fromtimestamp(NOON_US / 1e6, dt.UTC)
ALL = Window()


def at_hours(*hours, digest="a" * 64, number=1):
    """Return a prediction at each hour after noon, whose income is the hour."""
    return [
        (
            version(number, digest=digest),
            answers(
                request({**ROW, "income": float(hour)}, new_prediction_ids(1)),
                number=number,
                at_us=NOON_US + hour * HOUR_US,
            ),
        )
        for hour in hours
    ]


def incomes(windows, window=ALL, **how):
    batches = windows.batches("m", window, ["income", "region"], texts=["region"], **how)
    return sorted(value for batch in batches for value in batch["income"].to_pylist())


@pytest.fixture
def tables(tmp_path):
    return LogTables(str(tmp_path / "log"))


def test_what_is_shipped_and_what_waits_is_given_once(tmp_path, tables):
    ship_all(spooled(tmp_path, *at_hours(0, 1)), tables)
    spool = spooled(tmp_path, *at_hours(2, 3))
    assert incomes(LogWindows(tables, spool)) == [0, 1, 2, 3]
    assert incomes(LogWindows(tables)) == [0, 1]


def test_what_is_shipped_between_the_two_looks_is_given_once(tmp_path, tables, monkeypatch):
    ship_all(spooled(tmp_path, *at_hours(0)), tables)
    spool = spooled(tmp_path, *at_hours(1, 2))
    listed = tables.predictions

    def shipped_meanwhile(model):
        ship_all(spool, LogTables(tables.uri))
        return listed(model)

    monkeypatch.setattr(tables, "predictions", shipped_meanwhile)
    assert incomes(LogWindows(tables, spool)) == [0, 1, 2]


def test_a_window_has_its_beginning_and_not_its_end_and_only_its_columns(tmp_path, tables):
    ship_all(spooled(tmp_path, *at_hours(0, 13, 26)), tables)
    spool = spooled(tmp_path, *at_hours(20, 39))
    window = Window(NOON + dt.timedelta(hours=13), NOON + dt.timedelta(hours=39))
    windows = LogWindows(tables, spool)
    assert incomes(windows, window) == [13, 20, 26]
    for batch in windows.batches("m", window, ["income", "unknown"]):
        assert batch.schema.names == ["income"]


def test_rows_of_another_version_are_left_out(tmp_path, tables):
    ship_all(spooled(tmp_path, *at_hours(0), *at_hours(1, digest="b" * 64, number=2)), tables)
    spool = spooled(tmp_path, *at_hours(2, digest="b" * 64), *at_hours(3, number=2))
    windows = LogWindows(tables, spool)
    assert incomes(windows, digest="b" * 64) == [1, 2]
    assert incomes(windows, digest="c" * 64) == []


def test_texts_that_recur_are_dictionaries_with_the_same_values(tmp_path, tables):
    ship_all(spooled(tmp_path, *at_hours(0, 1)), tables)
    (batch,) = LogWindows(tables).batches("m", ALL, ["region", "note"], texts=["region"])
    assert [str(kind) for kind in batch.schema.types] == [
        "dictionary<values=string, indices=int32, ordered=0>",
        "string",
    ]
    assert batch["region"].to_pylist() == ["north", "north"]


def test_the_latest_rows_are_a_window_of_their_own(tmp_path, tables):
    ship_all(spooled(tmp_path, *at_hours(0, 30, 2)), tables)
    windows = LogWindows(tables, spooled(tmp_path, *at_hours(1, 40)))
    latest = windows.latest("m", 3, ALL)
    assert latest.since == NOON + dt.timedelta(hours=2)
    assert incomes(windows, latest) == [2, 30, 40]
    assert windows.latest("m", 5, ALL) == ALL
    assert windows.latest("m", 1, Window(None, NOON + dt.timedelta(hours=2))) == Window(
        NOON + dt.timedelta(hours=1), NOON + dt.timedelta(hours=2)
    )


def test_a_model_of_which_nothing_is_logged_has_no_rows(tables):
    assert incomes(LogWindows(tables)) == []
