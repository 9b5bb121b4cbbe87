"""Choosing among candidates by cross-validation on the training rows.

The hold-out plays no part here: it is used once, by the gate.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from greenroom.errors import AppError
from greenroom.evaluation.metrics import Metric, evaluate
from greenroom.model import Model
from greenroom.progress import OnProgress, silent

if TYPE_CHECKING:
    import pandas as pd

LONGEST_PARAM: Final = 250
"""A parameter whose text is longer (a nested estimator, say) tells a reader of a run nothing."""

Folds = Sequence[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]


@dataclass(frozen=True, slots=True)
class CandidateScores:
    """How one candidate did: each metric's mean over the folds, and its standard deviation."""

    name: str
    means: dict[str, float]
    deviations: dict[str, float]

    def flat(self) -> dict[str, float]:
        """Return ``{metric: mean, metric_std: deviation}``, as a run records it."""
        return self.means | {f"{name}_std": value for name, value in self.deviations.items()}


def fit(estimator: Any, X: pd.DataFrame, y: npt.NDArray[Any] | None) -> Any:
    """Fit in place and return the estimator; without a target, on ``X`` alone."""
    return estimator.fit(X) if y is None else estimator.fit(X, y)


def cross_validate(
    model: Model,
    X: pd.DataFrame,
    y: npt.NDArray[Any] | None,
    folds: Folds,
    *,
    on_progress: OnProgress = silent,
) -> list[CandidateScores]:
    """Score every candidate on every fold, with a fresh estimator each time.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_features)
        The training rows after ``features``.
    y : ndarray of shape (n_samples,), optional
    folds : sequence of (train, test)
        Positions of rows.

    Returns
    -------
    list of CandidateScores
        In the order of the candidates.
    """
    names = list(model.candidates(model.seed))
    scores, step, n_steps = [], 0, len(names) * len(folds)
    for name in names:
        rows: list[dict[str, float]] = []
        for train, test in folds:
            on_progress(f"cross-validating {name}", step / n_steps)
            estimator = candidate(model, name)
            fit(estimator, X.iloc[train], None if y is None else y[train])
            predictions = model.task.predict(estimator, X.iloc[test])
            truth = None if y is None else y[test]
            rows.append(evaluate(model.task.metrics, truth, predictions, intervals=False))
            step += 1
        scores.append(_summary(name, rows))
    on_progress("cross-validation done", 1.0)
    return scores


def candidate(model: Model, name: str) -> Any:
    """Return a fresh, unfitted estimator by the candidate's name.

    Raises
    ------
    AppError
        When the app has no such candidate (any more).
    """
    candidates = model.candidates(model.seed)
    if name not in candidates:
        raise AppError(
            f"model {model.name!r} has no candidate {name!r}, only {', '.join(candidates)}"
        )
    return candidates[name]


def candidate_params(model: Model, name: str) -> dict[str, Any]:
    """Return what a run records of a candidate: the app's choice, or what is not at its default."""
    estimator = candidate(model, name)
    if model.params is not None:
        return dict(model.params(estimator))
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    if not hasattr(last, "get_params"):
        return {}
    signature = inspect.signature(type(last)).parameters
    return {
        key: value
        for key, value in last.get_params(deep=False).items()
        if key in signature
        and repr(value) != repr(signature[key].default)
        and len(str(value)) <= LONGEST_PARAM
    }


def best(scores: Sequence[CandidateScores], metric: Metric) -> CandidateScores:
    """Return the best by ``metric``'s mean; the earlier one where two are equal.

    Raises
    ------
    AppError
        When there is no candidate, or the metric is undefined for all of them.
    """
    usable = [score for score in scores if math.isfinite(score.means.get(metric.name, math.nan))]
    if not usable:
        raise AppError(
            f"no candidate has a value for {metric.name}",
            advice="the folds may hold one class only: fewer folds, or more data",
        )
    sign = 1.0 if metric.greater_is_better else -1.0
    return max(usable, key=lambda score: sign * score.means[metric.name])


def _summary(name: str, rows: list[dict[str, float]]) -> CandidateScores:
    metrics = [metric for metric in rows[0] if all(metric in row for row in rows)]
    values = {metric: np.array([row[metric] for row in rows]) for metric in metrics}
    return CandidateScores(
        name,
        {metric: float(column.mean()) for metric, column in values.items()},
        {metric: float(column.std(ddof=1)) for metric, column in values.items()},
    )
