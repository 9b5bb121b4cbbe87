"""Monitoring runs that a server begins: when, how they stand back, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import time
from pathlib import Path

import pytest

from greenroom import processes
from greenroom.supervision import monitor_runs
from greenroom.supervision.monitor_runs import MonitorRuns, monitor_command


class Runs:
    """Runs of a program of the test's own, and what was told of them."""

    def __init__(self, folder: Path, program: str, *, interval_s: float = 0.05) -> None:
        self.folder, self.events, self.ended = folder, [], []
        command = [sys.executable, "-S", "-c", program]
        self.runs = MonitorRuns(
            command, folder / "monitoring", interval_s, on_event=self.events.append
        )

    def once(self):
        return asyncio.run(self.runs.once([str(self.folder)]))

    async def until(self, condition, within_s: float = 20.0) -> None:
        """Run until a condition holds, and then no more."""
        task = asyncio.create_task(self.runs.run(lambda: [str(self.folder)], self.ended.append))
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def test_the_command_is_what_a_person_would_call(tmp_path):
    command = monitor_command("7d", config=Path("/etc/prod.yaml"))
    assert command[1:] == [
        "-P", "-m", "greenroom", "monitor", "--window=7d", "--config=/etc/prod.yaml",
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(monitor_runs, "_BETWEEN_S", 0.02)


def test_a_run_is_begun_whenever_one_is_due(tmp_path):
    program = "import sys, pathlib; pathlib.Path(sys.argv[1], 'log').open('a').write('x')"
    runs = Runs(tmp_path, program)
    asyncio.run(runs.until(lambda: len(runs.ended) >= 2))
    assert set(runs.ended) == {"done"}
    assert len((tmp_path / "log").read_text()) >= 2
    assert runs.events == []


def test_why_a_run_failed_is_said_once(tmp_path):
    runs = Runs(tmp_path, "import sys; sys.exit('greenroom: there is nothing to compare')")
    asyncio.run(runs.until(lambda: len(runs.ended) >= 2))
    assert set(runs.ended) == {"failed"}
    assert runs.events == ["monitoring: there is nothing to compare"]


def test_a_server_that_is_started_again_does_not_monitor_again(tmp_path):
    runs = Runs(tmp_path, "", interval_s=3_600.0)
    assert runs.once() == [("done", "")]
    began_at_s = (tmp_path / "monitoring" / "run.lock").stat().st_mtime
    assert time.time() - began_at_s < 60
    assert runs.runs._last_s() == began_at_s


def test_of_several_servers_with_one_home_one_monitors_at_a_time(tmp_path):
    runs = Runs(tmp_path, "")
    folder = tmp_path / "monitoring"
    folder.mkdir()
    with (folder / "run.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert runs.once() == []
    assert runs.once() == [("done", "")]


@pytest.mark.skipif(not processes.PROC.is_dir(), reason="there is no /proc")
def test_a_run_stands_back_behind_serving_and_is_ended_with_the_server(tmp_path):
    program = (
        "import os, sys, time, pathlib;"
        "pathlib.Path(sys.argv[1], 'pid').write_text(f'{os.getpid()} ');"
        "time.sleep(60)"
    )
    runs = Runs(tmp_path, program)
    seen = {}

    def begun():
        text = (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""
        if not text.endswith(" "):
            return False
        pid = seen["pid"] = int(text)
        seen["nice"] = os.getpriority(os.PRIO_PROCESS, pid)
        seen["first to die"] = Path(f"/proc/{pid}/oom_score_adj").read_text()
        return seen["nice"] > os.getpriority(os.PRIO_PROCESS, 0) or seen["nice"] == 19

    asyncio.run(runs.until(begun))
    assert seen["nice"] == min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)
    assert processes.identity(seen["pid"]) == ""
    assert runs.ended == []


def test_a_run_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor_runs, "LONGEST_S", 0.1)
    runs = Runs(tmp_path, "import time; time.sleep(60)")
    ((outcome, problem),) = runs.once()
    assert outcome == "failed"
    assert "took longer than 0.1 s" in problem


def test_nothing_to_compare_is_no_failure(tmp_path):
    runs = Runs(tmp_path, "import sys; sys.exit(5)")
    assert runs.once() == [("nothing", "")]


def test_each_model_is_monitored_by_a_run_of_its_own_and_one_that_fails_keeps_none_back(tmp_path):
    runs = Runs(tmp_path, "import sys; sys.exit(sys.argv[1] == 'b/2' and 'b is broken' or 0)")
    ended = asyncio.run(runs.runs.once(["a/1", "b/2", "c/3"]))
    assert ended == [("done", ""), ("failed", "b is broken"), ("done", "")]


def test_the_last_line_of_much_that_a_run_writes_is_why_it_failed(tmp_path):
    program = (
        "import sys; sys.stderr.write('x' * 300_000 + '\\n' + 'y\\n' * 9_999); sys.exit('last')"
    )
    ((_, problem),) = Runs(tmp_path, program).once()
    assert problem == "last"


def test_a_program_that_is_not_there_and_a_folder_that_cannot_be_written_are_failures(tmp_path):
    absent = MonitorRuns(["/nowhere/python"], tmp_path, 1.0, on_event=print)
    assert "cannot be started" in asyncio.run(absent.once(["app"]))[0].problem
    (tmp_path / "file").write_text("")
    blocked = MonitorRuns(["true"], tmp_path / "file", 1.0, on_event=print)
    assert "cannot be written" in asyncio.run(blocked.once(["app"]))[0].problem
