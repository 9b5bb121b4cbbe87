"""What is known of alerts, in memory and on disk."""

from __future__ import annotations

from greenroom.alerts import read_alerts
from greenroom.monitoring.alert_book import AlertBook
from greenroom.monitoring.alert_states import Condition

BAD = Condition("A", "warning", {"model": "m"}, "bad")


def opened(path, problems=None, *, queues=True):
    told = problems if problems is not None else []
    return AlertBook(path, queues=queues, repeat_s=0.0, on_problem=told.append, clock_s=lambda: 1.0)


def test_what_fires_and_its_notice_are_on_disk_together(tmp_path):
    path = tmp_path / "alerts" / "8000.json"
    (notice,) = opened(path).take([BAD])
    record = read_alerts(path)
    assert [one.state for one in record.alerts] == ["firing"]
    assert record.waiting == record.recent == (notice,)


def test_a_look_that_finds_nothing_new_writes_nothing(tmp_path):
    path = tmp_path / "8000.json"
    book = opened(path)
    book.take([])
    assert not path.exists()
    book.take([BAD])
    path.unlink()
    book.take([BAD])
    assert not path.exists()


def test_where_there_is_no_webhook_nothing_waits_also_of_what_waited_before(tmp_path):
    path = tmp_path / "8000.json"
    opened(path).take([BAD])
    book = opened(path, queues=False)
    assert book.record.waiting == ()
    assert book.record.firing
    book.take([])
    assert [notice.kind for notice in book.record.recent] == ["firing", "resolved"]
    assert book.record.waiting == ()


def test_a_file_that_cannot_be_read_is_set_aside_and_said(tmp_path):
    path = tmp_path / "8000.json"
    path.write_text("{")
    problems = []
    book = opened(path, problems)
    assert book.record.alerts == ()
    assert "it is set aside" in problems[0]
    assert path.with_suffix(".broken").read_text() == "{"
    book.take([BAD])
    assert read_alerts(path).firing


def test_a_folder_that_cannot_be_written_is_said_once_and_alerts_go_on_in_memory(tmp_path):
    stands_in_the_way = tmp_path / "alerts"
    stands_in_the_way.write_text("")
    problems = []
    book = opened(stands_in_the_way / "8000.json", problems)
    problems.clear()
    assert book.take([BAD])
    assert book.take([])
    assert [problem.count("cannot be written") for problem in problems] == [1]
