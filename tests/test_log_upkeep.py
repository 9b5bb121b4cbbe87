"""Upkeep: files are joined, old days go, and neither loses a row or stops the shipping."""

from __future__ import annotations

import datetime as dt

import pytest

from greenroom.log import log_upkeep, shipper
from greenroom.log.log_tables import LogTables, Writer
from greenroom.log.log_upkeep import upkeep
from greenroom.log.shipper import Shipper, ShipperSetup
from greenroom.log.shipping import ship_all
from greenroom.prediction_id import new_prediction_ids
from test_shipping import NOON_US, ROW, answers, request, rows_of, spooled, version

TODAY = dt.date(2026, 11, 21)
DAY_US = 86_400_000_000


def shipped_each(folder, *days_ago):
    """Ship a prediction in a segment of its own for each; return tables and the last spool."""
    tables = LogTables(str(folder / "log"))
    for number, days in enumerate(days_ago):
        ids = new_prediction_ids(1)
        noted = (version(), answers(request(ROW, ids), at_us=NOON_US - days * DAY_US))
        spool = spooled(folder / str(number), noted)
        ship_all(spool, tables)
    return tables


def files(tables):
    (uri,) = tables.predictions("m")
    return len(tables.open(uri).file_uris())


def take(tables, **changes):
    steps = []
    for step in upkeep(tables, **{"keep_days": 0, "today": TODAY, **changes}):
        step.do()
        steps.append(step.name.partition(": ")[2])
    return steps


def test_files_of_past_days_are_joined_and_todays_are_left(tmp_path):
    tables = shipped_each(tmp_path, 1, 1, 1, 2, 0, 0)
    before = sorted(row["prediction_id"] for row in rows_of(tables))
    assert take(tables) == ["files of 2026-11-20 are joined", "what it no longer has is removed"]
    assert files(tables) == 4
    assert sorted(row["prediction_id"] for row in rows_of(tables)) == before
    assert take(tables) == ["what it no longer has is removed"]


def test_many_files_of_today_are_joined_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(log_upkeep, "MANY_FILES", 3)
    tables = shipped_each(tmp_path, 0, 0, 0)
    take(tables)
    assert files(tables) == 1


def test_days_that_are_to_be_kept_no_longer_are_deleted_and_their_files_removed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(log_upkeep, "GRACE_HOURS", 0)
    tables = shipped_each(tmp_path, 0, 7, 8, 300)
    take(tables, keep_days=7)
    assert {row["day"] for row in rows_of(tables)} == {TODAY, TODAY - dt.timedelta(days=7)}
    assert len(list((tmp_path / "log").rglob("part-*.parquet"))) == 2


def test_without_a_number_of_days_all_are_kept(tmp_path):
    tables = shipped_each(tmp_path, 0, 3_000)
    take(tables)
    assert len(rows_of(tables)) == 2


def test_a_table_that_was_kept_still_knows_which_segments_it_has(tmp_path):
    (one,) = new_prediction_ids(1)
    noted = (version(), answers(request(ROW, [one]), at_us=NOON_US - DAY_US))
    spool = spooled(tmp_path, noted)
    (segment,) = [part for slot in spool.slots() for part in slot.segments()]
    content = segment.path.read_bytes()
    tables = shipped_each(tmp_path, 1, 1)
    ship_all(spool, tables)
    take(tables)
    take(tables, keep_days=100)
    (uri,) = tables.predictions("m")
    transaction = Writer(spool.id.hex, segment.head.slot).transaction(segment.head.sequence)
    assert LogTables(tables.uri).open(uri).transaction_version(transaction.app_id) == (
        segment.head.sequence
    )
    segment.path.write_bytes(content)
    (spool.slots()[0].folder / "ledger.json").unlink()
    assert ship_all(spool, tables).n_again == 1
    assert len(rows_of(tables)) == 3


@pytest.fixture
def ours(tmp_path, monkeypatch):
    monkeypatch.setattr(shipper, "_FIRST_UPKEEP_S", 0.0)
    noted = (version(), answers(request(ROW, new_prediction_ids(1))))
    spool = spooled(tmp_path, noted)
    uri = str(tmp_path / "log")
    found = Shipper(ShipperSetup(spool=str(spool.folder), uri=uri, interval_s=1.0))
    yield found, tmp_path
    found.close()


def test_the_shipper_takes_one_step_after_each_round_and_then_rests(ours):
    process, folder = ours
    assert not process.keep(), "there is no table to keep"
    process.round()
    process._upkeep_at_s = 0.0
    assert process.keep()
    assert not process.keep()
    assert len(rows_of(LogTables(str(folder / "log")))) == 1


def test_upkeep_that_fails_is_said_and_shipping_goes_on(ours, monkeypatch, caplog):
    process, folder = ours
    process.round()
    process._upkeep_at_s = 0.0

    def broken(table):
        raise OSError("the store is away")

    monkeypatch.setattr(log_upkeep, "_clean", broken)
    assert not process.keep()
    assert "are kept later" in caplog.text
    noted = (version(), answers(request(ROW, new_prediction_ids(1))))
    spooled(folder, noted)
    assert process.round()
    assert len(rows_of(LogTables(str(folder / "log")))) == 2


def test_while_others_change_the_tables_predictions_wait(ours):
    process, folder = ours
    tables = LogTables(str(folder / "log"))
    with tables.changing() as alone:
        assert alone
        assert process.round()
        assert process._spool.balance().waiting == 1
    process.round()
    assert process._spool.balance().waiting == 0
