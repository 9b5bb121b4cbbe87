from __future__ import annotations

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
from greenroom.errors import VersionCorrupt, VersionUnloadable
from greenroom.frames import to_frame
from greenroom.manifest import MANIFEST_FILE
from greenroom.runtime import load_runtime
from greenroom.schema import Column, matrix

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
        "import sys; from pathlib import Path; from greenroom.runtime import load_runtime\n"
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
