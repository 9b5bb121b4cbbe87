"""The access log: lines that a machine reads, whole, and no more often written than needed."""

from __future__ import annotations

import json
import os

import greenroom.http.access_log
from greenroom.http.access_log import AccessLog
from greenroom.http.visits import Visit


class Turn:
    """An event loop's turn: what is to be done at its end."""

    def __init__(self) -> None:
        self.later = []
        self.written = []

    def end(self) -> None:
        while self.later:
            self.later.pop()()

    def log(self) -> AccessLog:
        return AccessLog(
            2, soon=self.later.append, write=self.written.append, now_s=lambda: 1_763_726_400.1239
        )


def visit(**changes) -> Visit:
    given = {
        "method": "POST",
        "route": "/predict",
        "status": 200,
        "n_bytes": 280,
        "model": "credit",
        "version": "3",
        "caller": "shop",
        "request_id": "r-1",
    }
    return Visit(**{**given, **changes})


def test_a_line_says_what_was_asked_for_and_what_came_of_it():
    turn = Turn()
    turn.log().note(visit())
    turn.end()
    (lines,) = turn.written
    assert lines.endswith(b"\n")
    line = json.loads(lines)
    assert 0 <= line.pop("latency_ms") < 60_000
    assert line == {
        "at": "2025-11-21T12:00:00.123Z",
        "level": "INFO",
        "worker": 2,
        "logger": "greenroom.access",
        "message": "POST /predict 200",
        "method": "POST",
        "route": "/predict",
        "status": 200,
        "bytes": 280,
        "model": "credit",
        "version": "3",
        "caller": "shop",
        "request_id": "r-1",
    }


def test_the_lines_of_one_turn_are_written_at_once():
    turn = Turn()
    log = turn.log()
    for _ in range(3):
        log.note(visit())
    assert turn.written == []
    assert len(turn.later) == 1
    turn.end()
    log.note(visit())
    turn.end()
    assert [lines.count(b"\n") for lines in turn.written] == [3, 1]


def test_a_line_stays_one_line_whatever_a_caller_calls_its_request():
    turn = Turn()
    turn.log().note(visit(request_id='a"\n{}\x1b'))
    turn.end()
    assert turn.written[0].count(b"\n") == 1
    assert json.loads(turn.written[0])["request_id"] == 'a"\n{}\x1b'


def test_lines_go_to_standard_error(monkeypatch):
    reading, writing = os.pipe()
    monkeypatch.setattr(greenroom.http.access_log, "_STANDARD_ERROR", writing)
    turn = Turn()
    AccessLog(0, soon=turn.later.append).note(visit())
    turn.end()
    os.close(writing)
    with os.fdopen(reading, "rb") as lines:
        assert json.loads(lines.read())["route"] == "/predict"


def test_a_server_goes_on_when_nobody_reads_its_log(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(greenroom.http.access_log, "_STANDARD_ERROR", writing)
    turn = Turn()
    AccessLog(0, soon=turn.later.append).note(visit())
    turn.end()
    os.close(writing)
