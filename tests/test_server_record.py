"""Records of servers: whose process answers on which port of a home folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from greenroom.errors import ProcessError
from greenroom.status import RestartStatus
from greenroom.supervision.server_record import ServerRecord, running_ports


def test_a_server_that_runs_is_found_by_its_port(tmp_path: Path) -> None:
    record = ServerRecord(tmp_path, 8000)
    record.write()
    assert record.running
    assert running_ports(tmp_path) == [8000]
    record.remove()
    assert running_ports(tmp_path) == []


def test_how_its_restart_went_stands_in_the_record(tmp_path: Path) -> None:
    ServerRecord(tmp_path, 8000).write()
    assert ServerRecord(tmp_path, 8000).restart is None
    status = RestartStatus(state="failed", began_at="now", problem="it is broken")
    ServerRecord(tmp_path, 8000).write(status)
    assert ServerRecord(tmp_path, 8000).restart == status


def test_a_process_that_only_has_the_same_id_is_not_taken_for_the_server(tmp_path: Path) -> None:
    record = ServerRecord(tmp_path, 8000)
    record.write()
    path = tmp_path / "servers" / "8000.json"
    path.write_text(f'{{"pid": {os.getpid()}, "identity": "another"}}')
    assert not record.running
    with pytest.raises(ProcessError, match=r"no server of .* runs on port 8000; call it in the"):
        record.ask_to_restart()


def test_a_record_that_cannot_be_read_is_no_server(tmp_path: Path) -> None:
    record = ServerRecord(tmp_path, 8000)
    record.write()
    (tmp_path / "servers" / "8000.json").write_text("{")
    assert not record.running


def test_where_another_server_runs_its_port_is_named(tmp_path: Path) -> None:
    ServerRecord(tmp_path, 8001).write()
    with pytest.raises(ProcessError, match="on port 8000; one runs on port 8001: give --port"):
        _ = ServerRecord(tmp_path, 8000).restart


def test_asking_for_a_restart_is_a_signal_to_the_process(tmp_path: Path) -> None:
    asked: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: asked.append(number))
    try:
        record = ServerRecord(tmp_path, 8000)
        record.write()
        record.ask_to_restart()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert asked == [signal.SIGUSR1]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "servers").write_text("a file")
    with pytest.raises(ProcessError, match=r"8000\.json cannot be written: .*GREENROOM_HOME"):
        ServerRecord(tmp_path, 8000).write()
