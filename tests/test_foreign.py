"""Models that plain MLflow code logged: what they are called with, and the rows drawn for them."""

from __future__ import annotations

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from builders import foreign, labels, numbers
from greenroom.compiler.placing import landmarks
from greenroom.data.frames import to_frame
from greenroom.inference.foreign import open_foreign, serve_foreign
from greenroom.versions.mlmodel import read_mlmodel

INPUTS = [{"type": "double", "name": "a"}, {"type": "long", "name": "b"}]
ROWS = numbers(60)
FRAME = to_frame(ROWS)


def opened(directory, estimator, inputs=INPUTS, **content):
    return open_foreign(read_mlmodel(foreign(directory, estimator, inputs, **content)), None)


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), SVC()),
        KNeighborsRegressor(),
        xgboost.XGBClassifier(n_estimators=3, n_jobs=1),
        lightgbm.LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1),
    ],
    ids=["SVC", "neighbours", "XGBoost", "LightGBM"],
)
def test_an_estimator_of_numbers_is_called_with_arrays_and_answers_the_same(tmp_path, estimator):
    estimator.fit(FRAME, labels(ROWS))
    runtime = serve_foreign(opened(tmp_path, estimator))
    assert runtime.accepts_matrix
    found = runtime.predict_matrix(FRAME.to_numpy()).outputs["prediction"]
    assert found.tolist() == estimator.predict(FRAME).tolist()


class ByName:
    """Takes a DataFrame alone."""

    def predict(self, X):
        return X["a"].to_numpy() * 2


class Peculiar:
    """Answers an array otherwise than a DataFrame."""

    def predict(self, X):
        return np.full(len(X), 1.0 if isinstance(X, pd.DataFrame) else 2.0)


@pytest.mark.parametrize("estimator", [ByName(), Peculiar()])
def test_an_estimator_that_answers_an_array_otherwise_gets_its_frame(tmp_path, estimator):
    runtime = serve_foreign(opened(tmp_path, estimator))
    assert not runtime.accepts_matrix
    assert runtime.predict(ROWS).outputs["prediction"].tolist() == estimator.predict(FRAME).tolist()


def test_values_that_the_signature_holds_as_float32_are_rounded_in_an_array_too(tmp_path):
    inputs = [{"type": "float", "name": "a"}, {"type": "double", "name": "b"}]
    estimator = LinearRegression().fit(FRAME, ROWS["a"] * 1e6)
    runtime = serve_foreign(opened(tmp_path, estimator, inputs))
    assert runtime.accepts_matrix
    tenth, rounded = np.array([[0.1, 0.1]]), [[float(np.float32(0.1)), 0.1]]
    found = runtime.predict_matrix(tenth).outputs["prediction"]
    np.testing.assert_allclose(found, estimator.predict(pd.DataFrame(rounded, columns=["a", "b"])))
    assert abs(found - estimator.predict(pd.DataFrame(tenth, columns=["a", "b"])))[0] > 1e-4
    assert tenth.tolist() == [[0.1, 0.1]]


def test_a_whole_number_beyond_its_type_is_not_wrapped_around(tmp_path):
    inputs = [{"type": "integer", "name": "a"}]
    frame = opened(tmp_path, ByName(), inputs).frame({"a": np.array([1.0, 3e9])})
    assert frame["a"].tolist() == [1.0, 3e9]


def test_an_estimator_that_refuses_missing_values_is_compared_without_them(tmp_path):
    inputs = [{**entry, "required": False} for entry in INPUTS]
    refusing = make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, labels(ROWS))
    taking = HistGradientBoostingClassifier(max_iter=2).fit(FRAME, labels(ROWS))
    for name, estimator in (("refusing", refusing), ("taking", taking)):
        runtime = serve_foreign(opened(tmp_path / name, estimator, inputs))
        assert runtime.accepts_matrix
    missing = np.full((1, 2), np.nan)
    expected = taking.predict_proba(pd.DataFrame(missing, columns=["a", "b"]))
    found = runtime.predict_matrix(missing).outputs["probabilities"]
    np.testing.assert_array_equal(found, expected)


def test_an_example_that_is_made_up_has_categories_that_the_estimator_knows(tmp_path):
    frame = pd.DataFrame({"t": ["x", "y"] * 10, "n": [3.0, 4.0] * 10})
    encoders = [("t", OneHotEncoder(), ["t"]), ("n", OneHotEncoder(), ["n"])]
    estimator = make_pipeline(ColumnTransformer(encoders), LogisticRegression())
    estimator.fit(frame, [0, 1] * 10)
    inputs = [{"type": "string", "name": "t"}, {"type": "double", "name": "n"}]
    runtime = serve_foreign(opened(tmp_path, estimator, inputs))
    runtime.warm()
    assert runtime.example_values == {"t": "x", "n": 3.0}


def test_rows_are_drawn_where_scalers_and_thresholds_are(tmp_path):
    frame = pd.DataFrame({"a": ROWS["a"] + 5e6, "b": ROWS["b"] / 1e4})
    estimator = make_pipeline(
        StandardScaler(), HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=2)
    ).fit(frame, labels(ROWS))
    inputs = [{"type": "double", "name": "a"}, {"type": "double", "name": "b"}]
    found = opened(tmp_path, estimator, inputs)
    rows = found.draw(400, landmarks(estimator, 2))
    near = (rows[:, 0] > 5e6 - 10) & (rows[:, 0] < 5e6 + 10)
    assert near.mean() > 0.4
    answers = found.apply(found.frame({"a": rows[:, 0], "b": rows[:, 1]})).outputs
    assert len(np.unique(answers["probability"])) > 5


def test_the_first_drawn_row_is_the_example(tmp_path):
    info = {"type": "dataframe", "pandas_orient": "split", "artifact_path": "example.json"}
    found = opened(tmp_path, ByName(), saved_input_example_info=info)
    (tmp_path / "example.json").write_text('{"columns": ["a", "b"], "data": [[1.5, 7]]}')
    found = open_foreign(read_mlmodel(tmp_path), None)
    assert found.draw(5)[0].tolist() == [1.5, 7.0]
