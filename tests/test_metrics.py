"""Metrics: scikit-learn's figures under scikit-learn's names, and none where there is none."""

import subprocess
import sys

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st

from greenroom.evaluation.metrics import (
    ANOMALY_METRICS,
    CLASSIFICATION_METRICS,
    FORECAST_METRICS,
    REGRESSION_METRICS,
    Predictions,
    evaluate,
)
from greenroom.task import TASKS, classification_outputs


def classified(seed, n_classes, labels, n_rows=200):
    random = np.random.default_rng(seed)
    truth = random.integers(0, n_classes, n_rows)
    noise = random.dirichlet(np.ones(n_classes), n_rows)
    probabilities = 0.7 * noise + 0.3 * np.eye(n_classes)[truth]
    return labels[truth], classification_outputs(probabilities, labels)


def figures_of_scikit_learn(y, p, average, **options):
    said, probabilities = p.outputs["prediction"], p.outputs["probabilities"]
    two = len(p.classes) == 2
    scored = probabilities[:, 1] if two else probabilities
    one_hot = np.stack([y == label for label in p.classes], axis=1)
    return {
        "accuracy": sk.accuracy_score(y, said),
        "balanced_accuracy": sk.balanced_accuracy_score(y, said),
        "precision": sk.precision_score(y, said, average=average, **options),
        "recall": sk.recall_score(y, said, average=average, **options),
        "f1_score": sk.f1_score(y, said, average=average, **options),
        "roc_auc": sk.roc_auc_score(y, scored, multi_class="ovr"),
        "average_precision": sk.average_precision_score(one_hot[:, 1] if two else one_hot, scored),
        "log_loss": sk.log_loss(y, probabilities, labels=list(p.classes)),
        "brier_score_loss": sk.brier_score_loss(
            y, scored, labels=list(p.classes), **({"pos_label": p.classes[1]} if two else {})
        ),
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labels", [np.array([0, 1]), np.array(["bad", "good"], dtype=object)])
def test_two_classes_are_judged_as_by_scikit_learn(seed, labels):
    y, p = classified(seed, 2, labels)
    expected = figures_of_scikit_learn(y, p, "binary", pos_label=labels[1])
    assert evaluate(CLASSIFICATION_METRICS, y, p, intervals=False) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_several_classes_are_judged_by_the_mean_over_them_as_by_scikit_learn(seed):
    y, p = classified(seed, 4, np.array([2, 3, 5, 7]))
    expected = figures_of_scikit_learn(y, p, "macro")
    assert evaluate(CLASSIFICATION_METRICS, y, p, intervals=False) == pytest.approx(expected)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_every_figure_of_a_classifier_has_an_interval_that_holds_it(n_classes):
    y, p = classified(0, n_classes, np.arange(n_classes))
    figures = evaluate(CLASSIFICATION_METRICS, y, p)
    for metric in CLASSIFICATION_METRICS:
        name = metric.name
        assert figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"]


@pytest.mark.parametrize("n_rows", [8, 500])
def test_every_figure_of_numbers_has_an_interval_that_holds_it(n_rows):
    random = np.random.default_rng(2)
    y = random.normal(10, 2, n_rows)
    outputs = {"prediction": y + random.normal(size=n_rows), "scale": np.full(n_rows, 1.5)}
    p = Predictions(outputs | {"lower": y - random.random(n_rows), "upper": y + 1})
    figures = evaluate(REGRESSION_METRICS, y, p) | evaluate(FORECAST_METRICS, y, p)
    for metric in (*REGRESSION_METRICS, *FORECAST_METRICS):
        name = metric.name
        assert figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"]


def test_a_curve_is_left_out_where_one_class_is_absent():
    _, p = classified(0, 2, np.array([0, 1]))
    figures = evaluate(CLASSIFICATION_METRICS, np.zeros(200, dtype=np.int64), p)
    assert not {"roc_auc", "average_precision"} & set(figures)
    assert "accuracy" in figures


def test_a_classifier_without_probabilities_is_judged_by_its_labels():
    p = Predictions({"prediction": np.array(["a", "b", "b"], dtype=object)})
    figures = evaluate(CLASSIFICATION_METRICS, np.array(["a", "b", "a"], dtype=object), p)
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert not {"roc_auc", "log_loss"} & set(figures)


def test_a_class_that_the_model_never_saw_counts_as_wrong():
    p = classification_outputs(np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]), np.array([0, 1]))
    figures = evaluate(CLASSIFICATION_METRICS, np.array([0, 1, 2]), p)
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert "log_loss" not in figures


@given(st.lists(st.tuples(st.floats(1, 1e3), st.floats(1, 1e3)), min_size=2, max_size=30))
def test_numbers_are_judged_as_by_scikit_learn(rows):
    y, said = np.array(rows).T
    expected = {
        "root_mean_squared_error": sk.root_mean_squared_error(y, said),
        "mean_absolute_error": sk.mean_absolute_error(y, said),
        "median_absolute_error": sk.median_absolute_error(y, said),
        "mean_absolute_percentage_error": sk.mean_absolute_percentage_error(y, said),
    }
    if np.sum((y - y.mean()) ** 2) > 1e-6:
        expected["r2_score"] = sk.r2_score(y, said)
    found = evaluate(REGRESSION_METRICS, y, Predictions({"prediction": said}), intervals=False)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_a_relative_error_is_left_out_where_a_truth_is_zero():
    p = Predictions({"prediction": np.array([1.0, 2.0])})
    assert "mean_absolute_percentage_error" not in evaluate(
        REGRESSION_METRICS, np.array([0.0, 1.0]), p
    )
    assert "r2_score" not in evaluate(REGRESSION_METRICS, np.array([1.0, 1.0]), p)


def test_a_forecast_is_judged_by_its_interval_too():
    p = Predictions(
        {
            "prediction": np.array([1.0, 2.0, 3.0]),
            "lower": np.array([0.0, 1.0, 3.0]),
            "upper": np.array([2.0, 4.0, 5.0]),
        }
    )
    figures = evaluate(FORECAST_METRICS, np.array([1.0, 5.0, 3.0]), p)
    assert figures["interval_coverage"] == pytest.approx(2 / 3)
    assert figures["interval_width"] == pytest.approx(7 / 3)
    assert figures["interval_coverage_low"] < 2 / 3 < figures["interval_coverage_high"]


@pytest.mark.parametrize("y", [None, np.full(4, np.nan)])
def test_without_truth_only_what_needs_none_is_computed(y):
    p = Predictions({"prediction": np.array([True, False, False, False]), "score": np.arange(4.0)})
    figures = evaluate(ANOMALY_METRICS, y, p)
    assert set(figures) == {"anomaly_rate", "anomaly_rate_low", "anomaly_rate_high"}
    assert figures["anomaly_rate"] == 0.25


def test_anomalies_with_truth_are_judged_by_flags_and_by_scores():
    y = np.array([1, 1, 0, 0])
    p = Predictions(
        {"prediction": np.array([True, False, True, False]), "score": np.array([4.0, 3, 2, 1])}
    )
    figures = evaluate(ANOMALY_METRICS, y, p, intervals=False)
    assert (figures["precision"], figures["recall"], figures["roc_auc"]) == (0.5, 0.5, 1.0)


def test_no_rows_have_no_figures():
    p = Predictions({"prediction": np.zeros(0)})
    assert evaluate(REGRESSION_METRICS, np.zeros(0), p) == {}


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_errors_losses_and_widths_are_better_lower(task):
    lower = ("_error", "_loss", "_width", "_rate")
    for metric in task.metrics:
        assert metric.greater_is_better != metric.name.endswith(lower), metric.name
    assert len({metric.name for metric in task.metrics}) == len(task.metrics)


def test_importing_tasks_does_not_import_what_is_heavy():
    script = (
        "import sys, greenroom.task;"
        "sys.exit(bool({'sklearn', 'scipy', 'pandas', 'pyarrow', 'mlflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_scaled_error_is_that_of_a_model_against_a_naive_forecasts_in_training():
    outputs = {"prediction": np.array([1.0, 2.0, 3.0]), "scale": np.array([2.0, 2.0, 4.0])}
    y = np.array([2.0, 2.0, 1.0])

    figures = evaluate(FORECAST_METRICS, y, Predictions(outputs | ENDS))

    assert figures["mean_absolute_scaled_error"] == pytest.approx((0.5 + 0.0 + 0.5) / 3)


@pytest.mark.parametrize("scale", [{}, {"scale": np.array([1.0, 0.0, 1.0])}])
def test_a_scaled_error_is_left_out_without_a_scale_or_with_one_of_zero(scale):
    outputs = {"prediction": np.ones(3)} | scale | ENDS

    assert "mean_absolute_scaled_error" not in evaluate(
        FORECAST_METRICS, np.zeros(3), Predictions(outputs)
    )


ENDS = {"lower": np.zeros(3), "upper": np.full(3, 4.0)}
