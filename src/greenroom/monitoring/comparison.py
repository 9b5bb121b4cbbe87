"""Comparison: whether a live figure is worse than the training's, beyond chance and a margin.

Both figures are uncertain, the training's too: it was measured on a hold-out. A metric is worse
where the interval of the difference (:func:`greenroom.evaluation.intervals.difference`) lies beyond
the margin as a whole, and at a confidence that holds for all metrics compared together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from greenroom.evaluation.intervals import Interval, Z, difference
from greenroom.evaluation.metrics import Metric
from greenroom.evaluation.scores import Floats
from greenroom.findings import MetricFinding

__all__ = ["BOUNDS", "Bounds", "compare_metrics", "dependence", "stretched", "worse_in_words"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is asked for before anything is said.

    Parameters
    ----------
    minimum_rows : int
        Of how many rows the truth has to be known. With fewer, the intervals are so wide that only
        a collapse would show.
    minimum_of_class : int
        How many rows of each class a figure needs that is about single classes: ten, as the normal
        approximation asks of both outcomes of a proportion (Moore, McCabe and Craig, "Introduction
        to the Practice of Statistics", 6th ed., section 8.1).
    score_margin : float
        A score (better higher) has to be lower by more than this.
    error_margin : float
        An error or a loss has to be higher by more than this share of the training's. Both margins
        are a convention of ours: a difference below them is nobody's reason to act.
    confidence : float
        Of the verdict on all metrics together.
    """

    minimum_rows: int = 50
    minimum_of_class: int = 10
    score_margin: float = 0.02
    error_margin: float = 0.05
    confidence: float = 0.95


BOUNDS: Final = Bounds()

ROW_MEANS: Final = frozenset({"accuracy", "log_loss", "brier_score_loss"})
"""Figures of a classifier that are a mean over the rows, and do not hang on a rare class."""


def compare_metrics(
    metrics: Sequence[Metric],
    live: Mapping[str, float],
    trained: Mapping[str, float],
    *,
    bounds: Bounds,
    judged: frozenset[str],
) -> tuple[MetricFinding, ...]:
    """Put the live figures beside the training's.

    Parameters
    ----------
    metrics : sequence of Metric
        The task's.
    live, trained : mapping of str to float
        As :func:`greenroom.evaluation.metrics.evaluate` gives them, with their intervals.
    bounds : Bounds
    judged : frozenset of str
        Which of them may be called worse.

    Examples
    --------
    >>> from greenroom.evaluation.metrics import CLASSIFICATION_METRICS
    >>> trained = {"accuracy": 0.95, "accuracy_low": 0.94, "accuracy_high": 0.96}
    >>> live = {"accuracy": 0.8, "accuracy_low": 0.75, "accuracy_high": 0.84}
    >>> (found,) = compare_metrics(CLASSIFICATION_METRICS, live, trained, bounds=Bounds(),
    ...                            judged=frozenset({"accuracy"}))
    >>> found.worse
    True
    """
    shown = [metric for metric in metrics if metric.name in live]
    both = [
        metric.name
        for metric in shown
        if metric.needs_truth and metric.name in judged and _known(live, trained, metric.name)
    ]
    # Bonferroni: each is asked for more, so that all together keep the confidence.
    tail = (1 - bounds.confidence) / 2 / max(1, len(both))
    widened = NormalDist().inv_cdf(1 - tail) / Z
    return tuple(
        MetricFinding(
            name=metric.name,
            value=live[metric.name],
            low=live.get(f"{metric.name}_low"),
            high=live.get(f"{metric.name}_high"),
            training=trained.get(metric.name),
            worse=_worse(metric, live, trained, bounds, widened) if metric.name in both else None,
        )
        for metric in shown
    )


def worse_in_words(found: Sequence[MetricFinding]) -> tuple[str, ...]:
    """Say of each metric that is worse by how much."""
    return tuple(
        f"{one.name} is {one.value:.4g}, {one.training:.4g} in training"
        for one in found
        if one.worse
    )


def stretched(figures: Mapping[str, float], factor: float) -> dict[str, float]:
    """Return figures with each interval wider by a factor, about its figure."""
    found = dict(figures)
    for name in figures:
        for end in ("_low", "_high"):
            if f"{name}{end}" in found:
                found[f"{name}{end}"] = figures[name] + factor * (
                    figures[f"{name}{end}"] - figures[name]
                )
    return found


def dependence(values: Floats) -> float:
    """Return by what a mean's variance is larger because rows that follow each other are alike.

    (1 + r) / (1 - r) with r the correlation of each row with the next, at least 0: exact for an
    autoregression of the first order (Wilks, "Statistical Methods in the Atmospheric Sciences",
    2nd ed., section 5.2.4). Of a day's errors of a forecast one says little more than all.

    Examples
    --------
    >>> import numpy as np
    >>> dependence(np.array([1.0, -1.0] * 50))
    1.0
    """
    centred = values - values.mean() if len(values) else values
    power = float(centred @ centred)
    if len(values) < 3 or not power:
        return 1.0
    alike = min(0.99, max(0.0, float(centred[1:] @ centred[:-1]) / power))
    return (1 + alike) / (1 - alike)


def _known(live: Mapping[str, float], trained: Mapping[str, float], name: str) -> bool:
    ends = (f"{name}_low", f"{name}_high")
    return name in trained and all(end in live and end in trained for end in ends)


def _worse(
    metric: Metric,
    live: Mapping[str, float],
    trained: Mapping[str, float],
    bounds: Bounds,
    widened: float,
) -> bool:
    name = metric.name
    found = difference(
        live[name],
        Interval(live[f"{name}_low"], live[f"{name}_high"]),
        trained[name],
        Interval(trained[f"{name}_low"], trained[f"{name}_high"]),
        widened=widened,
    )
    if metric.greater_is_better:
        return found.high < -bounds.score_margin
    return found.low > bounds.error_margin * abs(trained[name])
