"""Findings as a monitoring run makes them, for tests of what is done with them."""

from __future__ import annotations

from greenroom.findings import (
    Calibration,
    CalibrationCurve,
    ColumnDrift,
    Distribution,
    Drift,
    Findings,
    LivePerformance,
    MetricFinding,
)

HOSTILE = "<script>alert(1)</script>"
PERSONAL = "ada@example.org"


def number(name: str, *, drifted: bool = False, role: str = "feature") -> ColumnDrift:
    return ColumnDrift(
        column=name,
        role=role,
        kind="number",
        verdict="drift" if drifted else "stable",
        n_reference=1_000,
        n_current=5_000,
        statistics={"psi": 0.31 if drifted else 0.004, "kolmogorov_smirnov": 0.1},
        q_value=1e-9 if drifted else 0.7,
        reasons=("the distribution has moved",) if drifted else (),
        distribution=Distribution(
            edges=tuple(float(place) for place in range(11)),
            reference=(0.1,) * 10,
            current=(0.15,) * 5 + (0.05,) * 5,
        ),
    )


def category(name: str) -> ColumnDrift:
    """A column with a hostile label, and one that the reference does not have."""
    return ColumnDrift(
        column=name,
        role="feature",
        kind="category",
        verdict="drift",
        n_reference=1_000,
        n_current=5_000,
        statistics={"psi": 0.5, "chi_squared": 12.0},
        q_value=1e-9,
        reasons=("30 % of the rows have a category that the reference does not have",),
        distribution=Distribution(
            labels=("renter", HOSTILE, PERSONAL),
            reference=(0.6, 0.4, 0.0),
            current=(0.4, 0.3, 0.3),
        ),
    )


def performance(value: float, *, worse: bool | None = False, estimated: bool = False, **more):
    metric = MetricFinding(
        name="roc_auc", value=value, low=value - 0.03, high=value + 0.03, training=0.86, worse=worse
    )
    return LivePerformance(estimated=estimated, n_scored=800, metrics=(metric,), **more)


def found(*features: ColumnDrift, **changes) -> Findings:
    filled = {
        "app": "credit-risk",
        "model": "credit-risk-model",
        "version": "3",
        "digest": "ab" * 32,
        "at": "2026-11-21T12:00:00.000Z",
        "since": "2026-11-20T12:00:00.000Z",
        "until": "2026-11-21T12:00:00.000Z",
        "n_rows": 5_000,
        "drift": Drift(
            n_reference=1_000,
            n_current=5_000,
            features=features or (number("age", drifted=True), number("income")),
            predictions=(number("probability", role="prediction"),),
        ),
    }
    return Findings(**(filled | changes))


CALIBRATION = Calibration(
    label="1",
    reference=CalibrationCurve(predicted=(0.1, 0.5), observed=(0.1, 0.5), n_rows=(50, 50)),
    current=CalibrationCurve(predicted=(0.1, 0.5), observed=(0.2, 0.8), n_rows=(40, 40)),
)
