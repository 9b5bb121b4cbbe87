"""Numbers compared: with the distances that suit them, and whether they stay in range.

Texts of which hardly two are equal have nothing to compare but their lengths, which are numbers.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from greenroom.findings import Distribution
from greenroom.monitoring.bins import figure_edges, histogram, quantile_bins
from greenroom.monitoring.compared import Compared, distribution_reason, missing_checks
from greenroom.monitoring.distances import (
    expected_psi,
    jensen_shannon,
    kolmogorov_smirnov,
    psi,
    shares,
    wasserstein,
)
from greenroom.monitoring.number_counts import Cuts, NumberCounts, cut_values
from greenroom.monitoring.significance import chi_squared, kolmogorov_smirnov_p, outside_p
from greenroom.monitoring.verdict import Check, DriftThresholds, share_check

__all__ = ["NumberColumn", "TextLengthColumn"]


class NumberColumn:
    """A column of numbers.

    Parameters
    ----------
    reference : ndarray of float64, shape (n_samples,)
        NaN for a missing value.
    integers : bool
        Whether all of them are whole numbers; only a figure looks at this.
    """

    def __init__(self, reference: npt.NDArray[Any], *, integers: bool = False) -> None:
        values = np.asarray(reference, dtype=np.float64)
        finite = values[np.isfinite(values)]
        self._edges: Final = figure_edges(finite, integers=integers)
        at = cut_values(finite, self._edges)
        cuts = Cuts(at if len(at) else np.zeros(1))
        self._reference: Final = NumberCounts(cuts)
        self._reference.add(values)
        self._current: Final = NumberCounts(cuts)
        spread = float(finite.std()) if len(finite) else 0.0
        self._spread: Final = spread if np.isfinite(spread) and spread > 0 else 1.0
        self._bins: Final = quantile_bins(self._reference.counts)

    def accepts(self, kind: pa.DataType) -> bool:
        """Whether it is a type of numbers."""
        return bool(
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_boolean(kind)
            or pa.types.is_null(kind)
        )

    def add(self, values: pa.Array) -> None:
        """Count numbers."""
        self._current.add(as_floats(values), values.null_count)

    def compared(self, thresholds: DriftThresholds) -> Compared:
        """Return what both samples' counts say."""
        before, now = self._reference, self._current
        n, m = before.n_values, now.n_values
        statistics: dict[str, float] = {}
        checks = missing_checks(
            (before.n_missing, n + before.n_missing),
            (now.n_missing, m + now.n_missing),
            statistics,
            thresholds,
        )
        enough = min(n, m) >= thresholds.min_rows
        if n and m:
            decisive = self._measure(statistics, thresholds)
            if enough:
                checks += decisive
        return Compared(
            n_reference=n + before.n_missing,
            n_current=m + now.n_missing,
            statistics=statistics,
            checks=tuple(checks),
            enough=enough or not (n or m),
            distribution=self._distribution(),
        )

    def _measure(self, statistics: dict[str, float], thresholds: DriftThresholds) -> list[Check]:
        before, now = self._reference, self._current
        n, m = before.n_values, now.n_values
        r, c = (np.add.reduceat(one.counts, self._bins) for one in (before, now))
        statistics["psi"] = psi(r, c)
        statistics["jensen_shannon"] = jensen_shannon(r, c)
        distance = wasserstein(
            before.cuts.values, (before.counts, before.sums), (now.counts, now.sums)
        )
        if np.isfinite(distance):
            statistics["wasserstein"] = distance / self._spread
        largest = kolmogorov_smirnov(before.counts, now.counts)
        statistics["kolmogorov_smirnov"] = largest
        statistics["kolmogorov_smirnov_p"] = kolmogorov_smirnov_p(largest, n, m)
        for name, one in (("mean_reference", before), ("mean", now)):
            mean = _mean(one)
            if np.isfinite(mean):
                statistics[name] = mean
        # Both look at the same thing, the one at values in order, the other also where few of them
        # differ: twice the smaller p, by Bonferroni's inequality.
        smaller = min(statistics["kolmogorov_smirnov_p"], chi_squared(r, c)[2])
        p_value = min(1.0, 2 * smaller)
        moved = Check(
            p_value=p_value,
            effect=max(statistics["psi"] - expected_psi(len(r), n, m), 0.0),
            threshold=thresholds.psi,
            reason=distribution_reason(statistics["psi"], thresholds.psi),
        )
        far = Check(
            p_value=p_value,
            effect=statistics.get("wasserstein", 0.0),
            threshold=thresholds.wasserstein,
            reason=f"the values have moved by {statistics.get('wasserstein', 0.0):.2g} standard "
            "deviations of the reference on average",
        )
        # One and the same test behind both, which counts once.
        decisive = max(moved, far, key=lambda check: check.strength)
        return [decisive, self._range_check(statistics, thresholds)]

    def _range_check(self, statistics: dict[str, float], thresholds: DriftThresholds) -> Check:
        """Hold the share of values outside of the reference's range against what that predicts.

        Of a new value of the same distribution that is 2 in n + 1 (Wilks 1941).
        """
        places = np.flatnonzero(self._reference.counts)
        counts, n = self._current.counts, self._reference.n_values
        m = self._current.n_values
        n_outside = int(counts[: places[0]].sum() + counts[places[-1] + 1 :].sum())
        statistics["outside_rate"] = n_outside / m
        return share_check(
            (min(2, n + 1), n + 1),
            (n_outside, m),
            thresholds,
            "{current:.1%} of the values lie outside of the reference's range",
            p_value=outside_p(n_outside, n, m),
        )

    def _distribution(self) -> Distribution | None:
        if not len(self._edges) or not self._current.n_values:
            return None
        edges, before, now = histogram(self._edges, self._reference, self._current)
        if len(edges) < 2 or not np.isfinite(edges).all():
            return None
        return Distribution(
            edges=edges,
            reference=tuple(shares(before).tolist()),
            current=tuple(shares(now).tolist()),
        )


class TextLengthColumn(NumberColumn):
    """Texts of which hardly two are equal; what is compared is how many characters they have.

    Parameters
    ----------
    reference : ndarray of object, shape (n_samples,)
        Texts, or None.
    """

    def __init__(self, reference: npt.NDArray[Any]) -> None:
        lengths = [np.nan if text is None else float(len(text)) for text in reference.tolist()]
        super().__init__(np.array(lengths, dtype=np.float64), integers=True)

    def accepts(self, kind: pa.DataType) -> bool:
        """Whether it is a type of texts."""
        return is_text(kind)

    def add(self, values: pa.Array) -> None:
        """Count lengths."""
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        super().add(values if pa.types.is_null(values.type) else pc.utf8_length(values))


def is_text(kind: pa.DataType) -> bool:
    """Whether values of a type are texts."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def as_floats(values: pa.Array) -> npt.NDArray[np.float64]:
    """Return the values that are there; integers beyond 2^53 to their nearest float."""
    there = values.drop_null() if values.null_count else values
    if pa.types.is_null(there.type):
        return np.empty(0)
    if not pa.types.is_float64(there.type):
        there = there.cast(pa.float64(), safe=False)
    # Not Array.to_numpy, which imports pandas.
    floats: npt.NDArray[np.float64] = np.from_dlpack(there).view(np.float64)
    return floats


def _mean(counts: NumberCounts) -> float:
    n_finite = counts.n_values - counts.n_infinite
    if not n_finite:
        return float("nan")
    with np.errstate(over="ignore", invalid="ignore"):
        return float(counts.cuts.values[0] + counts.sums.sum() / n_finite)
