"""What compiles is proved equal where it would differ first; a wrong graph is not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier

from greenroom.compiling import compile_estimator
from greenroom.errors import NotConvertible
from greenroom.graphs import CompiledGraph
from greenroom.parity import prove
from greenroom.placing import ensembles_in
from greenroom.task import classification, regression

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 4)) * [1.0, 100.0, 1e-3, 1.0]
X[:, 3] = X[:, 3].round(1)
HOLES = X.copy()
HOLES[RNG.random(X.shape) < 0.1] = np.nan
VALUES = X[:, 0] * 3 + np.abs(X[:, 1]) / 50 + X[:, 3]
TWO = (VALUES > 1).astype(int)
THREE = np.array(["low", "mid", "high"])[np.digitize(VALUES, [0, 3])]


def proof(estimator, rows):
    classifies = hasattr(estimator, "predict_proba")
    task = classification if classifies else regression
    outputs = "probabilities" if classifies else "values"
    classes = tuple(estimator.classes_.tolist()) if classifies else ()
    content = compile_estimator(estimator, rows.shape[1], outputs=outputs)
    return prove(
        lambda Z: task.predict(estimator, Z),
        CompiledGraph(content, outputs, classes),
        rows,
        tuple(ensembles_in(estimator)),
    )


SCALED = [StandardScaler(), MinMaxScaler(), MinMaxScaler(clip=True), RobustScaler(), MaxAbsScaler()]


@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize(
    ("estimator", "rows"),
    [
        *((make_pipeline(scaler, LogisticRegression()), X) for scaler in SCALED),
        (make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()), HOLES),
        (HistGradientBoostingClassifier(max_iter=10), HOLES),
        (HistGradientBoostingClassifier(max_iter=10), X),
        (make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=5)), HOLES),
        (make_pipeline(MinMaxScaler(), RandomForestClassifier(5, random_state=0)), X),
        (RandomForestClassifier(10, random_state=0), X),
        (RandomForestClassifier(10, random_state=0), HOLES),
        (ExtraTreesClassifier(5, random_state=0), X),
        (DecisionTreeClassifier(max_depth=3), HOLES),
        (ExtraTreeClassifier(random_state=0), X),
        (DecisionTreeClassifier(max_depth=1, min_samples_leaf=300), X),
        (GradientBoostingClassifier(n_estimators=5), X),
        (
            VotingClassifier(
                [("a", LogisticRegression()), ("b", RandomForestClassifier(3, random_state=0))],
                voting="soft",
                weights=[1, 2],
            ),
            X / [1.0, 100.0, 1e-3, 1.0],
        ),
        (
            make_pipeline(
                ColumnTransformer([("s", StandardScaler(), [2, 0])], remainder="passthrough"),
                LogisticRegression(),
            ),
            X,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore")
def test_a_classifier_is_proved_equal(estimator, rows, y):
    report = proof(estimator.fit(rows, y), rows)
    assert report.passed, report
    assert report.largest_difference < 1e-12
    assert report.flipped == 0
    assert report.thresholds_proved == report.thresholds


@pytest.mark.parametrize(
    ("estimator", "rows"),
    [
        (LinearRegression(), X),
        (make_pipeline(StandardScaler(), Ridge()), X),
        (DecisionTreeRegressor(random_state=0), X),
        (RandomForestRegressor(5, random_state=0), HOLES),
        (HistGradientBoostingRegressor(max_iter=10), HOLES),
        (HistGradientBoostingRegressor(max_iter=5, loss="gamma"), X),
        (GradientBoostingRegressor(n_estimators=5), X),
        (VotingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor(random_state=0))]), X),
        (
            TransformedTargetRegressor(
                HistGradientBoostingRegressor(max_iter=5), func=np.log1p, inverse_func=np.expm1
            ),
            X,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore")
def test_a_regressor_is_proved_equal(estimator, rows):
    report = proof(estimator.fit(rows, np.exp(VALUES / 4)), rows)
    assert report.passed, report
    assert report.largest_difference < 1e-12
    assert report.thresholds_proved == report.thresholds


def test_a_graph_of_floats_agrees_on_the_data_and_fails_the_proof():
    # Values and thresholds that float32 can tell apart, as data so often are.
    rows = RNG.integers(0, 40, (400, 4)) / 8
    estimator = HistGradientBoostingClassifier(max_iter=10).fit(rows, rows.sum(axis=1) > 10)
    exact = CompiledGraph(
        compile_estimator(estimator, 4, outputs="probabilities"), "probabilities", (False, True)
    )

    def floats(Z):
        return exact(Z.astype(np.float32).astype(np.float64))

    def native(Z):
        return classification.predict(estimator, Z)

    np.testing.assert_allclose(
        floats(rows).outputs["probability"], native(rows).outputs["probability"], atol=1e-12
    )
    ensembles = tuple(ensembles_in(estimator))
    report = prove(native, floats, rows, ensembles)
    assert not report.passed
    assert report.largest_difference > 1e-3
    assert prove(native, exact, rows, ensembles).passed


def test_a_flipped_class_fails_the_proof_and_is_counted():
    estimator = LogisticRegression(max_iter=1000).fit(X[:, [0, 3]], TWO)

    def contrary(Z):
        found = classification.predict(estimator, Z)
        flipped = found.outputs["prediction"].copy()
        flipped[:1] = 1 - flipped[:1]
        return type(found)(found.outputs | {"prediction": flipped}, found.classes)

    report = prove(lambda Z: classification.predict(estimator, Z), contrary, X[:, [0, 3]])
    assert not report.passed
    assert report.flipped > 0
    assert "another class" in report.reason


def test_a_graph_that_answers_where_the_estimator_refuses_is_told_to_refuse():
    estimator = LogisticRegression(max_iter=1000).fit(X[:, [0, 3]], TWO)
    report = proof(estimator, X[:, [0, 3]])
    content = compile_estimator(estimator, 2, outputs="probabilities")
    graph = CompiledGraph(
        content, "probabilities", (0, 1), refuses_missing=report.refuses_missing, largest=1e30
    )
    assert report.refuses_missing == (0, 1)
    with pytest.raises(ValueError, match="NaN"):
        graph(np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match="too large"):
        graph(np.array([[1e40, 0.0]]))
    assert len(graph(np.array([[1e30, 0.0]]))) == 1


def test_with_more_thresholds_than_are_taken_every_feature_has_its_share(monkeypatch):
    monkeypatch.setattr("greenroom.parity.MOST_THRESHOLDS", 40)
    estimator = RandomForestClassifier(10, random_state=0).fit(X, TWO)
    report = proof(estimator, X)
    assert report.passed
    assert report.thresholds > report.thresholds_proved == 40


class Own(BaseEstimator):
    def predict_proba(self, Z):
        return np.zeros((len(Z), 2))


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (Own(), "Own of test_parity is not compiled"),
        (
            make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(X, TWO),
            "OneHotEncoder is not compiled",
        ),
        (
            HistGradientBoostingClassifier(categorical_features=[3], max_iter=3).fit(
                np.c_[X[:, :3], X[:, 3].round().clip(0)], TWO
            ),
            "splits by category are not compiled",
        ),
    ],
    ids=["own", "one hot", "categories"],
)
def test_what_does_not_compile_says_why(estimator, reason):
    with pytest.raises(NotConvertible, match=reason):
        compile_estimator(estimator, 4, outputs="probabilities")


def test_trees_behind_a_step_that_cannot_be_followed_back_are_not_proved():
    steps = ColumnTransformer([("s", StandardScaler(), [0])], remainder="passthrough")
    estimator = make_pipeline(steps, DecisionTreeClassifier(max_depth=2)).fit(X, TWO)
    with pytest.raises(NotConvertible, match="followed back through ColumnTransformer"):
        proof(estimator, X)


def boosters():
    xgboost, lightgbm = pytest.importorskip("xgboost"), pytest.importorskip("lightgbm")
    yield xgboost.XGBClassifier(n_estimators=20, max_depth=4), HOLES, TWO
    yield xgboost.XGBClassifier(n_estimators=5, max_depth=3), HOLES, THREE_CODES
    yield xgboost.XGBRegressor(n_estimators=20), X, VALUES
    yield lightgbm.LGBMClassifier(n_estimators=20, verbose=-1), HOLES, TWO
    yield lightgbm.LGBMClassifier(n_estimators=5, verbose=-1), X, THREE
    yield lightgbm.LGBMRegressor(n_estimators=20, verbose=-1), HOLES, VALUES


THREE_CODES = np.digitize(VALUES, [0, 3])


@pytest.mark.filterwarnings("ignore")  # LightGBM's, about names of features
def test_boosters_of_other_libraries_are_proved_equal():
    for estimator, rows, y in boosters():
        report = proof(estimator.fit(rows, y), rows)
        assert report.passed, (estimator, report)
        assert report.thresholds_proved == report.thresholds > 0
