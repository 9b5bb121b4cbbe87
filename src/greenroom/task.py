"""Tasks: what kind of answer a model gives, and how its answers are judged.

A task is one value: the outputs that a reply may hold, the metrics, how rows are split for
cross-validation, and the one function by which an estimator's methods become outputs; training and
serving call the same one. Four ship: classification, regression, anomaly, forecast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from greenroom.errors import AppError
from greenroom.evaluation.metrics import (
    ANOMALY_METRICS,
    CLASSIFICATION_METRICS,
    FORECAST_METRICS,
    REGRESSION_METRICS,
    Metric,
    Predictions,
)


@dataclass(frozen=True, slots=True)
class Output:
    """One thing that a model answers for a row.

    Parameters
    ----------
    name : str
        The output's name, in replies and as a tensor.
    kind : {"label", "number", "boolean", "by_class", "texts", "time"}
        ``label`` is one of the classes, ``by_class`` a number for each class, ``texts`` a list of
        strings, ``time`` a day or an instant.
    description : str
        One sentence for the documentation.
    """

    name: str
    kind: Literal["label", "number", "boolean", "by_class", "texts", "time"]
    description: str


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of model.

    Parameters
    ----------
    name : str
        How a version names its task.
    outputs : tuple of Output
        What there is for a reply, ``prediction`` first.
    metrics : tuple of Metric
        The figures that training logs and that a gate may ask for.
    predict : callable
        ``(estimator, X) -> Predictions``, with ``X`` of shape (n_samples, n_features).
    folds : {"stratified", "random", "time"}
        How training rows are split for cross-validation.
    target : bool
        Whether training needs a target column.
    """

    name: str
    outputs: tuple[Output, ...]
    metrics: tuple[Metric, ...]
    predict: Callable[[Any, Any], Predictions]
    folds: Literal["stratified", "random", "time"] = "random"
    target: bool = True

    def metric(self, name: str) -> Metric:
        """Return the metric called ``name``.

        Raises
        ------
        AppError
            When the task has no such metric; the message lists those there are.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        known = ", ".join(metric.name for metric in self.metrics)
        problem = f"gate.metric: task {self.name!r} has no {name!r}, only {known}"
        raise AppError(problem, problems=[problem])


def _classify(estimator: Any, X: Any) -> Predictions:
    """Labels and probabilities; the label is the most probable class, the first one on a tie."""
    if not hasattr(estimator, "predict_proba"):
        return Predictions({"prediction": np.asarray(estimator.predict(X))})
    probabilities = np.asarray(estimator.predict_proba(X), dtype=np.float64)
    classes = np.asarray(estimator.classes_)
    return classification_outputs(probabilities, classes)


def classification_outputs(
    probabilities: npt.NDArray[np.float64], classes: npt.NDArray[Any]
) -> Predictions:
    """Make the outputs of a classifier from its probabilities.

    ``probability`` is that of the second class where there are two (the event, for labels 0 and
    1), and that of the predicted class where there are more.

    Examples
    --------
    >>> p = classification_outputs(np.array([[0.9, 0.1]]), np.array([0, 1]))
    >>> int(p.outputs["prediction"][0]), float(p.outputs["probability"][0])
    (0, 0.1)
    """
    best = probabilities.argmax(axis=1)
    two = probabilities.shape[1] == 2
    outputs = {
        "prediction": classes[best],
        "probability": probabilities[:, 1] if two else probabilities.max(axis=1),
        "probabilities": probabilities,
    }
    return Predictions(outputs, tuple(classes.tolist()))


def _regress(estimator: Any, X: Any) -> Predictions:
    values = np.asarray(estimator.predict(X), dtype=np.float64).reshape(-1)
    return Predictions({"prediction": values})


def _detect(estimator: Any, X: Any) -> Predictions:
    """scikit-learn's outlier interface: a low ``score_samples`` and ``predict`` -1 are outliers."""
    scores = -np.asarray(estimator.score_samples(X), dtype=np.float64)
    outputs = {"prediction": np.asarray(estimator.predict(X)) == -1, "score": scores}
    if hasattr(estimator, "explain"):
        reasons = np.empty(len(scores), dtype=object)
        reasons[:] = estimator.explain(X)
        outputs["reasons"] = reasons
    return Predictions(outputs)


def _forecast(estimator: Any, X: Any) -> Predictions:
    """Take ``predict`` to give shape (n_samples, 3): the value and the ends of its interval.

    An estimator may also have ``scale(X)``, for each row what an absolute error is divided by for
    ``mean_absolute_scaled_error``: the mean absolute error, among the rows it was fitted on, of a
    seasonal-naive forecast of the series that the row belongs to.
    """
    values = np.asarray(estimator.predict(X), dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 3:
        raise AppError(
            "a forecast's estimator must predict three columns: prediction, lower, upper",
            advice="give its predict method the shape (n_samples, 3)",
        )
    outputs = {"prediction": values[:, 0], "lower": values[:, 1], "upper": values[:, 2]}
    if hasattr(estimator, "scale"):
        outputs["scale"] = np.asarray(estimator.scale(X), dtype=np.float64).reshape(-1)
    return Predictions(outputs)


classification: Final = Task(
    name="classification",
    outputs=(
        Output("prediction", "label", "The most probable class."),
        Output(
            "probability",
            "number",
            "The probability of the second class; with more than two, of the predicted one.",
        ),
        Output("probabilities", "by_class", "The probability of each class."),
    ),
    metrics=CLASSIFICATION_METRICS,
    predict=_classify,
    folds="stratified",
)

regression: Final = Task(
    name="regression",
    outputs=(Output("prediction", "number", "The expected value."),),
    metrics=REGRESSION_METRICS,
    predict=_regress,
)

anomaly: Final = Task(
    name="anomaly",
    outputs=(
        Output("prediction", "boolean", "Whether the row is anomalous."),
        Output("score", "number", "How anomalous the row is; higher is more so."),
        Output("reasons", "texts", "What about the row is unusual."),
    ),
    metrics=ANOMALY_METRICS,
    predict=_detect,
    target=False,
)

forecast: Final = Task(
    name="forecast",
    outputs=(
        Output("prediction", "number", "The expected value."),
        Output("lower", "number", "The lower end of the interval."),
        Output("upper", "number", "The upper end of the interval."),
        Output("time", "time", "The day or the instant that is forecast."),
    ),
    metrics=FORECAST_METRICS,
    predict=_forecast,
    folds="time",
)

TASKS: Final[dict[str, Task]] = {
    task.name: task for task in (classification, regression, anomaly, forecast)
}
