"""Verdicts: whether what was measured of a column counts as drift.

Three things have to come together: enough rows, an effect that matters, and a test that chance
does not explain, at a false-discovery rate over all columns that are compared together. Small
p-values alone say nothing: with a million rows every column has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from greenroom.monitoring.distances import cohens_h
from greenroom.monitoring.significance import benjamini_hochberg, rates_p
from greenroom.settings import Settings

__all__ = ["DEFAULT_THRESHOLDS", "Check", "DriftThresholds", "Judgement", "judge", "share_check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftThresholds:
    """What counts as drift.

    Parameters
    ----------
    min_rows : int
        Of fewer rows, in the reference or in the window, nothing is said.
    min_count : int
        How many values at least have to be missing, out of range or unseen beyond what the
        reference lets expect.
    psi : float
        The population stability index, less what chance alone makes of it, from which on a
        distribution has moved. 0.1 to 0.25 is usually called a shift, above 0.25 a large one
        (N. Siddiqi, Credit Risk Scorecards, 2006, chapter 9); a normal distribution has 0.2 when
        it is moved by 0.45 or widened by 1.35 standard deviations.
    wasserstein : float
        How far numbers have moved on average, in standard deviations of the reference: a few that
        lie far off, as codes among amounts do, hardly change an index of tenths. Of a mere shift
        it is Cohen's d, of which 0.5 is medium (J. Cohen, Statistical Power Analysis for the
        Behavioral Sciences, 2nd ed., 1988, section 2.2).
    cohens_h : float
        From which on a share has moved; 0.2 is small (Cohen 1988, section 6.2): from nothing to
        1 %, or from 20 to 28 %.
    false_discovery_rate : float
        How many of the columns that are said to have drifted may have done so by chance.

    Examples
    --------
    >>> DriftThresholds(psi=0.1).min_rows
    100
    """

    min_rows: int = 100
    min_count: int = 10
    psi: float = 0.2
    wasserstein: float = 0.5
    cohens_h: float = 0.2
    false_discovery_rate: float = 0.01

    @classmethod
    def of(cls, settings: Settings) -> DriftThresholds:
        """Return what a server's settings say."""
        return cls(min_rows=settings.drift_min_rows, psi=settings.drift_psi)


DEFAULT_THRESHOLDS: Final = DriftThresholds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that may have moved.

    ``effect`` is how far, and counts from ``threshold`` on; ``n_values`` are how many values speak
    for it, and count from ``n_needed`` on. ``reason`` says it in words.
    """

    p_value: float
    effect: float
    threshold: float
    reason: str
    n_values: float = 0.0
    n_needed: float = 0.0

    @property
    def matters(self) -> bool:
        """Whether the effect is large enough, whatever its cause."""
        return self.effect >= self.threshold and self.n_values >= self.n_needed

    @property
    def strength(self) -> float:
        """How far the effect is beyond its threshold: what different ones are put in order by."""
        return self.effect / self.threshold


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said of one column: see :class:`greenroom.findings.ColumnDrift`."""

    drifted: bool
    p_value: float | None
    q_value: float | None
    reasons: tuple[str, ...]


_NO_CHECK: Final = Judgement(False, None, None, ())


def judge(columns: Sequence[Sequence[Check]], thresholds: DriftThresholds) -> list[Judgement]:
    """Judge columns that are compared together.

    Parameters
    ----------
    columns : sequence of sequence of Check
        Of each column its checks; a column without any is not judged.
    thresholds : DriftThresholds

    Examples
    --------
    >>> moved = Check(p_value=1e-9, effect=0.5, threshold=0.2, reason="it has moved")
    >>> slightly = Check(p_value=1e-9, effect=0.01, threshold=0.2, reason="it has moved")
    >>> [one.drifted for one in judge([[moved], [slightly], []], DriftThresholds())]
    [True, False, False]
    """
    q_values = iter(benjamini_hochberg([check.p_value for own in columns for check in own]))
    return [_judged([(check, next(q_values)) for check in own], thresholds) for own in columns]


def _judged(checks: Sequence[tuple[Check, float]], thresholds: DriftThresholds) -> Judgement:
    if not checks:
        return _NO_CHECK
    found = [
        (check, q) for check, q in checks if check.matters and q <= thresholds.false_discovery_rate
    ]
    found.sort(key=lambda pair: -pair[0].strength)
    decisive, q = found[0] if found else min(checks, key=lambda pair: pair[0].p_value)
    return Judgement(bool(found), decisive.p_value, q, tuple(check.reason for check, _ in found))


def share_check(
    reference: tuple[int, int],
    current: tuple[int, int],
    thresholds: DriftThresholds,
    reason: str,
    *,
    p_value: float | None = None,
) -> Check:
    """Return the check of a share of values: of those that are missing, for instance.

    Parameters
    ----------
    reference, current : pair of int
        How many values it is the case of, and of how many.
    reason : str
        With places for the two shares, ``{current:.1%}`` and ``{reference:.1%}``.
    p_value : float, optional
        Default: that of two equal shares.
    """
    before, now = (hits / n if n else 0.0 for hits, n in (reference, current))
    return Check(
        p_value=rates_p(*reference, *current) if p_value is None else p_value,
        effect=cohens_h(before, now),
        threshold=thresholds.cohens_h,
        n_values=abs(current[0] - before * current[1]),
        n_needed=thresholds.min_count,
        reason=reason.format(reference=before, current=now),
    )
