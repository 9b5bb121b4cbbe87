"""What is counted: versions come and go, seats change hands, and nothing is counted twice."""

import os

import pytest

from greenroom import instruments
from greenroom.instruments import (
    ANSWERS,
    BATCHES,
    ERRORS,
    IN_FLIGHT,
    KEPT_VERSIONS,
    LOADS,
    SHOWN_VERSIONS,
    SWAPS,
    UNMATCHED,
    SupervisorInstruments,
    WorkerInstruments,
    read_totals,
)


@pytest.fixture
def supervisor():
    made = SupervisorInstruments(2)
    yield made
    made.memory.close()


def worker(supervisor: SupervisorInstruments, label: int = 1) -> WorkerInstruments:
    return WorkerInstruments(supervisor.memory, seat=supervisor.take_seat(), slot=label)


def answered(supervisor: SupervisorInstruments) -> dict[tuple[str, ...], float]:
    found = read_totals(supervisor.memory).named(ANSWERS)
    return {labels: sum(cells[:-1]) for labels, cells in found}


def test_answers_of_all_workers_are_added_up_by_route_version_and_status(supervisor):
    for _ in range(2):
        answers = worker(supervisor).predictions("/predict", "credit", "3")
        answers.answered(0.001)
        answers.answered(0.002)
        answers.refused(422, 0.003)
    assert answered(supervisor) == {
        ("/predict", "credit", "3", "200"): 4,
        ("/predict", "credit", "3", "422"): 2,
    }


def test_a_route_that_was_never_asked_is_there_with_zero(supervisor):
    worker(supervisor).predictions("/predict", "credit", "3")
    assert answered(supervisor) == {("/predict", "credit", "3", "200"): 0}


def test_an_answer_with_200_is_one_series_whoever_counts_it(supervisor):
    answers = worker(supervisor).predictions("/predict", "credit", "3")
    answers.answered(0.001)
    answers.refused(200, 0.001)
    assert answered(supervisor) == {("/predict", "credit", "3", "200"): 2}


def test_pages_count_by_route_and_unknown_paths_under_one_name(supervisor):
    one = worker(supervisor)
    one.page("/health", 200, 0.001)
    one.page("", 404, 0.001)
    one.failed("", 404, "HttpRefusal")
    totals = read_totals(supervisor.memory)
    assert answered(supervisor)["/health", "", "", "200"] == 1
    assert answered(supervisor)[UNMATCHED, "", "", "404"] == 1
    assert totals.named(ERRORS) == [((UNMATCHED, "404", "HttpRefusal"), (1.0,))]


def test_requests_in_flight_are_gone_with_their_worker(supervisor):
    first, second = worker(supervisor, 1), worker(supervisor, 2)
    first.in_flight[0] += 1.0
    second.in_flight[0] += 1.0
    second.in_flight[0] += 1.0
    second.in_flight[0] -= 1.0
    assert read_totals(supervisor.memory).number(IN_FLIGHT) == 2
    supervisor.left(1)
    assert read_totals(supervisor.memory).number(IN_FLIGHT) == 1
    worker(supervisor, 1)
    assert read_totals(supervisor.memory).number(IN_FLIGHT) == 1


def test_a_replaced_worker_goes_on_from_the_counts_of_the_one_before(supervisor):
    worker(supervisor).predictions("/predict", "credit", "3").answered(0.001)
    supervisor.left(1)
    assert answered(supervisor) == {("/predict", "credit", "3", "200"): 1}
    assert supervisor.take_seat() == 1
    supervisor.left(1)
    worker(supervisor).predictions("/predict", "credit", "3").answered(0.001)
    assert answered(supervisor) == {("/predict", "credit", "3", "200"): 2}


def test_two_workers_of_one_slot_have_a_seat_each(supervisor):
    seats = [supervisor.take_seat() for _ in range(4)]
    assert seats == [1, 2, 3, 4]
    supervisor.left(3)
    assert supervisor.take_seat() == 3
    # With no seat left one is shared, and the server goes on.
    assert supervisor.take_seat() == 4


def test_the_processes_that_count_are_known_by_their_slots(supervisor):
    worker(supervisor, 2)
    found = read_totals(supervisor.memory).processes
    assert found == ((0, os.getpid()), (2, os.getpid()))


def test_of_each_model_the_versions_that_were_served_last_are_shown(supervisor):
    one, other = worker(supervisor, 1), worker(supervisor, 2)
    for number in range(1, 31):
        for each in (one, other):
            each.predictions("/predict", "credit", str(number), generation=number).answered(0.001)
    # Version 2 comes back, and counts from where it was.
    one.predictions("/predict", "credit", "2", generation=31).answered(0.001)
    one.predictions("/other", "other", "1", generation=1).answered(0.001)
    one.page("/health", 200, 0.001)
    found = answered(supervisor)
    shown = {version for _, model, version, _ in found if model == "credit"}
    assert shown == {"2", *map(str, range(32 - SHOWN_VERSIONS, 31))}
    assert found["/predict", "credit", "2", "200"] == 3
    assert found["/other", "other", "1", "200"] == 1
    assert found["/health", "", "", "200"] == 1


def test_versions_that_nobody_shows_any_more_give_their_room_back(supervisor, monkeypatch):
    monkeypatch.setattr(instruments, "FORGET_FROM", 40)
    one = worker(supervisor)
    for number in range(1, 500):
        one.predictions("/predict", "credit", str(number), generation=number)
        one.forget()
    found = supervisor.memory.seats[1].read()
    newest = {str(number) for number in range(500 - KEPT_VERSIONS, 500)}
    assert newest <= {series.labels[2] for series in found if series.name == ANSWERS}
    assert len(found) <= 42
    assert supervisor.memory.seats[1].n_lost == 0


def test_batches_loads_and_swaps_are_histograms(supervisor):
    one = worker(supervisor)
    for n_rows in (1, 2, 3, 100_000):
        one.batched("credit", n_rows)
    one.loaded("credit", 0.2)
    supervisor.swapped("commit", 0.3)
    supervisor.swapped("refuse", 4.0)
    totals = read_totals(supervisor.memory)
    (((model,), rows),) = totals.named(BATCHES)
    assert (model, rows[:3], rows[-2:]) == ("credit", (1, 1, 1), (1, 100_006))
    assert [(labels, cells[-1]) for labels, cells in totals.named(LOADS)] == [(("credit",), 0.2)]
    assert [labels for labels, _ in totals.named(SWAPS)] == [("commit",), ("refuse",)]
