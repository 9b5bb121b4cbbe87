"""What is to be alerted: signals and thresholds in, conditions out. Pure.

A service's errors and response times are alerted on what its callers see, over a window of minutes
and with a minimum of answers; what monitoring found, on its verdicts, which have their own minimum
sample and effect size. When a condition becomes an alert is
:mod:`greenroom.monitoring.alert_states`' business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from greenroom.findings import ColumnDrift, Findings, LivePerformance
from greenroom.monitoring.alert_states import Condition
from greenroom.monitoring.service_signals import ModelTraffic, Traffic, share_above, unasked
from greenroom.monitoring_settings import MonitoringSettings
from greenroom.wording import counted

__all__ = [
    "CONCEPT_DRIFT",
    "DATA_DRIFT",
    "ERROR_RATE",
    "LOG_BACKLOG",
    "PERFORMANCE",
    "PREDICTION_DRIFT",
    "REGISTRY_STALE",
    "SILENCE",
    "SLOW_RESPONSES",
    "UNLOGGED",
    "Signals",
    "conditions",
]

SLOW_RESPONSES: Final = "GreenroomSlowResponses"
ERROR_RATE: Final = "GreenroomErrorRate"
SILENCE: Final = "GreenroomSilence"
LOG_BACKLOG: Final = "GreenroomLogBacklog"
UNLOGGED: Final = "GreenroomUnloggedPredictions"
REGISTRY_STALE: Final = "GreenroomRegistryStale"
DATA_DRIFT: Final = "GreenroomDataDrift"
PREDICTION_DRIFT: Final = "GreenroomPredictionDrift"
PERFORMANCE: Final = "GreenroomPerformanceDegraded"
CONCEPT_DRIFT: Final = "GreenroomConceptDrift"

SLOW_SHARE: Final = 0.05
"""So many answers may take longer: a 95th percentile is above a threshold where more do."""

_SHOWN_COLUMNS: Final = 5


class Signals(NamedTuple):
    """What is looked at.

    Parameters
    ----------
    traffic : Traffic
        What was asked within the window.
    served : mapping of str to str
        By registered model, the version that answers.
    log_waiting_s : float or None
        For how long the oldest prediction has waited to be shipped, beyond the pause between two
        rounds of shipping; None where none waits.
    registry_away_s : float or None
        For how long the registry has not answered; None where it does, or is not to be asked.
    findings : tuple of Findings
        Those of the last monitoring run.
    """

    traffic: Traffic = Traffic()
    served: Mapping[str, str] = {}
    log_waiting_s: float | None = None
    registry_away_s: float | None = None
    findings: tuple[Findings, ...] = ()


def conditions(signals: Signals, thresholds: MonitoringSettings) -> Iterator[Condition]:
    """Return what is not as it should be, and what cannot be told.

    Parameters
    ----------
    signals : Signals
    thresholds : MonitoringSettings
        A rule whose setting is None, or false, says nothing.
    """
    asked = {one.model: one for one in signals.traffic.models}
    for model in signals.served:
        # A server that was started again has counted nothing yet.
        yield from _service(asked.get(model) or unasked(model), thresholds)
    yield from _server(signals, thresholds)
    found = {(one.model, one.version): one for one in signals.findings}
    for model, version in signals.served.items():
        # What was found of a version that is served no more says nothing of the one that is.
        nothing = Findings(app="", model=model, version=version, at="", n_rows=0)
        yield from _findings(found.get((model, version), nothing), thresholds)


def _service(model: ModelTraffic, thresholds: MonitoringSettings) -> Iterator[Condition]:
    labels = {"model": model.model}
    within = f"of the last {_duration(thresholds.alert_window_s)}"
    enough = model.n_answers >= thresholds.alert_min_requests
    # After a pause nobody knows whether they would be better; few answers are better evidence.
    known = model.n_answers > 0
    limit_ms, percent = thresholds.alert_response_time_ms, thresholds.alert_error_rate_percent
    if limit_ms is not None:
        slow = enough and share_above(model.cells, limit_ms / 1_000) > SLOW_SHARE
        if slow or not known:
            yield Condition(
                SLOW_RESPONSES,
                "warning",
                labels,
                f"{model.model} answers slowly: the 95th percentile is {_ms(model.p95_s)}, above "
                f"{limit_ms:g} ms",
                f"{model.n_answers} answers {within}",
                thresholds.alert_for_s,
                known=known,
            )
    if percent is not None:
        failing = enough and model.error_percent > percent
        if failing or not known:
            yield Condition(
                ERROR_RATE,
                "critical",
                labels,
                f"{model.error_percent:.3g} % of the answers of {model.model} are errors of the "
                f"server's, above {percent:g} %",
                f"{model.n_errors} of {model.n_answers} answers {within} have a status of 500 or "
                "above; greenroom_request_errors_total in /metrics says which",
                thresholds.alert_for_s,
                known=known,
            )
    if thresholds.alert_silence_s is not None:
        silent_s = model.silent_s
        if silent_s is None or silent_s > thresholds.alert_silence_s:
            yield Condition(
                SILENCE,
                "warning",
                labels,
                f"{model.model} has been asked nothing for {_duration(silent_s or 0.0)}",
                "its callers may be away, or not find the server",
                known=silent_s is not None,
            )


def _server(signals: Signals, thresholds: MonitoringSettings) -> Iterator[Condition]:
    waiting_s, away_s = signals.log_waiting_s, signals.registry_away_s
    if _above(waiting_s, thresholds.alert_log_waiting_s):
        yield Condition(
            LOG_BACKLOG,
            "warning",
            {},
            f"predictions have waited for {_duration(waiting_s or 0.0)} to be written into the log",
            "they are on disk; the server's log says why they are not shipped",
            thresholds.alert_for_s,
        )
    if _above(away_s, thresholds.alert_registry_s):
        yield Condition(
            REGISTRY_STALE,
            "warning",
            {},
            f"the registry has not answered for {_duration(away_s or 0.0)}",
            "what was selected last is served; /health says what is wrong",
        )
    if thresholds.alert_unlogged and signals.traffic.n_unlogged:
        yield Condition(
            UNLOGGED,
            "critical",
            {},
            f"the log had no room for {counted(signals.traffic.n_unlogged, 'prediction')} within "
            f"{_duration(thresholds.alert_window_s)}",
            "they were refused, or answered without a record, as log_when_full says",
        )


def _findings(found: Findings, thresholds: MonitoringSettings) -> Iterator[Condition]:
    of = f"{found.model} version {found.version}"
    drift = found.drift
    if thresholds.alert_drift:
        for name, columns, subject in (
            (DATA_DRIFT, drift.features if drift else (), f"the data that {of} is asked"),
            (PREDICTION_DRIFT, drift.predictions if drift else (), f"the answers of {of}"),
        ):
            if drifted := _drifted(columns):
                text = f"{subject} have drifted: {drifted}"
                yield _found(name, found, thresholds, text, _reasons(columns))
            elif not any(one.verdict == "stable" for one in columns):
                yield _untold(name, found)
    if thresholds.alert_performance:
        for basis, one in (("observed", found.performance), ("estimated", found.estimate)):
            if one is not None:
                yield from _performance(one, basis, found, thresholds, of)
            else:
                yield _untold(PERFORMANCE, found, basis=basis)
                yield _untold(CONCEPT_DRIFT, found, basis=basis)


def _performance(
    one: LivePerformance, basis: str, found: Findings, thresholds: MonitoringSettings, of: str
) -> Iterator[Condition]:
    reasons = "; ".join(one.reasons)
    if one.degraded:
        worse = ", ".join(
            f"{metric.name} {metric.value:.4g}"
            + (f" (training: {metric.training:.4g})" if metric.training is not None else "")
            for metric in one.metrics
            if metric.worse
        )
        text = f"{of} answers worse than in training ({basis}): {worse}"
        yield _found(PERFORMANCE, found, thresholds, text, reasons, basis=basis)
    elif not one.judged:
        yield _untold(PERFORMANCE, found, basis=basis)
    if one.concept_drifted is None:
        yield _untold(CONCEPT_DRIFT, found, basis=basis)
    elif one.concept_drifted:
        text = f"rows that {of} answers alike turn out otherwise than in training"
        yield _found(CONCEPT_DRIFT, found, thresholds, text, reasons, basis=basis)


def _found(
    name: str,
    found: Findings,
    thresholds: MonitoringSettings,
    summary: str,
    reasons: str,
    **labels: str,
) -> Condition:
    seen = f"the monitoring run of {found.at}, of {counted(found.n_rows, 'prediction')}"
    return Condition(
        name,
        "warning",
        {"model": found.model, "version": found.version, **labels},
        summary,
        f"{seen}: {reasons}" if reasons else seen,
        n_times=thresholds.alert_runs,
        evidence=found.at,
    )


def _untold(name: str, found: Findings, **labels: str) -> Condition:
    """Say that it cannot be told: of too few rows, or of none, an alert is not over."""
    of = {"model": found.model, "version": found.version, **labels}
    return Condition(name, "warning", of, "", evidence=found.at, known=False)


def _drifted(columns: tuple[ColumnDrift, ...]) -> str:
    names = [one.column for one in columns if one.verdict == "drift"]
    more = len(names) - _SHOWN_COLUMNS
    return ", ".join(names[:_SHOWN_COLUMNS]) + (f" and {more} more" if more > 0 else "")


def _reasons(columns: tuple[ColumnDrift, ...]) -> str:
    found = [one for one in columns if one.verdict == "drift" and one.reasons]
    return "; ".join(f"{one.column}: {one.reasons[0]}" for one in found[:_SHOWN_COLUMNS])


def _above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit


def _ms(seconds: float) -> str:
    return f"{1_000 * seconds:.3g} ms"


def _duration(seconds: float) -> str:
    """Write a duration in the largest unit that it fills.

    Examples
    --------
    >>> _duration(45.0), _duration(300.0), _duration(5_400.0)
    ('45 s', '5 min', '1.5 h')
    """
    for size, unit in ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
