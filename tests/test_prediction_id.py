"""Prediction ids: their layout, their order, and that no two processes share one."""

from __future__ import annotations

import os
import threading
import time
import uuid

from hypothesis import given
from hypothesis import strategies as st

from greenroom.prediction_id import PredictionIds, new_prediction_id, new_prediction_ids


def test_an_id_is_a_uuid_of_version_7_in_its_usual_spelling():
    made = new_prediction_id()
    read = uuid.UUID(made)
    assert str(read) == made
    assert read.version == 7
    assert read.variant == uuid.RFC_4122


def test_the_first_48_bits_are_the_time_in_milliseconds():
    before = time.time_ns() // 1_000_000
    made_at_ms = uuid.UUID(PredictionIds().take(1)[0]).int >> 80
    assert before <= made_at_ms <= time.time_ns() // 1_000_000


@given(st.lists(st.integers(0, 2**47 * 1_000_000), min_size=1, max_size=50))
def test_ids_ascend_however_the_clock_moves(instants):
    readings = iter(instants)
    ids = PredictionIds(clock_ns=lambda: next(readings))
    made = ids.take(len(instants))
    assert made == sorted(set(made))
    assert all(uuid.UUID(one).version == 7 for one in made)


def test_a_millisecond_that_runs_out_of_ids_goes_on_in_the_next():
    ids = PredictionIds(clock_ns=lambda: 5_000_000, entropy=lambda n: b"\xff" * n)
    made = ids.take(2) + ids.take(1)
    assert [uuid.UUID(one).int >> 80 for one in made] == [6, 6, 6]
    assert made == sorted(set(made))


def test_ids_made_by_several_threads_are_all_different():
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.extend(new_prediction_ids(500))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4_000


def test_a_forked_process_makes_ids_of_its_own():
    new_prediction_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "\n".join(new_prediction_ids(100)).encode())
        os._exit(0)
    own = new_prediction_ids(100)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read().split()
    os.waitpid(child, 0)
    assert len(theirs) == 100
    assert not set(own) & set(theirs)


def test_a_fork_while_another_thread_makes_an_id_does_not_hang_the_child():
    ids = PredictionIds()
    with ids._lock:  # as if the fork came while another thread was inside
        ids.restart()
        assert ids.take(1)


@given(st.lists(st.integers(1, 3), min_size=2, max_size=40), st.binary(min_size=1, max_size=64))
def test_ids_taken_one_by_one_are_those_taken_together(counts, noise):
    def entropy(n_bytes: int) -> bytes:
        return (noise * n_bytes)[:n_bytes]

    def source() -> PredictionIds:
        return PredictionIds(clock_ns=lambda: 5_000_000, entropy=entropy)

    together, apart = source().take(sum(counts)), source()
    assert [one for count in counts for one in apart.take(count)] == together
