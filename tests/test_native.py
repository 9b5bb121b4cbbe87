from __future__ import annotations

from datetime import UTC, date, datetime
from types import ModuleType

import numpy as np
import pytest

from greenroom.data.features import FeaturesModule, load_features
from greenroom.errors import FieldProblem, RequestInvalid, RequestMalformed, VersionUnloadable
from greenroom.evaluation.predictions import Predictions
from greenroom.schema import Column, Schema
from greenroom.task import anomaly, classification, forecast, regression
from greenroom.versions.native import NativeRuntime

ONE = Schema((Column("a"),))
RENAMED = Schema((Column("a", request_name="the_a", example=1.0),))
ROWS = {"a": np.array([1.0, np.nan, 3.0])}


def total(X):
    return Predictions({"prediction": np.asarray(X, dtype=np.float64).sum(axis=1)})


def test_arrays_are_taken_when_they_give_the_same():
    runtime = NativeRuntime(schema=ONE, task=regression, apply=total)
    assert not runtime.accepts_matrix
    runtime.take_arrays(ROWS)
    assert runtime.accepts_matrix
    assert runtime.predict_matrix(np.array([[2.0]])).outputs["prediction"].tolist() == [2.0]
    runtime.warm()


@pytest.mark.parametrize(
    "by_name",
    [
        lambda X: total(X[["a"]]),
        lambda X: total(X) if hasattr(X, "columns") else total(X + 1),
        lambda X: Predictions({"prediction": np.full(len(X), 1.0 if hasattr(X, "loc") else 1)}),
    ],
)
def test_an_estimator_that_goes_by_names_keeps_its_frames(by_name):
    seen = []

    def apply(X):
        seen.append(type(X).__name__)
        return by_name(X)

    runtime = NativeRuntime(schema=ONE, task=regression, apply=apply)
    runtime.take_arrays({"a": np.array([1.0, 2.0])})
    assert not runtime.accepts_matrix
    runtime.predict({"a": np.array([5.0])})
    assert seen[-1] == "DataFrame"


def test_text_enters_as_object_and_a_missing_one_as_none():
    seen = []

    def apply(X):
        seen.append(X)
        return Predictions({"prediction": np.ones(len(X))})

    schema = Schema((Column("t", "string", nullable=True), Column("n", "integer", nullable=True)))
    runtime = NativeRuntime(schema=schema, task=regression, apply=apply)
    rows = {"t": np.array(["x", None], dtype=object), "n": np.array([1.0, np.nan])}
    runtime.take_arrays(rows)
    runtime.predict(rows)
    assert not runtime.accepts_matrix
    assert seen[-1]["t"].dtype == object
    assert seen[-1]["t"].tolist() == ["x", None]
    assert seen[-1]["n"].dtype == np.float64


def test_features_are_applied_and_do_not_change_the_columns_of_the_request():
    source = "def features(columns):\n    columns['a'] = columns['a'] * 10\n    return columns\n"
    runtime = NativeRuntime(
        schema=ONE, task=regression, apply=total, features=load_features(source)
    )
    runtime.take_arrays(ROWS)
    rows = {"a": np.array([1.0])}
    assert runtime.predict(rows).outputs["prediction"].tolist() == [10.0]
    assert rows["a"].tolist() == [1.0]
    assert not runtime.accepts_matrix, "a matrix would go past the features"


def test_a_field_that_the_features_refuse_is_named_with_its_row():
    def features(columns):
        unknown = np.flatnonzero(columns["a"] > 9)
        if len(unknown):
            raise ValueError("a", "is not known", int(unknown[0]))
        return columns

    module = FeaturesModule("digest", "", ModuleType("made"), features)
    runtime = NativeRuntime(schema=RENAMED, task=regression, apply=total, features=module)

    with pytest.raises(RequestInvalid, match=r"^row 1: the_a is not known") as refused:
        runtime.predict({"a": np.array([1.0, 10.0])})
    assert refused.value.problems == (FieldProblem(1, "the_a", "is not known"),)
    with pytest.raises(RequestInvalid, match=r"^the_a is not known"):
        runtime.predict({"a": np.array([10.0])})


def test_a_fault_of_the_features_is_no_refusal_of_the_request():
    def features(columns):
        if columns["a"][0] > 9:
            raise ValueError("could not convert 'private'")
        return columns

    module = FeaturesModule("digest", "", ModuleType("made"), features)
    runtime = NativeRuntime(schema=RENAMED, task=regression, apply=total, features=module)

    with pytest.raises(ValueError, match="private"):
        runtime.predict({"a": np.array([10.0])})


def test_features_that_lack_an_input_are_refused_by_its_name():
    source = "def features(columns):\n    return {'other': columns['a']}\n"
    with pytest.raises(VersionUnloadable, match="'a'"):
        NativeRuntime(schema=ONE, task=regression, apply=total, features=load_features(source))


def test_one_request_is_expanded_into_rows_with_plain_values():
    source = (
        "import numpy as np\n"
        "seen = []\n"
        "def features(columns):\n    return columns\n"
        "def expand(request):\n"
        "    seen.append(request)\n"
        "    return {'days': np.arange(request['days'], dtype=float)}\n"
    )
    schema = Schema(
        (
            Column("days", "integer", minimum=3),
            Column("from", "date"),
            Column("at", "datetime"),
            Column("note", "string", nullable=True),
            Column("ok", "boolean"),
            Column("x", nullable=True),
        )
    )
    runtime = NativeRuntime(
        schema=schema,
        task=regression,
        apply=total,
        features=load_features(source),
        inputs=("days",),
    )
    seen = load_features(source).module.seen
    assert seen[-1] == {
        "days": 3,
        "from": date(2020, 1, 1),
        "at": datetime(2020, 1, 1, tzinfo=UTC),
        "note": "text",
        "ok": False,
        "x": 0.0,
    }
    assert type(seen[-1]["days"]) is int
    columns = runtime.example.columns()
    columns["x"][0], columns["note"][0], columns["at"][0] = np.nan, None, np.datetime64("NaT")
    assert len(runtime.predict(columns)) == 3
    assert (seen[-1]["x"], seen[-1]["note"], seen[-1]["at"]) == (None, None, None)
    assert runtime.predict_rows({"days": np.array([4.0])}).outputs["prediction"].tolist() == [4.0]
    runtime.warm()
    with pytest.raises(RequestMalformed, match="several rows from one"):
        runtime.predict({name: np.concatenate([v, v]) for name, v in columns.items()})


def classify(probabilities):
    def apply(X):
        p = np.asarray(probabilities(len(X)), dtype=np.float64)
        outputs = {
            "prediction": np.zeros(len(X), dtype=np.int64),
            "probability": p[:, 1],
            "probabilities": p,
        }
        return Predictions(outputs, (0, 1))

    return apply


@pytest.mark.parametrize(
    ("task", "apply", "said"),
    [
        (classification, classify(lambda n: [[0.5, np.nan]] * n), "probability that is not finite"),
        (
            classification,
            classify(lambda n: [[0.2, 0.3, 0.5]] * n),
            r"\(1, 3\) instead of \(1, 2\)",
        ),
        (
            regression,
            lambda X: Predictions({"prediction": np.ones(3)}),
            r"\(3,\) instead of \(1,\)",
        ),
        (regression, lambda X: Predictions({"prediction": np.array([np.inf])}), "not finite"),
    ],
)
def test_an_answer_of_the_wrong_shape_or_not_finite_is_refused_at_warming(task, apply, said):
    with pytest.raises(VersionUnloadable, match=said):
        NativeRuntime(schema=ONE, task=task, apply=apply).warm()


def test_an_estimator_that_fails_on_its_example_is_refused_with_what_to_do():
    def apply(X):
        raise ZeroDivisionError("division by zero")

    with pytest.raises(VersionUnloadable, match=r"ZeroDivisionError.*input example"):
        NativeRuntime(schema=ONE, task=regression, apply=apply)


def test_a_failure_on_training_rows_tells_its_kind_and_no_value():
    def apply(X):
        if len(X) > 1:
            raise ValueError("could not convert 'private'")
        return Predictions({"prediction": np.ones(1)})

    runtime = NativeRuntime(schema=ONE, task=regression, apply=apply)
    with pytest.raises(VersionUnloadable, match="ValueError") as raised:
        runtime.take_arrays(ROWS)
    assert "private" not in str(raised.value)


def test_an_example_outside_of_its_columns_is_refused():
    schema = Schema((Column("a", minimum=0, maximum=1),))
    with pytest.raises(VersionUnloadable, match="example does not fit"):
        NativeRuntime(schema=schema, task=regression, apply=total, example={"a": 2.0})


def test_the_task_keeps_the_outputs_that_there_are():
    def labels(X):
        return Predictions({"prediction": np.array(["x"] * len(X))})

    def outlier(X):
        return Predictions({"prediction": np.ones(len(X), bool), "score": np.ones(len(X))})

    def interval(X):
        ones = np.ones(len(X))
        return Predictions({"prediction": ones, "lower": ones, "upper": ones})

    def outputs(task, apply):
        runtime = NativeRuntime(schema=ONE, task=task, apply=apply)
        runtime.warm()
        return runtime.task.name, [output.name for output in runtime.task.outputs]

    assert outputs(classification, labels) == ("classification", ["prediction"])
    assert outputs(regression, labels) == ("classification", ["prediction"])
    assert outputs(anomaly, outlier) == ("anomaly", ["prediction", "score"])
    assert outputs(forecast, interval) == ("forecast", ["prediction", "lower", "upper"])
