"""Tasks: how an estimator's methods become outputs."""

from __future__ import annotations

import numpy as np
import pytest

from greenroom.errors import AppError
from greenroom.task import TASKS, anomaly, classification, forecast, regression

X = np.zeros((2, 1))


class Estimator:
    """Answers with what it was given, method by method."""

    def __init__(self, **answers):
        for name, answer in answers.items():
            value = answer
            if name != "classes_":
                value = lambda X, answer=answer: answer  # noqa: E731 - a value of the case
            setattr(self, name, value)


def test_of_two_classes_the_probability_is_that_of_the_second():
    estimator = Estimator(
        classes_=np.array(["no", "yes"]), predict_proba=np.array([[0.9, 0.1], [0.2, 0.8]])
    )

    made = classification.predict(estimator, X)

    assert made.outputs["prediction"].tolist() == ["no", "yes"]
    assert made.outputs["probability"].tolist() == [0.1, 0.8]
    assert made.classes == ("no", "yes")


def test_of_more_classes_it_is_that_of_the_predicted_one():
    estimator = Estimator(
        classes_=np.array([1, 2, 3]), predict_proba=np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])
    )

    made = classification.predict(estimator, X)

    assert made.outputs["prediction"].tolist() == [2, 1]
    assert made.outputs["probability"].tolist() == [0.5, 0.4]


def test_a_classifier_without_probabilities_answers_labels():
    made = classification.predict(Estimator(predict=np.array([1, 0])), X)

    assert list(made.outputs) == ["prediction"]


def test_regression_answers_one_number_a_row_whatever_the_shape():
    made = regression.predict(Estimator(predict=np.array([[1.0], [2.0]])), X)

    assert made.outputs["prediction"].tolist() == [1.0, 2.0]


def test_an_anomaly_has_a_score_that_grows_with_it_and_reasons_where_the_estimator_knows():
    plain = Estimator(predict=np.array([1, -1]), score_samples=np.array([-0.1, -0.9]))
    made = anomaly.predict(plain, X)
    assert made.outputs["prediction"].tolist() == [False, True]
    assert made.outputs["score"].tolist() == [0.1, 0.9]

    explained = Estimator(
        predict=np.array([1, -1]),
        score_samples=np.array([-0.1, -0.9]),
        explain=[[], ["amount is high"]],
    )
    assert anomaly.predict(explained, X).outputs["reasons"].tolist() == [[], ["amount is high"]]


def test_a_forecast_has_an_interval_and_another_shape_is_refused():
    made = forecast.predict(Estimator(predict=np.array([[5.0, 4.0, 6.0]])), X[:1])
    assert {name: float(values[0]) for name, values in made.outputs.items()} == {
        "prediction": 5.0,
        "lower": 4.0,
        "upper": 6.0,
    }
    with pytest.raises(AppError, match="three columns"):
        forecast.predict(Estimator(predict=np.array([5.0])), X[:1])


def test_every_task_answers_a_prediction_first_and_is_found_by_its_name():
    for name, task in TASKS.items():
        assert task.name == name
        assert task.outputs[0].name == "prediction"
        assert len({metric.name for metric in task.metrics}) == len(task.metrics)


def test_a_forecasts_estimator_may_say_what_its_errors_are_divided_by():
    made = forecast.predict(
        Estimator(predict=np.array([[5.0, 4.0, 6.0]]), scale=np.array([2.5])), X[:1]
    )

    assert made.outputs["scale"].tolist() == [2.5]
    assert "scale" not in {output.name for output in forecast.outputs}
