"""Estimation: how good a classifier's answers are while nobody knows what was the case.

Confidence-based performance estimation, as NannyML describes it ("Confidence-based Performance
Estimation", its documentation; Kivimäki et al., arXiv 2407.08649): where probabilities are
calibrated, a row that is answered with 0.8 is right in four of five cases, so that the expected
confusion of any rows follows from their answers. If other rows are asked about than in training
(data drift), the estimate moves as the performance does. It cannot see that the same rows have
become something else (concept drift): the probabilities stay what they are. That takes labels.

A calibration that few rows allow is too simple for some models: of one that is nearly always right
it makes too little. What the same estimate says of the hold-out, beside what is known of it, tells
by how much; that is taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from greenroom.evaluation.evidence import HoldOut
from greenroom.evaluation.intervals import Z
from greenroom.evaluation.metrics import CLASSIFICATION_METRICS
from greenroom.evaluation.predictions import Predictions, label_positions
from greenroom.evaluation.scores import Floats
from greenroom.findings import LivePerformance
from greenroom.monitoring.calibration import calibrations, fit_probabilities
from greenroom.monitoring.comparison import BOUNDS, Bounds, compare_metrics, worse_in_words
from greenroom.wording import counted

__all__ = ["estimate_performance", "expected_figures"]

RESAMPLES: Final = 50
"""Often enough for a standard error (Efron and Tibshirani, "An Introduction to the Bootstrap",
1993, section 6.4)."""
RESAMPLED_ROWS: Final = 2_000
"""From so many rows the standard error is taken; that of more is smaller by the root."""
MINIMUM_EVENTS: Final = 10
"""How many held-out rows of each class a calibration is worth anything with."""

_NOTE: Final = (
    "an estimate from probabilities: it does not see where the truth of such rows changes"
)


def expected_figures(
    probabilities: Floats, said: npt.NDArray[np.intp], calibrated: Floats
) -> dict[str, float]:
    """Return the metrics that are to be expected, by their names.

    From the expected confusion: each row counts for every class with the probability that it is
    of it. With certainties (each row 1 for one class) they are the metrics themselves.

    Parameters
    ----------
    probabilities : ndarray of float64, shape (n_samples, n_classes)
        What the model said.
    said : ndarray of int, shape (n_samples,)
        The position of the class that it answered with.
    calibrated : ndarray of float64, shape (n_samples, n_classes)
        The probability that each row is of each class.

    Returns
    -------
    dict of str to float
        For two classes of the second, for several the mean over them, as in
        :mod:`greenroom.evaluation.metrics`; undefined ones are left out.

    Examples
    --------
    >>> sure = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> found = expected_figures(sure, np.array([0, 1]), sure)
    >>> round(found["accuracy"], 3)
    0.85
    """
    n, k = probabilities.shape
    decided = said[:, None] == np.arange(k)
    hits = np.where(decided, calibrated, 0.0).sum(axis=0)
    truths, decisions = calibrated.sum(axis=0), decided.sum(axis=0)
    recalls = _ratio(hits, truths)
    asked = [1] if k == 2 else np.flatnonzero((truths > 0) | (decisions > 0))
    tiny = np.finfo(np.float64).eps
    curves = [1] if k == 2 else range(k)
    ranked = np.array([_ranking(probabilities[:, c], calibrated[:, c]) for c in curves])
    losses = calibrated * (1 - probabilities) ** 2 + (1 - calibrated) * probabilities**2
    figures = {
        "accuracy": hits.sum() / n,
        "balanced_accuracy": recalls[truths > 0].mean(),
        "precision": _ratio(hits, decisions)[asked].mean(),
        "recall": recalls[asked].mean(),
        "f1_score": _ratio(2 * hits, truths + decisions)[asked].mean(),
        "roc_auc": ranked[:, 0].mean(),
        "average_precision": ranked[:, 1].mean(),
        "log_loss": -(calibrated * np.log(probabilities.clip(tiny, 1 - tiny))).sum() / n,
        "brier_score_loss": losses[:, curves].sum() / n,
    }
    return {name: float(value) for name, value in figures.items() if np.isfinite(value)}


def estimate_performance(
    holdout: HoldOut,
    predictions: Predictions,
    trained: Mapping[str, float],
    *,
    n_rows: int | None = None,
    bounds: Bounds = BOUNDS,
    seed: int = 0,
) -> LivePerformance:
    """Estimate a classifier's metrics on rows whose truth is not known.

    The interval covers what labels for as many rows would have shown: which rows they are, what
    turns out to be the case, and that the calibration was fitted on a hold-out of a certain size.

    Parameters
    ----------
    holdout : HoldOut
        With truth, probabilities and classes.
    predictions : Predictions
        Of the window, or of a random sample of its rows; at least one.
    trained : mapping of str to float
        The hold-out's figures, with intervals.
    n_rows : int, optional
        How many rows the window has; default: those of ``predictions``.
    bounds : Bounds
    seed : int
        The same seed gives the same intervals.
    """
    y = holdout.y
    if y is None or _rarest(holdout) < MINIMUM_EVENTS:
        problem = f"no estimate: fewer than {MINIMUM_EVENTS} held-out rows of some class"
        return LivePerformance(estimated=True, n_scored=0, notes=(problem,))
    total = len(predictions) if n_rows is None else n_rows
    probabilities = predictions.outputs["probabilities"]
    _, _, said = label_positions(predictions.outputs["prediction"], predictions)
    curve = fit_probabilities(y, holdout.predictions)
    calibrated = curve(probabilities)
    off = {
        name: value - trained[name]
        for name, value in _expected(holdout.predictions, curve).items()
        if name in trained
    }
    errors = _errors(holdout, probabilities, said, calibrated, seed)
    figures = _corrected(expected_figures(probabilities, said, calibrated), off, errors)
    names = frozenset(metric.name for metric in CLASSIFICATION_METRICS)
    enough = total >= bounds.minimum_rows
    metrics = compare_metrics(
        CLASSIFICATION_METRICS,
        figures,
        trained,
        bounds=bounds,
        judged=names if enough else frozenset(),
    )
    few = (
        f"of {counted(total, 'row')} it is too vague to judge by ({bounds.minimum_rows} are needed)"
    )
    return LivePerformance(
        estimated=True,
        n_scored=total,
        metrics=metrics,
        calibration=calibrations((y, holdout.predictions), None),
        reasons=worse_in_words(metrics),
        notes=(_NOTE,) if enough else (_NOTE, few),
    )


def _errors(
    holdout: HoldOut,
    probabilities: Floats,
    said: npt.NDArray[np.intp],
    calibrated: Floats,
    seed: int,
) -> dict[str, float]:
    """Return the standard error of each figure: of the rows' outcomes, and of the calibration."""
    random = np.random.default_rng(seed)
    n, m = len(said), min(len(said), RESAMPLED_ROWS)
    of_outcomes: dict[str, list[float]] = {}
    of_curves: dict[str, list[float]] = {}
    fixed = random.choice(n, m, replace=False)
    for _ in range(RESAMPLES):
        again = _refitted(holdout, random)
        if again is None:
            continue
        rows = random.integers(0, n, m)
        drawn = _drawn(calibrated[rows], random)
        _gather(of_outcomes, expected_figures(probabilities[rows], said[rows], drawn))
        expected = expected_figures(probabilities[fixed], said[fixed], again(probabilities[fixed]))
        of_holdout = _expected(holdout.predictions, again)
        both = expected.keys() & of_holdout.keys()
        _gather(of_curves, {name: expected[name] - of_holdout[name] for name in both})
    return {
        name: float(
            np.hypot(np.std(of_outcomes[name], ddof=1) * np.sqrt(m / n), np.std(found, ddof=1))
        )
        for name, found in of_curves.items()
        if min(len(found), len(of_outcomes.get(name, ()))) > RESAMPLES // 2
    }


def _corrected(
    figures: Mapping[str, float], off: Mapping[str, float], errors: Mapping[str, float]
) -> dict[str, float]:
    """Take off what figures are known to be off by, and put the ends of their intervals beside."""
    found = {}
    for name, value in figures.items():
        top = np.inf if name == "log_loss" else 1.0
        found[name] = min(max(0.0, value - off.get(name, 0.0)), top)
        if name in errors:
            found[f"{name}_low"] = max(0.0, found[name] - Z * errors[name])
            found[f"{name}_high"] = min(top, found[name] + Z * errors[name])
    return found


def _expected(predictions: Predictions, curve: Callable[[Floats], Floats]) -> dict[str, float]:
    """Return the metrics that a calibration lets expect of a model's answers."""
    probabilities = predictions.outputs["probabilities"]
    _, _, said = label_positions(predictions.outputs["prediction"], predictions)
    return expected_figures(probabilities, said, curve(probabilities))


def _refitted(holdout: HoldOut, random: np.random.Generator) -> Callable[[Floats], Floats] | None:
    """Fit the calibration on as many held-out rows, drawn with replacement."""
    part = holdout.take(random.integers(0, len(holdout), len(holdout)))
    if part.y is None or _rarest(part) < 1:
        return None
    return fit_probabilities(part.y, part.predictions)


def _drawn(calibrated: Floats, random: np.random.Generator) -> Floats:
    """Draw what turns out to be the case, as certainties."""
    threshold = random.random((len(calibrated), 1))
    chosen = (np.cumsum(calibrated, axis=1) < threshold).sum(axis=1)
    chosen = np.minimum(chosen, calibrated.shape[1] - 1)
    certain: Floats = np.eye(calibrated.shape[1])[chosen]
    return certain


def _gather(into: dict[str, list[float]], figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        into.setdefault(name, []).append(value)


def _rarest(holdout: HoldOut) -> int:
    """Return how many rows the rarest class has."""
    if holdout.y is None or not holdout.predictions.classes:
        return 0
    _, true, _ = label_positions(holdout.y, holdout.predictions)
    n_classes = len(holdout.predictions.classes)
    return int(np.bincount(true, minlength=n_classes)[:n_classes].min())


def _ranking(scores: Floats, events: Floats) -> tuple[float, float]:
    """Return the area under the ROC curve and the average precision, of events in part.

    The curves are drawn through the expected numbers of events and others above each threshold.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(events[order])[ends]
    misses = ends + 1.0 - hits
    if hits[-1] <= 0 or misses[-1] <= 0:
        return np.nan, (1.0 if misses[-1] <= 0 else np.nan)
    recalls = np.concatenate([[0.0], hits / hits[-1]])
    falls = np.concatenate([[0.0], misses / misses[-1]])
    area = float(np.sum(np.diff(falls) * (recalls[1:] + recalls[:-1]) / 2))
    return area, float(np.sum(np.diff(recalls) * hits / (hits + misses)))


def _ratio(part: Floats, whole: npt.NDArray[np.float64] | npt.NDArray[np.intp]) -> Floats:
    found: Floats = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return found
