"""Findings: what monitoring found out about a served version, as values that are kept and shown.

The command prints them, ``/metrics`` shows them, a report draws them, alerts are raised on them;
between processes they travel as a file of JSON. How they are found is :mod:`greenroom.monitoring`'s
business; nothing is computed here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from greenroom.errors import MonitoringError

__all__ = [
    "NOTHING_TO_COMPARE",
    "Calibration",
    "CalibrationCurve",
    "ColumnDrift",
    "Distribution",
    "Drift",
    "Findings",
    "LivePerformance",
    "MetricFinding",
    "Verdict",
    "findings_file",
    "read_findings",
    "write_findings",
]

FORMAT: Final = 1
NOTHING_TO_COMPARE: Final = 5
"""The exit status of ``greenroom monitor`` when nothing is served, or nothing was answered."""

Verdict = Literal["drift", "stable", "too few rows", "not compared"]
"""``too few rows``: below the minimum sample, so nothing is said."""


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """How the values of a column are spread, in the reference and in the window.

    Of numbers ``edges`` are the n + 1 bounds of n bins, of anything else ``labels`` are the n
    categories; of times they are the hours, weekdays or months (UTC), whichever moved most.
    ``reference`` and ``current`` are each bin's share of the values that are there, and sum to 1.
    """

    edges: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    reference: tuple[float, ...]
    current: tuple[float, ...]


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How far one column has moved.

    ``statistics`` are by name those that suit its kind (``psi``, ``jensen_shannon``,
    ``wasserstein``, ``kolmogorov_smirnov``, ``chi_squared``, ``missing_rate`` ...). ``p_value`` is
    of the test behind the verdict, ``q_value`` the same after false-discovery control over the
    columns compared together. ``reasons`` say in words what speaks for drift, the strongest first.
    """

    column: str
    role: Literal["feature", "prediction"]
    kind: str
    verdict: Verdict
    n_reference: int
    n_current: int
    statistics: dict[str, float] = {}
    p_value: float | None = None
    q_value: float | None = None
    reasons: tuple[str, ...] = ()
    distribution: Distribution | None = None


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """Data drift (``features``) and prediction drift (``predictions``) of one version."""

    n_reference: int
    n_current: int
    features: tuple[ColumnDrift, ...]
    predictions: tuple[ColumnDrift, ...]
    notes: tuple[str, ...] = ()

    @property
    def data_drifted(self) -> bool:
        """Whether any feature has."""
        return any(one.verdict == "drift" for one in self.features)

    @property
    def predictions_drifted(self) -> bool:
        """Whether any output has."""
        return any(one.verdict == "drift" for one in self.predictions)


class MetricFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One metric in the window, with its 95 % interval, beside the training's figure.

    ``worse`` says whether it is, beyond what chance and the tolerance explain; None where that
    cannot be judged: of too few rows, or with nothing to compare it with.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    training: float | None = None
    worse: bool | None = None


class CalibrationCurve(msgspec.Struct, frozen=True, kw_only=True):
    """What was predicted and what happened, in bins of about equal numbers of rows.

    Of each bin ``predicted`` is the mean probability of the class, ``observed`` the share of rows
    that were of it, ``n_rows`` its size.
    """

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    n_rows: tuple[int, ...]


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How far the probabilities of a class were right, in the hold-out and in the window.

    ``label`` is the class as text; of two classes there is the second alone. ``current`` is None
    where the truth is not known, ``reference`` where there is no hold-out.
    """

    label: str
    reference: CalibrationCurve | None = None
    current: CalibrationCurve | None = None


class LivePerformance(msgspec.Struct, frozen=True, kw_only=True):
    """How good a version's answers are.

    ``estimated`` says that nothing was observed and the figures are an estimate from calibrated
    probabilities. ``concept_drifted``: rows that are answered alike turn out otherwise than in
    training, so that moved data do not explain it; None where that cannot be told. ``reasons`` say
    in words what speaks for either.
    """

    estimated: bool
    n_scored: int
    metrics: tuple[MetricFinding, ...] = ()
    concept_drifted: bool | None = None
    calibration: tuple[Calibration, ...] = ()
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def judged(self) -> bool:
        """Whether it can be said of any metric if it is worse than it was in training."""
        return any(one.worse is not None for one in self.metrics)

    @property
    def degraded(self) -> bool:
        """Whether any metric is worse than it was in training."""
        return any(one.worse for one in self.metrics)


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What one monitoring run found about one served version.

    Instants are ISO 8601, in UTC. ``source`` says what was compared: ``log``, or a file's name.
    """

    format: int = FORMAT
    app: str
    model: str
    version: str
    digest: str = ""
    at: str
    source: str = "log"
    since: str | None = None
    until: str | None = None
    n_rows: int
    drift: Drift | None = None
    performance: LivePerformance | None = None
    estimate: LivePerformance | None = None
    notes: tuple[str, ...] = ()


def findings_file(home: Path) -> Path:
    """Return where the findings of the last monitoring run are, below a home folder."""
    return home / "monitoring" / "findings.json"


def write_findings(path: Path, findings: tuple[Findings, ...]) -> None:
    """Write the findings of a run, one a model; a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(findings))
    fresh.replace(path)


def read_findings(path: Path) -> tuple[Findings, ...]:
    """Read what :func:`write_findings` wrote; nothing where there is no file.

    Raises
    ------
    MonitoringError
        When the file cannot be understood.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    try:
        return msgspec.json.decode(content, type=tuple[Findings, ...])
    except msgspec.DecodeError as error:
        raise MonitoringError(
            f"{path.name} cannot be read: {error}", advice="run `greenroom monitor` again"
        ) from error
