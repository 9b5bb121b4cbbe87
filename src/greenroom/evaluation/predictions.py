"""Predictions: what a model said about some rows, as one value for all tasks.

How an estimator's methods become outputs is :mod:`greenroom.task`'s business, judging them
:mod:`greenroom.evaluation.metrics`', and writing them into a reply
:mod:`greenroom.payloads.reply`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model said about some rows.

    Parameters
    ----------
    outputs : dict of str to ndarray
        One array a task output, each with n_samples entries first: ``prediction`` always; for
        classifiers ``probability`` of shape (n_samples,) and ``probabilities`` of shape
        (n_samples, n_classes); for forecasts ``lower`` and ``upper``.
    classes : tuple
        For classifiers: the label of each column of ``probabilities``.
    """

    outputs: dict[str, npt.NDArray[Any]]
    classes: tuple[Any, ...] = ()
    _plain: dict[str, list[Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.outputs["prediction"])

    def plain(self, name: str) -> list[Any]:
        """Return an output as Python's own values, one for each row; made once for all who ask.

        Examples
        --------
        >>> Predictions({"prediction": np.array([0.5, 1.5])}).plain("prediction")
        [0.5, 1.5]
        """
        values = self._plain.get(name)
        if values is None:
            values = self._plain[name] = self.outputs[name].tolist()
        return values

    def all_plain(self) -> list[list[Any]]:
        """Return every output as :meth:`plain` does, in their order."""
        made = {name: values.tolist() for name, values in self.outputs.items()}
        self._plain.update(made)
        return list(made.values())

    def is_plain(self, name: str) -> bool:
        """Whether an output has been turned into plain values before."""
        return name in self._plain

    def take(self, rows: npt.NDArray[Any]) -> Predictions:
        """Return the predictions for ``rows``, given as positions or as a boolean mask."""
        return Predictions(
            {name: values[rows] for name, values in self.outputs.items()}, self.classes
        )

    def part(self, first: int, end: int) -> Predictions:
        """Return the predictions for the rows from ``first`` up to ``end``, without a copy."""
        return Predictions(
            {name: values[first:end] for name, values in self.outputs.items()}, self.classes
        )


def label_positions(
    y: npt.NDArray[Any], predictions: Predictions
) -> tuple[tuple[Any, ...], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the labels, and of each row the position of the true and of the predicted one.

    The labels are the classes that the model knows, in its order, then those that it has never
    seen; of a model that does not say its classes, all that occur.

    Examples
    --------
    >>> p = Predictions({"prediction": np.array(["b", "a"])}, ("a", "b"))
    >>> label_positions(np.array(["b", "c"]), p)
    (('a', 'b', 'c'), array([1, 2]), array([1, 0]))
    """
    true_values, true_place = np.unique(y, return_inverse=True)
    said_values, said_place = np.unique(predictions.outputs["prediction"], return_inverse=True)
    occurring = {**dict.fromkeys(true_values.tolist()), **dict.fromkeys(said_values.tolist())}
    known = predictions.classes or tuple(sorted(occurring))
    labels = (*known, *(label for label in occurring if label not in known))
    place = {label: position for position, label in enumerate(labels)}
    true_of = np.array([place[value] for value in true_values.tolist()], dtype=np.intp)
    said_of = np.array([place[value] for value in said_values.tolist()], dtype=np.intp)
    return labels, true_of[true_place], said_of[said_place]
