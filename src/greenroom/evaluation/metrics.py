"""Metrics: how good predictions are, as named figures with confidence intervals.

What training logs, what candidates are chosen by and what a gate asks for: a tuple of metrics for
each task. Names are scikit-learn's and so are the values; ``*_error``, ``*_loss`` and widths are
better lower, all others higher. For two classes, the second is the event that precision, recall
and the curves are about; for more, the mean over the classes is taken ("macro").

numpy alone, because workers that serve import this. The formulas are in
:mod:`greenroom.evaluation.scores` and :mod:`greenroom.evaluation.intervals`; drift and performance
in production are monitoring's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from greenroom.evaluation import intervals as ci
from greenroom.evaluation import scores
from greenroom.evaluation.intervals import Interval
from greenroom.evaluation.predictions import Predictions, label_positions
from greenroom.evaluation.scores import Counts, Flags, Floats

__all__ = [
    "ANOMALY_METRICS",
    "CLASSIFICATION_METRICS",
    "FORECAST_METRICS",
    "REGRESSION_METRICS",
    "Interval",
    "Metric",
    "Predictions",
    "evaluate",
]


Truth: TypeAlias = npt.NDArray[Any]

_ANY: Final = Interval(0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of merit: its name, which way it points, and how it is computed.

    ``compute`` takes the true values, shape (n_samples,), and the predictions for the same rows,
    and gives NaN where the figure is undefined; ``interval``, where there is one, gives the 95 %
    confidence interval of the same figure. ``needs_truth`` is false for the few figures that are
    about the predictions alone.
    """

    name: str
    compute: Callable[[Truth, Predictions], float]
    greater_is_better: bool = True
    interval: Callable[[Truth, Predictions], Interval | None] | None = None
    needs_truth: bool = True


def evaluate(
    metrics: Sequence[Metric],
    y: Truth | None,
    predictions: Predictions,
    *,
    intervals: bool = True,
) -> dict[str, float]:
    """Compute the metrics of some predictions.

    Parameters
    ----------
    metrics : sequence of Metric
        A task's.
    y : ndarray, shape (n_samples,), optional
        The truth; None or all NaN where it is not known.
    predictions : Predictions
        For the same rows.
    intervals : bool
        Whether to add confidence intervals.

    Returns
    -------
    dict of str to float
        ``name``, and ``name_low`` and ``name_high`` where there is an interval. A figure that is
        undefined on these rows (a curve where one class is absent) is left out.

    Examples
    --------
    >>> p = Predictions({"prediction": np.array([1.0, 2.0])})
    >>> evaluate(REGRESSION_METRICS[:1], np.array([1.0, 4.0]), p, intervals=False)
    {'root_mean_squared_error': 1.4142135623730951}
    """
    figures: dict[str, float] = {}
    if not len(predictions):
        return figures
    unknown = y is None or (y.dtype.kind == "f" and bool(np.isnan(y).all()))
    truth = np.full(len(predictions), np.nan) if y is None else y
    for metric in metrics:
        if unknown and metric.needs_truth:
            continue
        value = float(metric.compute(truth, predictions))
        if not math.isfinite(value):
            continue
        figures[metric.name] = value
        interval = metric.interval(truth, predictions) if intervals and metric.interval else None
        if interval is not None:
            figures[f"{metric.name}_low"] = interval.low
            figures[f"{metric.name}_high"] = interval.high
    return figures


def _counts(y: Truth, p: Predictions) -> list[Counts]:
    """Count for the event of a two-class model; else for each label that occurs."""
    labels, true, said = label_positions(y, p)
    if len(p.classes or labels) == 2:
        return [scores.counts(true == 1, said == 1)]
    occurring = np.union1d(true, said).tolist()
    return [scores.counts(true == label, said == label) for label in occurring]


def _averaged(figure: Callable[[Counts], float]) -> Callable[[Truth, Predictions], float]:
    def compute(y: Truth, p: Predictions) -> float:
        return float(np.mean([figure(found) for found in _counts(y, p)]))

    return compute


def _of_counts(
    figure: Callable[[Counts], Interval | None],
) -> Callable[[Truth, Predictions], Interval | None]:
    """Return the interval of a proportion, or of its mean over classes.

    Of a class without the rows that it is a share of, nothing is known.
    """

    def interval(y: Truth, p: Predictions) -> Interval | None:
        found = [figure(one) for one in _counts(y, p)]
        return found[0] if len(found) == 1 else ci.mean_of([one or _ANY for one in found])

    return interval


def _precision_interval(found: Counts) -> Interval | None:
    return ci.wilson(found.true_positive, found.true_positive + found.false_positive)


def _recall_interval(found: Counts) -> Interval | None:
    return ci.wilson(found.true_positive, found.true_positive + found.false_negative)


def _correct(y: Truth, p: Predictions) -> Flags:
    _, true, said = label_positions(y, p)
    correct: Flags = true == said
    return correct


def _accuracy(y: Truth, p: Predictions) -> float:
    return float(_correct(y, p).mean())


def _accuracy_interval(y: Truth, p: Predictions) -> Interval | None:
    correct = _correct(y, p)
    return ci.wilson(int(correct.sum()), len(correct))


def _balanced_accuracy(y: Truth, p: Predictions) -> float:
    _, true, said = label_positions(y, p)
    return float(np.mean([(said[true == label] == label).mean() for label in np.unique(true)]))


def _balanced_accuracy_interval(y: Truth, p: Predictions) -> Interval | None:
    _, true, said = label_positions(y, p)
    of_class = [said[true == label] == label for label in np.unique(true)]
    return ci.mean_of_proportions([(int(right.sum()), len(right)) for right in of_class])


def _curves(y: Truth, p: Predictions) -> list[tuple[Flags, Floats]]:
    """Return for the event, or for each of several classes: where it was, and its probability."""
    probabilities = p.outputs.get("probabilities")
    if probabilities is None or not p.classes:
        return []
    _, true, _ = label_positions(y, p)
    asked = [1] if len(p.classes) == 2 else range(len(p.classes))
    return [(true == label, probabilities[:, label]) for label in asked]


def _over_curves(
    figure: Callable[[Flags, Floats], float],
) -> Callable[[Truth, Predictions], float]:
    def compute(y: Truth, p: Predictions) -> float:
        values = [figure(positive, probability) for positive, probability in _curves(y, p)]
        return float(np.mean(values)) if values else math.nan

    return compute


def _roc_auc_interval(y: Truth, p: Predictions) -> Interval | None:
    return ci.mean_of([ci.delong(*curve) for curve in _curves(y, p)])


def _ranked_precision_interval(positive: Flags, values: Floats) -> Interval | None:
    value = scores.average_precision(positive, values)
    return ci.average_precision_interval(value, int(positive.sum()))


def _average_precision_interval(y: Truth, p: Predictions) -> Interval | None:
    return ci.mean_of([_ranked_precision_interval(*curve) for curve in _curves(y, p)])


def _log_losses(y: Truth, p: Predictions) -> Floats:
    """Return each row's -log(probability of the truth), the probability kept off 0 and 1."""
    probabilities = p.outputs.get("probabilities")
    _, true, _ = label_positions(y, p)
    if probabilities is None or (true >= len(p.classes)).any():
        return np.full(len(p), np.nan)
    tiny = np.finfo(np.float64).eps
    losses: Floats = -np.log(probabilities[np.arange(len(true)), true].clip(tiny, 1 - tiny))
    return losses


def _brier_losses(y: Truth, p: Predictions) -> Floats:
    """Return each row's squared error of the probabilities (Brier 1950); for two, the event's."""
    curves = _curves(y, p)
    if not curves:
        return np.full(len(p), np.nan)
    losses: Floats = np.sum([(probability - event) ** 2 for event, probability in curves], axis=0)
    return losses


def _errors(y: Truth, p: Predictions) -> Floats:
    errors: Floats = np.asarray(p.outputs["prediction"], dtype=np.float64) - y
    return errors


def _absolute_errors(y: Truth, p: Predictions) -> Floats:
    return np.abs(_errors(y, p))


def _squared_errors(y: Truth, p: Predictions) -> Floats:
    return _errors(y, p) ** 2


def _relative_errors(y: Truth, p: Predictions) -> Floats:
    """Return |error| / |truth|; undefined for all where one truth is 0."""
    if (y == 0).any():
        return np.full(len(p), np.nan)
    return np.abs(_errors(y, p) / y)


def _r2_score(y: Truth, p: Predictions) -> float:
    spread = float(np.sum((y - np.mean(y)) ** 2))
    return 1 - float(np.sum(_squared_errors(y, p))) / spread if spread else math.nan


def _covered(y: Truth, p: Predictions) -> Flags:
    covered: Flags = (p.outputs["lower"] <= y) & (y <= p.outputs["upper"])
    return covered


def _widths(y: Truth, p: Predictions) -> Floats:  # noqa: ARG001 - as all rows' figures
    widths: Floats = p.outputs["upper"] - p.outputs["lower"]
    return widths


def _scaled_errors(y: Truth, p: Predictions) -> Floats:
    """Return |error| / scale; undefined for all where the model gives no scale, or one of 0.

    Hyndman and Koehler, "Another look at measures of forecast accuracy", International Journal of
    Forecasting 22 (2006): below 1 is better than the seasonal-naive forecast was in training.
    """
    scale = p.outputs.get("scale")
    if scale is None or not (scale > 0).all():
        return np.full(len(p), np.nan)
    scaled: Floats = _absolute_errors(y, p) / scale
    return scaled


def _flagged(y: Truth, p: Predictions) -> Flags:  # noqa: ARG001 - as all of them are called
    return np.asarray(p.outputs["prediction"], dtype=np.bool_)


def _share(rows: Callable[[Truth, Predictions], Flags]) -> dict[str, Any]:
    """Make the parts of a metric that is a share of the rows."""

    def compute(y: Truth, p: Predictions) -> float:
        return float(rows(y, p).mean())

    def interval(y: Truth, p: Predictions) -> Interval | None:
        flags = rows(y, p)
        return ci.wilson(int(flags.sum()), len(flags))

    return {"compute": compute, "interval": interval}


def _mean(rows: Callable[[Truth, Predictions], Floats]) -> dict[str, Any]:
    """Make the parts of a metric that is a mean over the rows, better lower."""
    return {
        "compute": lambda y, p: float(rows(y, p).mean()),
        "interval": lambda y, p: ci.mean_interval(rows(y, p)),
        "greater_is_better": False,
    }


def _decision(
    figure: Callable[[Counts], float], interval: Callable[[Counts], Interval | None]
) -> dict[str, Any]:
    """Make the parts of a metric of an anomaly model's flags; a truth of 1 is an anomaly."""

    def found(y: Truth, p: Predictions) -> Counts:
        return scores.counts(y == 1, _flagged(y, p))

    return {
        "compute": lambda y, p: figure(found(y, p)),
        "interval": lambda y, p: interval(found(y, p)),
    }


_ROOT_MEAN_SQUARED_ERROR: Final = Metric(
    "root_mean_squared_error",
    lambda y, p: float(np.sqrt(_squared_errors(y, p).mean())),
    greater_is_better=False,
    interval=lambda y, p: ci.root_interval(_squared_errors(y, p)),
)
_MEAN_ABSOLUTE_ERROR: Final = Metric("mean_absolute_error", **_mean(_absolute_errors))
_MEAN_ABSOLUTE_PERCENTAGE_ERROR: Final = Metric(
    "mean_absolute_percentage_error", **_mean(_relative_errors)
)
_R2_SCORE: Final = Metric(
    "r2_score",
    _r2_score,
    interval=lambda y, p: ci.r2_interval(np.asarray(y, np.float64), _squared_errors(y, p)),
)

CLASSIFICATION_METRICS: Final[tuple[Metric, ...]] = (
    Metric("accuracy", _accuracy, interval=_accuracy_interval),
    Metric("balanced_accuracy", _balanced_accuracy, interval=_balanced_accuracy_interval),
    Metric("precision", _averaged(scores.precision), interval=_of_counts(_precision_interval)),
    Metric("recall", _averaged(scores.recall), interval=_of_counts(_recall_interval)),
    Metric("f1_score", _averaged(scores.f1_score), interval=_of_counts(ci.f1_interval)),
    Metric("roc_auc", _over_curves(scores.roc_auc), interval=_roc_auc_interval),
    Metric(
        "average_precision",
        _over_curves(scores.average_precision),
        interval=_average_precision_interval,
    ),
    Metric("log_loss", **_mean(_log_losses)),
    Metric("brier_score_loss", **_mean(_brier_losses)),
)

REGRESSION_METRICS: Final[tuple[Metric, ...]] = (
    _ROOT_MEAN_SQUARED_ERROR,
    _MEAN_ABSOLUTE_ERROR,
    Metric(
        "median_absolute_error",
        lambda y, p: float(np.median(_absolute_errors(y, p))),
        greater_is_better=False,
        interval=lambda y, p: ci.median_interval(_absolute_errors(y, p)),
    ),
    _MEAN_ABSOLUTE_PERCENTAGE_ERROR,
    _R2_SCORE,
)

ANOMALY_METRICS: Final[tuple[Metric, ...]] = (
    Metric("anomaly_rate", greater_is_better=False, needs_truth=False, **_share(_flagged)),
    Metric("precision", **_decision(scores.precision, _precision_interval)),
    Metric("recall", **_decision(scores.recall, _recall_interval)),
    Metric("f1_score", **_decision(scores.f1_score, ci.f1_interval)),
    Metric(
        "roc_auc",
        lambda y, p: scores.roc_auc(y == 1, p.outputs["score"]),
        interval=lambda y, p: ci.delong(y == 1, p.outputs["score"]),
    ),
    Metric(
        "average_precision",
        lambda y, p: scores.average_precision(y == 1, p.outputs["score"]),
        interval=lambda y, p: _ranked_precision_interval(y == 1, p.outputs["score"]),
    ),
)

FORECAST_METRICS: Final[tuple[Metric, ...]] = (
    _MEAN_ABSOLUTE_ERROR,
    _ROOT_MEAN_SQUARED_ERROR,
    _MEAN_ABSOLUTE_PERCENTAGE_ERROR,
    _R2_SCORE,
    Metric("mean_absolute_scaled_error", **_mean(_scaled_errors)),
    Metric("interval_coverage", **_share(_covered)),
    Metric("interval_width", needs_truth=False, **_mean(_widths)),
)
