"""The way of columns through the steps before an ensemble, and back from a threshold.

Rows for a proof are made where the ensemble's thresholds are, and have to be sent to the estimator
as a whole: so each step has to be undone. Scalers are undone by themselves; an imputer's, an
encoder's and a column transformer's output is brought back to rows that give it. What the rows are
for is :mod:`greenroom.compiler.placing`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from greenroom.errors import NotConvertible

Matrix: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Transform: TypeAlias = Callable[[Matrix], Matrix]

_BY_NAME: Final = frozenset({"ColumnTransformer", "StackingClassifier", "StackingRegressor"})
_SCALERS: Final = frozenset({"StandardScaler", "MinMaxScaler", "RobustScaler", "MaxAbsScaler"})


@dataclass(frozen=True, slots=True)
class Passage:
    """The way from an estimator's columns to those of something inside it, and back.

    Parameters
    ----------
    forward, backward : callable
        ``rows -> rows``; going forward from what ``backward`` gave comes to the same place, where
        there is one that leads there.
    column_of : callable
        For positions of features inside, those of the columns that they come from; -1 for one that
        says something else about a column than its value.
    """

    forward: Transform = lambda X: X
    backward: Transform = lambda Z: Z
    column_of: Callable[[Ints], Ints] = lambda features: features

    def through(self, step: Any) -> Passage:
        """Go on through one more step.

        A step that cannot be undone raises :class:`greenroom.errors.NotConvertible` when rows are
        to come back through it, and not before.
        """
        if step is None or (isinstance(step, str) and step == "passthrough"):
            return self
        if hasattr(step, "steps"):
            passage = self
            for _, inner in step.steps:
                passage = passage.through(inner)
            return passage
        undone, origin = _undone(step)
        return Passage(
            lambda X: _transformed(step, self.forward(X)),
            lambda Z: self.backward(undone(Z)),
            lambda features: _from(self.column_of, origin(features)),
        )


def _undone(step: Any) -> tuple[Transform, Callable[[Ints], Ints]]:
    """Return how a step's output becomes its input again, and which column a feature is of."""
    name = type(step).__name__

    def unfollowed(Z: Matrix) -> Matrix:
        del Z
        raise NotConvertible(f"thresholds cannot be followed back through {name}")

    if name in _SCALERS:
        return lambda Z: np.asarray(step.inverse_transform(Z.copy()), dtype=np.float64), _same
    if name == "FunctionTransformer" and step.func is None:
        return _unchanged, _same
    if name == "SimpleImputer":
        return _unimputed(step)
    if name == "OneHotEncoder":
        return lambda Z: _categories(step, Z), _nothing
    if name == "ColumnTransformer":
        return _joined(step)
    if name.startswith("Stacking") and step.passthrough:
        return _unstacked(step)
    return unfollowed, _same


def _unimputed(imputer: Any) -> tuple[Transform, Callable[[Ints], Ints]]:
    """Undo an imputer: what its indicators call missing is missing again."""
    width = len(imputer.statistics_)
    if not imputer.add_indicator:
        return _unchanged, _same

    def undone(Z: Matrix) -> Matrix:
        rows = Z[:, :width].copy()
        told = imputer.indicator_.features_
        rows[:, told] = np.where(Z[:, width:] > 0.5, np.nan, rows[:, told])
        return rows

    return undone, lambda features: np.where(features < width, features, -1)


def _categories(encoder: Any, Z: Matrix) -> Matrix:
    """Return the first category that a row is said to have; of none, one that is unknown."""
    rows = np.empty((len(Z), len(encoder.categories_)))
    start = 0
    for position, found in enumerate(encoder.categories_):
        if found.dtype.kind not in "fiub":
            raise NotConvertible("thresholds cannot be followed back to texts")
        values = found.astype(np.float64)
        dropped = None if encoder.drop_idx_ is None else encoder.drop_idx_[position]
        absent = np.nanmax(values, initial=0.0) + 1.0 if dropped is None else values[int(dropped)]
        kept = values if dropped is None else np.delete(values, int(dropped))
        block = Z[:, start : start + len(kept)] > 0.5
        start += len(kept)
        chosen = kept[block.argmax(axis=1)] if len(kept) else np.full(len(Z), absent)
        rows[:, position] = np.where(block.any(axis=1), chosen, absent)
    return rows


def _joined(transformer: Any) -> tuple[Transform, Callable[[Ints], Ints]]:
    """Undo a column transformer: each part for itself, columns that none takes are zero."""
    parts = []
    for name, step, _ in transformer.transformers_:
        taken = np.asarray(transformer._transformer_to_input_indices.get(name, ()), dtype=np.int64)
        if not (isinstance(step, str) and step == "drop") and len(taken):
            parts.append((transformer.output_indices_[name], taken, Passage().through(step)))

    def undone(Z: Matrix) -> Matrix:
        rows = np.zeros((len(Z), transformer.n_features_in_))
        for place, taken, passage in parts:
            rows[:, taken] = passage.backward(Z[:, place])
        return rows

    def origin(features: Ints) -> Ints:
        found = np.full(len(features), -1, dtype=np.int64)
        for place, taken, passage in parts:
            inside = (features >= place.start) & (features < place.stop)
            columns = passage.column_of(features[inside] - place.start)
            found[inside] = np.where(columns >= 0, taken[columns], -1)
        return found

    return undone, origin


def _unstacked(stack: Any) -> tuple[Transform, Callable[[Ints], Ints]]:
    """Leave out what a stack's members answered: rows for their thresholds are made apart.

    A row that comes back may get other answers from the members than it was made with, and then it
    reaches another node; on its own feature's threshold it stays.
    """
    width = stack.n_features_in_

    def origin(features: Ints) -> Ints:
        answers = stack.final_estimator_.n_features_in_ - width
        return np.where(features < answers, -1, features - answers)

    return lambda Z: Z[:, -width:], origin


def _transformed(step: Any, X: Matrix) -> Matrix:
    """Call a step with what it was fitted on: a DataFrame where it goes by names."""
    if type(step).__name__ in _BY_NAME and hasattr(step, "feature_names_in_"):
        import pandas as pd

        found = step.transform(pd.DataFrame(X, columns=step.feature_names_in_))
    else:
        found = step.transform(X)
    return np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float64)


def _from(column_of: Callable[[Ints], Ints], features: Ints) -> Ints:
    """Go one step further back, but for the features that come from no column's value."""
    found = np.full(len(features), -1, dtype=np.int64)
    told = features >= 0
    found[told] = column_of(features[told])
    return found


def _unchanged(Z: Matrix) -> Matrix:
    return Z


def _same(features: Ints) -> Ints:
    return features


def _nothing(features: Ints) -> Ints:
    return np.full(len(features), -1, dtype=np.int64)
