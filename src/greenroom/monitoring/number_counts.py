"""Numbers counted at cuts: how many lie below, at and between given values.

With each distinct value of a reference as a cut, a window of any length is reduced to what an exact
Kolmogorov-Smirnov distance, quantile bins, and any histogram along the cuts need, in one pass
and without keeping a value. A value's place among the cuts is looked up in a grid, which takes a
few nanoseconds however many cuts there are.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_CUTS", "Cuts", "NumberCounts", "cut_values"]

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

MAX_CUTS: Final = 4_096
"""Of more distinct values so many quantiles are cuts: then the Kolmogorov-Smirnov distance is up to
1/4096 too small, which is a tenth of what two samples of 100,000 rows differ by."""

_CELLS: Final = 2**15
_SLICE: Final = 2**14
"""How many values are counted at a time: what is made of them stays in a core's cache."""


class _Grid:
    """Cells by which places are looked up: a value's cell never falls as the value rises.

    So cuts in cells before a value's are below it and those in cells behind are above, whatever
    rounding does; only cuts in the same cell need comparing.

    Parameters
    ----------
    offsets : ndarray, shape (n_cuts,)
        The cuts' distances from the first one.
    lowest, highest : float
        Between which offsets the cells lie; beyond them is one cell on each side.
    logarithmic : bool
        Whether cells have equal widths in the logarithm of the offset.
    """

    def __init__(
        self, offsets: Floats, lowest: float, highest: float, *, logarithmic: bool
    ) -> None:
        self._logarithmic: Final = logarithmic
        self._lowest: Final = lowest
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            scale = float(np.float64(_CELLS - 2) / (highest - lowest))
        self._scale: Final = scale if np.isfinite(scale) else 0.0
        # The bits of a positive float, read as an integer, grow as its logarithm does.
        self._lowest_bits: Final = _bits(lowest)
        self._width: Final = max(1, (_bits(highest) - _bits(lowest)) // (_CELLS - 3) + 1)
        held = np.bincount(self.cells(offsets), minlength=_CELLS)
        self.before: Final[Integers] = np.concatenate([[0], np.cumsum(held)[:-1]]).astype(np.int64)
        self.crowded: Final = held > 1
        self.n_crowded: Final = int(held[self.crowded].sum())

    def cells(self, offsets: Floats) -> Integers:
        """Return the cell of each offset."""
        if self._logarithmic:
            steps = (np.maximum(offsets, 0.0) + 0.0).view(np.int64) - self._lowest_bits
            return np.clip(steps // self._width + 1, 0, _CELLS - 1)
        if not self._scale:
            return np.zeros(len(offsets), dtype=np.int64)
        with np.errstate(over="ignore"):
            scaled = (offsets - self._lowest) * self._scale
        np.clip(scaled, -1.0, _CELLS - 2.0, out=scaled)
        scaled += 1.0
        return scaled.astype(np.int64)


class Cuts:
    """Where numbers are counted, and what finds a number's place among these.

    There are 2 n + 1 places for n cuts: below the first, at it, between it and the second, and so
    on. Places are looked up in cells, of equal width, of equal width in the middle of the cuts
    alone, or in the logarithm of the distance from the first cut: whichever parts the cuts best.

    Parameters
    ----------
    values : ndarray, shape (n_cuts,)
        Finite, ascending, each once; at least one.
    """

    def __init__(self, values: Floats) -> None:
        self.values: Final = values
        self._first: Final = float(values[0])
        with np.errstate(over="ignore"):
            offsets = values - self._first
        last = len(values) - 1
        middle = offsets[last // 50], offsets[last - last // 50]
        self._grid: Final = min(
            _Grid(offsets, 0.0, float(offsets[-1]), logarithmic=False),
            _Grid(offsets, float(middle[0]), float(middle[1]), logarithmic=False),
            _Grid(offsets, float(offsets[min(1, last)]), float(offsets[-1]), logarithmic=True),
            key=lambda grid: grid.n_crowded,
        )
        self._next: Final = np.append(values, np.nan)  # which no value equals or exceeds

    @property
    def n_places(self) -> int:
        """How many places there are."""
        return 2 * len(self.values) + 1

    def places(self, values: Floats) -> tuple[Integers, Floats]:
        """Return the place of each value, none of them NaN, and its distance from the first cut."""
        with np.errstate(over="ignore"):
            offsets = values - self._first
        cells = self._grid.cells(offsets)
        before = self._grid.before[cells]
        at = self._next[before]
        places = 2 * before
        places += values == at
        places += 2 * (values > at)
        if self._grid.n_crowded:
            crowded = np.flatnonzero(self._grid.crowded[cells])
            if len(crowded):
                some = values[crowded]
                left = np.searchsorted(self.values, some, side="left")
                places[crowded] = left + np.searchsorted(self.values, some, side="right")
        return places, offsets


class NumberCounts:
    """What a sample's numbers are at given cuts.

    Parameters
    ----------
    cuts : Cuts

    Attributes
    ----------
    counts : ndarray of int64, shape (n_places,)
        How many values lie at each place.
    sums : ndarray of float64, shape (n_places,)
        Their distances from the first cut, summed up; infinite ones left out.
    n_missing : int
        How many were missing, or NaN.
    n_infinite : int
        How many were infinite; they are counted at the ends.
    least, most : float
        The smallest and the largest finite value; infinities where there is none.
    """

    def __init__(self, cuts: Cuts) -> None:
        self.cuts: Final = cuts
        self.counts: Integers = np.zeros(cuts.n_places, dtype=np.int64)
        self.sums: Floats = np.zeros(cuts.n_places)
        self.n_missing = 0
        self.n_infinite = 0
        self.least = float("inf")
        self.most = float("-inf")

    @property
    def n_values(self) -> int:
        """How many values there are, missing ones not counted."""
        return int(self.counts.sum())

    @property
    def n_outside(self) -> int:
        """How many lie below the first cut or above the last."""
        return int(self.counts[0] + self.counts[-1])

    def add(self, values: Floats, n_missing: int = 0) -> None:
        """Count values; NaN counts as missing."""
        self.n_missing += n_missing
        for start in range(0, len(values), _SLICE):
            part = values[start : start + _SLICE]
            least, most = float(part.min()), float(part.max())
            if least != least:
                there = part[~np.isnan(part)]
                self.add(there, len(part) - len(there))
            else:
                self._add(part, least, most)

    def _add(self, values: Floats, least: float, most: float) -> None:
        places, offsets = self.cuts.places(values)
        self.counts += np.bincount(places, minlength=self.cuts.n_places)
        if np.isinf(least) or np.isinf(most):
            finite = np.isfinite(values)
            self.n_infinite += len(values) - int(finite.sum())
            offsets = np.where(finite, offsets, 0.0)
            least = float(values[finite].min(initial=np.inf))
            most = float(values[finite].max(initial=-np.inf))
        self.sums += np.bincount(places, weights=offsets, minlength=self.cuts.n_places)
        self.least, self.most = min(self.least, least), max(self.most, most)


def cut_values(values: Floats, more: Floats) -> Floats:
    """Return the cuts for a reference: its distinct finite values, or quantiles, and ``more``.

    Parameters
    ----------
    values : ndarray, shape (n_samples,)
        The reference; NaN and infinite values are passed over.
    more : ndarray
        Further cuts, within its range.

    Examples
    --------
    >>> cut_values(np.array([3.0, 1.0, np.nan, 3.0]), np.array([2.0])).tolist()
    [1.0, 2.0, 3.0]
    """
    finite = values[np.isfinite(values)]
    distinct = np.unique(finite)
    if len(distinct) > MAX_CUTS:
        ends = np.quantile(finite, np.linspace(0, 1, MAX_CUTS), method="inverted_cdf")
        distinct = np.unique(ends)
    return np.unique(np.concatenate([distinct, more]))


def _bits(value: float) -> int:
    return int(np.array([value]).view(np.int64)[0])
