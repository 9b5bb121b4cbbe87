"""Choosing among candidates: fresh estimators, means with their spread, and ties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from greenroom import Column, Gate, Model, regression
from greenroom.errors import AppError
from greenroom.training.cross_validation import (
    CandidateScores,
    best,
    candidate,
    candidate_params,
    cross_validate,
)


class Constant:
    """Predicts one number, and remembers every fit of every instance."""

    fits: list[int]

    def __init__(self, value: float, fits: list[int]) -> None:
        self.value, self.fits = value, fits

    def fit(self, X, y):
        self.fits.append(id(self))
        return self

    def predict(self, X):
        return np.full(len(X), self.value)


def model(fits):
    return Model(
        name="m",
        task=regression,
        columns=[Column("x")],
        dataset="d.csv",
        target="y",
        candidates=lambda seed: {"zero": Constant(0.0, fits), "one": Constant(1.0, fits)},
        gate=Gate("mean_absolute_error"),
    )


X = pd.DataFrame({"x": np.arange(6.0)})
Y = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
FOLDS = [(np.array([2, 3, 4, 5]), np.array([0, 1])), (np.array([0, 1, 2, 3]), np.array([4, 5]))]


def test_every_candidate_is_scored_on_every_fold_with_mean_and_spread():
    zero, one = cross_validate(model([]), X, Y, FOLDS)

    assert (zero.name, one.name) == ("zero", "one")
    assert zero.means["mean_absolute_error"] == 0.5
    assert zero.deviations["mean_absolute_error"] == pytest.approx(np.std([1, 0], ddof=1))
    assert zero.flat()["mean_absolute_error_std"] == zero.deviations["mean_absolute_error"]


def test_each_fold_gets_an_estimator_of_its_own():
    fits: list[int] = []
    cross_validate(model(fits), X, Y, FOLDS)

    assert len(fits) == 4


def test_progress_grows_to_the_end():
    told: list[float | None] = []
    cross_validate(model([]), X, Y, FOLDS, on_progress=lambda text, share: told.append(share))

    assert told == sorted(told)
    assert told[-1] == 1.0


def scores(**means):
    return [CandidateScores(name, {"m": value}, {"m": 0.0}) for name, value in means.items()]


def metric(greater_is_better):
    from greenroom.evaluation.metrics import Metric

    return Metric("m", lambda y, p: 0.0, greater_is_better)


def test_the_best_is_the_highest_or_the_lowest_as_the_metric_points():
    assert best(scores(a=1.0, b=2.0), metric(True)).name == "b"
    assert best(scores(a=1.0, b=2.0), metric(False)).name == "a"


def test_of_two_equal_candidates_the_earlier_one_is_taken():
    assert best(scores(a=1.0, b=1.0), metric(True)).name == "a"


def test_a_candidate_without_a_figure_is_passed_over_and_none_at_all_is_an_error():
    assert best(scores(a=float("nan"), b=0.1), metric(True)).name == "b"
    with pytest.raises(AppError, match="no candidate"):
        best(scores(a=float("nan")), metric(True))


def test_a_run_records_what_is_not_at_its_default_also_of_an_estimator_made_of_others():
    from sklearn.ensemble import VotingClassifier
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    estimators = {
        "ridge": make_pipeline(StandardScaler(), Ridge(alpha=3.0)),
        "voting": VotingClassifier([("a", Ridge())], voting="soft"),
    }
    given = replace(model([]), candidates=lambda seed: estimators)

    assert candidate_params(given, "ridge") == {"alpha": 3.0}
    assert candidate_params(given, "voting")["voting"] == "soft"
    chosen = replace(given, params=lambda estimator: {"C": 1})
    assert candidate_params(chosen, "ridge") == {"C": 1}


def test_an_unknown_candidate_is_answered_with_those_there_are():
    with pytest.raises(AppError, match="zero, one"):
        candidate(model([]), "two")
