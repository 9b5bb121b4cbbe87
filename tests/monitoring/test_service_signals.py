"""What a server is asked at present, out of counters that only rise."""

from __future__ import annotations

import pytest

from greenroom.instruments import SupervisorInstruments, WorkerInstruments, read_totals
from greenroom.monitoring.service_signals import TrafficWindow


class Server:
    """Counters of a server, a clock, and a window of a minute."""

    def __init__(self):
        self.supervisor = SupervisorInstruments(2)
        seats = [self.supervisor.take_seat() for _ in range(2)]
        self.workers = [WorkerInstruments(self.supervisor.memory, seat=seat) for seat in seats]
        self.now_s = 100.0
        totals = lambda: read_totals(self.supervisor.memory)  # noqa: E731 - a value of the case
        self.window = TrafficWindow(totals, 60.0, lambda: self.now_s)

    def answer(self, n, *, model="m", version="1", status=200, seconds=0.001, worker=0):
        answers = self.workers[worker].predictions("/predict", model, version)
        for _ in range(n):
            answers.refused(status, seconds)

    def look(self, after_s=10.0):
        self.now_s += after_s
        return self.window.look()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.supervisor.memory.close()


def only(traffic):
    (model,) = traffic.models
    return model


def test_answers_of_all_workers_and_versions_of_a_model_are_counted_together(server):
    server.answer(8)
    server.answer(1, status=500, worker=1)
    server.answer(1, status=422, version="2")
    server.workers[0].page("/health", 500, 0.1)
    found = only(server.look())
    assert (found.n_answers, found.n_errors, found.error_percent) == (10, 1, 10.0)


def test_what_was_answered_before_the_window_does_not_count(server):
    server.answer(5, status=500)
    server.look()
    server.answer(3)
    assert only(server.look(after_s=30.0)).n_answers == 8
    found = only(server.look(after_s=30.0))
    assert (found.n_answers, found.n_errors) == (3, 0)
    assert only(server.look(after_s=60.0)).n_answers == 0


def test_the_95th_percentile_is_that_of_the_window(server):
    server.answer(100, seconds=5.0)
    server.look()
    server.look(after_s=60.0)
    server.answer(90, seconds=0.002)
    server.answer(10, seconds=0.2)
    found = only(server.look())
    assert 0.1 < found.p95_s <= 0.25


def test_a_model_is_silent_since_it_was_last_asked_and_never_before_it_was_asked(server):
    server.workers[0].predictions("/predict", "m", "1")
    assert only(server.look()).silent_s is None
    server.answer(1)
    assert only(server.look()).silent_s == 0.0
    assert only(server.look(after_s=45.0)).silent_s == 45.0
    server.answer(1, status=503)
    assert only(server.look()).silent_s == 0.0


def test_predictions_without_room_in_the_log_are_counted(server):
    server.look()
    server.workers[0].unlogged["served"](2)
    server.workers[1].unlogged["refused"](1)
    assert server.look().n_unlogged == 3
    assert server.look(after_s=70.0).n_unlogged == 0


def test_counts_that_end_with_an_old_version_are_no_answers(server):
    for version in range(20):
        server.answer(10, version=str(version))
    server.look()
    server.workers[0]._forget_from = 1
    server.workers[0].forget()
    found = only(server.look())
    assert found.n_answers >= 0
    assert all(cell >= 0 for cell in found.cells)
