"""Which conditions are found in which signals."""

from __future__ import annotations

import msgspec
import pytest

from greenroom.findings import ColumnDrift, Drift, Findings, LivePerformance, MetricFinding
from greenroom.instruments import LATENCY_BOUNDS
from greenroom.monitoring import alert_rules as rules
from greenroom.monitoring.alert_rules import Signals, conditions
from greenroom.monitoring.alert_states import step
from greenroom.monitoring.service_signals import ModelTraffic, Traffic
from greenroom.settings import Settings


def cells(fast=0, slow=0):
    """Count answers of up to a millisecond, and of one second to two and a half."""
    counts = [0.0] * (len(LATENCY_BOUNDS) + 1)
    counts[3], counts[13] = float(fast), float(slow)
    return tuple(counts)


def asked(fast=100, slow=0, n_errors=0, silent_s=0.0):
    n_answers = fast + slow
    return Traffic((ModelTraffic("m", n_answers, n_errors, cells(fast, slow), silent_s),))


def found(traffic=None, *, settings=None, served=None, **more):
    signals = Signals(traffic or Traffic(), served or {"m": "3"}, **more)
    given = list(conditions(signals, Settings(**(settings or {}))))
    return {one.name: one for one in given if one.known}


def untold(traffic=None, *, settings=None, **more):
    signals = Signals(traffic or Traffic(), {"m": "3"}, **more)
    return [one for one in conditions(signals, Settings(**(settings or {}))) if not one.known]


def drifted(*, at="2026-11-21T12:00:00Z", version="3", **more):
    column = ColumnDrift(
        column="age",
        role="feature",
        kind="number",
        verdict="drift",
        n_reference=100,
        n_current=100,
        reasons=("psi 0.4 is above 0.2",),
    )
    output = msgspec.structs.replace(column, column="probability", role="prediction")
    drift = Drift(n_reference=100, n_current=100, features=(column,), predictions=(output,))
    return Findings(
        app="a", model="m", version=version, at=at, n_rows=100, **{"drift": drift, **more}
    )


def test_with_no_thresholds_and_nothing_to_compare_nothing_is_said():
    assert found(asked(fast=0, slow=100, n_errors=100), log_waiting_s=1.0) == {}


@pytest.mark.parametrize(("slow", "holds"), [(5, False), (6, True)])
def test_slow_is_what_more_than_five_percent_of_the_answers_are(slow, holds):
    traffic = asked(fast=100 - slow, slow=slow)
    assert (
        rules.SLOW_RESPONSES in found(traffic, settings={"alert_response_time_ms": 1_000.0})
    ) is (holds)


def test_a_threshold_of_ten_seconds_is_seen_to_be_passed():
    counts = [0.0] * len(LATENCY_BOUNDS) + [20.0]
    traffic = Traffic((ModelTraffic("m", 20, 0, tuple(counts), 0.0),))
    assert rules.SLOW_RESPONSES in found(traffic, settings={"alert_response_time_ms": 10_000.0})


@pytest.mark.parametrize(("n_errors", "holds"), [(5, False), (6, True)])
def test_the_error_rate_has_to_be_above_its_threshold(n_errors, holds):
    settings = {"alert_error_rate_percent": 5.0}
    given = found(asked(n_errors=n_errors), settings=settings)
    assert (rules.ERROR_RATE in given) is holds
    if holds:
        one = given[rules.ERROR_RATE]
        assert (one.labels, one.severity, one.for_s) == ({"model": "m"}, "critical", 60.0)
        assert one.summary.startswith("6 % of the answers of m are errors")


def test_fewer_answers_than_mean_anything_are_no_error_rate_and_none_at_all_say_nothing():
    settings = {"alert_error_rate_percent": 5.0, "alert_response_time_ms": 1.0}
    assert found(asked(fast=9, n_errors=9), settings=settings) == {}
    assert found(asked(fast=0), settings=settings) == {}
    for traffic in (asked(fast=0), Traffic()):  # a server that was started again has counted none
        silent = {one.name for one in untold(traffic, settings=settings)}
        assert silent >= {rules.ERROR_RATE, rules.SLOW_RESPONSES}


def test_what_is_not_served_any_more_is_not_alerted():
    settings = {"alert_error_rate_percent": 5.0}
    assert found(asked(n_errors=50), settings=settings, served={"other": "1"}) == {}


def test_silence_is_alerted_where_there_was_traffic():
    settings = {"alert_silence_s": 600.0}
    assert rules.SILENCE not in found(asked(silent_s=600.0), settings=settings)
    assert found(asked(silent_s=601.0), settings=settings)[rules.SILENCE].known
    for traffic in (asked(silent_s=None), Traffic()):
        assert rules.SILENCE in {one.name for one in untold(traffic, settings=settings)}


def test_a_backlog_a_registry_that_is_away_and_lost_records_are_alerted_by_default():
    given = found(Traffic((), 3), log_waiting_s=601.0, registry_away_s=601.0)
    assert set(given) == {rules.LOG_BACKLOG, rules.REGISTRY_STALE, rules.UNLOGGED}
    assert given[rules.REGISTRY_STALE].summary == "the registry has not answered for 10 min"
    off = {"alert_log_waiting_s": None, "alert_registry_s": None, "alert_unlogged": False}
    assert found(Traffic((), 3), log_waiting_s=9e9, registry_away_s=9e9, settings=off) == {}


def test_drift_is_alerted_by_kind_naming_columns_and_version():
    given = found(findings=(drifted(),), settings={"alert_runs": 2})
    assert set(given) == {rules.DATA_DRIFT, rules.PREDICTION_DRIFT}
    one = given[rules.DATA_DRIFT]
    assert one.labels == {"model": "m", "version": "3"}
    assert one.summary == "the data that m version 3 is asked have drifted: age"
    assert "age: psi 0.4 is above 0.2" in one.description
    assert (one.n_times, one.evidence) == (2, "2026-11-21T12:00:00Z")
    assert found(findings=(drifted(),), settings={"alert_drift": False}) == {}


def test_a_run_that_could_not_tell_neither_raises_an_alert_nor_ends_one():
    unjudged = MetricFinding(name="roc_auc", value=0.1, training=0.85)
    few = LivePerformance(estimated=False, n_scored=3, metrics=(unjudged,))
    columns = [
        tuple(msgspec.structs.replace(one, verdict="too few rows") for one in part)
        for part in (drifted().drift.features, drifted().drift.predictions)
    ]
    drift = Drift(n_reference=100, n_current=3, features=columns[0], predictions=columns[1])
    worse = MetricFinding(name="roc_auc", value=0.1, training=0.85, worse=True)
    observed = LivePerformance(estimated=False, n_scored=90, metrics=(worse,), concept_drifted=True)
    fired = found(findings=(drifted(performance=observed),), settings={"alert_runs": 1})
    alerts, _ = step((), fired.values(), 0.0)
    assert {alert.name for alert in alerts if alert.state == "firing"} == {
        rules.DATA_DRIFT, rules.PREDICTION_DRIFT, rules.PERFORMANCE, rules.CONCEPT_DRIFT
    }  # fmt: skip
    for findings in (
        (drifted(drift=drift, performance=few),),
        (drifted(drift=None),),  # no feedback, and no reference
        (),  # nothing was answered in the window, or the file cannot be read
    ):
        assert found(findings=findings) == {}
        later, notices = step(alerts, untold(findings=findings), 1e6)
        assert ({alert.state for alert in later}, notices) == ({"firing"}, ())


def test_what_was_found_of_a_version_before_says_nothing_of_the_one_that_is_served():
    assert found(findings=(drifted(version="2"),)) == {}


def test_a_worse_performance_is_told_apart_by_what_it_is_known_from():
    worse = MetricFinding(name="roc_auc", value=0.7, training=0.85, worse=True)
    observed = LivePerformance(
        estimated=False, n_scored=500, metrics=(worse,), concept_drifted=True, reasons=("it fell",)
    )
    given = found(findings=(drifted(drift=None, performance=observed),))
    assert set(given) == {rules.PERFORMANCE, rules.CONCEPT_DRIFT}
    assert given[rules.PERFORMANCE].labels["basis"] == "observed"
    assert "roc_auc 0.7 (training: 0.85)" in given[rules.PERFORMANCE].summary
    estimated = LivePerformance(estimated=True, n_scored=500, metrics=(worse,))
    given = found(findings=(drifted(drift=None, estimate=estimated),))
    assert given[rules.PERFORMANCE].labels["basis"] == "estimated"
    off = {"alert_performance": False}
    assert found(findings=(drifted(drift=None, performance=observed),), settings=off) == {}
