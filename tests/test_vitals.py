"""Vitals: the response times of the last minutes, what the server uses, and its state folder."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.instruments import (
    LATENCY_BOUNDS,
    SupervisorInstruments,
    WorkerInstruments,
    read_totals,
)
from greenroom.vitals import (
    WINDOW_S,
    Sampler,
    Vitals,
    folder_problem,
    quantile,
    read_vitals,
    watch,
)


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def supervisor():
    return SupervisorInstruments(2)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sampler(supervisor, clock, tmp_path):
    return Sampler(lambda: read_totals(supervisor.memory), tmp_path, clock)


def worker(supervisor, slot=1):
    return WorkerInstruments(supervisor.memory, seat=slot, slot=slot)


def test_before_anything_was_taken_nothing_is_known(supervisor):
    assert read_vitals(supervisor.memory) is None


def test_what_the_supervisor_has_taken_any_process_reads(supervisor, sampler):
    taken = sampler.sample()
    supervisor.sampled(taken)
    found = read_vitals(supervisor.memory)
    assert found == pytest.approx(taken, nan_ok=True)


def test_predictions_of_all_workers_and_routes_count_with_any_status(supervisor, sampler):
    for slot in (1, 2):
        one = worker(supervisor, slot)
        one.predictions("/predict", "m", "1").answered(0.002)
        one.predictions("/models/{name}/predict", "m", "1").refused(400, 0.004)
        one.page("/health", 200, 5.0)
    found = sampler.sample()
    assert found.n_answers == 4
    assert found.mean_s == pytest.approx(0.003)
    assert 0.001 <= found.p50_s <= 0.0025
    assert found.p99_s <= 0.005


def test_without_predictions_there_are_no_response_times(sampler):
    found = sampler.sample()
    assert found.n_answers == 0
    assert all(map(math.isnan, (found.mean_s, found.p50_s, found.p99_s)))


def test_only_the_last_minutes_count(supervisor, sampler, clock):
    answers = worker(supervisor).predictions("/predict", "m", "1")
    answers.answered(1.0)
    sampler.sample()
    clock.now_s += WINDOW_S / 2
    answers.answered(0.001)
    assert sampler.sample().n_answers == 2
    clock.now_s += WINDOW_S / 2 + 1
    sampler.sample()
    clock.now_s += 1
    found = sampler.sample()
    assert found.n_answers == 1
    assert found.mean_s == pytest.approx(0.001)
    clock.now_s += WINDOW_S
    assert sampler.sample().n_answers == 0


def test_a_version_that_is_not_shown_any_more_leaves_no_negative_number(
    supervisor, clock, tmp_path
):
    shown = [read_totals(supervisor.memory)]
    sampler = Sampler(lambda: shown[-1], tmp_path, clock)
    worker(supervisor).predictions("/predict", "m", "1").answered(0.001)
    shown.append(read_totals(supervisor.memory))
    sampler.sample()
    clock.now_s += 10
    shown.append(shown[0])
    assert sampler.sample().n_answers == 0


def test_memory_processor_and_disk_are_those_of_the_server(sampler, supervisor, clock, tmp_path):
    worker(supervisor)
    assert math.isnan(sampler.sample().cpu_percent)
    clock.now_s += 1
    began = os.times()
    while os.times().user + os.times().system - began.user - began.system < 0.05:
        sum(range(1000))
    found = sampler.sample()
    assert found.memory_bytes > 10_000_000
    assert 4 <= found.cpu_percent < 200
    disk = shutil.disk_usage(tmp_path)
    assert found.disk_total_bytes == disk.total
    assert 0 < found.disk_free_bytes <= disk.total


def test_a_state_folder_that_is_not_there_has_no_size(supervisor, tmp_path):
    found = Sampler(lambda: read_totals(supervisor.memory), tmp_path / "none").sample()
    assert math.isnan(found.disk_free_bytes)


@given(
    st.lists(st.floats(0, 9.9), min_size=1, max_size=50), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1])
)
def test_a_quantile_is_within_the_bucket_of_the_value_of_that_rank(seconds, share):
    cells = [0.0] * (len(LATENCY_BOUNDS) + 1)
    for value in seconds:
        cells[bisect_left(LATENCY_BOUNDS, value)] += 1
    exact = sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]
    at = bisect_left(LATENCY_BOUNDS, exact)
    low = LATENCY_BOUNDS[at - 1] if at else 0.0
    assert low <= quantile(cells, share) <= LATENCY_BOUNDS[at]


def test_what_is_above_all_buckets_is_shown_as_the_highest_bound():
    cells = [0.0] * len(LATENCY_BOUNDS) + [3.0]
    assert quantile(cells, 0.5) == LATENCY_BOUNDS[-1]


def test_a_folder_that_takes_files_has_no_problem_and_nothing_is_left_in_it(tmp_path):
    assert folder_problem(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_files_is_named_with_the_reason(tmp_path):
    file = tmp_path / "a file"
    file.write_text("")
    assert f"the state folder {file} cannot be written: Not a directory" in folder_problem(file)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named(tmp_path, monkeypatch):
    with contextlib.suppress(OSError), Path("/dev/full").open("wb") as full:
        monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full)
        assert "No space left on device" in folder_problem(tmp_path)


def test_a_disk_without_room_for_a_segment_of_the_log_is_named(tmp_path):
    assert folder_problem(tmp_path, 1) == ""
    problem = folder_problem(tmp_path, 2**62)
    assert f"the disk of the state folder {tmp_path} has not the" in problem
    assert list(tmp_path.iterdir()) == []


def test_watching_goes_on_and_tells_numbers_and_problems(sampler, tmp_path):
    taken: list[Vitals] = []
    problems: list[str] = []
    folder = tmp_path / "home"

    async def run() -> None:
        watching = asyncio.create_task(
            watch(sampler, folder, taken.append, problems.append, interval_s=0.01)
        )
        while len(problems) < 2:
            await asyncio.sleep(0.01)
        folder.mkdir()
        while problems[-1]:
            await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(asyncio.wait_for(run(), 10))
    assert len(taken) >= 3
    assert "No such file or directory" in problems[0]
