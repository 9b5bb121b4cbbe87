"""Figures: what a run shows of a model beside its numbers, as matplotlib figures and as text.

Which figures there are follows from the task and from what is known; one that cannot be drawn from
these rows (a curve where one class is absent) is left out. How each is drawn is
:mod:`greenroom.training.plots`' business, storing them :mod:`greenroom.training.tracking`'s. Used
in training only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from greenroom.evaluation.metrics import Metric
from greenroom.evaluation.predictions import Predictions, label_positions
from greenroom.training import plots

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]


def figures_for(
    task_name: str,
    y: Array | None,
    predictions: Predictions,
    *,
    importance: Mapping[str, float] | None = None,
) -> dict[str, Figure]:
    """Draw what a task's predictions on the hold-out look like.

    Parameters
    ----------
    task_name : {"classification", "regression", "anomaly", "forecast"}
    y : ndarray, shape (n_samples,), optional
        The truth; None where it is not known.
    predictions : Predictions
        For the same rows.
    importance : mapping of str to float, optional
        What :func:`feature_importance` gave.

    Returns
    -------
    dict of str to Figure
        By file name.
    """
    draw = {
        "classification": _classification_figures,
        "regression": _regression_figures,
        "forecast": _forecast_figures,
        "anomaly": _anomaly_figures,
    }[task_name]
    with plots.style():
        figures = dict(draw(y, predictions)) if len(predictions) else {}
        if importance:
            figures["feature_importance.png"] = plots.feature_importance(importance)
    return figures


def classification_report(y: Array, predictions: Predictions) -> str:
    """Return scikit-learn's report: precision, recall and F1 of each class, as text."""
    from sklearn.metrics import classification_report as report

    labels, true, said = label_positions(y, predictions)
    text: str = report(
        true,
        said,
        labels=range(len(labels)),
        target_names=[str(label) for label in labels],
        digits=4,
        zero_division=0,
    )
    return text


def feature_importance(
    predict: Callable[[pd.DataFrame], Predictions],
    X: pd.DataFrame,
    y: Array,
    metric: Metric,
    seed: int,
    *,
    max_rows: int = 2_000,
    n_repeats: int = 3,
) -> dict[str, float]:
    """Measure how much worse a metric gets when one feature's values are shuffled.

    Permutation importance (Breiman, "Random forests", Machine Learning 45, 2001). Features that
    say the same share their importance, or seem to have none.

    Parameters
    ----------
    predict : callable
        ``X -> Predictions``.
    X : DataFrame of shape (n_samples, n_features)
        Held-out rows; a sample of ``max_rows`` is used.
    y : ndarray, shape (n_samples,)
        Their truth.
    metric : Metric
        What is measured; importance is positive where the feature helps, whichever way it points.
    seed : int
        What sample and shuffling start from.

    Returns
    -------
    dict of str to float
        The mean over the repeats, most important first; empty where the metric is undefined.
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(X))[:max_rows])
    sample, truth = X.iloc[rows], y[rows]
    base = metric.compute(truth, predict(sample))
    if not math.isfinite(base):
        return {}
    sign = 1.0 if metric.greater_is_better else -1.0
    found = {}
    for name in sample.columns:
        losses = []
        for _ in range(n_repeats):
            shuffled = sample.copy()
            values = sample[name].iloc[random.permutation(len(sample))]
            shuffled[name] = values.set_axis(sample.index)
            losses.append(sign * (base - metric.compute(truth, predict(shuffled))))
        found[str(name)] = float(np.mean(losses))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _classification_figures(y: Array | None, p: Predictions) -> Iterator[tuple[str, Figure]]:
    if y is None:
        return
    labels, true, said = label_positions(y, p)
    yield "confusion_matrix.png", plots.confusion_matrix(labels, true, said)
    probabilities = p.outputs.get("probabilities")
    if probabilities is None or not p.classes:
        return
    asked = [1] if len(p.classes) == 2 else range(len(p.classes))
    curves = [
        (str(p.classes[label]), true == label, probabilities[:, label])
        for label in asked
        if 0 < np.count_nonzero(true == label) < len(true)
    ]
    if curves:
        yield "roc_curve.png", plots.roc_curve(curves)
        yield "precision_recall_curve.png", plots.precision_recall_curve(curves)
    if len(p.classes) == 2:
        yield "calibration_curve.png", plots.calibration_curve(true == 1, probabilities[:, 1])


def _regression_figures(y: Array | None, p: Predictions) -> Iterator[tuple[str, Figure]]:
    if y is not None:
        said = np.asarray(p.outputs["prediction"], dtype=np.float64)
        yield "predicted_and_actual.png", plots.agreement(y, said)
        yield "residuals.png", plots.residuals(y, said)


def _forecast_figures(y: Array | None, p: Predictions) -> Iterator[tuple[str, Figure]]:
    yield "forecast.png", plots.forecast(y, p)
    if y is not None:
        yield "residuals.png", plots.residuals(y, p.outputs["prediction"])


def _anomaly_figures(y: Array | None, p: Predictions) -> Iterator[tuple[str, Figure]]:
    yield "scores.png", plots.anomaly_scores(y, p)
    if y is not None and 0 < np.count_nonzero(y == 1) < len(y):
        curves = [("1", y == 1, p.outputs["score"])]
        yield "roc_curve.png", plots.roc_curve(curves)
        yield "precision_recall_curve.png", plots.precision_recall_curve(curves)
