"""Predictions: rows taken together, labels put in one order."""

import numpy as np

from greenroom.evaluation.predictions import Predictions, label_positions


def test_taken_rows_are_taken_from_every_output():
    predictions = Predictions(
        {"prediction": np.array([0, 1]), "probabilities": np.eye(2)}, classes=(0, 1)
    )
    taken = predictions.take(np.array([False, True]))
    assert len(taken) == 1
    assert taken.outputs["probabilities"].tolist() == [[0.0, 1.0]]
    assert taken.classes == (0, 1)


def test_labels_keep_the_order_of_the_classes_and_unseen_ones_come_last():
    predictions = Predictions({"prediction": np.array(["no", "yes"], object)}, ("yes", "no"))
    labels, true, said = label_positions(np.array(["maybe", "yes"], object), predictions)
    assert labels == ("yes", "no", "maybe")
    assert (true.tolist(), said.tolist()) == ([2, 0], [1, 0])


def test_whole_floats_and_booleans_are_the_integers_that_they_equal():
    predictions = Predictions({"prediction": np.array([True, False])}, (0, 1))
    labels, true, said = label_positions(np.array([1.0, 0.0]), predictions)
    assert (labels, true.tolist(), said.tolist()) == ((0, 1), [1, 0], [1, 0])
