"""Baselines: what a model's candidates have to be better than to be worth their keep.

A baseline is fitted and judged as a candidate is, on the same folds and the same hold-out, and is
never chosen. An app may name its own (last week's profile, say); otherwise there is the one that
knows nothing but the target. Choosing among candidates is
:mod:`greenroom.training.cross_validation`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from greenroom.evaluation.metrics import evaluate
from greenroom.model import Model
from greenroom.progress import OnProgress, silent
from greenroom.training.cross_validation import CandidateScores, candidate, cross_validate, fit
from greenroom.training.fitting import Prepared


@dataclass(frozen=True, slots=True)
class Baseline:
    """How a baseline did: ``scores`` over the folds, ``metrics`` on the hold-out."""

    scores: CandidateScores
    metrics: Mapping[str, float]

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.scores.name


def judge_baselines(prepared: Prepared, *, on_progress: OnProgress = silent) -> list[Baseline]:
    """Fit and judge each baseline of a model.

    Returns
    -------
    list of Baseline
        In the order in which the app gives them; empty where neither it nor the task has one.
    """
    estimators = baselines_of(prepared.model)
    if not estimators(prepared.model.seed):
        return []
    model = replace(prepared.model, candidates=estimators)
    found = cross_validate(
        model, prepared.train_inputs, prepared.train_y, prepared.folds(), on_progress=on_progress
    )
    return [Baseline(scores, _on_holdout(prepared, model, scores.name)) for scores in found]


def _on_holdout(prepared: Prepared, model: Model, name: str) -> dict[str, float]:
    estimator = fit(candidate(model, name), prepared.train_inputs, prepared.train_y)
    predictions = model.task.predict(estimator, prepared.inputs.iloc[prepared.holdout])
    truth = None if prepared.y is None else prepared.y[prepared.holdout]
    return evaluate(model.task.metrics, truth, predictions)


def baselines_of(model: Model) -> Callable[[int], Mapping[str, Any]]:
    """Return ``seed -> {name: estimator}``: the app's own baselines, else its task's."""
    return model.baselines or _BY_TASK.get(model.task.name, _none)


def _none(seed: int) -> Mapping[str, Any]:
    del seed
    return {}


def _mean(seed: int) -> Mapping[str, Any]:
    from sklearn.dummy import DummyRegressor

    del seed  # nothing in it is drawn
    return {"mean of the target": DummyRegressor()}


def _class_shares(seed: int) -> Mapping[str, Any]:
    """Answer the most frequent class, with every class's share as its probability."""
    from sklearn.dummy import DummyClassifier

    return {"most frequent class": DummyClassifier(strategy="prior", random_state=seed)}


_BY_TASK: Final[Mapping[str, Callable[[int], Mapping[str, Any]]]] = {
    "classification": _class_shares,
    "regression": _mean,
}
