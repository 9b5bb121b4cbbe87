"""The categories that a fitted estimator knows, by column.

scikit-learn's encoders refuse a value that they have not seen, so that an example that is made up
has to be one that they have. Duck-typed, so that scikit-learn is not imported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np


def known_categories(estimator: Any, names: Sequence[str]) -> Mapping[str, tuple[Any, ...]]:
    """Return the values that encoders inside an estimator were fitted on, for the columns they see.

    Parameters
    ----------
    estimator : object
        A pipeline, a column transformer, an encoder, or anything else, which has none.
    names : sequence of str
        The columns that enter it, in order.

    Returns
    -------
    mapping of str to tuple
        Plain values, without missing ones; a column that no encoder sees is left out.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for name, values in _found(estimator, tuple(names)):
        plain = tuple(value for value in np.asarray(values).tolist() if value == value)
        found.setdefault(name, tuple(value for value in plain if value is not None))
    return {name: values for name, values in found.items() if values}


def category_places(estimator: Any, names: Sequence[str]) -> dict[int, tuple[float, ...]]:
    """Return the categories that are numbers, by the position of their column.

    Parameters and the rest as :func:`known_categories`.
    """
    return {
        place: tuple(float(value) for value in values)
        for place, name in enumerate(names)
        if (values := known_categories(estimator, names).get(name))
        and all(isinstance(value, int | float) for value in values)
    }


def _found(estimator: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    categories = getattr(estimator, "categories_", None)
    if isinstance(categories, list | tuple):
        yield from zip(names, categories, strict=False)
    elif hasattr(estimator, "transformers_"):
        for _, step, columns in estimator.transformers_:
            if not isinstance(step, str):
                yield from _found(step, _taken(columns, names))
    elif hasattr(estimator, "steps"):
        for _, step in estimator.steps:
            yield from _found(step, names)
            if not _keeps_columns(step):
                return
    else:
        # A search or a transformed target: what they were fitted with sees the same columns.
        for attribute in ("best_estimator_", "estimator_", "regressor_"):
            fitted = getattr(estimator, attribute, None)
            if fitted is not None:
                yield from _found(fitted, names)
                return


def _taken(columns: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a transformer's columns, however they were chosen."""
    if isinstance(columns, str | int):
        columns = [columns]
    if isinstance(columns, slice):
        return names[columns] if not isinstance(columns.start or columns.stop, str) else ()
    chosen = np.asarray(columns)
    if chosen.dtype.kind == "b":
        chosen = np.flatnonzero(chosen)
    return tuple(
        names[column] if isinstance(column, int) else str(column) for column in chosen.tolist()
    )


def _keeps_columns(step: Any) -> bool:
    """Whether what comes out of a step is the same columns, in the same order."""
    return type(step).__name__ in {
        "SimpleImputer",
        "StandardScaler",
        "MinMaxScaler",
        "RobustScaler",
        "MaxAbsScaler",
    }
