"""Bins: places at which numbers were counted, put together into what PSI and a figure need.

Bins are chosen by the reference alone, before a window is looked at.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from greenroom.monitoring.number_counts import NumberCounts

__all__ = ["figure_edges", "histogram", "quantile_bins"]

N_BINS: Final = 10
"""Deciles, as PSI is usual with (Siddiqi 2006, chapter 9)."""

N_FIGURE_BINS: Final = 20
_TAIL: Final = 0.005
"""What share of the reference's values on each side has no say in the width of a figure's bins."""


def quantile_bins(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return where each bin begins: tenths of the reference, one after another.

    A value that a tenth or more of the reference has is a bin of its own, as a constant's is, so
    that values below it and above it are told apart.

    Parameters
    ----------
    counts : ndarray, shape (n_places,)
        The reference's, as :class:`greenroom.monitoring.number_counts.NumberCounts` has them.

    Returns
    -------
    ndarray of int64
        First places, ascending, 0 first; for ``np.add.reduceat``.

    Examples
    --------
    >>> quantile_bins(np.array([0, 90, 0, 5, 0, 5, 0])).tolist()
    [0, 1, 2]
    """
    enough = counts.sum() / N_BINS
    starts, held = [0], 0
    for place in np.flatnonzero(counts).tolist():
        count = int(counts[place])
        if count >= enough:
            starts += [place, place + 1]
            held = 0
        elif held + count > enough and held:
            # The space before a value belongs to it: halfway there is no better than elsewhere.
            starts.append(place)
            held = count
        else:
            held += count
    found = np.unique(np.array(starts, dtype=np.int64))
    return found[found < len(counts)]


def figure_edges(values: npt.NDArray[np.float64], *, integers: bool) -> npt.NDArray[np.float64]:
    """Return the inner edges of a figure's bins: of equal width, over all but the far tails.

    Whole numbers of a small range have a bin each.

    Parameters
    ----------
    values : ndarray, shape (n_samples,)
        The reference; NaN and infinite values are passed over.
    integers : bool
        Whether the values are whole numbers.

    Examples
    --------
    >>> figure_edges(np.array([1.0, 2.0, 4.0]), integers=True).tolist()
    [0.5, 1.5, 2.5, 3.5, 4.5]
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.empty(0)
    low, high = np.quantile(finite, [_TAIL, 1 - _TAIL], method="inverted_cdf")
    if integers and high - low < N_FIGURE_BINS:
        return np.arange(low, high + 2) - 0.5
    if not np.isfinite(high - low) or high <= low:
        return np.unique(np.array([low, high]))
    return np.unique(np.linspace(low, high, N_FIGURE_BINS + 1))


def histogram(
    edges: npt.NDArray[np.float64], reference: NumberCounts, current: NumberCounts
) -> tuple[tuple[float, ...], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the edges of a figure's bins, and both samples' counts in them.

    What lies beyond the inner edges is in a bin on each side, as wide as both samples need.

    Parameters
    ----------
    edges : ndarray
        Inner edges, all of them cuts of both samples.
    """
    places = 2 * np.searchsorted(reference.cuts.values, edges) + 1
    bounds = np.concatenate([[0], places, [reference.cuts.n_places]])
    counted = [
        np.array([one.counts[a:b].sum() for a, b in pairwise(bounds)])
        for one in (reference, current)
    ]
    ends = [float(edges[0]), *map(float, edges), float(edges[-1])]
    ends[0] = min(reference.least, current.least, ends[0])
    ends[-1] = max(reference.most, current.most, ends[-1])
    first = 1 if ends[0] >= ends[1] and not counted[0][0] + counted[1][0] else 0
    last = len(ends) - 1
    if ends[-1] <= ends[-2] and not counted[0][-1] + counted[1][-1]:
        last -= 1
    within = slice(first, last)
    return tuple(ends[first : last + 1]), counted[0][within], counted[1][within]
