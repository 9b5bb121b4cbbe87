"""Relation: whether rows that are answered alike turn out as they did in the hold-out.

Data drift asks other things of a model; concept drift makes other things true of what is asked. To
keep them apart, rows are compared with held-out rows of the same answer: if only the data have
moved, there are other numbers of rows in each bin of the answer, and within a bin the truth departs
from the answer as it always did. What is compared is that departure, its mean and, for numbers, its
size. A change that a model cannot see at all, because it does not look at the column that matters,
shows here too, and rightly: more of what is true is not in the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from greenroom.evaluation.scores import Flags, Floats

__all__ = ["Departures", "Shift", "of_events", "of_numbers", "of_sizes", "shift"]

SIGNIFICANCE: Final = 0.01
"""The chance of a false alarm in a window that nothing has happened to."""
SMALL_EFFECT: Final = 0.2
"""In standard deviations of the departures: what Cohen calls a small effect ("Statistical Power
Analysis for the Behavioral Sciences", 1988, section 2.2.3). Less is nobody's reason to act."""
MAXIMUM_BINS: Final = 10
MINIMUM_MASS: Final = 5.0
"""What a bin holds of variance at least: then five events and five others are expected in it
(Cochran, Biometrics 10, 1954). A number counts as a row of the greatest variance, 1/4."""
MINIMUM_COMPARED: Final = 0.5
"""Of which share of the rows there must be held-out rows with the same answers."""
_PER_NUMBER: Final = 0.25
_HELD_OUT_ROWS: Final = 10


@dataclass(frozen=True, slots=True)
class Departures:
    """By what the truth departs from the answer, for some rows.

    Parameters
    ----------
    answer : ndarray of float64, shape (n_samples,)
        By what rows are put in bins.
    departure : ndarray of float64, shape (n_samples,)
    variance : ndarray of float64, shape (n_samples,)
        What is expected of its square.
    mass : ndarray of float64, shape (n_samples,)
        What the row contributes to a bin's :data:`MINIMUM_MASS`.
    inflation : float
        By what the variance of a mean is larger than that of independent rows.
    """

    answer: Floats
    departure: Floats
    variance: Floats
    mass: Floats
    inflation: float = 1.0


class Shift(NamedTuple):
    """How far departures have moved.

    ``effect`` is the root of the mean square over the bins, chance taken off, in standard
    deviations; ``mean`` the mean over the bins, in the departures' unit. ``share`` of the rows
    had held-out rows to be compared with.
    """

    p_value: float
    effect: float
    mean: float
    share: float

    def significant(self, n_comparisons: int = 1) -> bool:
        """Whether it is neither chance, among so many comparisons, nor negligible."""
        return self.p_value < SIGNIFICANCE / n_comparisons and self.effect >= SMALL_EFFECT


def of_events(calibrated: Floats, events: Flags, inflation: float = 1.0) -> Departures:
    """Return the departures of what happened from its calibrated probability."""
    variance = calibrated * (1 - calibrated)
    return Departures(calibrated, events - calibrated, variance, variance, inflation)


def of_numbers(answer: Floats, y: Floats, inflation: float = 1.0) -> Departures:
    """Return the errors of numbers."""
    return _numbers(answer, y - answer, inflation)


def of_sizes(answer: Floats, y: Floats, inflation: float = 1.0) -> Departures:
    """Return the absolute errors of numbers: how far off, on whichever side."""
    return _numbers(answer, np.abs(y - answer), inflation)


def _numbers(answer: Floats, departure: Floats, inflation: float) -> Departures:
    # The square; `shift` takes off that of the bin's mean.
    mass = np.full(len(answer), _PER_NUMBER)
    return Departures(answer, departure, departure**2, mass, inflation)


def shift(reference: Departures, current: Departures, *, numbers: bool) -> Shift | None:
    """Compare the departures in the window with those of the hold-out, bin by bin.

    Each bin's difference of means, in standard errors, squared and summed: chi-squared with as
    many degrees of freedom as there are bins, as long as the relation is the same. It is the test
    of Hosmer and Lemeshow (Communications in Statistics A9, 1980) with the hold-out in the place
    of the model, whose means are uncertain too.

    Parameters
    ----------
    reference, current : Departures
    numbers : bool
        Whether the variance of a departure is to be taken from the hold-out's rows of the bin, and
        not from the rows themselves.

    Returns
    -------
    Shift or None
        None where most rows have answers that hardly any held-out row had.
    """
    from scipy.stats import chi2

    edges = _edges(current)
    n_bins = len(edges) + 1
    of_reference = np.searchsorted(edges, reference.answer, side="left")
    of_current = np.searchsorted(edges, current.answer, side="left")
    n_reference = np.bincount(of_reference, minlength=n_bins)
    n_current = np.bincount(of_current, minlength=n_bins)
    usable = (n_reference >= _HELD_OUT_ROWS) & (n_current > 0)
    share = float(n_current[usable].sum() / max(1, n_current.sum()))
    if share < MINIMUM_COMPARED:
        return None
    before = _means(of_reference, reference.departure, n_bins)[usable]
    now = _means(of_current, current.departure, n_bins)[usable]
    variance = _means(of_reference, reference.variance, n_bins)[usable]
    variance_now = variance
    if numbers:
        variance = variance_now = variance - before**2
    else:
        variance_now = _means(of_current, current.variance, n_bins)[usable]
    tiny = np.finfo(np.float64).tiny
    error = np.maximum(
        current.inflation * variance_now / n_current[usable]
        + reference.inflation * variance / n_reference[usable],
        tiny,
    )
    gap = now - before
    weight = n_current[usable] / n_current[usable].sum()
    deviation = max(float(np.sqrt(weight @ np.maximum(variance_now, 0.0))), float(tiny))
    excess = max(0.0, float(weight @ (gap**2 - error)))
    return Shift(
        p_value=float(chi2.sf(float(np.sum(gap**2 / error)), int(usable.sum()))),
        effect=float(np.sqrt(excess)) / deviation,
        mean=float(weight @ gap),
        share=share,
    )


def _edges(current: Departures) -> Floats:
    """Return the inner edges of bins of about equal mass."""
    order = np.argsort(current.answer, kind="stable")
    mass = np.cumsum(current.mass[order])
    total = float(mass[-1]) if len(mass) else 0.0
    n_bins = int(np.clip(total / MINIMUM_MASS, 1, MAXIMUM_BINS))
    places = np.searchsorted(mass, total * np.arange(1, n_bins) / n_bins)
    edges: Floats = np.unique(current.answer[order][places])
    return edges


def _means(bins: npt.NDArray[np.intp], values: Floats, n_bins: int) -> Floats:
    sums = np.bincount(bins, values, n_bins)
    means: Floats = sums / np.maximum(1, np.bincount(bins, minlength=n_bins))
    return means
