"""Scores: the same figures as scikit-learn's, ties and all."""

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st

from greenroom.evaluation import scores

decisions = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])),
    min_size=2,
    max_size=40,
).filter(lambda rows: len({event for event, _ in rows}) == 2)


def arrays(rows):
    return np.array([event for event, _ in rows]), np.array([score for _, score in rows])


@given(decisions)
def test_the_areas_are_those_of_scikit_learn(rows):
    positive, values = arrays(rows)
    assert scores.roc_auc(positive, values) == pytest.approx(sk.roc_auc_score(positive, values))
    assert scores.average_precision(positive, values) == pytest.approx(
        sk.average_precision_score(positive, values)
    )


@given(decisions)
def test_the_roc_curve_is_that_of_scikit_learn(rows):
    positive, values = arrays(rows)
    false_rate, true_rate = scores.roc_curve(positive, values)
    expected = sk.roc_curve(positive, values, drop_intermediate=False)
    assert false_rate == pytest.approx(expected[0])
    assert true_rate == pytest.approx(expected[1])


@given(decisions)
def test_the_precision_recall_curve_is_that_of_scikit_learn(rows):
    positive, values = arrays(rows)
    recalls, precisions = scores.precision_recall_curve(positive, values)
    expected = sk.precision_recall_curve(positive, values)
    assert recalls == pytest.approx(expected[1][::-1])
    assert precisions == pytest.approx(expected[0][::-1])


@given(decisions)
def test_decisions_are_judged_as_by_scikit_learn(rows):
    positive, values = arrays(rows)
    decided = values > 0.3
    found = scores.counts(positive, decided)
    assert scores.precision(found) == sk.precision_score(positive, decided, zero_division=0)
    assert scores.recall(found) == sk.recall_score(positive, decided, zero_division=0)
    assert scores.f1_score(found) == pytest.approx(sk.f1_score(positive, decided, zero_division=0))


def test_an_absent_class_leaves_the_area_undefined():
    assert np.isnan(scores.roc_auc(np.array([True, True]), np.array([0.1, 0.2])))
    assert np.isnan(scores.average_precision(np.array([False]), np.array([0.1])))


def test_calibration_bins_have_equal_numbers_of_rows():
    probabilities = np.linspace(0, 1, 1000)
    positive = np.arange(1000) % 2 == 0
    predicted, observed, n_rows = scores.calibration_curve(positive, probabilities)
    assert n_rows.tolist() == [100] * 10
    assert observed == pytest.approx([0.5] * 10, abs=0.01)
    assert (np.diff(predicted) > 0).all()


def test_equal_probabilities_share_one_calibration_bin():
    predicted, observed, n_rows = scores.calibration_curve(
        np.array([True, False, True, True]), np.full(4, 0.7)
    )
    assert (predicted.tolist(), observed.tolist(), n_rows.tolist()) == ([0.7], [0.75], [4])


def test_a_confusion_matrix_counts_labels_that_never_occur():
    matrix = scores.confusion_matrix(np.array([0, 2]), np.array([2, 2]), 3)
    assert matrix.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 1]]
