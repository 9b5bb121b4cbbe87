"""Calibration: which share of the rows with a score are events, learned on the hold-out.

A probability that a model states need not be one. Which share of the held-out rows with that
probability were events is, as far as the hold-out is large; that is what the estimate without
labels and the search for concept drift start from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from greenroom.evaluation.predictions import Predictions, label_positions
from greenroom.evaluation.scores import Flags, Floats, calibration_curve
from greenroom.findings import Calibration, CalibrationCurve

__all__ = ["Calibrator", "calibrations", "fit_calibrator", "fit_probabilities"]

ISOTONIC_ROWS: Final = 1_000
"""From how many rows on the curve is isotonic; with fewer it follows chance (Niculescu-Mizil and
Caruana, "Predicting good probabilities with supervised learning", ICML 2005, section 5)."""
ISOTONIC_EVENTS: Final = 100
"""How many of them must be events, and how many not: a rare event leaves little to learn from."""

_STEPS: Final = 50


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A curve from scores to probabilities, fitted on rows whose truth is known.

    Parameters
    ----------
    method : {"isotonic", "platt"}
    floor : float
        No probability lies nearer to 0 or 1: that something did not occur among n rows does not
        say that it never does. By the rule of succession (Laplace 1774) it is 1 / (n + 2).
    curve : callable
        From scores to probabilities, before that.
    """

    method: Literal["isotonic", "platt"]
    floor: float
    curve: Callable[[Floats], Floats]

    def __call__(self, scores: Floats) -> Floats:
        """Return the probability of the event for each score."""
        return self.curve(scores).clip(self.floor, 1 - self.floor)


def fit_calibrator(scores: Floats, events: Flags) -> Calibrator:
    """Fit a curve: isotonic, where there are enough rows, else Platt's sigmoid.

    Parameters
    ----------
    scores : ndarray of float64, shape (n_samples,)
        Higher where the event was held more likely.
    events : ndarray of bool, shape (n_samples,)

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> scores = random.random(20_000)
    >>> curve = fit_calibrator(scores, random.random(20_000) < scores**2)
    >>> curve.method, bool(abs(curve(np.array([0.5]))[0] - 0.25) < 0.03)
    ('isotonic', True)
    """
    n, n_events = len(events), int(np.count_nonzero(events))
    floor = 1 / (n + 2)
    if n >= ISOTONIC_ROWS and min(n_events, n - n_events) >= ISOTONIC_EVENTS:
        return Calibrator("isotonic", floor, _isotonic(scores, events))
    return Calibrator("platt", floor, _platt(scores, events))


def fit_probabilities(y: npt.NDArray[Any], predictions: Predictions) -> Callable[[Floats], Floats]:
    """Fit a classifier's probabilities, each class against all others.

    Those of several classes are then brought to a sum of 1 (Zadrozny and Elkan, "Transforming
    classifier scores into accurate multiclass probability estimates", KDD 2002).

    Parameters
    ----------
    y : ndarray, shape (n_samples,)
        The truth of the held-out rows.
    predictions : Predictions
        With ``probabilities`` and classes, for the same rows.

    Returns
    -------
    callable
        From probabilities to calibrated ones, both of shape (n_samples, n_classes).
    """
    probabilities = predictions.outputs["probabilities"]
    _, true, _ = label_positions(y, predictions)
    if len(predictions.classes) == 2:
        of_event = fit_calibrator(probabilities[:, 1], true == 1)

        def two(said: Floats) -> Floats:
            event = of_event(said[:, 1])
            return np.stack([1 - event, event], axis=1)

        return two
    curves = [
        fit_calibrator(probabilities[:, label], true == label)
        for label in range(len(predictions.classes))
    ]

    def several(said: Floats) -> Floats:
        found = np.stack([curve(said[:, label]) for label, curve in enumerate(curves)], axis=1)
        normed: Floats = found / found.sum(axis=1, keepdims=True)
        return normed

    return several


def calibrations(
    reference: tuple[npt.NDArray[Any], Predictions] | None,
    current: tuple[npt.NDArray[Any], Predictions] | None,
) -> tuple[Calibration, ...]:
    """Return the curves of a classifier for a report, a value for each class that is asked for.

    Parameters
    ----------
    reference, current : (ndarray, Predictions), optional
        Truth and predictions of the hold-out, and of the window.
    """
    curves = [_curves(*one) if one is not None else {} for one in (reference, current)]
    labels = list(dict.fromkeys([*curves[0], *curves[1]]))
    return tuple(
        Calibration(label=label, reference=curves[0].get(label), current=curves[1].get(label))
        for label in labels
    )


def _curves(y: npt.NDArray[Any], predictions: Predictions) -> dict[str, CalibrationCurve]:
    probabilities = predictions.outputs.get("probabilities")
    if probabilities is None or not predictions.classes or not len(y):
        return {}
    _, true, _ = label_positions(y, predictions)
    asked = [1] if len(predictions.classes) == 2 else range(len(predictions.classes))
    found = {}
    for label in asked:
        predicted, observed, sizes = calibration_curve(true == label, probabilities[:, label])
        found[str(predictions.classes[label])] = CalibrationCurve(
            predicted=tuple(predicted.tolist()),
            observed=tuple(observed.tolist()),
            n_rows=tuple(sizes.tolist()),
        )
    return found


def _isotonic(scores: Floats, events: Flags) -> Callable[[Floats], Floats]:
    """Return the rising curve that is nearest to what happened, and straight between the rows.

    Pool adjacent violators (Ayer et al., Annals of Mathematical Statistics 26, 1955).
    """
    from scipy.optimize import isotonic_regression

    knots, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    shares = np.bincount(group, events) / sizes
    values = isotonic_regression(shares, weights=sizes).x
    return lambda asked: np.interp(asked, knots, values)


def _platt(scores: Floats, events: Flags) -> Callable[[Floats], Floats]:
    """Return the sigmoid of the scores that makes what happened most likely.

    Platt, "Probabilistic outputs for support vector machines", 1999, with his targets, which keep
    it from being certain after few rows. Probabilities are taken as log-odds, so that a model that
    is calibrated needs no change. Fitted by Newton's method.
    """
    as_odds = bool(len(scores)) and float(scores.min()) >= 0 and float(scores.max()) <= 1
    centre, scale = _scale(_log_odds(scores) if as_odds else scores)

    def design(values: Floats) -> Floats:
        x = ((_log_odds(values) if as_odds else values) - centre) / scale
        return np.stack([x, np.ones(len(x))], axis=1)

    n_events = np.count_nonzero(events)
    target = np.where(events, (n_events + 1) / (n_events + 2), 1 / (len(events) - n_events + 2))
    X, weights = design(scores), np.zeros(2)
    for _ in range(_STEPS):
        probability = _expit(X @ weights)
        slope = X.T @ (probability - target)
        # A little of the identity: with one score for all rows the slope is not determined.
        bend = (X * (probability * (1 - probability))[:, None]).T @ X + 1e-6 * np.eye(2)
        step = np.linalg.solve(bend, slope)
        weights = weights - step.clip(-2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return lambda asked: _expit(design(asked) @ weights)


def _scale(values: Floats) -> tuple[float, float]:
    return float(values.mean()), float(values.std()) or 1.0


def _log_odds(probabilities: Floats) -> Floats:
    tiny = 1e-9
    kept = probabilities.clip(tiny, 1 - tiny)
    odds: Floats = np.log(kept / (1 - kept))
    return odds


def _expit(values: Floats) -> Floats:
    found: Floats = 0.5 * (1 + np.tanh(values / 2))  # without overflow on either side
    return found
