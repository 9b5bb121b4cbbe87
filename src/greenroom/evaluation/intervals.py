"""Confidence intervals, 95 %, that cost next to nothing: a formula each, with its source.

They say how far a figure measured on these rows may lie from the one on all rows like them; they
do not cover what another training would change. In numpy alone, for the same reason as
:mod:`greenroom.evaluation.scores`. None where there are too few rows to say anything.
"""

from __future__ import annotations

import math
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

    Examples
    --------
    >>> mean_interval(np.array([1.0, 1.0, 1.0]))
    Interval(low=1.0, high=1.0)
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    centre = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(centre - Z * error, centre + Z * error)


def root_interval(squares: Floats) -> Interval | None:
    """Return the interval of the root of a mean of squares: the roots of the mean's ends."""
    interval = mean_interval(squares)
    if interval is None:
        return None
    return Interval(math.sqrt(max(0.0, interval.low)), math.sqrt(interval.high))


def _expit(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))
