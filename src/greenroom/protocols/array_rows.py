"""Rows that come as arrays already, for the protocols that send tensors.

They give a runtime what :class:`greenroom.payloads.request.Rows` gives it, without a value being
looked at one by one. Whether the values are good is decided before
(:mod:`greenroom.protocols.tensor_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from greenroom.schema import TIME_KINDS, Columns, Schema

__all__ = ["ArrayRows"]


class ArrayRows:
    """The rows of one request, of which the values are arrays.

    Parameters
    ----------
    schema : Schema
    arrays : sequence of ndarray, or ndarray
        One array a column in the schema's order, each of shape (n_rows,) and of the type that
        :mod:`greenroom.schema` gives its kind; or, where all columns are numbers, one matrix of
        shape (n_rows, n_columns).

    Attributes
    ----------
    n_rows : int
    single : bool
        False: tensors hold a batch, though it may be of one row.

    Examples
    --------
    >>> from greenroom.schema import Column
    >>> rows = ArrayRows(Schema((Column("a"), Column("b"))), [np.array([1.0]), np.array([2.0])])
    >>> rows.matrix()
    array([[1., 2.]])
    """

    __slots__ = ("_arrays", "_matrix", "_schema", "n_rows")

    single: Final = False

    def __init__(
        self, schema: Schema, arrays: Sequence[npt.NDArray[Any]] | npt.NDArray[np.float64]
    ) -> None:
        self._schema = schema
        if isinstance(arrays, np.ndarray):
            self._matrix: npt.NDArray[np.float64] | None = arrays
            self._arrays: Sequence[npt.NDArray[Any]] = tuple(arrays.T)
            self.n_rows = len(arrays)
        else:
            self._matrix = None
            self._arrays = arrays
            self.n_rows = len(arrays[0])

    @classmethod
    def joined(cls, requests: Sequence[ArrayRows]) -> ArrayRows:
        """Return the rows of several requests of one schema, one request after the other."""
        schema = requests[0]._schema
        if schema.numeric:
            return cls(schema, np.concatenate([request.matrix() for request in requests]))
        columns = zip(*[request._arrays for request in requests], strict=True)
        return cls(schema, [np.concatenate(parts) for parts in columns])

    def gaps(self) -> tuple[int, ...]:
        """Return the positions of those nullable columns in which a value is missing."""
        return tuple(
            place
            for place, (column, values) in enumerate(zip(self._schema, self._arrays, strict=True))
            if column.nullable and bool(_missing(values, column.kind).any())
        )

    def matrix(self) -> npt.NDArray[np.float64]:
        """Return the values of a wholly numeric schema, shape (n_rows, n_columns), NaN missing.

        A matrix that was sent as one is given as it is.
        """
        if self._matrix is not None:
            return self._matrix
        stacked = np.empty((self.n_rows, len(self._schema)), dtype=np.float64)
        for place, values in enumerate(self._arrays):
            stacked[:, place] = values
        return stacked

    def columns(self) -> Columns:
        """Return the values column by column, under the names that the data have."""
        return {
            column.name: np.ascontiguousarray(values)
            for column, values in zip(self._schema, self._arrays, strict=True)
        }


def _missing(values: npt.NDArray[Any], kind: str) -> npt.NDArray[np.bool_]:
    if values.dtype.kind == "O":
        return np.array([value is None for value in values.tolist()], dtype=np.bool_)
    missing: npt.NDArray[np.bool_] = np.isnat(values) if kind in TIME_KINDS else np.isnan(values)
    return missing
