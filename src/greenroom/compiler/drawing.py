"""Rows drawn inside a version's signature, for a version that brings no rows of its data along.

A signature tells types and, where somebody declared them, ranges. What else is known of a column
helps to draw values that matter: an input example, what a scaler was fitted on, the thresholds of
trees. Pure; what the rows are used for is :mod:`greenroom.compiler.parity`'s and
:mod:`greenroom.inference.foreign`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from greenroom.schema import LARGEST_EXACT_INTEGER, Column, Schema

Matrix = npt.NDArray[np.float64]

_DECADES: Final = (-3.0, 6.0)
"""Magnitudes that are drawn where nothing is known of a column, as powers of ten."""


def draw_rows(
    schema: Schema,
    n_rows: int,
    rng: np.random.Generator,
    *,
    landmarks: Matrix | None = None,
    known: Mapping[str, Sequence[Any]] | None = None,
) -> Matrix:
    """Draw rows that a request for these columns could hold, none with a missing value.

    A third of the values of a column lies between its landmarks and a little beyond, a third is
    one of them, and the last is drawn from the column's range, or, where that is open, from
    magnitudes of a thousandth to a million.

    Parameters
    ----------
    schema : Schema
        Columns of numbers, integers and booleans.
    n_rows : int
    rng : Generator
    landmarks : ndarray of shape (n_landmarks, n_columns), optional
        Values that are known of the columns; NaN where there is none.
    known : mapping of str to sequence, optional
        Of some columns, all the values that the estimator accepts.

    Returns
    -------
    ndarray of shape (n_rows, n_columns)

    Examples
    --------
    >>> schema = Schema((Column("age", "integer", minimum=18, maximum=21), Column("ok", "boolean")))
    >>> rows = draw_rows(schema, 1000, np.random.default_rng(0))
    >>> np.unique(rows[:, 0]).tolist(), np.unique(rows[:, 1]).tolist()
    ([18.0, 19.0, 20.0, 21.0], [0.0, 1.0])
    """
    rows = np.empty((n_rows, len(schema)))
    for position, column in enumerate(schema):
        values = (known or {}).get(column.name)
        if values:
            rows[:, position] = rng.choice(np.asarray(values, dtype=np.float64), n_rows)
            continue
        marks = np.empty(0) if landmarks is None else landmarks[:, position]
        rows[:, position] = _draw(column, n_rows, rng, marks[np.isfinite(marks)])
    return rows


def with_missing(rows: Matrix, places: Sequence[int], rng: np.random.Generator) -> Matrix:
    """Return a copy of rows with about a third of the values missing in the columns ``places``."""
    found = rows.copy()
    for position in places:
        found[rng.random(len(rows)) < 1 / 3, position] = np.nan
    return found


def _draw(column: Column, n_rows: int, rng: np.random.Generator, marks: Matrix) -> Matrix:
    if column.kind == "boolean":
        return rng.integers(0, 2, n_rows).astype(np.float64)
    values = _anywhere(column, n_rows, rng)
    if len(marks):
        source = rng.integers(0, 3, n_rows)
        values = np.where(source == 0, rng.choice(marks, n_rows), values)
        values = np.where(source == 1, _between(marks, n_rows, rng), values)
    return _inside(column, values)


def _between(marks: Matrix, n_rows: int, rng: np.random.Generator) -> Matrix:
    low, high = float(marks.min()), float(marks.max())
    beyond = 0.1 * (high - low) or abs(low) or 1.0
    return low - beyond + rng.random(n_rows) * (high - low + 2 * beyond)


def _anywhere(column: Column, n_rows: int, rng: np.random.Generator) -> Matrix:
    low, high = column.minimum, column.maximum
    if low is not None and high is not None:
        return low + rng.random(n_rows) * (high - low)
    wide = rng.choice([-1.0, 1.0], n_rows) * 10 ** rng.uniform(*_DECADES, n_rows)
    values = np.where(rng.random(n_rows) < 0.5, rng.normal(size=n_rows), wide)
    if low is not None:
        return low + np.abs(values)
    return high - np.abs(values) if high is not None else values


def _inside(column: Column, values: Matrix) -> Matrix:
    """Bring values into a column's range, and to whole numbers where it holds those."""
    low = -np.inf if column.minimum is None else column.minimum
    high = np.inf if column.maximum is None else column.maximum
    if column.kind == "integer":
        most = float(LARGEST_EXACT_INTEGER - 1)
        low, high = max(np.ceil(low), -most), min(np.floor(high), most)
        values = np.rint(values)
    return np.clip(values, low, high)
