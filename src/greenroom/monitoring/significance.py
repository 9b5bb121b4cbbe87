"""Significance: how likely chance alone makes two samples as different as they are.

Pure functions of counts; small p-values mean that chance does not explain it. With millions of rows
it never does, so that no verdict rests on them alone (:mod:`greenroom.monitoring.verdict`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import special, stats

__all__ = [
    "benjamini_hochberg",
    "chi_squared",
    "kolmogorov_smirnov_p",
    "outside_p",
    "pooled",
    "rates_p",
]

SMALLEST_EXPECTED: Final = 5
"""How many a bin has to be expected to hold for chi-squared to be near enough (W. Cochran, Some
methods for strengthening the common chi-squared tests, Biometrics 10, 1954)."""


def kolmogorov_smirnov_p(distance: float, n_reference: int, n_current: int) -> float:
    """Return the p-value of a two-sample Kolmogorov-Smirnov distance, two-sided.

    The exact distribution of one sample of the harmonic size, which is near for two (R. Simard and
    P. L'Ecuyer, Computing the two-sided Kolmogorov-Smirnov distribution, 2011); as SciPy's
    ``ks_2samp(method="asymp")`` gives it. Of values that are not continuous it is too large, never
    too small (Conover 1999, section 6.3).
    """
    if not n_reference or not n_current:
        return 1.0
    size = n_reference * n_current / (n_reference + n_current)
    return float(np.clip(stats.kstwo.sf(distance, max(round(size), 1)), 0.0, 1.0))


def chi_squared(reference: npt.NDArray[Any], current: npt.NDArray[Any]) -> tuple[float, int, float]:
    """Return chi-squared of two samples' counts in the same bins, its degrees of freedom, and p.

    K. Pearson's test of homogeneity in the form for two samples of different size (W. Press et al.,
    Numerical Recipes, 3rd ed., 2007, equation 14.3.3). Bins that both leave empty do not count.

    Examples
    --------
    >>> statistic, freedom, p = chi_squared(np.array([10, 20]), np.array([20, 10]))
    >>> round(statistic, 3), freedom, round(p, 4)
    (6.667, 1, 0.0098)
    """
    there = (reference + current) > 0
    r, c = reference[there].astype(np.float64), current[there].astype(np.float64)
    freedom = len(r) - 1
    if freedom < 1 or not r.sum() or not c.sum():
        return 0.0, max(freedom, 0), 1.0
    scale = np.sqrt(c.sum() / r.sum())
    statistic = float(np.sum((r * scale - c / scale) ** 2 / (r + c)))
    return statistic, freedom, float(special.chdtrc(freedom, statistic))


def pooled(
    reference: npt.NDArray[Any], current: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Put bins of which too little is expected together into one, which stands last.

    Too little is fewer than five, by the shares of both samples together, in the smaller sample.

    Examples
    --------
    >>> pooled(np.array([90, 2, 3, 2]), np.array([90, 1, 2, 3]))
    (array([90,  7]), array([90,  6]))
    """
    n, m = reference.sum(), current.sum()
    if not n or not m:
        return reference, current
    expected = (reference + current) * (min(n, m) / (n + m))
    rare = expected < SMALLEST_EXPECTED
    if rare.sum() < 2:
        return reference, current
    return (
        np.append(reference[~rare], reference[rare].sum()),
        np.append(current[~rare], current[rare].sum()),
    )


def rates_p(n_hits_reference: int, n_reference: int, n_hits: int, n_current: int) -> float:
    """Return the p-value, two-sided, of two samples' having the same share of hits.

    R. A. Fisher's exact test where a cell of the table is expected to hold fewer than five (Cochran
    1954), else chi-squared.

    Examples
    --------
    >>> round(rates_p(0, 1_000, 12, 1_000), 5)
    0.00051
    """
    if not n_reference or not n_current:
        return 1.0
    reference = np.array([n_hits_reference, n_reference - n_hits_reference])
    current = np.array([n_hits, n_current - n_hits])
    expected = (reference + current) * (min(n_reference, n_current) / (n_reference + n_current))
    if expected.min() >= SMALLEST_EXPECTED:
        return chi_squared(reference, current)[2]
    return float(stats.fisher_exact(np.array([reference, current])).pvalue)


def outside_p(n_outside: int, n_reference: int, n_current: int) -> float:
    """Return how likely so many of a window, or more, lie outside of the reference's range.

    Holds for any continuous distribution, and is too large, never too small, for others: in the
    joint order of both samples every order is equally likely, and outside are those before and
    behind all of the reference (S. Wilks, Determination of sample sizes for setting tolerance
    limits, 1941). With ``g(s) = C(n + m - s, n) / C(n + m, n)``, the chance that s given places at
    the ends are taken by the window, it is ``(k + 1) g(k) - k g(k + 1)``.

    Parameters
    ----------
    n_outside : int
        k.
    n_reference, n_current : int
        n and m, without those that are missing.

    Examples
    --------
    Two of one window value lie outside of a reference of two in two orders of three.

    >>> round(outside_p(1, 2, 1), 4)
    0.6667
    """
    if n_outside <= 0 or not n_reference or not n_current:
        return 1.0
    k, n, total = n_outside, n_reference, n_reference + n_current
    if k > n_current:
        return 0.0
    # The product form of g: with log-gamma, millions of rows would leave too few digits.
    log_g = float(np.log1p(-k / (total - np.arange(n))).sum())
    factor = (k + 1) - k * (n_current - k) / (total - k)
    return float(np.clip(np.exp(log_g) * factor, 0.0, 1.0))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return the q-value of each p-value: the false-discovery rate at which it would count.

    Y. Benjamini and Y. Hochberg, Controlling the false discovery rate, Journal of the Royal
    Statistical Society B 57, 1995; adjusted as in SciPy's ``false_discovery_control``.

    Examples
    --------
    >>> [round(q, 3) for q in benjamini_hochberg([0.01, 0.04, 0.03])]
    [0.03, 0.04, 0.04]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not len(p):
        return []
    order = np.argsort(-p, kind="stable")
    ranks = len(p) - np.arange(len(p))
    smallest = np.minimum.accumulate(p[order] * len(p) / ranks)
    q = np.empty_like(p)
    q[order] = np.minimum(smallest, 1.0)
    return [float(value) for value in q]
