"""Times compared: by hour of the day, day of the week and month of the year, in UTC.

A time itself always moves on, so that every window would have drifted. Its parts come back, each in
a cycle of its own: their shares are compared where both samples last for at least one cycle. That
the reference has nothing of some hour, weekday or month at all is looked at always: what a model
has never seen of a year it may not know.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from greenroom.findings import Distribution
from greenroom.monitoring.compared import Compared, missing_checks
from greenroom.monitoring.compared_categories import moved_check, unseen_check
from greenroom.monitoring.distances import shares
from greenroom.monitoring.verdict import Check, DriftThresholds

__all__ = ["TimeColumn"]

_US_PER_HOUR: Final = 3_600_000_000
_NAT: Final = np.iinfo(np.int64).min
_UNITS_US: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}


class _Part(NamedTuple):
    """A part of a time: its name, its values, and after how many days they come back."""

    name: str
    labels: tuple[str, ...]
    cycle_days: int


_HOUR: Final = _Part("hour", tuple(f"{hour:02d}:00" for hour in range(24)), 1)
_WEEKDAY: Final = _Part("weekday", ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"), 7)
_MONTH: Final = _Part(
    "month",
    ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    365,
)


class _TimeCounts:
    """How many times of a sample fall into each hour of each weekday of each month."""

    def __init__(self) -> None:
        self._cells = np.zeros(12 * 7 * 24, dtype=np.int64)
        self.n_missing = 0
        self._first_hour = np.iinfo(np.int64).max
        self._last_hour = np.iinfo(np.int64).min

    @property
    def n_values(self) -> int:
        return int(self._cells.sum())

    @property
    def n_days(self) -> int:
        """How many days lie between the earliest and the latest, those two included."""
        return int(self._last_hour // 24 - self._first_hour // 24 + 1) if self.n_values else 0

    def add(self, times_us: npt.NDArray[np.int64], n_missing: int) -> None:
        self.n_missing += n_missing
        if not len(times_us):
            return
        hours = times_us // _US_PER_HOUR
        days = hours // 24
        months = days.view("datetime64[D]").astype("datetime64[M]").view(np.int64) % 12
        # The first of January 1970 was a Thursday.
        cells = (months * 7 + (days + 3) % 7) * 24 + (hours - days * 24)
        self._cells += np.bincount(cells, minlength=len(self._cells))
        self._first_hour = min(self._first_hour, int(hours.min()))
        self._last_hour = max(self._last_hour, int(hours.max()))

    def of(self, part: _Part) -> npt.NDArray[np.int64]:
        """Return how many fall into each value of a part."""
        axes = {"month": (1, 2), "weekday": (0, 2), "hour": (0, 1)}[part.name]
        counts: npt.NDArray[np.int64] = self._cells.reshape(12, 7, 24).sum(axis=axes)
        return counts


class TimeColumn:
    """A column of days, or of instants.

    Parameters
    ----------
    reference : ndarray of datetime64, shape (n_samples,)
        In UTC; NaT for a missing one.
    days : bool
        Whether they are days, which have no hour.
    """

    def __init__(self, reference: npt.NDArray[Any], *, days: bool = False) -> None:
        self._parts: Final = (_WEEKDAY, _MONTH) if days else (_HOUR, _WEEKDAY, _MONTH)
        self._reference: Final = _TimeCounts()
        self._current: Final = _TimeCounts()
        times = np.asarray(reference).astype("datetime64[us]").view(np.int64)
        there = times[times != _NAT]
        self._reference.add(there, len(times) - len(there))

    def accepts(self, kind: pa.DataType) -> bool:
        """Whether it is a type of days or instants."""
        return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind))

    def add(self, values: pa.Array) -> None:
        """Count times; of a time without an offset UTC is taken."""
        n_missing = values.null_count
        there = values.drop_null() if n_missing else values
        if not len(there):
            self._current.add(np.empty(0, dtype=np.int64), n_missing)
            return
        if not pa.types.is_timestamp(there.type):
            there = there.cast(pa.timestamp("us"))
        unit, ticks = there.type.unit, np.from_dlpack(there.cast(pa.int64())).view(np.int64)
        times_us = ticks // 1_000 if unit == "ns" else ticks * _UNITS_US[unit]
        self._current.add(times_us, n_missing)

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
        distribution = None
        enough = min(n, m) >= thresholds.min_rows
        if n and m:
            decisive = [
                check for part in self._parts for check in self._part(part, statistics, thresholds)
            ]
            if enough:
                checks += decisive
            distribution = self._distribution(statistics)
        return Compared(
            n_reference=n + before.n_missing,
            n_current=m + now.n_missing,
            statistics=statistics,
            checks=tuple(checks),
            enough=enough or not (n or m),
            distribution=distribution,
        )

    def _part(
        self, part: _Part, statistics: dict[str, float], thresholds: DriftThresholds
    ) -> list[Check]:
        before, now = self._reference.of(part), self._current.of(part)
        prefix = f"{part.name}_"
        checks = [
            unseen_check(
                before,
                now,
                statistics,
                thresholds,
                prefix=prefix,
                what=f"times in a {part.name}",
            )
        ]
        if self._lasts(part):
            checks.append(
                moved_check(before, now, statistics, thresholds, prefix=prefix, what=f"{part.name}")
            )
        return checks

    def _lasts(self, part: _Part) -> bool:
        """Whether both samples hold a whole cycle; the days at the ends may be incomplete."""
        needed = part.cycle_days + (1 if part.cycle_days == 1 else 0)
        return min(self._reference.n_days, self._current.n_days) >= needed

    def _distribution(self, statistics: dict[str, float]) -> Distribution:
        """Return the part that has moved most."""

        def moved(part: _Part) -> tuple[float, float]:
            unseen = statistics[f"{part.name}_unseen_rate"]
            return unseen, statistics.get(f"{part.name}_psi", -1.0)

        part = max(self._parts, key=moved)
        return Distribution(
            labels=part.labels,
            reference=tuple(shares(self._reference.of(part)).tolist()),
            current=tuple(shares(self._current.of(part)).tolist()),
        )
