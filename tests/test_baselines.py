"""Baselines: fitted and judged as candidates are, and never chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from greenroom import Column, Gate, Model, anomaly, classification, regression
from greenroom.training.baselines import judge_baselines
from greenroom.training.dataset import load_dataset
from greenroom.training.fitting import prepare


def _model(task=regression, **more) -> Model:
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    target = (x > 1.0).astype(float) if task is classification else 3.0 * x
    return Model(
        name="some",
        task=task,
        columns=(Column("x"),),
        dataset=lambda: {"x": x, "y": target},
        target="y" if task.target else "",
        candidates=lambda _: {},
        gate=Gate(task.metrics[0].name),
        **more,
    )


def _judged(model: Model, tmp_path):
    prepared = prepare(model, tmp_path, load_dataset(model, tmp_path))
    return prepared, judge_baselines(prepared)


def test_a_regression_is_shown_beside_the_mean_of_its_training_rows(tmp_path):
    prepared, (line,) = _judged(_model(), tmp_path)

    truth = prepared.y[prepared.holdout]
    error = np.sqrt(np.mean((truth - prepared.train_y.mean()) ** 2))
    assert line.name == "mean of the target"
    assert line.metrics["root_mean_squared_error"] == pytest.approx(error)
    assert line.scores.means["root_mean_squared_error"] == pytest.approx(3.0, rel=0.2)


def test_a_classification_is_shown_beside_its_most_frequent_class(tmp_path):
    prepared, (line,) = _judged(_model(classification), tmp_path)

    share = 1.0 - prepared.y[prepared.holdout].mean()
    assert line.name == "most frequent class"
    assert line.metrics["accuracy"] == pytest.approx(share)
    assert line.metrics["roc_auc"] == 0.5


def test_an_apps_own_baselines_take_the_place_of_the_tasks(tmp_path):
    from sklearn.dummy import DummyRegressor

    model = _model(
        baselines=lambda _: {
            "zero": DummyRegressor(strategy="constant", constant=0.0),
            "median": DummyRegressor(strategy="median"),
        }
    )
    _, found = _judged(model, tmp_path)

    assert [line.name for line in found] == ["zero", "median"]


def test_a_task_without_a_baseline_has_none(tmp_path):
    model = _model(anomaly)

    assert _judged(replace(model, dataset=lambda: {"x": np.arange(50.0)}), tmp_path)[1] == []
