"""Distances between two distributions that were counted in the same bins, or at the same cuts.

Pure functions of counts; a count is how many values of a sample fell into a bin. They say how far
two samples are apart, never whether chance explains it: that is
:mod:`greenroom.monitoring.significance`'s business, and the verdict
:mod:`greenroom.monitoring.verdict`'s.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "cohens_h",
    "expected_psi",
    "jensen_shannon",
    "kolmogorov_smirnov",
    "psi",
    "shares",
    "wasserstein",
]

Counts: TypeAlias = npt.NDArray[Any]

_SMOOTHING: Final = 0.5
"""What is added to each bin, so that an empty one does not make PSI infinite: Jeffreys' prior
(H. Jeffreys, Theory of Probability, 3rd ed., 1961, section 3.23)."""


def shares(counts: Counts) -> npt.NDArray[np.float64]:
    """Return each bin's share of all; zeros where there is nothing.

    Examples
    --------
    >>> shares(np.array([1, 3])).tolist()
    [0.25, 0.75]
    """
    values = np.asarray(counts, dtype=np.float64)
    total = values.sum()
    return values / total if total else np.zeros_like(values)


def psi(reference: Counts, current: Counts) -> float:
    """Return the population stability index, 0 for equal shares, without an upper end.

    The sum over bins of ``(c - r) * ln(c / r)`` (N. Siddiqi, Credit Risk Scorecards, 2006,
    chapter 9), which is the symmetric divergence of S. Kullback and R. Leibler (On Information and
    Sufficiency, 1951). Half a count is added to every bin.

    Parameters
    ----------
    reference, current : ndarray, shape (n_bins,)
        Counts in the same bins.

    Examples
    --------
    >>> round(psi(np.array([500_000, 500_000]), np.array([400_000, 600_000])), 4)
    0.0405
    """
    r = shares(np.asarray(reference, dtype=np.float64) + _SMOOTHING)
    c = shares(np.asarray(current, dtype=np.float64) + _SMOOTHING)
    return float(np.sum((c - r) * np.log(c / r)))


def expected_psi(n_bins: int, n_reference: int, n_current: int) -> float:
    """Return what PSI is by chance alone, on average, for two samples of one distribution.

    ``(n_bins - 1) * (1 / n_reference + 1 / n_current)``: scaled so, PSI follows chi-squared with
    n_bins - 1 degrees of freedom (B. Yurdakul and J. Naranjo, Statistical properties of the
    population stability index, Journal of Risk Model Validation 14(4), 2020).

    Examples
    --------
    >>> round(expected_psi(10, 1_000, 1_000), 3)
    0.018
    """
    if not n_reference or not n_current:
        return 0.0
    return max(n_bins - 1, 0) * (1 / n_reference + 1 / n_current)


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """Return the Jensen-Shannon distance in base 2: 0 for equal shares, 1 for disjoint ones.

    The square root of the divergence, which is a metric (D. Endres and J. Schindelin, A new metric
    for probability distributions, IEEE Transactions on Information Theory 49(7), 2003).

    Parameters
    ----------
    reference, current : ndarray, shape (n_bins,)
        Counts in the same bins.

    Examples
    --------
    >>> jensen_shannon(np.array([1, 0]), np.array([0, 7]))
    1.0
    """
    r, c = shares(reference), shares(current)
    if not r.any() or not c.any():
        return 0.0
    middle = (r + c) / 2
    divergence = (_entropy(middle) - (_entropy(r) + _entropy(c)) / 2) / np.log(2)
    return float(np.sqrt(min(max(divergence, 0.0), 1.0)))


def kolmogorov_smirnov(reference: Counts, current: Counts) -> float:
    """Return the largest difference of the two cumulative shares, between 0 and 1.

    Exact where each value of the one sample is a bin of its own, with a bin between every two: the
    other sample's cumulative share is monotone in between (W. Conover, Practical Nonparametric
    Statistics, 3rd ed., 1999, section 6.3).

    Parameters
    ----------
    reference, current : ndarray, shape (n_bins,)
        Counts in the same bins, in ascending order.

    Examples
    --------
    >>> kolmogorov_smirnov(np.array([2, 2, 0]), np.array([0, 2, 2]))
    0.5
    """
    if not np.sum(reference) or not np.sum(current):
        return 0.0
    difference = np.cumsum(shares(reference)) - np.cumsum(shares(current))
    return float(min(np.abs(difference).max(initial=0.0), 1.0))


def wasserstein(
    cuts: npt.NDArray[np.float64],
    reference: tuple[Counts, npt.NDArray[np.float64]],
    current: tuple[Counts, npt.NDArray[np.float64]],
) -> float:
    """Return the first Wasserstein distance, in the unit of the values.

    The area between the two cumulative distributions (S. Vallender, Calculation of the Wasserstein
    distance between probability distributions on the line, 1974), piece by piece between the cuts.
    A piece in which they cross is taken for straight; where every value of one sample is a cut, all
    others are exact.

    Parameters
    ----------
    cuts : ndarray, shape (n_cuts,)
        Ascending, at least one.
    reference, current : pair of ndarray, shape (2 * n_cuts + 1,)
        Counts below the first cut, at it, between it and the second, at that, and so on; and for
        each of these the sum of the values less the first cut, infinite ones left out.
    """
    n_reference, n_current = np.sum(reference[0]), np.sum(current[0])
    if not n_reference or not n_current:
        return 0.0
    r, r_sums = reference[0] / n_reference, reference[1] / n_reference
    c, c_sums = current[0] / n_current, current[1] / n_current
    offsets = cuts - cuts[0]
    below = abs(r_sums[0] - c_sums[0])
    beyond = abs((r_sums[-1] - offsets[-1] * r[-1]) - (c_sums[-1] - offsets[-1] * c[-1]))
    # Between cuts: the difference at both ends, and the area that lies between.
    behind = np.cumsum(r) - np.cumsum(c)
    left, right = behind[1:-2:2], behind[2:-1:2]
    width = np.diff(cuts)
    inner = slice(2, -2, 2)
    rising = (r[inner] - c[inner]) * offsets[1:] - (r_sums[inner] - c_sums[inner])
    area = np.abs(left * width + rising)
    crossing = left * right < 0
    heights = np.abs(left) + np.abs(right)
    straight = np.where(crossing, width * (left**2 + right**2) / np.maximum(2 * heights, 1e-300), 0)
    return float(below + beyond + np.where(crossing, straight, area).sum())


def cohens_h(reference: float, current: float) -> float:
    """Return how far one share is from another: 0.2 is small, 0.5 medium, 0.8 large.

    ``|2 asin(sqrt(current)) - 2 asin(sqrt(reference))|`` (J. Cohen, Statistical Power Analysis for
    the Behavioral Sciences, 2nd ed., 1988, section 6.2). One percent where there was nothing is as
    far as 60 percent where there was a half.

    Examples
    --------
    >>> round(cohens_h(0.0, 0.01), 2), round(cohens_h(0.5, 0.6), 2)
    (0.2, 0.2)
    """
    ends = np.clip([reference, current], 0.0, 1.0)
    angles = 2 * np.arcsin(np.sqrt(ends))
    return float(abs(angles[1] - angles[0]))


def _entropy(p: npt.NDArray[np.float64]) -> float:
    some = p[p > 0]
    return float(-np.sum(some * np.log(some)))
