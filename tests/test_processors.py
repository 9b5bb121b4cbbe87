"""Processors: how idle they are, as the system says it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from greenroom import processors
from greenroom.processors import Idleness


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves, and that counts nothing as used."""

    class Clock:
        now_s, used_s = 1_000.0, 0.0
        slept = ()

        def monotonic(self):
            return self.now_s

        def process_time(self):
            return self.used_s

        def sleep(self, seconds):
            self.slept += (seconds,)
            self.now_s += seconds
            self.during(seconds)

        def during(self, seconds):
            """What the processors do meanwhile."""

    found = Clock()
    monkeypatch.setattr(processors, "time", found)
    return found


class Stat:
    """A system of three processors, in hundredths of a second."""

    def __init__(self, folder):
        self.path = folder / "stat"
        self.idle = {0: 100, 1: 200, 2: 300}
        self.write()

    def write(self):
        lines = [f"cpu{n} 9 9 9 {idle} 7 1 1 0 0 0" for n, idle in self.idle.items()]
        self.path.write_text("\n".join(["cpu 1 1 1 1", *lines, "ctxt 12", ""]))

    def rest(self, number, hundredths):
        self.idle[number] += hundredths
        self.write()


def test_the_first_look_takes_a_quarter_of_a_second(tmp_path, clock):
    stat = Stat(tmp_path)
    clock.during = lambda _: stat.rest(0, 25)
    assert Idleness(lambda: {0, 1}, stat.path).share() == pytest.approx(0.5)
    assert clock.slept == (0.25,)


def test_only_processors_that_may_be_used_count(tmp_path, clock):
    stat = Stat(tmp_path)
    clock.during = lambda _: stat.rest(2, 25)
    assert Idleness(lambda: {0, 1}, stat.path).share() == 0.0
    assert Idleness(lambda: {2}, stat.path).share() == pytest.approx(1.0)


def test_later_looks_tell_of_the_time_since_the_one_before(tmp_path, clock):
    stat = Stat(tmp_path)
    idleness = Idleness(lambda: {0}, stat.path)
    idleness.share()
    clock.now_s += 1.0
    stat.rest(0, 30)
    assert idleness.share() == pytest.approx(0.3)
    assert len(clock.slept) == 1


def test_who_asks_again_at_once_is_told_the_same(tmp_path, clock):
    stat = Stat(tmp_path)
    idleness = Idleness(lambda: {0}, stat.path)
    clock.during = lambda _: stat.rest(0, 10)
    first = idleness.share()
    clock.now_s += 0.1
    stat.rest(0, 10)
    assert idleness.share() == first == pytest.approx(0.4)


def test_what_this_process_uses_counts_as_idle(tmp_path, clock):
    stat = Stat(tmp_path)
    idleness = Idleness(lambda: {0}, stat.path)
    idleness.share()
    clock.now_s, clock.used_s = clock.now_s + 1.0, 0.6
    stat.rest(0, 20)
    assert idleness.share() == pytest.approx(0.8)


@pytest.mark.parametrize("text", [None, "", "cpu0 0 0 0 0 0 0\n", "cpu7 1 1 1 1 1 1\n"])
def test_where_the_system_does_not_say_all_are_idle(tmp_path, clock, text):
    path = tmp_path / "stat"
    if text is not None:
        path.write_text(text)
    assert Idleness(lambda: {0, 1}, path).share() == 1.0


def test_a_processor_on_which_another_process_never_rests_is_not_idle():
    """The system's own counting, and no clock of ours."""
    number = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{number}}}); print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        try:
            assert Idleness(lambda: {number}).share() < 0.5
        finally:
            busy.kill()
