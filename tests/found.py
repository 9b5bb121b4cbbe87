"""What a monitoring run may have found of a version, and an alert that fires."""

from __future__ import annotations

import msgspec

from greenroom.alerts import Alert
from greenroom.findings import ColumnDrift, Drift, Findings, LivePerformance, MetricFinding

AGE = ColumnDrift(
    column="age",
    role="feature",
    kind="number",
    verdict="drift",
    n_reference=1_000,
    n_current=200,
    statistics={"psi": 0.4, "wasserstein": 0.25},
)
FINDINGS = Findings(
    app="credit",
    model="credit",
    version="3",
    at="2026-11-21T12:00:00Z",
    n_rows=200,
    drift=Drift(
        n_reference=1_000,
        n_current=200,
        features=(
            AGE,
            msgspec.structs.replace(AGE, column="income", verdict="stable"),
            msgspec.structs.replace(AGE, column="rare", verdict="too few rows", statistics={}),
        ),
        predictions=(
            msgspec.structs.replace(AGE, column="probability", role="prediction", verdict="stable"),
        ),
    ),
    performance=LivePerformance(
        estimated=False,
        n_scored=150,
        metrics=(
            MetricFinding(name="roc_auc", value=0.7, low=0.6, high=0.8, training=0.85, worse=True),
        ),
        concept_drifted=False,
    ),
    estimate=LivePerformance(
        estimated=True,
        n_scored=200,
        metrics=(MetricFinding(name="accuracy", value=0.9, worse=False),),
    ),
)
SLOW = Alert(
    name="GreenroomSlowResponses",
    severity="warning",
    labels={"model": "credit"},
    summary="slow",
    state="firing",
    began_at_s=1.0,
    fired_at_s=2.0,
)
