"""Categories compared: texts that recur, labels, and what is true or false.

What the reference has is counted by itself; whatever else comes is one number, so that a window of
any content takes the same memory. Texts that the app has not declared are never shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from greenroom.findings import Distribution
from greenroom.monitoring.compared import Compared, distribution_reason, missing_checks
from greenroom.monitoring.compared_numbers import is_text
from greenroom.monitoring.distances import expected_psi, jensen_shannon, psi, shares
from greenroom.monitoring.significance import chi_squared, pooled
from greenroom.monitoring.verdict import Check, DriftThresholds, share_check

__all__ = ["CategoryColumn", "is_categorical", "moved_check", "unseen_check"]

MAX_CATEGORIES: Final = 500
MIN_ROWS_A_CATEGORY: Final = 5
"""Fewer a category, and texts are not compared one by one (Cochran 1954: a bin of chi-squared
has to be expected to hold five)."""

N_SHOWN: Final = 20
OTHERS: Final = "(others)"
UNSEEN: Final = "(not in the reference)"


def is_categorical(values: npt.NDArray[Any]) -> bool:
    """Whether texts recur, so that they are compared one by one.

    Examples
    --------
    >>> is_categorical(np.array(["a", "b", None] * 5, dtype=object))
    True
    >>> is_categorical(np.array([f"{n}" for n in range(100)], dtype=object))
    False
    """
    there = [value for value in values.tolist() if value is not None]
    n_distinct = len(set(there))
    return n_distinct <= min(MAX_CATEGORIES, max(1, len(there) // MIN_ROWS_A_CATEGORY))


class CategoryColumn:
    """A column of categories.

    Parameters
    ----------
    reference : ndarray, shape (n_samples,)
        Texts, labels or booleans (or 0 and 1); None or NaN for a missing one.
    declared : sequence of str
        What an app says that there may be; counted by itself also where the reference has none.
    booleans : bool
        Whether they are true or false.
    """

    def __init__(
        self, reference: npt.NDArray[Any], declared: Sequence[str] = (), *, booleans: bool = False
    ) -> None:
        there = [value for value in reference.tolist() if value is not None and value == value]
        if booleans:
            there, declared = [bool(value) for value in there], (False, True)  # type: ignore[assignment]  # of another type from here on
        self._booleans: Final = booleans
        found = {**dict.fromkeys(declared), **dict.fromkeys(sorted(set(there), key=_by_text))}
        self._known: Final[list[Any]] = list(found)
        place = {value: number for number, value in enumerate(self._known)}
        # The last place is for whatever else comes.
        self._reference: Final = np.bincount(
            [place[value] for value in there], minlength=len(self._known) + 1
        ).astype(np.int64)
        self._current: Final = np.zeros_like(self._reference)
        self._n_missing_reference: Final = len(reference) - len(there)
        self._n_missing = 0
        self._sets: dict[Any, pa.Array] = {}

    def accepts(self, kind: pa.DataType) -> bool:
        """Whether it is the type of the categories."""
        if pa.types.is_null(kind):
            return True
        some = self._known[0] if self._known else ""
        if isinstance(some, bool):
            return bool(pa.types.is_boolean(kind) or pa.types.is_floating(kind))
        if isinstance(some, str):
            return is_text(kind)
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))

    def add(self, values: pa.Array) -> None:
        """Count categories."""
        n_missing = values.null_count
        if pa.types.is_null(values.type):
            self._n_missing += len(values)
            return
        if pa.types.is_dictionary(values.type):
            places = self._looked_up(values.dictionary)
            indices = values.indices.drop_null() if n_missing else values.indices
            found = places[_integers(indices)]
        else:
            if pa.types.is_floating(values.type):
                values = pc.if_else(pc.is_nan(values), None, values)
                n_missing = values.null_count
            if self._booleans:
                values = values.cast(pa.bool_())
            found = self._looked_up(values.drop_null() if n_missing else values)
        self._n_missing += n_missing
        self._current[:] += np.bincount(found, minlength=len(self._current))

    def _looked_up(self, values: pa.Array) -> npt.NDArray[np.int64]:
        if values.type not in self._sets:
            self._sets[values.type] = pa.array(self._known).cast(values.type)
        places = pc.index_in(values, value_set=self._sets[values.type])
        return _integers(pc.fill_null(places, len(self._known))).astype(np.int64)

    def compared(self, thresholds: DriftThresholds) -> Compared:
        """Return what both samples' counts say."""
        n, m = int(self._reference.sum()), int(self._current.sum())
        n_rows, m_rows = n + self._n_missing_reference, m + self._n_missing
        statistics: dict[str, float] = {}
        checks = missing_checks(
            (self._n_missing_reference, n_rows), (self._n_missing, m_rows), statistics, thresholds
        )
        enough = min(n, m) >= thresholds.min_rows
        if n and m:
            decisive = [
                moved_check(self._reference, self._current, statistics, thresholds),
                unseen_check(self._reference, self._current, statistics, thresholds),
            ]
            if enough:
                checks += decisive
        return Compared(
            n_reference=n_rows,
            n_current=m_rows,
            statistics=statistics,
            checks=tuple(checks),
            enough=enough or not (n or m),
            distribution=self._distribution() if n and m else None,
        )

    def _distribution(self) -> Distribution:
        """Return the most frequent categories, those of both samples together; then the rest."""
        before, now = shares(self._reference), shares(self._current)
        order = np.argsort(-(before + now)[:-1], kind="stable")
        shown, rest = order[:N_SHOWN], order[N_SHOWN:]
        labels = [_shown(self._known[place]) for place in shown]
        parts = [[*one[shown], one[rest].sum(), one[-1]] for one in (before, now)]
        kept = [
            place
            for place in range(len(shown) + 2)
            if place < len(shown) or parts[0][place] or parts[1][place]
        ]
        labels += [OTHERS, UNSEEN]
        return Distribution(
            labels=tuple(labels[place] for place in kept),
            reference=tuple(float(parts[0][place]) for place in kept),
            current=tuple(float(parts[1][place]) for place in kept),
        )


def moved_check(
    reference: npt.NDArray[np.int64],
    current: npt.NDArray[np.int64],
    statistics: dict[str, float],
    thresholds: DriftThresholds,
    *,
    prefix: str = "",
    what: str = "distribution",
) -> Check:
    """Return the check of categories' shares; rare ones are put together."""
    r, c = pooled(reference, current)
    index = psi(r, c)
    statistic, _, p_value = chi_squared(r, c)
    statistics |= {
        f"{prefix}psi": index,
        f"{prefix}jensen_shannon": jensen_shannon(reference, current),
        f"{prefix}chi_squared": statistic,
        f"{prefix}chi_squared_p": p_value,
    }
    n_bins = int(((r + c) > 0).sum())
    return Check(
        p_value=p_value,
        effect=max(index - expected_psi(n_bins, int(r.sum()), int(c.sum())), 0.0),
        threshold=thresholds.psi,
        reason=distribution_reason(index, thresholds.psi, what),
    )


def unseen_check(
    reference: npt.NDArray[np.int64],
    current: npt.NDArray[np.int64],
    statistics: dict[str, float],
    thresholds: DriftThresholds,
    *,
    prefix: str = "",
    what: str = "categories",
) -> Check:
    """Return the check of values that the reference does not have at all.

    How many of these are to be expected is told by what the reference has once: as much of it would
    be unseen had it been left out (I. Good, The population frequencies of species and the
    estimation of population parameters, Biometrika 40, 1953).
    """
    n, m = int(reference.sum()), int(current.sum())
    n_unseen = int(current[reference == 0].sum())
    statistics[f"{prefix}unseen_rate"] = n_unseen / m
    reason = f"{{current:.1%}} of the values are {what} that the reference does not have"
    n_once = int((reference == 1).sum())
    if n_unseen / m < n_once / n:
        n_once = n_unseen = 0  # fewer than expected are no drift
    return share_check((n_once, n), (n_unseen, m), thresholds, reason)


def _integers(values: pa.Array) -> npt.NDArray[Any]:
    return np.from_dlpack(values)


def _by_text(value: Any) -> str:
    return str(value)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
