from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from builders import (
    COLUMNS,
    classifier,
    foreign,
    labels,
    numbers,
    pickled,
    sklearn_flavors,
    version,
    write_mlmodel,
)
from greenroom.data.frames import to_frame
from greenroom.errors import RequestInvalid, VersionCorrupt, VersionUnloadable
from greenroom.evaluation.evidence import write_context
from greenroom.inference.proving import proved
from greenroom.inference.runtime import load_runtime
from greenroom.schema import Column, matrix
from greenroom.split import Split
from greenroom.versions.manifest import CONTEXT_FILE, MANIFEST_FILE
from servers import FakeServer, deployment

FEATURES = """
def features(columns):
    return {"sum": columns["a"] + columns["b"], "a": columns["a"]}
"""
INPUTS = [{"type": "double", "name": "a"}, {"type": "double", "name": "b"}]


def same(found, expected):
    return all(
        np.array_equal(found.outputs[name], values) for name, values in expected.outputs.items()
    )


def test_a_version_answers_an_array_as_its_estimator_answers_a_frame(tmp_path):
    estimator = classifier()
    runtime = load_runtime(version(tmp_path, estimator=estimator))
    runtime.warm()
    rows = numbers(seed=3)
    expected = estimator.predict_proba(to_frame(rows))
    assert runtime.accepts_matrix
    assert (runtime.kind, runtime.task.name, runtime.classes) == (
        "native",
        "classification",
        (0, 1),
    )
    assert runtime.schema.columns == COLUMNS
    assert np.array_equal(runtime.predict_matrix(matrix(rows)).outputs["probabilities"], expected)
    assert np.array_equal(runtime.predict(rows).outputs["probabilities"], expected)


def test_the_features_of_a_version_are_applied_and_the_steps_for_mlflow_are_not(tmp_path):
    rows = numbers()
    made = {"sum": rows["a"] + rows["b"], "a": rows["a"]}
    estimator = classifier(made)
    runtime = load_runtime(version(tmp_path, estimator=estimator, features=FEATURES))
    runtime.warm()
    assert not runtime.accepts_matrix
    found = runtime.predict(rows).outputs["probabilities"]
    assert np.array_equal(found, estimator.predict_proba(to_frame(made)))


def test_features_other_than_those_of_the_training_never_run(tmp_path):
    directory = version(tmp_path, features=FEATURES)
    (directory / "greenroom/features.py").write_text(
        "raise SystemExit\ndef features(columns): return columns\n"
    )
    with pytest.raises(VersionCorrupt, match=r"features\.py is not the one"):
        load_runtime(directory)
    (directory / "greenroom/features.py").unlink()
    with pytest.raises(VersionCorrupt, match=r"features\.py is missing"):
        load_runtime(directory)


def test_missing_values_go_to_an_estimator_that_knows_them(tmp_path):
    columns = (Column("a", nullable=True), Column("b", "integer", nullable=True))
    rows = numbers(60)
    rows["a"][::3] = np.nan
    estimator = HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=2)
    estimator.fit(to_frame(rows), labels(numbers(60)))
    runtime = load_runtime(version(tmp_path, estimator=estimator, columns=columns, rows=rows))
    X = np.array([[np.nan, np.nan], [1.0, 2.0]])
    expected = estimator.predict_proba(pd.DataFrame(X, columns=["a", "b"]))
    assert np.array_equal(runtime.predict_matrix(X).outputs["probabilities"], expected)


def test_text_columns_reach_the_estimator_in_a_frame(tmp_path):
    columns = (Column("t", "string"), Column("n"))
    rows = {"t": np.array(["001", "1"] * 20, dtype=object), "n": np.arange(40.0)}
    estimator = make_pipeline(
        ColumnTransformer([("t", OneHotEncoder(), ["t"])], remainder="passthrough"),
        LogisticRegression(),
    ).fit(to_frame(rows), [0, 1] * 20)
    runtime = load_runtime(version(tmp_path, estimator=estimator, columns=columns, rows=rows))
    runtime.warm()
    assert not runtime.accepts_matrix
    assert runtime.predict(rows).outputs["prediction"].tolist() == [0, 1] * 20


def test_numbers_picked_by_name_reach_the_estimator_in_a_frame(tmp_path):
    estimator = make_pipeline(
        ColumnTransformer([("b", StandardScaler(), ["b"])]), LogisticRegression()
    ).fit(to_frame(numbers()), labels(numbers()))
    runtime = load_runtime(version(tmp_path, estimator=estimator))
    runtime.warm()
    assert not runtime.accepts_matrix
    found = runtime.predict(numbers()).outputs["probabilities"]
    assert np.array_equal(found, estimator.predict_proba(to_frame(numbers())))


def test_without_a_reference_sample_the_example_decides_about_arrays(tmp_path):
    assert load_runtime(version(tmp_path, reference=False)).accepts_matrix


def test_a_task_of_a_later_greenroom_is_refused(tmp_path):
    directory = version(tmp_path)
    path = directory / MANIFEST_FILE
    path.write_text(path.read_text().replace('"classification"', '"ranking"'))
    with pytest.raises(VersionUnloadable, match=r"'ranking'.*upgrade"):
        load_runtime(directory)


def test_a_version_that_was_trained_elsewhere_is_served_by_its_signature(tmp_path):
    estimator = LinearRegression().fit(to_frame(numbers()), numbers()["a"])
    runtime = load_runtime(foreign(tmp_path, estimator, INPUTS))
    runtime.warm()
    assert runtime.manifest is None
    assert (runtime.task.name, runtime.classes, runtime.schema.names) == (
        "regression",
        (),
        ("a", "b"),
    )
    found = runtime.predict(numbers()).outputs["prediction"]
    np.testing.assert_allclose(found, estimator.predict(to_frame(numbers())), 1e-12)


def test_a_foreign_estimator_gets_the_types_of_its_signature(tmp_path):
    runtime = load_runtime(foreign(tmp_path, Types(), TYPED))
    dtypes = runtime.predict(runtime.example.columns()).outputs["prediction"][0]
    assert dtypes == "int64,int32,float32,bool,datetime64[ns],object"


TYPED = [
    {"type": "long", "name": "l"},
    {"type": "integer", "name": "i"},
    {"type": "float", "name": "f"},
    {"type": "boolean", "name": "b"},
    {"type": "datetime", "name": "d"},
    {"type": "string", "name": "s"},
]


class Types:
    def predict(self, X):
        return np.array([",".join(str(dtype) for dtype in X.dtypes)] * len(X))

    @property
    def classes_(self):
        return np.array(["one"])


def test_a_foreign_classifiers_own_labels_are_kept(tmp_path):
    X, y = to_frame(numbers()), np.where(labels(numbers()), "yes", "no")
    estimator = LogisticRegression().fit(X, y)
    runtime = load_runtime(foreign(tmp_path, Contrary(estimator), INPUTS))
    found = runtime.predict(numbers())
    assert found.outputs["prediction"].tolist() == Contrary(estimator).predict(X).tolist()
    assert runtime.classes == ("no", "yes")
    runtime.warm()


class Contrary:
    """A classifier that does not answer with its most probable class."""

    def __init__(self, estimator):
        self.estimator = estimator
        self.classes_ = estimator.classes_

    def predict_proba(self, X):
        return self.estimator.predict_proba(X)

    def predict(self, X):
        return self.estimator.classes_[self.predict_proba(X).argmin(axis=1)]


@pytest.mark.parametrize("estimator", [LinearSVC(), SVC()], ids=["LinearSVC", "SVC"])
def test_a_classifier_without_probabilities_answers_its_labels(tmp_path, estimator):
    estimator.fit(to_frame(numbers()), labels(numbers()))
    runtime = load_runtime(foreign(tmp_path, estimator, INPUTS))
    runtime.warm()
    assert [output.name for output in runtime.task.outputs] == ["prediction"]
    assert runtime.task.name == "classification"


def test_a_version_without_signature_or_servable_flavour_is_refused(tmp_path):
    with pytest.raises(VersionUnloadable, match="no signature"):
        load_runtime(foreign(tmp_path / "a", LinearRegression(), None))
    write_mlmodel(tmp_path / "b", flavors={"spark": {}}, inputs=INPUTS)
    with pytest.raises(VersionUnloadable, match="only spark"):
        load_runtime(tmp_path / "b")


def test_an_estimator_that_cannot_predict_its_example_is_refused(tmp_path):
    with pytest.raises(VersionUnloadable, match="NotFittedError"):
        load_runtime(foreign(tmp_path, LinearRegression(), INPUTS))


def test_a_model_with_code_of_its_own_is_loaded_with_that_code(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    code = tmp_path / "code"
    code.mkdir()
    (code / "greenroom_carried.py").write_text(
        "import numpy as np\n"
        "class Model:\n    def predict(self, X):\n        return np.ones(len(X))\n"
    )
    sys.path.append(str(code))
    import greenroom_carried

    flavors = sklearn_flavors()
    flavors["sklearn"]["code"] = "code"
    write_mlmodel(tmp_path, flavors=flavors, inputs=INPUTS)
    pickled(greenroom_carried.Model(), tmp_path)
    sys.path.pop()
    monkeypatch.delitem(sys.modules, "greenroom_carried")
    runtime = load_runtime(tmp_path)
    assert runtime.predict(numbers(2)).outputs["prediction"].tolist() == [1.0, 1.0]


def test_a_python_function_of_any_kind_is_served_through_mlflow(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow says about writing models is not ours
        save_python_function(tmp_path / "m")
    runtime = load_runtime(tmp_path / "m")
    runtime.warm()
    rows = {"a": np.array([1.0, 2.5]), "n": np.array([1.0, 2.0])}
    assert runtime.predict(rows).outputs["prediction"].tolist() == [2.0, 5.0]
    assert runtime.task.name == "regression"


def test_serving_a_version_never_imports_mlflow(tmp_path):
    directory = version(tmp_path, features=FEATURES)
    program = (
        "import sys; from pathlib import Path\n"
        "from greenroom.inference.runtime import load_runtime\n"
        "assert not {'sklearn', 'pandas', 'pyarrow', 'mlflow'} & set(sys.modules)\n"
        f"load_runtime(Path({str(directory)!r})).warm()\n"
        "assert 'mlflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def save_python_function(directory):
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    class Doubled(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input: pd.DataFrame, params=None) -> pd.DataFrame:
            return model_input[["a"]] * 2

    mlflow.pyfunc.save_model(
        str(directory),
        python_model=Doubled(),
        signature=ModelSignature(Schema([ColSpec("double", "a"), ColSpec("long", "n")])),
        pip_requirements=["mlflow"],
    )


PAYDAYS = """
import numpy as np


def expand(request, context):
    known = context if request["history"] is None else request["history"]
    if known["amount"].sum() < 0:
        raise ValueError("history", "holds nothing but spending")
    first = known["date"].max().astype("datetime64[D]") + 1
    days = np.arange(first, first + request["days"])
    return {"day": days, "level": np.full(len(days), known["amount"].mean())}


def features(columns):
    weekday = (columns["day"].astype("datetime64[D]").astype(int) + 3) % 7
    return {"level": columns["level"], "weekday": weekday.astype(float)}
"""
AMOUNT = Column("amount", example=2.0)
HISTORY = Column(
    "history",
    "records",
    nullable=True,
    columns=(Column("date", "date", example="2024-02-28"), AMOUNT),
    example=[{"date": "2024-02-28", "amount": 2.0}],
)


class Level:
    """Forecasts the level, one up and one down; errors are divided by 2."""

    def predict(self, X):
        level = X["level"].to_numpy()
        return np.column_stack([level, level - 1, level + 1])

    def scale(self, X):
        return np.full(len(X), 2.0)


@pytest.fixture
def forecasting(tmp_path):
    """A forecast that starts from a context that it carries, or from what is sent."""
    rows = {
        "day": np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[us]"),
        "level": np.array([1.0, 2.0]),
    }
    directory = version(
        tmp_path / "version",
        estimator=Level(),
        columns=(Column("day", "date"), Column("level")),
        rows=rows,
        features=PAYDAYS,
        task="forecast",
        request=(Column("days", "integer", minimum=1, maximum=60, example=2), HISTORY),
        context=("date", "amount"),
        split=Split(time="day"),
        reply={"date": "time", "net": "prediction", "from": "lower", "to": "upper"},
        example={"days": 2, "history": [{"date": "2024-02-28", "amount": 2.0}]},
    )
    days = np.array(["2023-12-30", "2023-12-31"], dtype="datetime64[us]")
    write_context(directory / CONTEXT_FILE, {"date": days, "amount": np.array([4.0, 8.0])})
    return directory


def answers(directory):
    served = proved(deployment(directory=str(directory)), None, load_runtime)
    return served, lambda body: json.loads(served.answer(json.dumps(body).encode()))


def test_a_forecast_starts_from_the_history_that_its_version_carries(forecasting):
    _, answer = answers(forecasting)

    assert answer({"days": 2})["predictions"] == [
        {"date": "2024-01-01", "net": 6.0, "from": 5.0, "to": 7.0},
        {"date": "2024-01-02", "net": 6.0, "from": 5.0, "to": 7.0},
    ]


def test_a_history_that_is_sent_takes_its_place(forecasting):
    _, answer = answers(forecasting)
    sent = [{"date": "2024-02-28", "amount": 1}, {"date": "2024-02-27", "amount": 2}]

    assert answer({"days": 1, "history": sent})["predictions"] == [
        {"date": "2024-02-29", "net": 1.5, "from": 0.5, "to": 2.5}
    ]


def test_what_expand_refuses_is_a_bad_field_by_its_name(forecasting):
    _, answer = answers(forecasting)

    with pytest.raises(RequestInvalid) as refused:
        answer({"days": 1, "history": [{"date": "2024-02-28", "amount": -1}]})
    assert refused.value.problems == ((0, "history", "holds nothing but spending"),)


def test_a_forecast_of_days_that_have_no_date_is_refused(forecasting):
    _, answer = answers(forecasting)
    sent = [{"date": "9999-12-30", "amount": 1}]

    assert len(answer({"days": 1, "history": sent})["predictions"]) == 1
    with pytest.raises(RequestInvalid, match="the request reaches beyond the years 1 to 9999"):
        answer({"days": 2, "history": sent})


def test_a_version_that_lost_its_context_is_corrupt(forecasting):
    (forecasting / CONTEXT_FILE).unlink()

    with pytest.raises(VersionCorrupt, match=r"context\.parquet is missing"):
        load_runtime(forecasting)


def test_the_document_of_a_forecast_says_what_it_takes_and_answers(forecasting):
    served, answer = answers(forecasting)
    server = FakeServer([served])

    document = server.get("/openapi.json").json()

    schemas = document["components"]["schemas"]
    history = schemas["credit.Row"]["properties"]["history"]
    assert history["type"] == ["array", "null"]
    assert (history["minItems"], history["items"]["required"]) == (1, ["date", "amount"])
    assert "history" not in schemas["credit.Row"]["required"]
    operation = document["paths"]["/predict"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["examples"]["one row"]
    assert len(answer(example["value"])["predictions"]) == 2
    row = schemas["credit.Replies"]["properties"]["predictions"]["items"]
    assert list(row["properties"]) == ["date", "net", "from", "to"]
    assert row["properties"]["date"]["type"] == ["string", "null"]
    tensors = server.get("/v2/models/credit").json()
    assert {one["name"]: one["datatype"] for one in tensors["outputs"]} == {
        "prediction": "FP64",
        "lower": "FP64",
        "upper": "FP64",
        "time": "BYTES",
    }
    asked = {"inputs": [{"name": "days", "shape": [1], "datatype": "INT64", "data": [1]}]}
    outputs = server.post("/v2/models/credit/infer", json=asked).json()["outputs"]
    assert {one["name"]: one["data"] for one in outputs}["time"] == ["2024-01-01"]
