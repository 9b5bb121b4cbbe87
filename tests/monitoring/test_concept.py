"""Concept drift: told from data drift by rows of the same answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from worlds import binary, holdout, numbers, several

from greenroom.evaluation.evidence import HoldOut
from greenroom.evaluation.predictions import Predictions
from greenroom.monitoring.concept import concept_drift

TASKS = {binary: "classification", several: "classification", numbers: "regression"}


@pytest.mark.parametrize("made", TASKS)
@pytest.mark.parametrize("moved", [0.0, 0.8, -0.5])
def test_other_rows_alone_are_no_other_concept(made, moved):
    held = holdout(made(4_000, 1))
    found = [
        concept_drift(TASKS[made], held, *made(800, seed, moved=moved)).drifted
        for seed in range(10, 30)
    ]
    assert found.count(True) <= 1
    assert None not in found


@pytest.mark.parametrize("n_rows", [200, 5_000])
@pytest.mark.parametrize("moved", [0.0, 0.5])
def test_flipped_labels_are_another_concept(n_rows, moved):
    held = holdout(binary(3_000, 1))
    found = concept_drift("classification", held, *binary(n_rows, 2, moved=moved, flipped=0.3))
    assert found.drifted
    assert found.reasons[0].startswith("concept drift: among rows of the same answer class 1 is")


def test_a_class_that_takes_the_place_of_another_is_named():
    held, (y, p) = holdout(several(4_000, 1)), several(1_000, 2)
    found = concept_drift("classification", held, np.where(y == "c", "a", y), p)
    assert found.drifted
    assert any("class a is more frequent" in reason for reason in found.reasons)
    assert any("class c is rarer" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"added": 1.5}, "the truth lies above the answer"),
        ({"added": -1.5}, "the truth lies below the answer"),
        ({"noise": 2.0}, "the errors are larger"),
    ],
)
def test_numbers_are_another_concept_where_errors_are_one_sided_or_larger(changes, said):
    held = holdout(numbers(3_000, 1))
    found = concept_drift("regression", held, *numbers(500, 2, moved=0.5, **changes))
    assert found.drifted
    assert any(said in reason for reason in found.reasons)


def test_smaller_errors_and_negligible_changes_are_no_other_concept():
    held = holdout(numbers(3_000, 1))
    assert concept_drift("regression", held, *numbers(2_000, 2, noise=0.5)).drifted is False
    # Of 50,000 rows any difference is significant; that it matters is another question.
    assert concept_drift("regression", held, *numbers(50_000, 2, added=0.1)).drifted is False


def test_anomalies_are_compared_at_their_scores():
    random = np.random.default_rng(0)
    score = random.normal(size=4_000)
    y = (random.random(4_000) < 1 / (1 + np.exp(2 - 2 * score))).astype(np.int64)
    p = Predictions({"prediction": score > 1, "score": score})
    held = HoldOut(np.arange(4_000, dtype=np.uint64), y, p)
    later = np.arange(2_000)
    assert concept_drift("anomaly", held, y[later], p.take(later)).drifted is False
    found = concept_drift("anomaly", held, 1 - y[later], p.take(later))
    assert found.drifted
    assert "an anomaly is more frequent" in found.reasons[0]


def test_nothing_is_said_without_truth_or_scores_or_where_all_answers_are_others():
    held, (y, p) = holdout(binary(3_000, 1)), binary(500, 2)
    labels = Predictions({"prediction": p.outputs["prediction"]})
    for found in (
        concept_drift("classification", None, y, p),
        concept_drift("classification", replace(held, y=None), y, p),
        concept_drift("classification", held, y, labels),
        concept_drift("regression", holdout(numbers(500, 1)), *numbers(500, 2, moved=50.0)),
    ):
        assert found.drifted is None
        assert found.notes[0].startswith("concept drift: ")


def test_alike_errors_in_a_row_are_not_taken_for_many():
    random = np.random.default_rng(4)
    held_error, alarms = np.zeros(3_000), {True: 0, False: 0}

    def walk(n_rows):
        error = np.zeros(n_rows)
        for place in range(1, n_rows):
            error[place] = 0.9 * error[place - 1] + random.normal()
        return error

    held_error = walk(3_000)
    answer = random.normal(100, 5, 3_000)
    held = holdout((answer + held_error, Predictions({"prediction": answer})))
    for _ in range(20):
        live = random.normal(100, 5, 200)
        y = live + walk(200)
        for ordered in alarms:
            p = Predictions({"prediction": live})
            alarms[ordered] += bool(concept_drift("forecast", held, y, p, ordered=ordered).drifted)
    assert alarms[False] >= 6
    assert alarms[True] <= 2
