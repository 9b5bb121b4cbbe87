"""Findings are written and read back as they were."""

from __future__ import annotations

import pytest

from greenroom.errors import MonitoringError
from greenroom.findings import (
    ColumnDrift,
    Distribution,
    Drift,
    Findings,
    LivePerformance,
    MetricFinding,
    Verdict,
    read_findings,
    write_findings,
)


def column(verdict: Verdict, role: str = "feature") -> ColumnDrift:
    return ColumnDrift(
        column="age",
        role=role,  # type: ignore[arg-type]  # parametrized
        kind="number",
        verdict=verdict,
        n_reference=10,
        n_current=10,
        statistics={"psi": 0.3},
        distribution=Distribution(edges=(0.0, 1.0), reference=(1.0,), current=(1.0,)),
    )


def found() -> Findings:
    return Findings(
        app="a",
        model="m",
        version="3",
        at="2026-11-21T12:00:00Z",
        n_rows=10,
        drift=Drift(
            n_reference=10,
            n_current=10,
            features=(column("drift"),),
            predictions=(column("stable", "prediction"),),
        ),
        performance=LivePerformance(
            estimated=False,
            n_scored=5,
            metrics=(MetricFinding(name="roc_auc", value=0.7, training=0.9, worse=True),),
        ),
    )


def test_findings_are_read_back_as_they_were_written(tmp_path):
    path = tmp_path / "monitoring" / "findings.json"
    write_findings(path, (found(), found()))
    assert read_findings(path) == (found(), found())


def test_without_a_file_nothing_was_found(tmp_path):
    assert read_findings(tmp_path / "findings.json") == ()


def test_a_file_that_cannot_be_understood_is_named(tmp_path):
    path = tmp_path / "findings.json"
    path.write_bytes(b"[{")
    with pytest.raises(MonitoringError, match=r"findings\.json cannot be read"):
        read_findings(path)


def test_data_drift_and_prediction_drift_are_told_apart():
    drift = found().drift
    assert drift is not None
    assert drift.data_drifted
    assert not drift.predictions_drifted


def test_performance_is_degraded_where_a_metric_is_worse():
    performance = found().performance
    assert performance is not None
    assert performance.degraded
