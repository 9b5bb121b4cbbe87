"""What compiles is proved equal where it would differ first; a wrong graph is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
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
    StackingClassifier,
    StackingRegressor,
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
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier

from greenroom.compiler.categories import category_places
from greenroom.compiler.compiling import compile_estimator
from greenroom.compiler.graphs import CompiledGraph
from greenroom.compiler.parity import prove
from greenroom.compiler.placing import STEPS, ensembles_in, threshold_rows
from greenroom.errors import NotConvertible
from greenroom.task import classification, regression

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 4)) * [1.0, 100.0, 1e-3, 1.0]
X[:, 3] = X[:, 3].round(1)
HOLES = X.copy()
HOLES[RNG.random(X.shape) < 0.1] = np.nan
VALUES = X[:, 0] * 3 + np.abs(X[:, 1]) / 50 + X[:, 3]
TWO = (VALUES > 1).astype(int)
CODES = np.c_[X[:, 3], (X[:, :1] * 2).round()]
THREE = np.array(["low", "mid", "high"])[np.digitize(VALUES, [0, 3])]


def proof(estimator, rows, **options):
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
        known=category_places(estimator, [str(place) for place in range(rows.shape[1])]),
        **options,
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


def _stack(kind, members, final, **options):
    named = [(f"m{place}", member) for place, member in enumerate(members)]
    return kind(named, final, passthrough=True, **options)


@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
def test_a_stack_of_classifiers_is_proved_equal(y):
    members = [
        DecisionTreeClassifier(max_depth=4),
        make_pipeline(MinMaxScaler(), LogisticRegression()),
    ]
    stack = _stack(StackingClassifier, members, HistGradientBoostingClassifier(max_iter=5))

    report = proof(stack.fit(X, y), X)

    assert report.passed, report
    assert report.largest_difference < 1e-12
    # Of the final trees, those of the columns; what the members answered has no row of its own.
    assert 0 < report.thresholds_proved < report.thresholds


def test_a_stack_of_regressors_is_proved_equal():
    column = ColumnTransformer([("s", "passthrough", [2, 0])])
    members = [make_pipeline(column, RandomForestRegressor(3, random_state=0)), Ridge()]
    for final in (Ridge(), HistGradientBoostingRegressor(max_iter=5)):
        stack = _stack(StackingRegressor, members, final).fit(X, np.exp(VALUES / 4))

        report = proof(stack, X)

        assert report.passed, report
        assert report.largest_difference < 1e-12
        assert report.thresholds_proved > 0


def test_a_stack_whose_columns_do_not_go_through_is_proved_equal_on_its_members():
    stack = StackingRegressor([("a", DecisionTreeRegressor(max_depth=4))], Ridge())

    report = proof(stack.fit(X, VALUES), X)

    assert report.passed, report
    assert report.thresholds_proved == report.thresholds > 0


@pytest.mark.parametrize(
    ("method", "reason"),
    [("decision_function", "a stack of decision functions"), ("predict", "a stack of labels")],
)
def test_a_stack_of_other_than_probabilities_is_not_compiled(method, reason):
    stack = _stack(
        StackingClassifier, [LogisticRegression()], LogisticRegression(), stack_method=method
    )

    with pytest.raises(NotConvertible, match=f"{reason} is not compiled"):
        compile_estimator(stack.fit(X, TWO), X.shape[1], outputs="probabilities")


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


def test_with_more_thresholds_than_are_taken_every_feature_has_its_share():
    estimator = RandomForestClassifier(10, random_state=0).fit(X, TWO)
    report = proof(estimator, X, most_thresholds=40)
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
            make_pipeline(OneHotEncoder(), LogisticRegression()).fit(CODES, TWO),
            "OneHotEncoder that refuses unknown categories",
        ),
        (
            make_pipeline(
                OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=50),
                LogisticRegression(),
            ).fit(CODES, TWO),
            "infrequent categories",
        ),
        (
            make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(
                CODES.astype(str), TWO
            ),
            "OneHotEncoder of texts",
        ),
        (
            HistGradientBoostingClassifier(categorical_features=[3], max_iter=3).fit(
                np.c_[X[:, :3], X[:, 3].round().clip(0)], TWO
            ),
            "splits by category are not compiled",
        ),
    ],
    ids=["own", "unknown", "infrequent", "texts", "categories"],
)
def test_what_does_not_compile_says_why(estimator, reason):
    with pytest.raises(NotConvertible, match=reason):
        compile_estimator(estimator, 4, outputs="probabilities")


@pytest.mark.parametrize("options", [{}, {"drop": "first"}, {"drop": "if_binary"}], ids=str)
@pytest.mark.parametrize("rows", [CODES, np.where(CODES > 1.5, np.nan, CODES)], ids=["all", "gaps"])
@pytest.mark.filterwarnings("ignore")  # scikit-learn's, about categories that it drops
def test_categories_of_numbers_are_proved_on_and_beside_each(rows, options):
    encoder = OneHotEncoder(handle_unknown="ignore", **options)
    estimator = make_pipeline(encoder, LogisticRegression(max_iter=1000)).fit(rows, THREE)
    report = proof(estimator, rows)
    assert report.passed, report
    known = sum(int(np.isfinite(found).sum()) for found in encoder.categories_)
    assert report.rows["categories"] == 8 * known
    assert report.refuses_missing == ()


@pytest.mark.parametrize(
    "last",
    [
        LogisticRegression(max_iter=1000),
        RandomForestClassifier(5, random_state=0),
        HistGradientBoostingClassifier(max_iter=5),
    ],
    ids=lambda last: type(last).__name__,
)
def test_an_imputer_that_adds_indicators_is_proved(last):
    rows = HOLES.copy()
    rows[np.isnan(rows[:, 1]), 1] = 0.0  # a column without gaps has no indicator
    target = np.where(np.isnan(rows[:, 0]), 1, TWO)
    estimator = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), last)
    report = proof(estimator.fit(rows, target), rows)
    assert report.passed, report
    if not isinstance(last, LogisticRegression):
        assert 0 < report.thresholds_proved <= report.thresholds


def test_thresholds_behind_a_step_that_cannot_be_followed_back_are_not_placed():
    steps = PolynomialFeatures(2)
    estimator = make_pipeline(steps, DecisionTreeClassifier(max_depth=2)).fit(X, TWO)
    (placed,) = ensembles_in(estimator)
    with pytest.raises(NotConvertible, match="followed back through PolynomialFeatures"):
        threshold_rows(placed, X, RNG, most=10)


@pytest.mark.parametrize("rows", [X, HOLES], ids=["all", "gaps"])
@pytest.mark.parametrize(
    "last",
    [RandomForestClassifier(5, random_state=0), HistGradientBoostingClassifier(max_iter=5)],
    ids=lambda last: type(last).__name__,
)
@pytest.mark.filterwarnings("ignore")  # scikit-learn's, about names of features
def test_trees_behind_a_column_transformer_are_proved_on_the_columns_they_come_from(last, rows):
    frame = pd.DataFrame(rows, columns=list("abcd"))
    steps = ColumnTransformer(
        [
            ("scaled", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["c"]),
            ("codes", OneHotEncoder(handle_unknown="ignore"), ["d"]),
            ("unused", "drop", ["b"]),
        ],
        remainder="passthrough",
        sparse_threshold=0.0,
    )
    estimator = make_pipeline(steps, last).fit(frame, TWO)
    (placed,) = ensembles_in(estimator)
    made, n_splits = threshold_rows(placed, rows, np.random.default_rng(0), most=10_000)
    features = placed.trees.feature[placed.trees.splits]
    expected = np.isin(placed.passage.column_of(features), [0, 2]).sum()
    assert (len(made) / STEPS, n_splits) == (expected, len(features))
    outputs = compile_estimator(estimator, 4, outputs="probabilities")
    report = prove(
        lambda Z: classification.predict(estimator, pd.DataFrame(Z, columns=list("abcd"))),
        CompiledGraph(outputs, "probabilities", (0, 1)),
        rows,
        (placed,),
        known=category_places(estimator, list("abcd")),
    )
    assert report.passed, report
    assert 0 < report.thresholds_proved == expected


def boosters():
    xgboost, lightgbm = pytest.importorskip("xgboost"), pytest.importorskip("lightgbm")
    yield xgboost.XGBClassifier(n_estimators=20, max_depth=4), HOLES, TWO
    yield xgboost.XGBClassifier(n_estimators=5, max_depth=3), HOLES, THREE_CODES
    yield xgboost.XGBRegressor(n_estimators=20), X, VALUES
    yield Stopped(xgboost.XGBClassifier, n_estimators=200), X, TWO
    yield Stopped(xgboost.XGBClassifier, n_estimators=200), X, THREE_CODES
    yield lightgbm.LGBMClassifier(n_estimators=20, verbose=-1), HOLES, TWO
    yield lightgbm.LGBMClassifier(n_estimators=5, verbose=-1), X, THREE
    yield lightgbm.LGBMRegressor(n_estimators=20, verbose=-1), HOLES, VALUES


class Stopped:
    """Makes an estimator of XGBoost that stops before its last tree."""

    def __init__(self, kind, **options):
        self.estimator = kind(early_stopping_rounds=2, learning_rate=1.0, **options)

    def fit(self, rows, y):
        self.estimator.fit(rows[:300], y[:300], eval_set=[(rows[300:], y[300:])], verbose=False)
        trees = self.estimator.get_booster().num_boosted_rounds()
        assert self.estimator.best_iteration + 1 < trees
        return self.estimator


THREE_CODES = np.digitize(VALUES, [0, 3])


@pytest.mark.filterwarnings("ignore")  # LightGBM's, about names of features
def test_boosters_of_other_libraries_are_proved_equal():
    for estimator, rows, y in boosters():
        report = proof(estimator.fit(rows, y), rows)
        assert report.passed, (estimator, report)
        assert report.thresholds_proved == report.thresholds > 0
