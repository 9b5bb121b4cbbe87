"""Measures: the numbers of findings under the names that they have in every run.

A monitoring run has the same names each time, so that MLflow draws them over time, and so does the
trend (:mod:`greenroom.monitoring.trend`)::

    rows, reference_rows                      how many were compared
    drift/features_compared, drift/features_drifted, drift/share_of_features
    drift/<column>/<statistic>                of a feature, such as drift/age/psi
    prediction_drift/<output>/<statistic>     of an output
    performance/<metric>                      with _low and _high where there is an interval
    performance/scored, performance/concept_drift
    estimate/<metric>                         an estimate, where nothing was observed

What cannot be told has no number. Sending them is :mod:`greenroom.monitoring.tracked`'s business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Final

from greenroom.findings import ColumnDrift, Findings, LivePerformance

__all__ = ["measure_names", "measures"]

_UNSPEAKABLE: Final = re.compile(r"[^\w.\- ]")
_LONGEST: Final = 120


def measures(findings: Findings) -> dict[str, float]:
    """Return the finite numbers of findings, by name.

    Examples
    --------
    >>> found = Findings(app="a", model="m", version="3", at="2026-11-21T12:00:00Z", n_rows=10)
    >>> measures(found)
    {'rows': 10.0}
    """
    return {name: value for name, value in _measured(findings) if math.isfinite(value)}


def measure_names(columns: Iterable[str]) -> dict[str, str]:
    """Return what columns are called in names of measures, each by a name of its own.

    MLflow takes letters, digits and ``_-. /`` in the name of a metric, and reads ``/`` as a folder.

    Examples
    --------
    >>> measure_names(["age", "debt/ratio", "debt?ratio"])
    {'age': 'age', 'debt/ratio': 'debt_ratio', 'debt?ratio': 'debt_ratio_2'}
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for column in columns:
        plain = _UNSPEAKABLE.sub("_", column)[:_LONGEST].strip()
        if not plain.strip("."):
            plain = "_" * max(1, len(plain))
        name, number = plain, 1
        while name in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name)
        found[column] = name
    return found


def _measured(findings: Findings) -> Iterator[tuple[str, float]]:
    yield "rows", float(findings.n_rows)
    drift = findings.drift
    if drift is not None:
        yield "reference_rows", float(drift.n_reference)
        compared = [one for one in drift.features if one.verdict in {"drift", "stable"}]
        n_drifted = sum(one.verdict == "drift" for one in compared)
        yield "drift/features_compared", float(len(compared))
        if compared:
            yield "drift/features_drifted", float(n_drifted)
            yield "drift/share_of_features", n_drifted / len(compared)
        yield from _statistics("drift", drift.features)
        yield from _statistics("prediction_drift", drift.predictions)
    if findings.performance is not None:
        yield from _performance("performance", findings.performance)
        concept = findings.performance.concept_drifted
        if concept is not None:
            yield "performance/concept_drift", float(concept)
    if findings.estimate is not None:
        yield from _performance("estimate", findings.estimate)


def _statistics(prefix: str, columns: tuple[ColumnDrift, ...]) -> Iterator[tuple[str, float]]:
    names = measure_names(one.column for one in columns)
    for one in columns:
        for statistic, value in one.statistics.items():
            yield f"{prefix}/{names[one.column]}/{statistic}", value


def _performance(prefix: str, found: LivePerformance) -> Iterator[tuple[str, float]]:
    yield f"{prefix}/scored", float(found.n_scored)
    for metric in found.metrics:
        yield f"{prefix}/{metric.name}", metric.value
        if metric.low is not None:
            yield f"{prefix}/{metric.name}_low", metric.low
        if metric.high is not None:
            yield f"{prefix}/{metric.name}_high", metric.high
