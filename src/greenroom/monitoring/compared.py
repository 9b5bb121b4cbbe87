"""A column as it is compared: what is counted of it, and what both samples' counts say.

Each kind of column has a class of its own, beside this module: numbers, categories, times. All are
made from the reference's values, fed with those of the window batch by batch, and asked in the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from greenroom.findings import Distribution
from greenroom.monitoring.verdict import Check, DriftThresholds, share_check

__all__ = ["Compared", "ComparedColumn", "distribution_reason", "missing_checks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was measured of a column, before anything is judged.

    ``n_reference`` and ``n_current`` are rows, those included in which the value is missing.
    ``enough`` says that there are values enough for their distribution to be judged, or none on
    either side.
    """

    n_reference: int
    n_current: int
    statistics: dict[str, float] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    distribution: Distribution | None = None
    enough: bool = True


class ComparedColumn(Protocol):
    """A column whose window is being counted; not for several threads at a time."""

    def accepts(self, kind: pa.DataType) -> bool:
        """Whether a window's values of this type can be counted."""
        ...

    def add(self, values: pa.Array) -> None:
        """Count values of a type that is accepted; null is missing."""
        ...

    def compared(self, thresholds: DriftThresholds) -> Compared:
        """Return what both samples' counts say."""
        ...


def missing_checks(
    reference: tuple[int, int],
    current: tuple[int, int],
    statistics: dict[str, float],
    thresholds: DriftThresholds,
) -> list[Check]:
    """Return the check of how many values are missing, and note both rates.

    Parameters
    ----------
    reference, current : pair of int
        How many are missing, of how many rows.
    """
    for name, (missing, n_rows) in (
        ("missing_rate_reference", reference),
        ("missing_rate", current),
    ):
        statistics[name] = missing / n_rows if n_rows else 0.0
    if min(reference[1], current[1]) < thresholds.min_rows:
        return []
    reason = "{current:.1%} of the values are missing, {reference:.1%} in the reference"
    return [share_check(reference, current, thresholds, reason)]


def distribution_reason(psi: float, threshold: float, what: str = "distribution") -> str:
    """Say that a distribution has moved."""
    limit = f"the limit {threshold:g}"
    return f"the {what} has moved: its population stability index is {psi:.2f}, {limit}"
