"""Example requests: a typical one for a version's columns, made up where nobody gave one.

What is warmed up with, and what a documentation page may send. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from greenroom.schema import Column, Columns, Schema

_DAY: Final = "2020-01-01"
_INSTANT: Final = "2020-01-01T00:00:00Z"
_TEXT: Final = "text"
"""Not an empty one, which many an estimator takes for missing."""


def example_request(schema: Schema, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return one row of a request, as JSON holds it.

    Parameters
    ----------
    schema : Schema
        The columns of a request.
    given : mapping, optional
        Values by request name or by data name. What it does not hold is a column's own example, or
        a value in the middle of the column's range.

    Examples
    --------
    >>> columns = (Column("age", "integer", minimum=18, maximum=100), Column("ok", "boolean"))
    >>> example_request(Schema(columns), {"ok": True})
    {'age': 59, 'ok': True}
    """
    found = {}
    for column in schema:
        for name in (column.request_name, column.name):
            if given is not None and name in given:
                found[column.request_name] = plain_value(given[name])
                break
        else:
            found[column.request_name] = _example(column)
    return found


def typical_values(schema: Schema, rows: Columns) -> dict[str, Any]:
    """Return a typical value of the data for each column that has no example of its own.

    Numbers and instants give the lower median, text the first value there is; a column that is
    not in ``rows``, or has nothing but missing values, is left out.

    Examples
    --------
    >>> typical_values(Schema((Column("a", "integer"),)), {"a": np.array([1.0, 2.0, 9.0])})
    {'a': 2}
    """
    found = {}
    for column in schema:
        values = rows.get(column.name)
        if column.example is None and values is not None:
            value = _typical(column, values)
            if value is not None:
                found[column.request_name] = value
    return found


def _typical(column: Column, values: npt.NDArray[Any]) -> Any:
    if column.kind == "records":
        return None
    if values.dtype == object:
        return next((value for value in values if value is not None), None)
    known = np.sort(values[~(np.isnat(values) if values.dtype.kind == "M" else np.isnan(values))])
    if not len(known):
        return None
    median = known[(len(known) - 1) // 2]
    if values.dtype.kind == "M":
        text = str(median.astype("datetime64[s]"))
        return text[:10] if column.kind == "date" else f"{text}Z"
    kinds = {"boolean": bool, "integer": int}
    return kinds.get(column.kind, float)(median)


def _example(column: Column) -> Any:
    if column.example is not None:
        return plain_value(column.example)
    match column.kind:
        case "number":
            return _middle(column)
        case "integer":
            middle = _middle(column)
            # Rounded down, unless that falls out of the range.
            down = middle // 1
            return int(down if column.minimum is None or down >= column.minimum else down + 1)
        case "category":
            return column.categories[0]
        case "records":
            return [example_request(Schema(column.columns))]
        case other:
            return {"boolean": False, "string": _TEXT, "date": _DAY, "datetime": _INSTANT}[other]


def _middle(column: Column) -> float:
    """Return the middle of the range; of one that is open, the value in it that is next to 0."""
    low, high = column.minimum, column.maximum
    if low is not None and high is not None:
        return low + (high - low) / 2
    if low is not None:
        return max(float(low), 0.0)
    return min(float(high), 0.0) if high is not None else 0.0


def plain_value(value: Any) -> Any:
    """Return a value as JSON holds it: instants as ISO 8601, numpy's numbers as Python's."""
    if isinstance(value, date | datetime):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value
