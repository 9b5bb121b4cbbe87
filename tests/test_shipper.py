"""The shipper's rounds: when it ships, and when it lets what serves go first."""

from __future__ import annotations

import pytest

from greenroom import processes
from greenroom.errors import LogUnavailable
from greenroom.log.log_tables import LogTables
from greenroom.log.shipper import Shipper, ShipperSetup
from greenroom.prediction_id import new_prediction_ids
from test_shipping import ROW, answers, request, rows_of, spooled, version


class Idle:
    """Processors that are as idle as the test says, one look after the other."""

    def __init__(self, *shares):
        self.shares = list(shares)

    def share(self):
        return self.shares.pop(0)


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A shipper with two sealed segments, of a row each, to ship; it stays a process as others."""
    monkeypatch.setattr(processes, "run_when_idle", lambda: None)
    shippers = []

    def start(*shares, **changes):
        for _ in range(2):
            noted = (version(), answers(request(ROW, new_prediction_ids(1))))
            spool = spooled(tmp_path, noted)
        setup = ShipperSetup(
            spool=str(spool.folder),
            uri=str(tmp_path / "log"),
            interval_s=30.0,
            **{"patience_s": 60.0, **changes},
        )
        found = Shipper(setup)
        found._idleness = Idle(*shares)
        shippers.append(found)
        return found, spool

    yield start
    for one in shippers:
        one.close()


def test_what_is_sealed_is_shipped_where_processors_are_idle(started, tmp_path):
    shipper, spool = started(0.9, 0.1, 0.1)
    assert shipper.round()
    assert len(rows_of(LogTables(str(tmp_path / "log")))) == 2
    assert spool.balance().waiting == 0


def test_nothing_is_begun_while_the_processors_are_wanted_all_the_time(started, tmp_path):
    shipper, spool = started(0.09)
    assert not shipper.round()
    assert not (tmp_path / "log").exists()
    assert spool.balance().waiting == 2


def test_a_round_ends_between_two_segments_when_the_processors_are_wanted(started):
    shipper, spool = started(0.5, 0.5, 0.0, 0.5, 0.5)
    assert not shipper.round()
    assert spool.balance().waiting == 1
    assert shipper.round()
    assert spool.balance().waiting == 0


def test_it_looks_again_in_a_second_and_not_after_its_usual_pause(started, monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    shipper, _ = started(0.0, 0.9, 0.9, 0.9)
    shipper.round()
    shipper._pause()
    shipper.round()
    shipper._pause()
    assert [one for one in slept if one >= 1.0] == [1.0, 30.0], "others sleep for moments"


@pytest.mark.parametrize("changes", [{"patience_s": 0.0}, {"pressed": True}])
def test_what_cannot_wait_is_shipped_without_a_look(started, changes):
    shipper, spool = started(**changes)
    assert shipper.round()
    assert spool.balance().waiting == 0


def test_the_last_round_of_a_server_that_stops_ships_without_a_look(started):
    shipper, spool = started()
    shipper.stop()
    assert shipper.round()
    assert spool.balance().waiting == 0


def test_a_round_that_was_put_off_does_not_say_that_a_store_is_back(started, monkeypatch, caplog):
    shipper, _ = started(0.9, 0.9, 0.0, 0.9, 0.9, 0.9)

    def away(*_):
        raise LogUnavailable("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(LogTables, "write_predictions", away)
        assert not shipper.round()
    assert not shipper.round()
    assert [record.getMessage() for record in caplog.records] == [
        "predictions wait on disk: the store is away"
    ]
    assert shipper.round()
    assert "predictions are shipped again" in caplog.text
