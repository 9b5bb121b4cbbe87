"""Outcomes: answers joined with what was the case; what was observed last counts."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.log.log_rows import FEEDBACK
from greenroom.task import TASKS
from greenroom.tracing.outcomes import Outcomes, join_feedback, task_of

NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
DAY = NOON.date()


def after(minutes):
    return None if minutes is None else NOON + dt.timedelta(minutes=minutes)


def reported(*rows):
    """Feedback as the log gives it: id, value, when observed and when received, in minutes."""
    return pa.Table.from_pylist(
        [
            {
                "prediction_id": one,
                "actual": json.dumps(actual),
                "observed_at": after(observed),
                "received_at": after(received),
                "day": DAY,
                "caller": "me",
            }
            for one, actual, observed, received in rows
        ],
        schema=FEEDBACK,
    )


def ids(*names):
    return pa.chunked_array([pa.array(names, pa.string())])


def test_what_was_observed_last_counts_whenever_it_was_received():
    found = join_feedback(
        reported(("a", 1, 30, 60), ("a", 2, 20, 90), ("b", "x", None, 10), ("b", "y", None, 20))
    )
    assert found.of(ids("b", "a", "b")) == ["y", 1, "y"]
    assert (found.n_received, found.n_duplicates, found.n_contradictions) == (4, 0, 2)


def test_the_same_said_again_is_counted_and_changes_nothing():
    found = join_feedback(reported(("a", 1, 5, 6), ("a", 0, 5, 7), ("a", 1, 5, 8), ("b", 1, 5, 6)))
    assert (found.n_duplicates, found.n_contradictions) == (1, 1)
    assert found.of(ids("a")) == [0], "that it was said again later does not make it the last"


def test_no_feedback_joins_with_nothing():
    found = join_feedback(reported())
    table = pa.table({"prediction_id": ids("a"), "prediction": [1.0], "day": [DAY]})
    known = found.known(table)
    assert known.num_rows == 0
    joined = Outcomes.of(known, found, TASKS["regression"])
    assert len(joined) == 0
    assert len(joined.usable()[0]) == 0


@given(st.permutations(["a", "b", "c", "d"]))
def test_each_row_gets_its_own_truth_whatever_the_order(order):
    found = join_feedback(reported(*((one, ord(one), None, 1) for one in "abcd")))
    assert found.of(ids(*order)) == [ord(one) for one in order]


def classified(labels, probabilities, names):
    return pa.table(
        {
            "prediction_id": ids(*names),
            "prediction": labels,
            "probabilities": pa.array(probabilities, pa.list_(pa.float64())),
            "day": [DAY] * len(labels),
        }
    )


def test_answers_and_truth_stand_side_by_side_and_what_is_of_another_kind_apart():
    feedback = join_feedback(reported(("a", "no", 1, 1), ("b", 3, 1, 1), ("c", "yes", 1, 1)))
    rows = classified(["yes", "no", "yes"], [[0.2, 0.8], [0.9, 0.1], [0.4, 0.6]], "abc")
    joined = Outcomes.of(rows, feedback, TASKS["classification"], ("no", "yes"))
    assert joined.unusable.tolist() == [False, True, False]
    truth, predictions = joined.usable()
    assert truth.tolist() == ["no", "yes"]
    assert predictions.outputs["probabilities"].tolist() == [[0.2, 0.8], [0.4, 0.6]]
    none, _ = joined.usable(np.zeros(3, np.bool_))
    assert len(none) == 0


def test_probabilities_are_left_out_where_it_is_not_known_whose_they_are():
    feedback = join_feedback(reported(("a", 0, 1, 1)))
    rows = classified([1], [[0.2, 0.5, 0.3]], "a")
    joined = Outcomes.of(rows, feedback, TASKS["classification"])
    assert list(joined.predictions.outputs) == ["prediction"]


@pytest.mark.parametrize(
    ("column", "task"),
    [
        ({"prediction": ["a"]}, "classification"),
        ({"prediction": [1.5]}, "regression"),
        ({"prediction": [1.5], "lower": [1.0], "upper": [2.0]}, "forecast"),
    ],
)
def test_a_version_that_does_not_say_its_task_is_known_by_its_answers(column, task):
    assert task_of(None, None, pa.table(column)).name == task
    assert task_of(None, TASKS["anomaly"], pa.table(column)).name == "anomaly"
