"""Figures: which charts a run has, drawn of its findings and of the runs before it.

For each column that was compared its two distributions, the ones that have moved first; for a
version's runs how drift and performance went. How each is drawn is
:mod:`greenroom.monitoring.charts`' business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from greenroom.findings import ColumnDrift, Findings, LivePerformance
from greenroom.monitoring import charts
from greenroom.monitoring.measures import measure_names
from greenroom.monitoring.trend import Point

__all__ = ["Drawn", "draw"]

Section = Literal["features", "predictions", "over time", "performance"]

MOST_COLUMNS: Final = 100
MOST_SERIES: Final = 6
STATISTIC: Final = "psi"
"""What is drawn over time: the one statistic that numbers and categories both have."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure: the file's name without its ending, what it shows in words, and the SVG."""

    section: Section
    name: str
    title: str
    description: str
    svg: bytes


def draw(findings: Findings, trend: Sequence[Point] = ()) -> tuple[Drawn, ...]:
    """Draw what there is to see.

    Parameters
    ----------
    findings : Findings
    trend : sequence of Point
        The runs of the same version on the same source, this one last.
    """
    return (*_over_time(findings, trend), *_calibrations(findings), *_distributions(findings))


def _distributions(findings: Findings) -> Iterator[Drawn]:
    if findings.drift is None:
        return
    yield from _columns("predictions", findings.drift.predictions)
    yield from _columns("features", findings.drift.features)


def _columns(section: Section, columns: Sequence[ColumnDrift]) -> Iterator[Drawn]:
    folder = "prediction_drift" if section == "predictions" else "drift"
    names = measure_names(one.column for one in columns)
    shown = [one for one in columns if one.distribution is not None]
    shown.sort(key=lambda one: (one.verdict != "drift", -one.statistics.get(STATISTIC, 0.0)))
    for one in shown[:MOST_COLUMNS]:
        if one.distribution is None:
            continue
        drifted = one.verdict == "drift"
        figure = charts.distribution(one.distribution, drifted=drifted, kind=one.kind)
        moved = "has moved" if drifted else "has not moved"
        yield Drawn(
            section,
            f"{folder}/{names[one.column]}",
            one.column,
            f"The distribution of {one.column} in the reference and now: it {moved}.",
            charts.svg(figure),
        )


def _over_time(findings: Findings, trend: Sequence[Point]) -> Iterator[Drawn]:
    if len(trend) < 2:
        return
    yield from _drift_over_time(findings, trend)
    for prefix, found in (
        ("performance", findings.performance),
        ("estimate", findings.estimate),
    ):
        if found is not None:
            yield from _metrics_over_time(prefix, found, trend)


def _drift_over_time(findings: Findings, trend: Sequence[Point]) -> Iterator[Drawn]:
    drift = findings.drift
    if drift is None:
        return
    keys: dict[str, tuple[str, float]] = {}
    for prefix, columns in (("prediction_drift", drift.predictions), ("drift", drift.features)):
        names = measure_names(one.column for one in columns)
        keys |= {
            f"{prefix}/{names[one.column]}/{STATISTIC}": (one.column, one.statistics[STATISTIC])
            for one in columns
            if STATISTIC in one.statistics
        }
    most = sorted(keys, key=lambda key: -keys[key][1])[:MOST_SERIES]
    series = {keys[key][0]: _series(key, trend) for key in most}
    series = {name: values for name, values in series.items() if len(values) > 1}
    if series:
        title = "Population stability index, run by run"
        yield Drawn(
            "over time",
            "drift_over_time",
            title,
            f"How far {len(series)} columns were from the reference in each of the last "
            f"{len(trend)} runs: those that are furthest now.",
            charts.svg(charts.over_time(series, title)),
        )


def _metrics_over_time(
    prefix: str, found: LivePerformance, trend: Sequence[Point]
) -> Iterator[Drawn]:
    noun = "Estimated" if found.estimated else "Observed"
    for metric in found.metrics:
        key = f"{prefix}/{metric.name}"
        values = _series(key, trend)
        if len(values) < 2:
            continue
        bands = [
            (point.measures[f"{key}_low"], point.measures[f"{key}_high"])
            for point in trend
            if {key, f"{key}_low", f"{key}_high"} <= point.measures.keys()
        ]
        title = f"{noun} {metric.name}, run by run"
        figure = charts.over_time(
            {metric.name: values},
            title,
            bands={metric.name: bands} if len(bands) == len(values) else None,
            levels={} if metric.training is None else {"in training": metric.training},
        )
        text = f"{noun} {metric.name} in each of the last {len(values)} runs"
        level = "" if metric.training is None else "; the broken line is its figure in training"
        yield Drawn("over time", f"{key}_over_time", title, f"{text}{level}.", charts.svg(figure))


def _series(key: str, trend: Sequence[Point]) -> list[tuple[str, float]]:
    return [(point.at, point.measures[key]) for point in trend if key in point.measures]


def _calibrations(findings: Findings) -> Iterator[Drawn]:
    found = findings.performance or findings.estimate
    if found is None:
        return
    names = measure_names(one.label for one in found.calibration)
    for one in found.calibration:
        if one.reference is None and one.current is None:
            continue
        yield Drawn(
            "performance",
            f"calibration/{names[one.label]}",
            one.label,
            f"What was predicted and what happened, of class {one.label}.",
            charts.svg(charts.calibration(one)),
        )
