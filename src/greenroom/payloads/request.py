"""Requests: a JSON body in, the rows it holds out, or the name of everything wrong with it.

A request type is compiled once from the columns that a version asks for, and then decodes bodies
with msgspec alone. Its rules are the columns' own: required or nullable, kind, range, categories. A
body that is refused is read a second time, slowly, by :mod:`greenroom.payloads.refusal`, only to
name every bad field. HTTP is not known here, nor what is done with the rows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta
from msgspec.structs import astuple

from greenroom.errors import RequestMalformed, VersionUnloadable
from greenroom.payloads.refusal import (
    LARGEST_INTEGER,
    MAX_RECORDS,
    explain,
    is_instant,
    too_many_rows,
)
from greenroom.schema import Column, Columns, Schema

__all__ = ["MAX_ROWS", "RequestType", "Rows", "column_array"]

MAX_ROWS: Final = 10_000
"""How many rows one request may hold: a short body could otherwise ask for much memory."""

LONG_BYTES: Final = 4_096

_ABSENT: Final = float("nan")
"""What a nullable field holds that was left out: this very object, where ``null`` is None."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_UNREADABLE: Final = re.compile(r'["\\\x00-\x1f]')
_STRINGS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"(\s*+:)?', re.DOTALL)
"""Every string of a JSON text; the group takes part where it is the name of a field."""


class Rows:
    """The rows of one request, in its order.

    Attributes
    ----------
    n_rows : int
        How many there are; at least one.
    single : bool
        Whether the body was one row by itself and not a list.
    """

    __slots__ = ("_schema", "_values", "n_rows", "single")

    def __init__(self, schema: Schema, values: Sequence[msgspec.Struct], *, single: bool) -> None:
        self._schema = schema
        self._values = values
        self.n_rows = len(values)
        self.single = single

    @classmethod
    def joined(cls, requests: Sequence[Rows]) -> Rows:
        """Return the rows of several requests of one type, one request after the other."""
        values = tuple(chain.from_iterable(request._values for request in requests))
        return cls(requests[0]._schema, values, single=False)

    def gaps(self) -> tuple[int, ...]:
        """Return the positions of those nullable columns in which a value is missing.

        A column of integers is one of floats where a value is missing, if an estimator asks for
        integers: rows with other gaps beside a row can change the type that it is given.
        """
        nullable = [place for place, column in enumerate(self._schema) if column.nullable]
        if not nullable:
            return ()
        rows = [astuple(row) for row in self._values]
        return tuple(
            p for p in nullable if any(row[p] is None or row[p] is _ABSENT for row in rows)
        )

    def matrix(self) -> npt.NDArray[np.float64]:
        """Return the values of a wholly numeric schema, shape (n_rows, n_columns), NaN missing."""
        width = len(self._schema)
        cells = chain.from_iterable(map(astuple, self._values))
        return np.fromiter(cells, np.float64, self.n_rows * width).reshape(self.n_rows, width)

    def columns(self) -> Columns:
        """Return the values column by column, under the names that the data have."""
        return _by_column(self._schema, self._values)


class RequestType:
    """What a version's requests look like, compiled; made by :meth:`compile`."""

    def __init__(self, schema: Schema) -> None:
        self.schema: Final = schema
        self.numeric: Final[bool] = all(column.numeric for column in schema)
        row = _row_type(schema)
        listed = msgspec.defstruct(
            "Instances",
            [("instances", list[row])],  # type: ignore[valid-type]  # built at run time
            forbid_unknown_fields=True,
        )
        self._one: Final = msgspec.json.Decoder(row).decode
        self._many: Final = msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type]  # built at run time
        self._listed: Final = msgspec.json.Decoder(listed).decode
        self._nullable: Final = any(column.nullable for column in schema)
        self._records: Final = tuple(p for p, c in enumerate(schema) if c.kind == "records")
        inner = chain.from_iterable(column.columns for column in schema)
        self._timed: Final = any(column.kind == "datetime" for column in (*schema, *inner))
        self._outlines_clash: Final = any(c.request_name == "instances" for c in schema)

    @classmethod
    def compile(cls, schema: Schema) -> RequestType:
        """Compile the type of requests whose rows have the columns of ``schema``.

        Raises
        ------
        VersionUnloadable
            When a request name holds a quote, a backslash or a control character.

        Examples
        --------
        >>> ages = RequestType.compile(Schema((Column("age", "integer", minimum=0),)))
        >>> ages.decode(b'[{"age": 40}, {"age": 41}]').matrix()
        array([[40.],
               [41.]])
        """
        return cls(schema)

    def decode(self, body: bytes, *, max_rows: int = MAX_ROWS) -> Rows:
        """Read a body: ``{...}``, ``[{...}, ...]`` or ``{"instances": [{...}, ...]}``.

        Raises
        ------
        RequestMalformed
            When the body is not JSON, or not of one of these outlines.
        RequestInvalid
            When fields are missing, unknown, given twice, of the wrong type, out of range or not
            finite, or there is no row, or more than ``max_rows``; every bad field is named.
        """
        try:
            rows, n_names = self._read(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            explain(body, self.schema, max_rows=max_rows)
            # Both readers follow the same rules, and a property test says so. If one day they do
            # not, the body is refused all the same: the strict reader has the last word.
            raise RequestMalformed("the body cannot be read as JSON") from None
        if rows.n_rows > max_rows:
            raise too_many_rows(rows.n_rows, max_rows)
        if not rows.n_rows or (_n_colons(body) != n_names and _n_names(body) != n_names):
            explain(body, self.schema, max_rows=max_rows)
        if self._timed and not all(map(is_instant, _instants(rows._values))):
            explain(body, self.schema, max_rows=max_rows)
        return rows

    def decode_again(self, bodies: Sequence[bytes]) -> Rows:
        """Read bodies of one row each that :meth:`decode` has taken before, all in one piece.

        Raises
        ------
        RequestMalformed, RequestInvalid
            As :meth:`decode`, of the first that it does not take.
        """
        try:
            return Rows(self.schema, self._many(b"[" + b",".join(bodies) + b"]"), single=False)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Rows.joined([self.decode(body) for body in bodies])

    def _read(self, body: bytes) -> tuple[Rows, int]:
        """Return the rows, and how many field names a body without repetitions has for them."""
        if body.lstrip(b" \t\r\n").startswith(b"["):
            rows = Rows(self.schema, self._many(body), single=False)
            return rows, self._n_given(rows)
        try:
            rows = Rows(self.schema, (self._one(body),), single=True)
            return rows, self._n_given(rows)
        except msgspec.ValidationError:
            if self._outlines_clash:
                raise
            (values,) = astuple(self._listed(body))
            rows = Rows(self.schema, values, single=False)
            return rows, 1 + self._n_given(rows)

    def _n_given(self, rows: Rows) -> int:
        """Count the fields that were given, of all rows.

        msgspec takes the last of two fields with one name. That has to be noticed, but not paid
        for: a body with exactly as many colons as there are fields holds no field twice.
        """
        n_fields = rows.n_rows * len(self.schema)
        if self._records:
            n_fields += sum(_n_inner(row, self._records) for row in rows._values)
        if not self._nullable:
            return n_fields
        return n_fields - sum(value is _ABSENT for row in rows._values for value in astuple(row))


def _n_colons(body: bytes) -> int:
    """Count the colons; of a long body as an array, because there are many of them."""
    if len(body) < LONG_BYTES:
        return body.count(b":")
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == ord(":")))


def _n_names(body: bytes) -> int:
    """Count the field names in a JSON text, repetitions included."""
    return sum(1 for colon in _STRINGS.findall(body) if colon)


def _n_inner(row: msgspec.Struct, places: Sequence[int]) -> int:
    """Count the fields that were given inside of a row's records."""
    cells = astuple(row)
    given = (cells[place] for place in places if cells[place] is not _ABSENT)
    inner = chain.from_iterable(records or () for records in given)
    return sum(value is not _ABSENT for record in inner for value in astuple(record))


def _instants(rows: Sequence[msgspec.Struct]) -> Iterator[datetime]:
    """Give every instant of some rows, also inside of their records."""
    for value in chain.from_iterable(map(astuple, rows)):
        if isinstance(value, datetime):
            yield value
        elif isinstance(value, list):
            yield from _instants(value)


def _by_column(schema: Schema, values: Sequence[msgspec.Struct]) -> Columns:
    by_column = zip(*map(astuple, values), strict=True)
    return {
        column.name: _records(column, cells)
        if column.kind == "records"
        else column_array(column.kind, cells)
        for column, cells in zip(schema, by_column, strict=True)
    }


def _records(column: Column, cells: Sequence[Any]) -> npt.NDArray[Any]:
    """Return an array of ``Columns``, one for each cell; None where it is missing."""
    array = np.empty(len(cells), dtype=object)
    inner = Schema(column.columns)
    for position, rows in enumerate(_present(cells)):
        array[position] = None if rows is None else _by_column(inner, rows)
    return array


def _row_type(schema: Schema) -> type[msgspec.Struct]:
    """Make the struct of a row; request names need not be identifiers, so fields have their own."""
    fields: list[Any] = []
    names = {}
    for position, column in enumerate(schema):
        name = f"field_{position}"
        names[name] = column.request_name
        if _UNREADABLE.search(column.request_name):
            raise VersionUnloadable(
                f"column {column.name!r}: quotes, backslashes and control characters cannot stand "
                "in a field's name",
                advice="give the column a request_name",
            )
        kind = _field_type(column)
        fields.append((name, kind | None, _ABSENT) if column.nullable else (name, kind))
    return msgspec.defstruct(
        "Row", fields, rename=names, kw_only=True, forbid_unknown_fields=True, gc=False
    )


def _field_type(column: Column) -> Any:
    """Return the msgspec type of a column's values."""
    match column.kind:
        case "number":
            return Annotated[float, Meta(ge=column.minimum, le=column.maximum)]
        case "integer":
            # Read as float, which is how they are kept and lets 41.0 be the integer it is in JSON.
            low = max(-LARGEST_INTEGER, _or(column.minimum, -math.inf))
            high = min(LARGEST_INTEGER, _or(column.maximum, math.inf))
            return Annotated[float, Meta(ge=low, le=high, multiple_of=1.0)]
        case "category":
            return Literal[column.categories]
        case "records":
            inner = _row_type(Schema(column.columns))
            return Annotated[list[inner], Meta(min_length=1, max_length=MAX_RECORDS)]  # type: ignore[valid-type]  # built at run time
        case other:
            return {"boolean": bool, "string": str, "date": date, "datetime": datetime}[other]


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def column_array(kind: str, values: Sequence[Any]) -> npt.NDArray[Any]:
    """Return values of one kind as the array that :mod:`greenroom.schema` describes.

    Parameters
    ----------
    kind : str
    values : sequence
        Numbers and booleans, ``str``, ``date`` or ``datetime``; None where one is missing.

    Examples
    --------
    >>> column_array("date", [date(2024, 1, 15), None])
    array(['2024-01-15T00:00:00.000000', 'NaT'], dtype='datetime64[us]')
    """
    return _ARRAYS[kind](values)


def _numbers(values: Sequence[Any]) -> npt.NDArray[Any]:
    return np.array(values, dtype=np.float64)


def _texts(values: Sequence[Any]) -> npt.NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = list(_present(values))
    return array


def _dates(values: Sequence[Any]) -> npt.NDArray[Any]:
    return np.array(list(_present(values)), dtype="datetime64[us]")


def _datetimes(values: Sequence[Any]) -> npt.NDArray[Any]:
    """Convert through whole microseconds, which are exact."""
    array = np.empty(len(values), dtype="datetime64[us]")
    for position, value in enumerate(_present(values)):
        array[position] = None if value is None else _microseconds(value)
    return array


def _microseconds(value: datetime) -> np.datetime64:
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    return np.datetime64((aware - _EPOCH) // _MICROSECOND, "us")


def _present(values: Sequence[Any]) -> Iterator[Any]:
    return (None if value is _ABSENT else value for value in values)


_ARRAYS: Final[dict[str, Callable[[Sequence[Any]], npt.NDArray[Any]]]] = {
    "number": _numbers,
    "integer": _numbers,
    "boolean": _numbers,
    "string": _texts,
    "category": _texts,
    "date": _dates,
    "datetime": _datetimes,
    "records": _texts,
}
