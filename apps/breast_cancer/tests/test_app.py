"""The data are scikit-learn's, with request names that JSON callers can use."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

from greenroom.app_loading import load_app

MODEL = load_app(Path(__file__).parents[1]).model()


def test_the_columns_are_scikit_learns_in_its_order():
    given = load_breast_cancer()
    rows = MODEL.dataset()
    assert MODEL.schema.names == tuple(given.feature_names)
    for position, name in enumerate(given.feature_names):
        np.testing.assert_array_equal(rows[name], given.data[:, position])


def test_every_row_lies_in_the_declared_ranges():
    rows = MODEL.dataset()
    for column in MODEL.columns:
        assert column.minimum <= rows[column.name].min()
        assert rows[column.name].max() <= column.maximum


def test_request_names_hold_no_spaces():
    assert all(" " not in column.request_name for column in MODEL.columns)


def test_there_is_a_candidate_for_each_penalty_and_strength():
    params = [MODEL.params(estimator) for estimator in MODEL.candidates(42).values()]
    assert {entry["penalty"] for entry in params} == {"l1", "l2"}
    assert len({(entry["C"], entry["penalty"]) for entry in params}) == len(params) >= 4


def test_the_scaler_is_kept_with_the_run():
    import pickle

    rows = MODEL.dataset()
    matrix = np.column_stack([rows[name] for name in MODEL.schema.names])
    estimator = next(iter(MODEL.candidates(42).values())).fit(matrix, rows[MODEL.target])
    files = MODEL.artifacts(estimator)
    scaler = pickle.loads(files["preprocessing/scaler.pkl"])
    assert scaler.transform(matrix).mean() < 1e-9
