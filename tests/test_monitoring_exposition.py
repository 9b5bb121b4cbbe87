"""What ``/metrics`` shows of findings and alerts."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from found import FINDINGS, SLOW
from greenroom.alerts import AlertRecord, Notice, alerts_file, write_alerts
from greenroom.errors import MonitoringError
from greenroom.findings import findings_file, write_findings
from greenroom.http.exposition import Exposition
from greenroom.http.monitoring_exposition import MonitoringExposition
from greenroom.instruments import SupervisorInstruments, read_totals
from greenroom.status import RegistryStatus, Status

STATUS = Status(
    app="credit",
    greenroom_version="0.1.0",
    started_at="2026-11-21T06:00:00.000Z",
    registry=RegistryStatus(uri="http://mlflow", state="healthy"),
)


@pytest.fixture
def supervisor():
    made = SupervisorInstruments(1)
    yield made
    made.memory.close()


def shown(supervisor, monitoring):
    exposition = Exposition(
        lambda: read_totals(supervisor.memory), lambda: STATUS, monitoring=monitoring
    )
    found = {}
    for family in text_string_to_metric_families(exposition.write()[0].decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, "a series twice: Prometheus would refuse the whole page"
            found[key] = sample.value
    return lambda name, **labels: found.get((f"greenroom_{name}", frozenset(labels.items())))


OF = {"model": "credit", "version": "3"}


def test_how_far_each_column_has_moved_and_what_was_found_is_shown(supervisor):
    value = shown(supervisor, MonitoringExposition(lambda: (FINDINGS,)))
    age = {**OF, "role": "feature", "column": "age"}
    assert value("drift_statistic", **age, statistic="psi") == 0.4
    assert value("drift_statistic", **age, statistic="wasserstein") == 0.25
    assert value("drift_column_detected", **age) == 1
    assert value("drift_column_detected", **{**age, "column": "income"}) == 0
    assert value("drift_column_detected", **{**age, "column": "rare"}) is None, "nothing is said"
    assert value("drift_detected", **OF, kind="data") == 1
    assert value("drift_detected", **OF, kind="prediction") == 0
    assert value("drift_detected", **OF, kind="concept") == 0
    assert value("drift_rows", **OF, sample="reference") == 1_000
    assert value("drift_rows", **OF, sample="current") == 200
    assert value("monitoring_last_run_timestamp_seconds", **OF) == 1_795_262_400
    assert value("monitoring_rows", **OF) == 200


def test_live_metrics_are_shown_apart_by_what_they_are_known_from(supervisor):
    value = shown(supervisor, MonitoringExposition(lambda: (FINDINGS,)))
    observed = {**OF, "basis": "observed", "metric": "roc_auc"}
    assert value("live_metric", **observed) == 0.7
    assert value("live_metric_low", **observed) == 0.6
    assert value("live_metric_high", **observed) == 0.8
    assert value("live_metric_training", **observed) == 0.85
    assert value("performance_degraded", **OF, basis="observed") == 1
    estimated = {**OF, "basis": "estimated", "metric": "accuracy"}
    assert value("live_metric", **estimated) == 0.9
    assert value("live_metric_low", **estimated) is None
    assert value("performance_degraded", **OF, basis="estimated") == 0
    assert value("live_scored_predictions", **OF, basis="estimated") == 200


def test_of_figures_that_cannot_be_judged_it_is_not_shown_that_they_are_well(supervisor):
    (metric,) = FINDINGS.performance.metrics
    unjudged = msgspec.structs.replace(metric, worse=None)
    observed = msgspec.structs.replace(FINDINGS.performance, metrics=(unjudged,))
    findings = msgspec.structs.replace(FINDINGS, performance=observed)
    value = shown(supervisor, MonitoringExposition(lambda: (findings,)))
    assert value("live_metric", **OF, basis="observed", metric="roc_auc") == 0.7
    assert value("performance_degraded", **OF, basis="observed") is None


def test_what_fires_and_what_waits_is_shown(supervisor):
    over = msgspec.structs.replace(SLOW, name="GreenroomErrorRate", state="resolved")
    observed = msgspec.structs.replace(
        SLOW, name="P", labels={**OF, "basis": "observed"}, state="resolved"
    )
    estimated = msgspec.structs.replace(SLOW, name="P", labels={**OF, "basis": "estimated"})
    waiting = msgspec.structs.replace(SLOW, name="GreenroomSilence", state="pending")
    notice = Notice(id="1", at_s=2.0, kind="firing", alert=SLOW)
    record = AlertRecord(
        alerts=(SLOW, over, waiting, observed, estimated),
        waiting=(notice,),
        n_delivered=5,
        n_failed=2,
        n_dropped=1,
    )
    value = shown(supervisor, MonitoringExposition(alerts=lambda: record))
    of = {"severity": "warning", "model": "credit", "version": ""}
    assert value("alerts_firing", alert="GreenroomSlowResponses", **of) == 1
    assert value("alerts_firing", alert="GreenroomErrorRate", **of) == 0
    assert value("alerts_firing", alert="GreenroomSilence", **of) is None
    assert value("alerts_firing", alert="P", **{**of, "version": "3"}) == 1
    assert value("alerts", state="firing") == 2
    assert value("alerts", state="pending") == 1
    assert value("alert_notices_total", outcome="delivered") == 5
    assert value("alert_notices_total", outcome="failed") == 2
    assert value("alert_notices_total", outcome="dropped") == 1
    assert value("alert_notices_waiting") == 1


def test_any_worker_shows_what_the_files_say_at_the_moment(supervisor, tmp_path):
    workers = [MonitoringExposition.of(tmp_path, 8000) for _ in range(2)]
    for worker in workers:
        assert shown(supervisor, worker)("alerts", state="firing") == 0
    write_findings(findings_file(tmp_path), (FINDINGS, FINDINGS))
    write_alerts(alerts_file(tmp_path, 8000), AlertRecord(alerts=(SLOW,)))
    for worker in workers:
        value = shown(supervisor, worker)
        assert value("alerts", state="firing") == 1
        assert value("monitoring_rows", **OF) == 200
    assert shown(supervisor, MonitoringExposition.of(tmp_path, 8001))("alerts", state="firing") == 0


def test_a_file_that_cannot_be_read_takes_nothing_else_away(supervisor, tmp_path):
    findings_file(tmp_path).parent.mkdir()
    findings_file(tmp_path).write_text("{")
    write_alerts(alerts_file(tmp_path, 8000), AlertRecord(alerts=(SLOW,)))
    value = shown(supervisor, MonitoringExposition.of(tmp_path, 8000))
    assert value("alerts", state="firing") == 1
    assert value("registry_up") == 1


def test_runs_and_the_last_look_are_counted_in_the_servers_memory(supervisor):
    supervisor.monitored("done")
    supervisor.monitored("failed")
    supervisor.monitored("failed")
    supervisor.evaluated(1_795_000_000.0)

    def unread():
        raise MonitoringError("it cannot be read")

    value = shown(supervisor, MonitoringExposition(unread, unread))
    assert value("monitoring_runs_total", outcome="done") == 1
    assert value("monitoring_runs_total", outcome="failed") == 2
    assert value("alerts_last_evaluation_timestamp_seconds") == 1_795_000_000.0
