"""Estimation: a classifier's metrics without labels, compared with those of the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from worlds import binary, holdout, several

from greenroom.evaluation.evidence import HoldOut
from greenroom.evaluation.metrics import CLASSIFICATION_METRICS, evaluate
from greenroom.evaluation.predictions import label_positions
from greenroom.monitoring.estimation import estimate_performance, expected_figures
from greenroom.task import classification


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([binary, several]))
def test_what_is_certain_is_expected_to_be_what_it_is(seed, made):
    y, p = made(200, seed)
    labels, true, said = label_positions(y, p)
    found = expected_figures(p.outputs["probabilities"], said, np.eye(len(labels))[true])
    assert found == pytest.approx(evaluate(CLASSIFICATION_METRICS, y, p, intervals=False))


def test_expectations_are_the_means_over_what_may_turn_out_to_be_the_case():
    y, p = several(400, 3)
    labels, _, said = label_positions(y, p)
    sure = p.outputs["probabilities"]
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(300):
        place = (np.cumsum(sure, axis=1) < random.random((400, 1))).sum(axis=1).clip(0, 2)
        drawn.append(expected_figures(sure, said, np.eye(3)[place]))
    expected = expected_figures(sure, said, sure)
    for name, value in expected.items():
        assert value == pytest.approx(np.mean([one[name] for one in drawn]), abs=0.006), name
    assert labels == ("a", "b", "c")


@pytest.mark.parametrize(("made", "moved"), [(binary, 0.0), (binary, 1.0), (several, 0.5)])
def test_the_estimate_follows_the_performance_when_other_rows_are_asked_about(made, moved):
    held, (y, p) = holdout(made(6_000, 1)), made(4_000, 2, moved=moved)
    trained = evaluate(CLASSIFICATION_METRICS, held.y, held.predictions)
    true = evaluate(CLASSIFICATION_METRICS, y, p, intervals=False)
    found = estimate_performance(held, p, trained)
    assert found.estimated
    assert found.concept_drifted is None
    for one in found.metrics:
        assert one.value == pytest.approx(true[one.name], abs=0.04, rel=0.1), one.name
        assert one.low is not None
        assert one.high is not None
        # A tail beyond the ends, for four cases of nine figures, each with a chance of 5 %.
        slack = 0.5 * (one.high - one.low)
        assert one.low - slack <= true[one.name] <= one.high + slack, one.name
    if moved == 1.0:
        # Harder rows: log loss doubles, and the estimate says so.
        assert {"accuracy", "log_loss"} <= {one.name for one in found.metrics if one.worse}
        assert abs(true["accuracy"] - trained["accuracy"]) > 0.05
    if moved == 0.0:
        assert not found.degraded


def test_the_intervals_hold_what_labels_would_have_shown_about_as_often_as_they_promise():
    inside = []
    for seed in range(6):
        held, (y, p) = holdout(binary(1_500, 100 + seed)), binary(500, 200 + seed, moved=0.3)
        true = evaluate(CLASSIFICATION_METRICS, y, p, intervals=False)
        found = estimate_performance(held, p, {}).metrics
        inside += [one.low <= true[one.name] <= one.high for one in found]
    assert np.mean(inside) >= 0.88


def test_the_estimate_does_not_see_that_labels_were_flipped_and_says_so():
    held, (y, p) = holdout(binary(2_000, 1)), binary(2_000, 2, flipped=0.4)
    trained = evaluate(CLASSIFICATION_METRICS, held.y, held.predictions)
    found = estimate_performance(held, p, trained)
    true = evaluate(CLASSIFICATION_METRICS, y, p, intervals=False)
    values = {one.name: one.value for one in found.metrics}
    assert values["accuracy"] - true["accuracy"] > 0.2
    assert not found.degraded
    assert any("does not see" in note for note in found.notes)


@pytest.mark.parametrize("seed", range(4))
def test_a_model_that_is_nearly_always_right_is_not_called_worse_for_a_small_hold_out(seed):
    X, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    first, last = order[:446], order[446:]
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[first], y[first])
    held = HoldOut(last.astype(np.uint64), y[last], classification.predict(model, X[last]))
    trained = evaluate(CLASSIFICATION_METRICS, held.y, held.predictions)
    found = estimate_performance(held, classification.predict(model, X), trained)
    assert not found.degraded, found.reasons


def test_few_rows_are_estimated_and_not_judged_and_a_hold_out_without_events_is_worth_nothing():
    held, (_, p) = holdout(binary(4_000, 1)), binary(30, 2, moved=2.0)
    trained = evaluate(CLASSIFICATION_METRICS, held.y, held.predictions)
    few = estimate_performance(held, p, trained)
    assert (few.n_scored, few.degraded) == (30, False)
    assert few.metrics
    rare = held.take(np.flatnonzero(held.y == 0)[:500])
    nothing = estimate_performance(rare, p, trained)
    assert (nothing.n_scored, nothing.metrics) == (0, ())
    assert "fewer than 10" in nothing.notes[0]


def test_the_same_seed_gives_the_same_estimate():
    held, (_, p) = holdout(binary(1_000, 1)), binary(200, 2)
    assert estimate_performance(held, p, {}, seed=3) == estimate_performance(held, p, {}, seed=3)
