"""Tensors as the rows of a model: one tensor a column, or one matrix of numbers for all.

The rules for values are the columns' own, as they are for JSON (:mod:`greenroom.payloads.refusal`),
looked at a whole array at a time. All that is wrong is found at once: every bad column is named,
with the first row in which it is bad. What a protocol's body looks like is not known here.

A tensor of text has no null. In a column that may be missing, an element of no bytes is a missing
value, as an empty cell of a data file is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from greenroom.errors import RequestInvalid
from greenroom.payloads.refusal import LARGEST_INTEGER, too_many_rows, value_problem
from greenroom.payloads.request import MAX_ROWS, column_array
from greenroom.protocols.array_rows import ArrayRows
from greenroom.protocols.tensors import NUMBERS, BadTensor, Tensor, invalid_tensors
from greenroom.schema import Column, Schema

__all__ = ["TensorReader", "input_metadata"]

_DATATYPES: Final = {"number": "FP64", "integer": "INT64", "boolean": "BOOL"}
_LARGEST: Final = float(np.finfo(np.float64).max)
_Mask = npt.NDArray[np.bool_]


class TensorReader:
    """What makes rows of the tensors of a model's requests.

    Parameters
    ----------
    schema : Schema
        The columns; a tensor goes by a column's request name.

    Examples
    --------
    >>> reader = TensorReader(Schema((Column("age", "integer", maximum=120), Column("income"))))
    >>> reader.rows([Tensor("x", "FP32", np.array([[40.0, 1.5]]))]).matrix()
    array([[40. ,  1.5]])
    >>> reader.rows([Tensor("age", "INT64", np.array([40.0, 300.0]))])
    Traceback (most recent call last):
    greenroom.errors.RequestInvalid: income is missing; age in row 1 is above the maximum, 120...
    """

    def __init__(self, schema: Schema) -> None:
        self._schema: Final = schema
        self._places: Final = {column.request_name: p for p, column in enumerate(schema)}
        self._lowest: Final = np.array([_limits(column)[0] for column in schema])
        self._highest: Final = np.array([_limits(column)[1] for column in schema])
        self._nullable: Final = np.array([column.nullable for column in schema])
        self._whole: Final = np.flatnonzero([c.kind in {"integer", "boolean"} for c in schema])

    def rows(self, tensors: Sequence[Tensor], *, max_rows: int = MAX_ROWS) -> ArrayRows:
        """Make rows of the tensors of one request.

        Parameters
        ----------
        tensors : sequence of Tensor
            One a column, of shape (n,) or (n, 1), those that may be missing left out or not; or,
            where all columns are numbers, one of shape (n, n_columns) and of any name.

        Raises
        ------
        RequestInvalid
            When there is no row or more than ``max_rows``, or tensors are missing, unknown, given
            twice, of the wrong shape or datatype, or hold values that do not fit their column;
            every one is named.
        """
        n_rows = _n_rows(tensors, max_rows)
        if self._schema.numeric:
            matrix = self._matrix(tensors, n_rows)
            if matrix is not None and self._fits(matrix):
                return ArrayRows(self._schema, matrix)
        return _rows(self._schema, tensors, n_rows)

    def _matrix(self, tensors: Sequence[Tensor], n_rows: int) -> npt.NDArray[np.float64] | None:
        """Return all values in one matrix; None where a tensor is not as it should be."""
        whole = _whole(self._schema, tensors)
        if whole is not None:
            return whole.values if whole.datatype != "BOOL" else None
        matrix = np.full((n_rows, len(self._schema)), np.nan)
        given = set()
        for tensor in tensors:
            place = self._places.get(tensor.name)
            if place is None or place in given or tensor.values.size != n_rows:
                return None
            if tensor.datatype not in NUMBERS and (
                tensor.datatype != "BOOL" or self._schema[place].kind != "boolean"
            ):
                return None
            given.add(place)
            matrix[:, place] = tensor.values.reshape(-1)
        return matrix

    def _fits(self, matrix: npt.NDArray[np.float64]) -> bool:
        """Whether every value fits its column: the quick proof that there is nothing to name."""
        fits = (matrix >= self._lowest) & (matrix <= self._highest)
        if len(self._whole):
            whole = matrix[:, self._whole]
            fits[:, self._whole] &= np.floor(whole) == whole
        return bool(fits.all() or (fits | (np.isnan(matrix) & self._nullable)).all())


def _limits(column: Column) -> tuple[float, float]:
    """Return the least and the greatest value of a column; no infinity lies between them."""
    largest = {"integer": float(LARGEST_INTEGER), "boolean": 1.0}.get(column.kind, _LARGEST)
    low = 0.0 if column.kind == "boolean" else -largest
    minimum = low if column.minimum is None else max(low, column.minimum)
    return minimum, largest if column.maximum is None else min(largest, column.maximum)


def _rows(schema: Schema, tensors: Sequence[Tensor], n_rows: int) -> ArrayRows:
    """Make rows column by column, and name whatever is wrong."""
    whole = _whole(schema, tensors)
    named = _by_column(schema, tensors) if whole is None else _split(schema, whole)
    problems = _problems(schema, tensors) if whole is None else {}
    arrays = []
    for column in schema:
        tensor = named.get(column.request_name)
        if tensor is None:
            arrays.append(column_array(column.kind, [None] * n_rows))
            continue
        try:
            arrays.append(_column(column, tensor))
        except BadTensor as error:
            problems.setdefault(column.request_name, str(error))
    if problems:
        raise invalid_tensors(problems)
    return ArrayRows(schema, arrays if whole is None else whole.values)


def input_metadata(schema: Schema) -> list[dict[str, Any]]:
    """Describe the tensors that a model takes, one a column.

    Examples
    --------
    >>> input_metadata(Schema((Column("age", "integer"),)))
    [{'name': 'age', 'datatype': 'INT64', 'shape': [-1]}]
    """
    return [
        {
            "name": column.request_name,
            "datatype": _DATATYPES.get(column.kind, "BYTES"),
            "shape": [-1],
        }
        for column in schema
    ]


def _whole(schema: Schema, tensors: Sequence[Tensor]) -> Tensor | None:
    """Return the one tensor that holds all columns, where it is sent like that."""
    if len(tensors) != 1 or not schema.numeric or tensors[0].datatype == "BYTES":
        return None
    shape = tensors[0].values.shape
    return tensors[0] if len(shape) == 2 and shape[1] == len(schema) else None


def _split(schema: Schema, whole: Tensor) -> dict[str, Tensor]:
    columns = zip(schema, whole.values.T, strict=True)
    return {c.request_name: Tensor(c.request_name, whole.datatype, v) for c, v in columns}


def _by_column(schema: Schema, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    known = {column.request_name for column in schema}
    return {tensor.name: tensor for tensor in tensors if tensor.name in known}


def _n_rows(tensors: Sequence[Tensor], max_rows: int) -> int:
    """Return how many rows there are, of the longest tensor where they differ."""
    n_rows = max(len(tensor.values) for tensor in tensors)
    if not n_rows:
        raise RequestInvalid("the tensors hold no row", (), advice="send at least one row")
    if n_rows > max_rows:
        raise too_many_rows(n_rows, max_rows)
    return n_rows


def _problems(schema: Schema, tensors: Sequence[Tensor]) -> dict[str, str]:
    """Say which tensors are missing, unknown or given twice, and whether their lengths differ."""
    names = Counter(tensor.name for tensor in tensors)
    known = {column.request_name for column in schema}
    numbers = tensors[0].datatype != "BYTES"
    if len(tensors) == 1 and schema.numeric and numbers and not names.keys() & known:
        shape = list(tensors[0].values.shape)
        return {tensors[0].name: f"has the shape {shape} instead of [n, {len(schema)}]"}
    problems = {name: "is given twice" for name, times in names.items() if times > 1}
    problems |= {
        column.request_name: "is missing"
        for column in schema
        if not column.nullable and column.request_name not in names
    }
    problems |= {name: "is unknown" for name in names if name not in known}
    if len({len(tensor.values) for tensor in tensors}) > 1:
        problems[""] = "the tensors differ in how many rows they have"
    return problems


def _column(column: Column, tensor: Tensor) -> npt.NDArray[Any]:
    """Return a column's array; raises what is wrong with the tensor or with its first bad value."""
    shape = tensor.values.shape
    if len(shape) != 1 and shape[1] != 1:
        raise BadTensor(f"has the shape {list(shape)} instead of [n] or [n, 1]")
    datatype = _DATATYPES.get(column.kind, "BYTES")
    numbers = tensor.datatype in NUMBERS and column.numeric
    if tensor.datatype != datatype and not numbers:
        raise BadTensor(f"has the datatype {tensor.datatype} instead of {datatype}")
    values = tensor.values.reshape(-1)
    return _numbers(column, values) if column.numeric else _texts(column, values)


def _numbers(column: Column, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    bad = _bad_numbers(column, values)
    if bad.any():
        _refuse(bad, lambda row: _number_problem(column, float(values[row])))
    return values


def _bad_numbers(column: Column, values: npt.NDArray[np.float64]) -> _Mask:
    """Return where a value breaks a rule; NaN, a missing value, breaks but one."""
    bad: _Mask = np.isinf(values)
    if not column.nullable:
        bad |= np.isnan(values)
    if column.kind == "boolean":
        bad |= (values != 0) & (values != 1) & ~np.isnan(values)
    if column.kind == "integer":
        bad |= (np.floor(values) != values) & ~np.isnan(values)
        bad |= np.abs(values) > LARGEST_INTEGER
    if column.minimum is not None:
        bad |= values < column.minimum
    if column.maximum is not None:
        bad |= values > column.maximum
    return bad


def _number_problem(column: Column, value: float) -> str:
    if np.isnan(value):
        return "must not be null or NaN"
    return value_problem(column, value)


def _texts(column: Column, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    texts: list[Any] = values.tolist()
    if column.nullable:
        texts = [None if text == "" else text for text in texts]
    # Those values are looked at that have not been seen: a category is often repeated.
    known = {text: _text_problem(column, text) for text in set(texts)}
    problems = [known[text] for text in texts]
    bad = np.array([bool(problem) for problem in problems], dtype=np.bool_)
    if bad.any():
        _refuse(bad, lambda row: problems[row])
    as_time: type | None = {"date": date, "datetime": datetime}.get(column.kind)
    if as_time is not None:
        texts = [None if text is None else msgspec.convert(text, as_time) for text in texts]
    return column_array(column.kind, texts)


def _text_problem(column: Column, text: str | None) -> str:
    if text is not None and "\x00" in text:
        return "holds a zero byte"
    return value_problem(column, text)


def _refuse(bad: _Mask, problem: Callable[[int], str]) -> None:
    """Raise what is wrong in the first bad row, and in how many it is."""
    rows = np.flatnonzero(bad)
    more = f", and {len(rows) - 1} more rows are bad" if len(rows) > 1 else ""
    raise BadTensor(f"in row {rows[0]} {problem(int(rows[0]))}{more}")
