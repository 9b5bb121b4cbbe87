"""Columns: what one row of data is made of, by name, kind, range and unit.

The same columns describe a row in a file, in a request and at an estimator's door. This module
holds the values and their rules; reading files is :mod:`greenroom.training.dataset`, decoding
requests is :mod:`greenroom.payloads.request`.

Rows are held column by column, as ``Columns``: a dict of one-dimensional numpy arrays of equal
length. Numbers, integers and booleans are ``float64`` with NaN for a missing value, which is what
estimators and ONNX graphs take; strings and categories are ``object`` arrays of ``str`` or
``None``; dates and datetimes are ``datetime64[us]`` (UTC) with NaT. A cell of kind ``records``,
which only a request has, is ``Columns`` itself, or ``None``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from greenroom.errors import AppError, refuse

Kind: TypeAlias = Literal[
    "number", "integer", "boolean", "string", "category", "date", "datetime", "records"
]
Columns: TypeAlias = dict[str, npt.NDArray[Any]]

KINDS: Final[tuple[str, ...]] = get_args(Kind)
NUMERIC_KINDS: Final = frozenset({"number", "integer", "boolean"})
TEXT_KINDS: Final = frozenset({"string", "category"})
TIME_KINDS: Final = frozenset({"date", "datetime"})

LARGEST_EXACT_INTEGER: Final = 2**53
"""Integers are held in float64, which is exact up to here (IEEE 754, 53-bit significand)."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a dataset, and the field of a request that carries it.

    Parameters
    ----------
    name : str
        The name in the data file and in the model's signature.
    kind : {"number", "integer", "boolean", "string", "category", "date", "datetime", "records"}
        What a value is. Strings stay strings: ``"001"`` is never read as a number. ``records`` are
        rows of columns of their own, one at least; only a request may hold them.
    request_name : str, optional
        The name in requests, where it differs from ``name`` (a JSON field, say, that may not
        hold a hyphen). Default: ``name``.
    minimum, maximum : float, optional
        The range of values, both ends included. A request outside of it is refused.
    nullable : bool
        Whether a value may be missing: empty in a file, ``null`` or left out in a request.
    categories : tuple of str
        For ``kind="category"``: the values there are.
    unit : str
        The unit of the values, as shown in the documentation: ``"years"``, ``"USD"``.
    description : str
        One sentence for the documentation.
    example : object
        A typical value; what the documentation's example sends.
    columns : tuple of Column
        For ``kind="records"``: what one of its rows holds.

    Examples
    --------
    >>> Column("age", "integer", minimum=0, maximum=120, unit="years").request_name
    'age'
    """

    name: str
    kind: Kind = "number"
    request_name: str = ""
    minimum: float | None = None
    maximum: float | None = None
    nullable: bool = False
    categories: tuple[str, ...] = ()
    unit: str = ""
    description: str = ""
    example: Any = None
    columns: tuple[Column, ...] = ()

    def __post_init__(self) -> None:
        if not self.request_name:
            object.__setattr__(self, "request_name", self.name)
        object.__setattr__(self, "categories", tuple(self.categories))
        object.__setattr__(self, "columns", tuple(self.columns))
        problems = list(self._problems())
        if problems:
            refuse(AppError(f"column {self.name!r}: {'; '.join(problems)}", problems=problems))

    def _problems(self) -> Iterator[str]:
        if not self.name:
            yield "name: is empty"
        if self.kind not in KINDS:
            yield f"kind: {self.kind!r} is not one of {', '.join(KINDS)}"
        yield from self._range_problems()
        if (self.kind == "category") != bool(self.categories):
            yield "categories: belong to kind 'category', which needs at least one"
        if len(set(self.categories)) != len(self.categories):
            yield "categories: one is listed twice"
        if (self.kind == "records") != bool(self.columns):
            yield "columns: belong to kind 'records', which needs at least one"
        if any(column.kind == "records" for column in self.columns):
            yield "columns: records cannot hold records"

    def _range_problems(self) -> Iterator[str]:
        ranged = self.minimum is not None or self.maximum is not None
        if ranged and self.kind not in {"number", "integer"}:
            yield f"minimum, maximum: have no meaning for kind {self.kind!r}"
        for end in (self.minimum, self.maximum):
            if end is not None and not math.isfinite(end):
                yield "minimum, maximum: must be finite"
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            yield f"minimum: {self.minimum} is above maximum {self.maximum}"

    @property
    def numeric(self) -> bool:
        """Whether values are held as float64."""
        return self.kind in NUMERIC_KINDS


@dataclass(frozen=True, slots=True)
class Schema(Sequence[Column]):
    """The columns of a row, in order; names and request names are unique.

    Examples
    --------
    >>> schema = Schema((Column("a"), Column("b", "string")))
    >>> schema.names, schema.numeric
    (('a', 'b'), False)
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        problems = [
            f"columns: {what} {name!r} is used twice"
            for what, names in (
                ("name", [column.name for column in self.columns]),
                ("request name", [column.request_name for column in self.columns]),
            )
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
        if not self.columns:
            problems.append("columns: there is none")
        if problems:
            raise AppError("; ".join(problems), problems=problems)

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __getitem__(self, index: Any) -> Any:
        return self.columns[index]

    @property
    def names(self) -> tuple[str, ...]:
        """The data names, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def numeric(self) -> bool:
        """Whether every column is numeric, so that a batch of rows is one float64 matrix."""
        return all(column.numeric for column in self.columns)


def n_rows(columns: Mapping[str, npt.NDArray[Any]]) -> int:
    """Return the number of rows that ``columns`` holds."""
    for values in columns.values():
        return len(values)
    return 0


def take(columns: Columns, rows: npt.NDArray[Any]) -> Columns:
    """Return the rows that ``rows`` names, as positions or as a boolean mask."""
    return {name: values[rows] for name, values in columns.items()}


def matrix(columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """Stack numeric columns into an array of shape (n_samples, n_features), C-contiguous.

    Examples
    --------
    >>> matrix({"a": np.array([1.0, 2.0]), "b": np.array([3.0, np.nan])}).shape
    (2, 2)
    """
    stacked = np.empty((n_rows(columns), len(columns)), dtype=np.float64)
    for position, values in enumerate(columns.values()):
        stacked[:, position] = values
    return stacked
