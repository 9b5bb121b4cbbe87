"""The gate: whether a candidate may take the place of the version now selected.

Pure: figures in, a decision out. Where the figures come from (hold-out rows that neither version
was trained on) is :mod:`greenroom.promotion`'s business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from greenroom.errors import AppError


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
        if self.minimum is not None and not math.isfinite(self.minimum):
            problems.append("gate.minimum: must be finite")
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            problems.append("gate.tolerance: must be finite and not negative")
        if problems:
            raise AppError("; ".join(problems), problems=problems)

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
        sign = 1.0 if greater_is_better else -1.0
        failures, successes = [], []
        if not math.isfinite(challenger):
            failures.append(f"{self.metric} is not a finite number")
        if self.minimum is not None:
            margin = sign * (challenger - self.minimum)
            bound = "minimum" if greater_is_better else "maximum"
            text = f"{self.metric} {challenger:.6g}, {bound} {self.minimum:.6g}"
            if margin >= 0:
                successes.append(text)
            else:
                failures.append(f"{text}: misses it by {-margin:.6g}")
        if champion is not None:
            margin = sign * (challenger - champion) + self.tolerance
            text = f"{self.metric} {challenger:.6g}, the present version's {champion:.6g}"
            allowed = f" (tolerance {self.tolerance:.6g})" if self.tolerance else ""
            if margin >= 0:
                successes.append(text + allowed)
            else:
                worse = sign * (champion - challenger)
                failures.append(f"{text}: worse by {worse:.6g}{allowed}")
        return Decision(
            metric=self.metric,
            passed=not failures,
            reasons=tuple(failures or successes or ["no minimum and nothing to compare with"]),
            challenger=challenger,
            champion=champion,
        )


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
