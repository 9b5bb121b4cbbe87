"""Scores: figures of merit of a yes-or-no decision, and the curves that they are taken from.

Plain arrays in, plain numbers out, in numpy alone: workers that serve import this and must not
wait for scikit-learn, with whose figures these agree (the tests compare them). What to make of
classes, tasks and missing truths is :mod:`greenroom.evaluation.metrics`' business.

Throughout, ``positive`` is a boolean array of shape (n_samples,), true where the event happened,
and ``scores`` are numbers of the same shape, higher where it was held more likely.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class Counts(NamedTuple):
    """How often a decision was right and wrong, for one class against all others."""

    true_positive: int
    false_positive: int
    false_negative: int


def counts(positive: Flags, decided: Flags) -> Counts:
    """Count what was decided against what happened.

    Examples
    --------
    >>> counts(np.array([True, True, False]), np.array([True, False, True]))
    Counts(true_positive=1, false_positive=1, false_negative=1)
    """
    return Counts(
        int(np.count_nonzero(positive & decided)),
        int(np.count_nonzero(~positive & decided)),
        int(np.count_nonzero(positive & ~decided)),
    )


def precision(found: Counts) -> float:
    """Return the share of decisions that were right: tp / (tp + fp), 0 where none was made."""
    return _ratio(found.true_positive, found.true_positive + found.false_positive)


def recall(found: Counts) -> float:
    """Return the share of events that were found: tp / (tp + fn), 0 where there was none."""
    return _ratio(found.true_positive, found.true_positive + found.false_negative)


def f1_score(found: Counts) -> float:
    """Return the harmonic mean of precision and recall: 2 tp / (2 tp + fp + fn).

    Examples
    --------
    >>> f1_score(Counts(true_positive=2, false_positive=1, false_negative=1))
    0.6666666666666666
    """
    twice = 2 * found.true_positive
    return _ratio(twice, twice + found.false_positive + found.false_negative)


def midranks(values: Floats) -> Floats:
    """Return the rank of each value, from 1; equal values share the mean of their ranks.

    Examples
    --------
    >>> midranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    ranks: Floats = (last - (sizes - 1) / 2)[group]
    return ranks


def roc_auc(positive: Flags, scores: Floats) -> float:
    """Return the area under the ROC curve, NaN where one class is absent.

    The probability that an event scores higher than a non-event, ties counting half: the
    Mann-Whitney statistic (Hanley and McNeil, Radiology 143, 1982).

    Examples
    --------
    >>> roc_auc(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    n_positive = int(np.count_nonzero(positive))
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return math.nan
    ranks = float(midranks(scores)[positive].sum())
    return (ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def average_precision(positive: Flags, scores: Floats) -> float:
    """Return the precision averaged over the steps in recall, NaN without an event.

    The step-wise sum of (recall_k - recall_k-1) * precision_k over the thresholds; unlike the
    trapezoidal area it is not optimistic (Davis and Goadrich, ICML 2006).

    Examples
    --------
    >>> average_precision(np.array([False, True]), np.array([0.2, 0.7]))
    1.0
    """
    if not positive.any():
        return math.nan
    recalls, precisions = precision_recall_curve(positive, scores)
    return float(np.sum(np.diff(recalls) * precisions[1:]))


def roc_curve(positive: Flags, scores: Floats) -> tuple[Floats, Floats]:
    """Return false and true positive rates, from (0, 0) to (1, 1), a point for each threshold."""
    hits, misses = _cumulated(positive, scores)
    false_rate = np.concatenate([[0.0], misses / max(1.0, float(misses[-1]))])
    true_rate = np.concatenate([[0.0], hits / max(1.0, float(hits[-1]))])
    return false_rate, true_rate


def precision_recall_curve(positive: Flags, scores: Floats) -> tuple[Floats, Floats]:
    """Return recalls, ascending from 0, and the precision at each; the first precision is 1."""
    hits, misses = _cumulated(positive, scores)
    recalls = np.concatenate([[0.0], hits / max(1.0, float(hits[-1]))])
    precisions = np.concatenate([[1.0], hits / (hits + misses)])
    return recalls, precisions


def calibration_curve(
    positive: Flags, probabilities: Floats, n_bins: int = 10
) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """Return what was predicted and what happened, in bins of equal numbers of rows.

    Returns
    -------
    predicted, observed, n_rows : ndarray, shape (n_bins,) or fewer
        For each bin the mean probability, the share of events, and its size. Equal probabilities
        stay together, so that there may be fewer bins.
    """
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, n_bins + 1)[1:-1]))
    bin_of_row = np.searchsorted(edges, probabilities, side="left")
    sizes = np.bincount(bin_of_row, minlength=len(edges) + 1)
    filled = sizes > 0
    predicted = np.bincount(bin_of_row, probabilities, len(edges) + 1)[filled] / sizes[filled]
    observed = np.bincount(bin_of_row, positive, len(edges) + 1)[filled] / sizes[filled]
    return predicted, observed, sizes[filled]


def confusion_matrix(
    truth: npt.NDArray[np.intp], decided: npt.NDArray[np.intp], n_labels: int
) -> npt.NDArray[np.intp]:
    """Count each pair of labels, given as positions from 0: rows are true, columns decided.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    pairs = np.bincount(truth * n_labels + decided, minlength=n_labels * n_labels)
    return pairs.reshape(n_labels, n_labels)


def _cumulated(positive: Flags, scores: Floats) -> tuple[Floats, Floats]:
    """Return how many events and non-events score at least each threshold, thresholds falling."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(positive[order], dtype=np.float64)[ends]
    return hits, ends + 1.0 - hits


def _ratio(part: Any, whole: Any) -> float:
    return part / whole if whole else 0.0
