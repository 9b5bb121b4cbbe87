"""Figures: what each task shows, and nothing that cannot be drawn."""

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from greenroom.evaluation.metrics import Predictions
from greenroom.task import classification, classification_outputs, regression
from greenroom.training.figures import classification_report, feature_importance, figures_for

RANDOM = np.random.default_rng(0)


def classified(n_classes, n_rows=300):
    truth = RANDOM.integers(0, n_classes, n_rows)
    probabilities = 0.6 * RANDOM.dirichlet(np.ones(n_classes), n_rows)
    return truth, classification_outputs(
        probabilities + 0.4 * np.eye(n_classes)[truth], np.arange(n_classes)
    )


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=50)
    return buffer.getvalue()


def test_two_classes_show_their_curves_and_calibration():
    figures = figures_for("classification", *classified(2), importance={"a": 0.1, "b": -0.01})
    assert list(figures) == [
        "confusion_matrix.png",
        "roc_curve.png",
        "precision_recall_curve.png",
        "calibration_curve.png",
        "feature_importance.png",
    ]
    assert all(png(figure).startswith(b"\x89PNG") for figure in figures.values())


def test_several_classes_show_a_curve_each_and_no_calibration():
    figures = figures_for("classification", *classified(3))
    assert list(figures) == ["confusion_matrix.png", "roc_curve.png", "precision_recall_curve.png"]
    assert len(figures["roc_curve.png"].axes[0].lines) == 1 + 3
    assert all(map(png, figures.values()))


def test_twenty_classes_can_be_drawn():
    assert all(map(png, figures_for("classification", *classified(20)).values()))


def test_curves_are_left_out_where_one_class_is_absent():
    _, predictions = classified(2)
    figures = figures_for("classification", np.zeros(300, dtype=np.int64), predictions)
    assert list(figures) == ["confusion_matrix.png", "calibration_curve.png"]
    assert all(map(png, figures.values()))


def test_a_classifier_without_probabilities_shows_its_confusion_matrix():
    labels = np.array(["low", "high"] * 5, dtype=object)
    figures = figures_for("classification", labels, Predictions({"prediction": labels[::-1]}))
    assert list(figures) == ["confusion_matrix.png"]
    assert png(figures["confusion_matrix.png"])


@pytest.mark.parametrize("n_rows", [50, 5_000])
def test_numbers_show_agreement_and_residuals(n_rows):
    y = RANDOM.normal(size=n_rows)
    figures = figures_for("regression", y, Predictions({"prediction": y * 0.9}))
    assert list(figures) == ["predicted_and_actual.png", "residuals.png"]
    assert all(map(png, figures.values()))


def test_a_forecast_shows_its_interval_with_or_without_truth():
    values = np.sin(np.arange(600) / 20)
    outputs = {"prediction": values, "lower": values - 1, "upper": values + 1}
    known = figures_for("forecast", values, Predictions(outputs))
    unknown = figures_for("forecast", None, Predictions(outputs))
    assert (list(known), list(unknown)) == (["forecast.png", "residuals.png"], ["forecast.png"])
    assert all(map(png, [*known.values(), *unknown.values()]))


def test_anomalies_show_their_scores_and_with_truth_their_curves():
    values = RANDOM.gamma(2, size=400)
    predictions = Predictions({"prediction": values > 5, "score": values})
    assert list(figures_for("anomaly", None, predictions)) == ["scores.png"]
    figures = figures_for("anomaly", (values > 4).astype(np.int64), predictions)
    assert list(figures) == ["scores.png", "roc_curve.png", "precision_recall_curve.png"]
    assert all(map(png, figures.values()))


def test_no_rows_have_no_figures():
    assert figures_for("regression", np.zeros(0), Predictions({"prediction": np.zeros(0)})) == {}


def test_drawing_leaves_matplotlib_s_settings_alone():
    before = dict(mpl.rcParams)
    figures_for("classification", *classified(2))
    assert dict(mpl.rcParams) == before


def test_the_report_names_every_class():
    y, predictions = classified(3)
    report = classification_report(y, predictions)
    lines = [line.split()[:1] for line in report.splitlines() if line]
    assert lines == [["precision"], ["0"], ["1"], ["2"], ["accuracy"], ["macro"], ["weighted"]]
    assert f"{len(y)}" in report


def linear(X):
    return Predictions({"prediction": 3 * X["strong"].to_numpy() + X["weak"].to_numpy()})


@pytest.mark.parametrize("metric", ["r2_score", "mean_absolute_error"])
def test_features_are_listed_by_what_their_loss_costs(metric):
    X = pd.DataFrame(RANDOM.normal(size=(500, 3)), columns=["unused", "weak", "strong"])
    y = linear(X).outputs["prediction"]
    found = feature_importance(linear, X, y, regression.metric(metric), seed=1)
    assert list(found) == ["strong", "weak", "unused"]
    assert found["unused"] == 0
    assert found["weak"] > 0
    assert found == feature_importance(linear, X, y, regression.metric(metric), seed=1)


def test_text_features_keep_their_type_when_shuffled():
    X = pd.DataFrame({"t": pd.Series(["a", None, "b"] * 20, dtype=object), "n": np.arange(60.0)})
    seen = []

    def predict(frame):
        seen.append((frame["t"].dtype, frame["n"].dtype))
        return Predictions({"prediction": frame["n"].to_numpy()})

    feature_importance(predict, X, np.arange(60.0), regression.metric("r2_score"), seed=0)
    assert set(seen) == {(np.dtype(object), np.dtype(np.float64))}


def test_a_metric_that_is_undefined_gives_no_importance():
    X = pd.DataFrame({"a": np.zeros(4)})

    def predict(frame):
        return classification_outputs(np.full((len(frame), 2), 0.5), np.array([0, 1]))

    metric = classification.metric("roc_auc")
    assert feature_importance(predict, X, np.zeros(4, dtype=np.int64), metric, seed=0) == {}
