"""What must stay true of this app, whichever candidate is the best."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from greenroom.app_loading import load_app
from greenroom.training.dataset import load_dataset
from greenroom.training.fitting import prepare

FOLDER = Path(__file__).resolve().parents[1]
MODEL = load_app(FOLDER).model()


@pytest.fixture(scope="module")
def prepared():
    return prepare(MODEL, FOLDER, load_dataset(MODEL, FOLDER))


def test_the_columns_are_those_of_scikit_learn_in_their_order():
    from sklearn.datasets import load_breast_cancer

    assert list(MODEL.schema.names) == load_breast_cancer().feature_names.tolist()


def test_no_request_name_holds_a_space():
    assert MODEL.request_schema[0].request_name == "mean_radius"
    assert not any(" " in column.request_name for column in MODEL.columns)


def test_the_coding_of_the_diagnosis_is_scikit_learns(prepared):
    assert len(prepared.y) == 569
    assert np.bincount(prepared.y).tolist() == [212, 357]  # malignant, benign


def test_every_candidate_says_which_penalty_and_strength_it_has():
    params = [MODEL.params(estimator) for estimator in MODEL.candidates(1).values()]

    assert {entry["penalty"] for entry in params} == {"l1", "l2"}
    assert {entry["C"] for entry in params} == {0.01, 0.1, 1.0, 10.0}
    assert len({tuple(entry.items()) for entry in params}) == len(params)


def test_the_l1_penalty_is_one(prepared):
    # A scikit-learn that did not know l1_ratio for this solver would silently use l2.
    estimator = MODEL.candidates(1)["l1, C=0.1"].fit(prepared.train_inputs, prepared.train_y)

    assert (estimator.named_steps["classifier"].coef_ == 0).sum() > 10


def test_the_scaler_file_is_the_scaler_of_the_pipeline(prepared):
    estimator = MODEL.candidates(1)["l2, C=1"].fit(prepared.train_inputs, prepared.train_y)
    files = MODEL.artifacts(estimator)
    scaler = pickle.loads(files["preprocessing/scaler.pkl"])

    assert list(files) == ["preprocessing/scaler.pkl"]
    assert scaler.mean_.tolist() == estimator.named_steps["scaler"].mean_.tolist()


def test_a_typical_candidate_clears_the_gate(prepared):
    from sklearn.metrics import roc_auc_score

    estimator = MODEL.candidates(1)["l2, C=1"].fit(prepared.train_inputs, prepared.train_y)
    held_out = prepared.inputs.iloc[prepared.holdout]
    score = roc_auc_score(prepared.y[prepared.holdout], estimator.predict_proba(held_out)[:, 1])

    assert score >= MODEL.gate.minimum
