"""Calibration: the share of events among rows of a score, from the rows whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from greenroom.evaluation.predictions import Predictions
from greenroom.monitoring.calibration import calibrations, fit_calibrator, fit_probabilities
from greenroom.task import classification_outputs


def drawn(n_rows, seed=0):
    random = np.random.default_rng(seed)
    scores = random.random(n_rows)
    return scores, random.random(n_rows) < scores**2


def test_with_many_rows_the_curve_is_that_of_scikit_learns_isotonic_regression():
    scores, events = drawn(3_000)
    curve = fit_calibrator(scores, events)
    asked = np.linspace(0.1, 0.9, 50)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, events).predict(asked)
    assert curve.method == "isotonic"
    assert curve(asked) == pytest.approx(theirs.clip(1 / 3002, 1 - 1 / 3002))


def test_with_few_rows_the_curve_is_a_sigmoid_near_the_truth():
    scores, events = drawn(600)
    curve = fit_calibrator(scores, events)
    asked = np.array([0.3, 0.6, 0.9])
    assert curve.method == "platt"
    assert curve(asked) == pytest.approx(asked**2, abs=0.08)


def test_a_model_that_is_calibrated_is_left_nearly_as_it_is():
    random = np.random.default_rng(1)
    scores = random.random(900)
    curve = fit_calibrator(scores, random.random(900) < scores)
    asked = np.linspace(0.1, 0.9, 9)
    assert curve.method == "platt"
    assert curve(asked) == pytest.approx(asked, abs=0.07)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 400), st.integers(0, 2**32 - 1), st.booleans())
def test_a_curve_never_falls_and_is_never_certain(n_rows, seed, beyond_one):
    random = np.random.default_rng(seed)
    scores = np.round(random.random(n_rows), 2) * (30 if beyond_one else 1)
    curve = fit_calibrator(scores, random.random(n_rows) < scores / scores.max(initial=1.0))
    found = curve(np.sort(scores))
    assert (np.isfinite(found)).all()
    assert (found > 0).all()
    assert (found < 1).all()
    # Platt's sigmoid may fall, where few rows say the opposite of the scores; it turns only once.
    assert (np.diff(found) >= -1e-12).all() or (np.diff(found) <= 1e-12).all()


def test_probabilities_of_several_classes_sum_to_one_after_calibration():
    random = np.random.default_rng(2)
    truth = random.dirichlet(np.ones(3), 4_000)
    y = (np.cumsum(truth, axis=1) < random.random((4_000, 1))).sum(axis=1)
    said = classification_outputs(truth**2 / (truth**2).sum(axis=1, keepdims=True), np.arange(3))
    found = fit_probabilities(y, said)(said.outputs["probabilities"])
    assert found.sum(axis=1) == pytest.approx(1)
    raw = said.outputs["probabilities"]
    assert np.abs(found - truth).mean() < 0.5 * np.abs(raw - truth).mean()


def test_a_report_gets_the_curves_of_hold_out_and_window():
    scores, events = drawn(1_000)
    p = classification_outputs(np.stack([1 - scores, scores], axis=1), np.array(["no", "yes"]))
    y = np.where(events, "yes", "no")
    (found,) = calibrations((y, p), (y[:100], p.take(np.arange(100))))
    assert found.label == "yes"
    assert found.reference is not None
    assert found.current is not None
    assert (sum(found.reference.n_rows), sum(found.current.n_rows)) == (1_000, 100)
    assert found.reference.observed == pytest.approx(np.square(found.reference.predicted), abs=0.12)
    assert calibrations(None, None) == ()


def test_without_probabilities_there_is_no_curve():
    said = Predictions({"prediction": np.array([0, 1])})
    assert calibrations((np.array([0, 1]), said), None) == ()
