"""Counting in shared memory: totals over processes, replaced writers, room that is used again."""

import os
import signal
import subprocess
import sys
import threading
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import counters
from greenroom.counters import CounterMemory, Seat, adder, histogram_cells, observer
from greenroom.errors import ProcessError

WRITER = """
import sys
from greenroom.counters import CounterMemory, adder
fd, number, times, declare = (int(word) for word in sys.argv[1:])
seat = CounterMemory.attach(fd).seats[number]
seat.occupy(number)
add = adder(seat.series("answers", ("200",), 1))
for turn in range(times):
    add(1.0)
    if declare:
        adder(seat.series("answers", (f"path {turn}",), 3))(1.0)
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def memory():
    made = CounterMemory.create(4)
    yield made
    made.close()


def writer(memory: CounterMemory, number: int, times: int, *, declare: bool = False):
    words = [memory.fd, number, times, int(declare)]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, *map(str, words)],
        pass_fds=(memory.fd,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def total(memory: CounterMemory, labels: tuple[str, ...] = ("200",)) -> float:
    return sum(
        series.cells[0]
        for seat in memory.seats
        for series in seat.read()
        if series.labels == labels
    )


def seat(memory: CounterMemory, number: int = 0) -> Seat:
    memory.seats[number].occupy(number)
    return memory.seats[number]


def ended(process: subprocess.Popen) -> None:
    process.communicate("\n")


def test_the_counts_of_all_processes_add_up_exactly(memory):
    processes = [writer(memory, number, 20_000) for number in range(4)]
    for process in processes:
        assert process.stdout.readline() == "done\n"
    assert total(memory) == 80_000
    for process in processes:
        ended(process)


def test_a_count_is_seen_while_its_process_lives_and_stays_when_it_is_killed(memory):
    process = writer(memory, 1, 500)
    process.stdout.readline()
    assert (memory.seats[1].pid, total(memory)) == (process.pid, 500)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert total(memory) == 500


def test_who_takes_the_seat_of_one_that_has_ended_goes_on_from_its_counts(memory):
    for _ in range(3):
        process = writer(memory, 2, 100, declare=True)
        process.stdout.readline()
        ended(process)
    assert total(memory) == 300
    assert total(memory, ("path 99",)) == 3


def test_a_reader_never_meets_half_a_series_while_another_process_makes_them(memory):
    process = writer(memory, 0, 5_000, declare=True)
    while process.poll() is None:
        found = memory.seats[0].read()
        assert {len(series.cells) for series in found} <= {1, 3}
        assert all(series.name == "answers" and series.stamp == 1 for series in found)
        if len(found) == 5_001:
            ended(process)
    assert len({series.labels for series in memory.seats[0].read()}) == 5_001


def test_a_seat_that_was_left_in_the_middle_of_a_change_can_be_read_and_taken(memory):
    one = seat(memory)
    adder(one.series("a", ("1",), 1))(5.0)
    one._numbers[counters._CHANGES] += 1
    assert [series.cells for series in one.read()] == [(5.0,)]
    one.occupy(0)
    adder(one.series("a", ("2",), 1))(6.0)
    assert [series.cells for series in one.read()] == [(5.0,), (6.0,)]


def test_a_seat_is_free_when_its_process_is_said_to_have_ended(memory):
    one = seat(memory, 3)
    assert (one.pid, one.label) == (os.getpid(), 3)
    one.vacate()
    assert memory.seats[3].pid == 0


def test_the_room_of_a_retired_series_is_used_again_and_begins_at_zero(memory):
    one = seat(memory)
    for version in range(100):
        adder(one.series("answers", (f"version {version:03}",), 2, stamp=version + 1))(1.0)
        one.retire(lambda found, to=version - 3: [series for series in found if series.stamp < to])
    assert {series.stamp for series in one.read()} == set(range(96, 101))
    assert one._numbers[counters._USED] < 1_000
    one.series("answers", ("version 000",), 2, stamp=101)
    assert [s.cells for s in one.read() if s.stamp == 101] == [(0.0, 0.0)]


def test_a_series_that_finds_no_room_is_lost_and_nothing_fails(memory, monkeypatch):
    monkeypatch.setattr(counters, "SEAT_BYTES", 4096)
    small = CounterMemory.create(1)
    one = seat(small)
    for number in range(60):
        adder(one.series("answers", (str(number),), 4))(1.0)
    n_kept = len(one.read())
    assert 30 < n_kept < 60
    assert one.n_lost == 60 - n_kept
    small.close()


def test_threads_that_declare_at_the_same_time_get_the_same_cells(memory):
    one = seat(memory)
    got = []

    def declare() -> None:
        got.extend(one.series("answers", (str(number),), 1) for number in range(200))

    threads = [threading.Thread(target=declare) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for cells in got:
        cells[0] += 1.0
    assert [series.cells for series in one.read()] == [(8.0,)] * 200


def test_a_series_keeps_its_number_of_cells(memory):
    one = seat(memory)
    one.series("a", (), 1)
    with pytest.raises(ValueError, match="has 1 cells, not 2"):
        one.series("a", (), 2)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"something else")
    for size in (14, counters.SEAT_BYTES):
        os.truncate(path, size)
        fd = os.open(path, os.O_RDWR)
        with pytest.raises(ProcessError, match="holds no counters"):
            CounterMemory.attach(fd)
        os.close(fd)


@given(
    st.lists(
        st.tuples(
            st.text(max_size=9), st.lists(st.text(max_size=40), max_size=4), st.integers(1, 9)
        ),
        unique_by=lambda one: (one[0], tuple(one[1])),
        max_size=20,
    )
)
def test_names_and_labels_are_read_as_they_were_declared(declared):
    memory = CounterMemory.create(1)
    one = seat(memory)
    for number, (name, labels, n_cells) in enumerate(declared):
        one.series(name, tuple(labels), n_cells)[0] = number
    found = [(s.name, list(s.labels), len(s.cells)) for s in memory.seats[0].read()]
    assert found == [tuple(one) for one in declared]
    assert [s.cells[0] for s in one.read()] == list(range(len(declared)))
    memory.close()


@given(st.lists(st.floats(0, 100), max_size=50))
def test_every_value_falls_into_the_first_bucket_that_is_not_below_it(values):
    bounds = (0.1, 1.0, 10.0)
    cells = memoryview(bytearray(8 * histogram_cells(bounds))).cast("d")
    observe = observer(cells, bounds)
    for value in values:
        observe(value)
    below = [sum(value <= bound for value in values) for bound in bounds]
    assert [sum(cells[: n + 1]) for n in range(3)] == below
    assert sum(cells[:4]) == len(values)
    assert cells[4] == pytest.approx(sum(values))


def test_counting_takes_well_under_a_microsecond(memory):
    cells = seat(memory).series("answers", ("200",), histogram_cells((0.001, 0.01, 0.1)))
    observe = observer(cells, (0.001, 0.01, 0.1))
    assert min(timeit.repeat(lambda: observe(0.002), number=10_000, repeat=10)) / 10_000 < 2e-6
