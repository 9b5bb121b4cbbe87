"""The gate: whether a candidate may take the place of the version now selected.

Pure: figures in, a decision out. Where the figures come from (hold-out rows that neither version
was trained on) is :mod:`greenroom.promotion.promotion`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from greenroom.errors import AppError, refuse


@dataclass(frozen=True, slots=True)
class Gate:
    """What a candidate has to show before it is promoted.

    Parameters
    ----------
    metric : str
        The name of one of the task's metrics.
    minimum : float, optional
        The worst value that is acceptable at all: the least, or for a metric where lower is
        better the greatest.
    against : str
        The selector whose version the candidate is compared with; default: the one that the
        model serves. ``"nothing"`` compares with the minimum alone.
    tolerance : float
        How much worse than the present version a candidate may be. 0 lets an equal one pass.

    Examples
    --------
    >>> Gate("roc_auc", minimum=0.8).judge(0.85, champion=0.86).passed
    False
    """

    metric: str
    minimum: float | None = None
    against: str = ""
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if not self.metric:
            problems.append("gate.metric: is empty")
        if self.minimum is not None and not _is_finite(self.minimum):
            problems.append("gate.minimum: must be a finite number")
        if not (_is_finite(self.tolerance) and self.tolerance >= 0):
            problems.append("gate.tolerance: must be a finite number and not negative")
        if problems:
            refuse(AppError("; ".join(problems), problems=problems))

    def judge(
        self, challenger: float, *, champion: float | None = None, greater_is_better: bool = True
    ) -> Decision:
        """Compare a challenger with the minimum and with the champion.

        Parameters
        ----------
        challenger, champion : float
            The metric of each, on the same rows; ``champion`` is None when there is none.
        greater_is_better : bool
            Which way the metric points.

        Returns
        -------
        Decision
            ``passed``, and a sentence for each comparison that was made.
        """
        failures: list[str] = []
        successes: list[str] = []
        if not math.isfinite(challenger):
            failures.append(f"{self.metric} is not a finite number")
        elif champion is not None and not math.isfinite(champion):
            failures.append(f"the present version's {self.metric} is not a finite number")
        else:
            for passed, text in self._comparisons(challenger, champion, greater_is_better):
                (successes if passed else failures).append(text)
        return Decision(
            metric=self.metric,
            passed=not failures,
            reasons=tuple(failures or successes or ["no minimum and nothing to compare with"]),
            challenger=challenger,
            champion=champion,
        )

    def _comparisons(
        self, challenger: float, champion: float | None, greater_is_better: bool
    ) -> Iterator[tuple[bool, str]]:
        if self.minimum is not None:
            lead = _lead(challenger, self.minimum, greater_is_better)
            bound = "minimum" if greater_is_better else "maximum"
            text = f"{self.metric} {challenger:.6g}, {bound} {self.minimum:.6g}"
            yield lead >= 0, text if lead >= 0 else f"{text}: misses it by {float(-lead):.6g}"
        if champion is not None:
            lead = _lead(challenger, champion, greater_is_better)
            passed = lead + Decimal(str(float(self.tolerance))) >= 0
            text = f"{self.metric} {challenger:.6g}, the present version's {champion:.6g}"
            allowed = f" (tolerance {self.tolerance:.6g})" if self.tolerance else ""
            yield (
                passed,
                f"{text}{allowed}" if passed else f"{text}: worse by {float(-lead):.6g}{allowed}",
            )


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _lead(value: float, other: float, greater_is_better: bool) -> Decimal:
    """By how much ``value`` is better, in decimals as they are written.

    In binary, 0.85 - 0.86 + 0.01 is a little below 0, and a tolerance would not let pass what it
    says.
    """
    lead = Decimal(str(float(value))) - Decimal(str(float(other)))
    return lead if greater_is_better else -lead


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate said: ``passed``, the figures, and a sentence for each comparison."""

    metric: str
    passed: bool
    reasons: tuple[str, ...]
    challenger: float
    champion: float | None = None

    def __str__(self) -> str:
        return "; ".join(self.reasons)
