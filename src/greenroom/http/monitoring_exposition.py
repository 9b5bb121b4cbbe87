"""What ``/metrics`` shows of monitoring: the last run's findings, and the alerts that fire.

Both are read from their files in the home folder, so any worker shows the same. What the server
counts of itself is in shared memory. The other metrics are :mod:`greenroom.http.exposition`'s
business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from greenroom.alerts import AlertRecord, alerts_file, read_alerts
from greenroom.errors import GreenroomError
from greenroom.file_cache import CachedFile
from greenroom.findings import (
    ColumnDrift,
    Drift,
    Findings,
    LivePerformance,
    findings_file,
    read_findings,
)
from greenroom.instruments import EVALUATED, MONITORING_RUNS, Totals

__all__ = ["MonitoringExposition"]

_PREFIX: Final = "greenroom"
_VERSION: Final = ("model", "version")


class MonitoringExposition:
    """Writes the metrics of monitoring.

    Parameters
    ----------
    findings : callable
        Returns those of the last run.
    alerts : callable
        Returns what the server knows of its alerts.
    """

    def __init__(
        self,
        findings: Callable[[], tuple[Findings, ...]] = tuple,
        alerts: Callable[[], AlertRecord] = AlertRecord,
    ) -> None:
        self._findings: Final = findings
        self._alerts: Final = alerts

    @classmethod
    def of(cls, home: Path, port: int) -> MonitoringExposition:
        """Return the one that reads the files of the server that listens on a port."""
        return cls(
            CachedFile(findings_file(home), read_findings),
            CachedFile(alerts_file(home, port), read_alerts),
        )

    def collect(self, totals: Totals) -> Iterator[Metric]:
        """Return the metrics; what cannot be read is not shown, and the rest is."""
        runs = CounterMetricFamily(
            f"{_PREFIX}_monitoring_runs",
            "Monitoring runs that the server has started, by how they ended.",
            labels=("outcome",),
        )
        for labels, cells in totals.named(MONITORING_RUNS):
            runs.add_metric(labels, cells[0])
        yield runs
        yield GaugeMetricFamily(
            f"{_PREFIX}_alerts_last_evaluation_timestamp_seconds",
            "When the server last looked whether there is something to alert; 0 before it has.",
            value=totals.number(EVALUATED),
        )
        try:
            # Two routes may serve one version; a series twice would spoil the whole page.
            by_version = {(one.model, one.version): one for one in self._findings()}
            findings = tuple(by_version.values())
        except GreenroomError:
            findings = ()
        yield from _found(findings)
        try:
            record = self._alerts()
        except GreenroomError:
            return
        yield from _alerted(record)


def _found(findings: tuple[Findings, ...]) -> Iterator[Metric]:
    last = _gauge(
        "monitoring_last_run_timestamp_seconds",
        "When the last monitoring run looked at a version.",
        _VERSION,
    )
    rows = _gauge("monitoring_rows", "Predictions in the window of that run.", _VERSION)
    for found in findings:
        of = [found.model, found.version]
        last.add_metric(of, datetime.fromisoformat(found.at).timestamp())
        rows.add_metric(of, found.n_rows)
    yield from (last, rows)
    yield from _drift(findings)
    yield from _performance(findings)


def _drift(findings: tuple[Findings, ...]) -> Iterator[Metric]:
    column_labels = (*_VERSION, "role", "column")
    statistics = _gauge(
        "drift_statistic",
        "How far a column has moved from the reference, by each statistic of the last monitoring "
        "run.",
        (*column_labels, "statistic"),
    )
    columns = _gauge(
        "drift_column_detected",
        "1 where the last monitoring run found that a column has drifted, 0 where not.",
        column_labels,
    )
    detected = _gauge(
        "drift_detected",
        "Whether any drift of a kind (data, prediction, concept) was found: 1, or 0.",
        (*_VERSION, "kind"),
    )
    rows = _gauge(
        "drift_rows",
        "Rows that were compared: of the reference, and current ones.",
        (*_VERSION, "sample"),
    )
    for found in findings:
        of = [found.model, found.version]
        for kind, verdict in _verdicts(found):
            detected.add_metric([*of, kind], float(verdict))
        if found.drift is None:
            continue
        rows.add_metric([*of, "reference"], found.drift.n_reference)
        rows.add_metric([*of, "current"], found.drift.n_current)
        for column in (*found.drift.features, *found.drift.predictions):
            about = [*of, column.role, column.column]
            for name, value in column.statistics.items():
                statistics.add_metric([*about, name], value)
            if column.verdict in {"drift", "stable"}:
                columns.add_metric(about, float(column.verdict == "drift"))
    yield from (statistics, columns, detected, rows)


def _verdicts(found: Findings) -> Iterator[tuple[str, bool]]:
    drift: Drift | None = found.drift
    if drift is not None and _compared(drift.features):
        yield "data", drift.data_drifted
    if drift is not None and _compared(drift.predictions):
        yield "prediction", drift.predictions_drifted
    concept = [one.concept_drifted for one in (found.performance, found.estimate) if one]
    said = [one for one in concept if one is not None]
    if said:
        yield "concept", any(said)


def _compared(columns: tuple[ColumnDrift, ...]) -> bool:
    return any(one.verdict in {"drift", "stable"} for one in columns)


def _performance(findings: tuple[Findings, ...]) -> Iterator[Metric]:
    of_metric = (*_VERSION, "basis", "metric")
    families = {
        "value": _gauge(
            "live_metric",
            "A metric of the answers in the window: observed with feedback, or estimated without.",
            of_metric,
        ),
        "low": _gauge("live_metric_low", "The lower end of its 95 % interval.", of_metric),
        "high": _gauge("live_metric_high", "The upper end of its 95 % interval.", of_metric),
        "training": _gauge(
            "live_metric_training",
            "What the metric was when the version was trained.",
            of_metric,
        ),
    }
    scored = _gauge(
        "live_scored_predictions",
        "Predictions that these metrics are of.",
        (*_VERSION, "basis"),
    )
    degraded = _gauge(
        "performance_degraded",
        "Whether any metric that can be judged is worse than in training, beyond chance: 1, or 0.",
        (*_VERSION, "basis"),
    )
    for found, basis, one in _live(findings):
        about = [found.model, found.version, basis]
        scored.add_metric(about, one.n_scored)
        if one.judged:
            degraded.add_metric(about, float(one.degraded))
        for metric in one.metrics:
            for field, family in families.items():
                value = getattr(metric, field)
                if value is not None:
                    family.add_metric([*about, metric.name], value)
    yield from (*families.values(), scored, degraded)


def _live(findings: tuple[Findings, ...]) -> Iterator[tuple[Findings, str, LivePerformance]]:
    for found in findings:
        if found.performance is not None:
            yield found, "observed", found.performance
        if found.estimate is not None:
            yield found, "estimated", found.estimate


def _alerted(record: AlertRecord) -> Iterator[Metric]:
    states = _gauge("alerts", "Alerts of this server that fire, and that are pending.", ("state",))
    for state in ("firing", "pending"):
        states.add_metric([state], sum(one.state == state for one in record.alerts))
    firing = _gauge(
        "alerts_firing",
        "1 for an alert that fires; 0 for a quarter of an hour after it is over.",
        ("alert", "severity", "model", "version"),
    )
    by_labels: dict[tuple[str, ...], float] = {}
    for one in record.alerts:
        if one.state != "pending":
            about = (one.name, one.severity, one.labels.get("model", ""))
            key = (*about, one.labels.get("version", ""))
            # Two that differ in another label are one series.
            by_labels[key] = max(by_labels.get(key, 0.0), float(one.state == "firing"))
    for labels, value in by_labels.items():
        firing.add_metric(labels, value)
    notices = CounterMetricFamily(
        f"{_PREFIX}_alert_notices",
        "Notices for the webhook that were delivered, tries that failed, and notices that were "
        "dropped for want of room.",
        labels=("outcome",),
    )
    notices.add_metric(["delivered"], record.n_delivered)
    notices.add_metric(["failed"], record.n_failed)
    notices.add_metric(["dropped"], record.n_dropped)
    waiting = GaugeMetricFamily(
        f"{_PREFIX}_alert_notices_waiting",
        "Notices that wait on disk for the webhook.",
        value=len(record.waiting),
    )
    yield from (states, firing, notices, waiting)


def _gauge(name: str, text: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
