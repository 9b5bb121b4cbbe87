"""Confidence intervals, 95 %, that cost next to nothing: a formula each, with its source.

They say how far a figure measured on these rows may lie from the one on all rows like them; they
do not cover what another training would change. In numpy alone, for the same reason as
:mod:`greenroom.evaluation.scores`. None where there are too few rows to say anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from greenroom.evaluation.scores import Counts, Flags, Floats, midranks

Z: Final = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


def wilson(successes: float, n: int) -> Interval | None:
    """Return the score interval of a proportion.

    E. B. Wilson, "Probable inference", JASA 22 (1927). Unlike the textbook interval it stays
    within 0 and 1 and keeps its coverage near both.

    Examples
    --------
    >>> interval = wilson(90, 100)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.8256, 0.9448)
    """
    if n < 1:
        return None
    share = successes / n
    centre = share + Z**2 / (2 * n)
    spread = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    scale = 1 + Z**2 / n
    low = (centre - spread) / scale if successes > 0 else 0.0  # exact, where rounding is not
    high = (centre + spread) / scale if successes < n else 1.0
    return Interval(low, high)


def f1_interval(found: Counts) -> Interval | None:
    """Return the interval of an F1 score, through the Jaccard index.

    F1 = 2 J / (1 + J) grows with J = tp / (tp + fp + fn), which is a proportion, so that the ends
    of J's Wilson interval become those of F1's.
    """
    jaccard = wilson(found.true_positive, sum(found))
    if jaccard is None:
        return None
    low, high = jaccard
    return Interval(2 * low / (1 + low), 2 * high / (1 + high))


def delong(positive: Flags, scores: Floats) -> Interval | None:
    """Return the interval of the area under the ROC curve.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), by the ranks of Sun and Xu, IEEE
    Signal Processing Letters 21 (2014), which take n log n steps.
    """
    events, others = scores[positive], scores[~positive]
    m, n = len(events), len(others)
    if m < 2 or n < 2:
        return None
    ranks = midranks(np.concatenate([events, others]))
    above = (ranks[:m] - midranks(events)) / n  # for each event the share of non-events below it
    below = 1 - (ranks[m:] - midranks(others)) / m
    area = float(above.mean())
    error = math.sqrt(float(above.var(ddof=1)) / m + float(below.var(ddof=1)) / n)
    return Interval(max(0.0, area - Z * error), min(1.0, area + Z * error))


def average_precision_interval(value: float, n_positive: int) -> Interval | None:
    """Return the interval of an average precision, normal on the logit scale.

    Boyd, Eng and Page, "Area under the precision-recall curve", ECML PKDD 2013, section 3.2.
    """
    if n_positive < 1 or not 0 < value < 1:
        return None
    centre = math.log(value / (1 - value))
    spread = Z / math.sqrt(n_positive * value * (1 - value))
    return Interval(_expit(centre - spread), _expit(centre + spread))


def mean_interval(values: Floats) -> Interval | None:
    """Return the interval of a mean, by the central limit theorem.

    Of values that are none below 0, as errors and losses are, it does not go below 0 either.

    Examples
    --------
    >>> mean_interval(np.array([1.0, 1.0, 1.0]))
    Interval(low=1.0, high=1.0)
    >>> mean_interval(np.array([0.0, 0.0, 3.0])).low
    0.0
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    centre = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    least = 0.0 if values.min() >= 0 else -math.inf
    return Interval(max(least, centre - Z * error), centre + Z * error)


def root_interval(squares: Floats) -> Interval | None:
    """Return the interval of the root of a mean of squares: the roots of the mean's ends."""
    interval = mean_interval(squares)
    if interval is None:
        return None
    return Interval(math.sqrt(interval.low), math.sqrt(interval.high))


def median_interval(values: Floats) -> Interval | None:
    """Return the interval of a median: two of the values themselves, whatever their distribution.

    The ranks by the normal approximation of the binomial (Conover, "Practical Nonparametric
    Statistics", 3rd ed., section 3.2). None below six values, where no two of them are enough.

    Examples
    --------
    >>> median_interval(np.arange(1.0, 101.0))
    Interval(low=40.0, high=61.0)
    """
    n = len(values)
    reach = Z * math.sqrt(n) / 2
    low, high = math.floor(n / 2 - reach), math.ceil(n / 2 + 1 + reach)
    if low < 1 or not np.isfinite(values).all():
        return None
    ordered = np.partition(values, [low - 1, high - 1])
    return Interval(float(ordered[low - 1]), float(ordered[high - 1]))


def r2_interval(y: Floats, squares: Floats) -> Interval | None:
    """Return the interval of the share of the variance that is explained, 1 at most.

    By the delta method (van der Vaart, "Asymptotic Statistics", chapter 3): to first order the
    figure is a mean over the rows, of which the standard error is known.

    Parameters
    ----------
    y : ndarray of float64, shape (n_samples,)
        The truth.
    squares : ndarray of float64, shape (n_samples,)
        The squared errors.
    """
    spread = (y - y.mean()) ** 2
    variance = float(spread.mean())
    if len(y) < 3 or not variance:
        return None
    unexplained = float(squares.mean()) / variance
    influence = (squares - unexplained * spread) / variance
    error = Z * float(influence.std(ddof=1)) / math.sqrt(len(y))
    return Interval(1 - unexplained - error, min(1.0, 1 - unexplained + error))


def mean_of_proportions(parts: Sequence[tuple[float, int]]) -> Interval | None:
    """Return the interval of the mean of proportions that were found on different rows.

    Zou and Donner, Statistics in Medicine 27 (2008): each proportion's distance to the end of its
    Wilson interval is its share of the uncertainty, and those of independent figures add up as
    squares.

    Parameters
    ----------
    parts : sequence of (float, int)
        Of each, how often, and of how many rows.

    Examples
    --------
    >>> mean_of_proportions([(90, 100)]) == wilson(90, 100)
    True
    """
    values = [successes / n if n else 0.0 for successes, n in parts]
    found = [wilson(successes, n) for successes, n in parts]
    if not found or None in found:
        return None
    centre, k = sum(values) / len(values), len(values)
    pairs = [(value, one) for value, one in zip(values, found, strict=True) if one is not None]
    below = math.sqrt(sum((value - one.low) ** 2 for value, one in pairs))
    above = math.sqrt(sum((one.high - value) ** 2 for value, one in pairs))
    return Interval(centre - below / k, centre + above / k)


def mean_of(found: Sequence[Interval | None]) -> Interval | None:
    """Return an interval of the mean of figures of the same rows, whose intervals are known.

    The mean of the ends. The deviation of a sum is at most the sum of the deviations, however the
    figures depend on each other: it is wide enough for all cases, and for most too wide.
    """
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    low, high = (sum(ends) / len(known) for ends in zip(*known, strict=True))
    return Interval(low, high)


def difference(
    value: float, of_value: Interval, other: float, of_other: Interval, *, widened: float = 1.0
) -> Interval:
    """Return the interval of ``value - other``, two figures of different rows.

    Zou and Donner, Statistics in Medicine 27 (2008), as :func:`mean_of_proportions`. That two
    intervals overlap does not say that the figures are the same; that this one holds 0 does.

    Parameters
    ----------
    value, other : float
    of_value, of_other : Interval
        Their 95 % intervals.
    widened : float
        By what both intervals are wider than they say: where more certainty is asked for.

    Examples
    --------
    >>> found = difference(0.5, Interval(0.4, 0.6), 0.9, Interval(0.87, 0.93))
    >>> round(found.low, 3), round(found.high, 3)
    (-0.504, -0.296)
    """
    below = math.hypot(value - of_value.low, of_other.high - other)
    above = math.hypot(of_value.high - value, other - of_other.low)
    centre = value - other
    return Interval(centre - widened * below, centre + widened * above)


def _expit(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))
