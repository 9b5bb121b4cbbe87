from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, PolynomialFeatures, StandardScaler

from greenroom.compiler.categories import known_categories

FRAME = pd.DataFrame({"n": np.arange(12.0), "t": ["x", "y", None] * 4, "c": ["b", "a"] * 6})
NAMES = ("n", "t", "c")
SELECTED = [
    ["t", "c"],
    [1, 2],
    slice(1, 3),
    np.array([False, True, True]),
    make_column_selector(dtype_exclude=np.number),
]


@pytest.mark.parametrize("columns", SELECTED)
def test_encoders_are_found_however_their_columns_are_chosen(columns):
    chosen = ColumnTransformer([("t", OneHotEncoder(), columns)], remainder="passthrough")
    pipeline = make_pipeline(chosen, LogisticRegression()).fit(FRAME, [0, 1] * 6)
    assert known_categories(pipeline, NAMES) == {"t": ("x", "y"), "c": ("a", "b")}


def test_an_encoder_behind_a_search_and_a_scaler_is_found():
    rows = np.array([[1.0, 5.0], [2.0, 6.0]] * 10)
    pipeline = make_pipeline(StandardScaler(with_mean=False, with_std=False), OrdinalEncoder())
    search = GridSearchCV(make_pipeline(pipeline, LogisticRegression()), {}, cv=2)
    search.fit(rows, [0, 1] * 10)
    assert known_categories(search, ("a", "b")) == {"a": (1.0, 2.0), "b": (5.0, 6.0)}


def test_behind_a_step_that_makes_other_columns_nothing_is_known():
    rows = np.array([[1.0], [2.0]])
    pipeline = make_pipeline(PolynomialFeatures(), OrdinalEncoder()).fit(rows)
    assert known_categories(pipeline, ("a",)) == {}


def test_an_estimator_without_encoders_knows_none():
    assert known_categories(LogisticRegression(), NAMES) == {}
    assert known_categories(None, NAMES) == {}
