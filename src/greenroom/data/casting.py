"""Casting: from the arrays of a file to the columns that an app declares, value by value.

The rule is one for all file formats, so that the same rows come out the same: texts are read as
the kind that the column declares and as nothing else (``"001"`` stays a string), and an empty
text, ``NA``, ``NaN`` and ``null`` are one and the same missing value. What does not fit is not
dropped or changed: it comes back as misfits, by row, without the values themselves.

Only for training: requests are decoded by :mod:`greenroom.payloads.request`. Reading files is
:mod:`greenroom.training.dataset`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from greenroom.schema import LARGEST_EXACT_INTEGER, TEXT_KINDS, TIME_KINDS, Column

MISSING_TEXTS: Final = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""Texts that stand for a missing value, in every kind of column."""

_TRUTH: Final = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
_LABEL_NUMBER: Final = r"^-?(0|[1-9][0-9]{0,14})(\.0+)?$"
_Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Misfit:
    """Values of one column that do not fit it.

    ``problem`` goes on after a count, as in "3 values are not numbers"; ``rows`` are positions.
    """

    column: str
    problem: str
    rows: npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Cast:
    """A column's values as :mod:`greenroom.schema` holds them, and those that do not fit."""

    values: npt.NDArray[Any]
    misfits: tuple[Misfit, ...]


def cast_column(found: pa.Array | pa.ChunkedArray, column: Column) -> Cast:
    """Cast the values of one column to its kind, and check them against its rules.

    Parameters
    ----------
    found : pyarrow Array or ChunkedArray, shape (n_samples,)
        The values as the file holds them: texts from CSV, any type from Parquet.
    column : Column
        What is expected.

    Examples
    --------
    >>> cast = cast_column(pa.array(["1", "NA", "x"]), Column("age", "integer", nullable=True))
    >>> cast.values.tolist(), [(misfit.problem, misfit.rows.tolist()) for misfit in cast.misfits]
    ([1.0, nan, nan], [('not a number', [2])])
    """
    array = _plain(found)
    if column.kind in TEXT_KINDS:
        values, unreadable, problem = _texts(array)
        missing = np.array([value is None for value in values.tolist()], dtype=np.bool_)
    elif column.kind in TIME_KINDS:
        values, unreadable, problem = _times(array)
        missing = np.isnat(values)
    else:
        values, unreadable, problem = _numbers(array, boolean=column.kind == "boolean")
        missing = np.isnan(values)
    found_problems = [(problem, unreadable)]
    if not column.nullable:
        found_problems.append(("missing", missing & ~unreadable))
    found_problems += _broken_rules(values, column)
    return Cast(values, tuple(_misfits(column.name, found_problems)))


def cast_labels(found: pa.Array | pa.ChunkedArray, name: str) -> Cast:
    """Cast a target of classes: integers to int64, true and false to 1 and 0, others to str.

    Texts count as integers only when all of them are written as one: labels ``"01"`` and
    ``"02"`` stay strings.

    Examples
    --------
    >>> cast_labels(pa.array(["0", "1"]), "y").values.tolist()
    [0, 1]
    >>> cast_labels(pa.array(["01", "2"]), "y").values.tolist()
    ['01', '2']
    """
    array = _plain(found)
    if pa.types.is_string(array.type):
        present = array.drop_null()
        if pc.all(pc.match_substring_regex(present, _LABEL_NUMBER)).as_py():
            array = array.cast(pa.float64())
        elif set(pc.utf8_lower(present.unique()).to_pylist()) <= {"true", "false"}:
            array = pc.utf8_lower(array).cast(pa.bool_())
        else:
            return cast_column(array, Column(name, "string"))
    cast = cast_column(array, Column(name, "integer"))
    return Cast(np.nan_to_num(cast.values, posinf=0, neginf=0).astype(np.int64), cast.misfits)


def to_arrow(values: Any) -> pa.Array | pa.ChunkedArray:
    """Make an Arrow array of what a function of an app's returned: ndarray, list or Series.

    Raises
    ------
    TypeError, ValueError
        When the values are of no type that Arrow knows, or of several.
    """
    return pa.array(values, from_pandas=True)


def _plain(found: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return one array without dictionary, of one string type, with missing texts as nulls."""
    array = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return _without_missing(array) if pa.types.is_string(array.type) else array


def _without_missing(texts: pa.Array) -> pa.Array:
    missing = pc.is_in(texts, value_set=pa.array(MISSING_TEXTS))
    return pc.if_else(missing, pa.scalar(None, pa.string()), texts)


def _texts(array: pa.Array) -> tuple[npt.NDArray[Any], _Mask, str]:
    problem = "not a text"
    if pa.types.is_integer(array.type):
        array = array.cast(pa.string())
    if not (pa.types.is_string(array.type) or pa.types.is_null(array.type)):
        return np.full(len(array), None, dtype=object), _valid(array), problem
    # By dictionary, so that equal texts are one object in memory.
    encoded = array.cast(pa.string()).dictionary_encode()
    distinct = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    positions = pc.fill_null(encoded.indices, len(distinct) - 1).to_numpy(zero_copy_only=False)
    return distinct[positions], np.zeros(len(array), dtype=np.bool_), problem


def _numbers(array: pa.Array, *, boolean: bool) -> tuple[npt.NDArray[np.float64], _Mask, str]:
    problem = "not true or false" if boolean else "not a number"
    unreadable = np.zeros(len(array), dtype=np.bool_)
    if pa.types.is_string(array.type):
        array, unreadable = _parsed(array, _truth if boolean else _number, pa.float64())
    elif pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    elif not (_is_number(array.type) or pa.types.is_null(array.type)):
        return np.full(len(array), np.nan), _valid(array), problem
    values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).copy()
    if boolean:
        unreadable |= ~np.isnan(values) & (values != 0) & (values != 1)
    return values, unreadable, problem


def _times(array: pa.Array) -> tuple[npt.NDArray[np.datetime64], _Mask, str]:
    problem = "not an ISO 8601 date or time"
    unreadable = np.zeros(len(array), dtype=np.bool_)
    if pa.types.is_string(array.type):
        array, unreadable = _parsed(array, _instant, pa.timestamp("us"))
    elif not (pa.types.is_temporal(array.type) or pa.types.is_null(array.type)) or (
        pa.types.is_time(array.type) or pa.types.is_duration(array.type)
    ):
        return np.full(len(array), "NaT", dtype="datetime64[us]"), _valid(array), problem
    # Arrow keeps instants with a time zone in UTC; only the zone's name is dropped here.
    values = array.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False)
    return values.astype("datetime64[us]"), unreadable, problem


def _parsed(
    texts: pa.Array, parse: Callable[[str], Any], kind: pa.DataType
) -> tuple[pa.Array, _Mask]:
    """Parse texts: all at once, and only when that fails each distinct one on its own."""
    texts = _without_missing(pc.utf8_trim_whitespace(texts))
    try:
        return texts.cast(kind), np.zeros(len(texts), dtype=np.bool_)
    except pa.ArrowInvalid:
        encoded = texts.dictionary_encode()
    parsed: list[Any] = []
    wrong = []
    for text in encoded.dictionary.to_pylist():
        try:
            parsed.append(parse(text))
            wrong.append(False)
        except ValueError:
            parsed.append(None)
            wrong.append(True)
    values = pa.array(parsed, type=kind).take(encoded.indices)
    unreadable = pa.array(wrong, type=pa.bool_()).take(encoded.indices).fill_null(False)
    return values, unreadable.to_numpy(zero_copy_only=False)


def _number(text: str) -> float:
    value: float = pa.scalar(text).cast(pa.float64()).as_py()
    return value


def _truth(text: str) -> float:
    if text.lower() not in _TRUTH:
        raise ValueError
    return _TRUTH[text.lower()]


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo is None else instant.astimezone(UTC).replace(tzinfo=None)


def _broken_rules(values: npt.NDArray[Any], column: Column) -> Iterator[tuple[str, _Mask]]:
    """Yield the rules of a column's kind and range, with the rows that break each.

    A missing value breaks none.
    """
    if column.numeric:
        yield "not finite", np.isinf(values)
    if column.kind == "integer":
        finite = np.isfinite(values)
        yield "not whole", finite & (np.floor(values) != values)
        exact = LARGEST_EXACT_INTEGER - 1  # from 2**53 on, neighbours become equal
        yield "too large for an integer; declare a string", finite & (np.abs(values) > exact)
    if column.minimum is not None:
        yield f"below the minimum {column.minimum:g}", values < column.minimum
    if column.maximum is not None:
        yield f"above the maximum {column.maximum:g}", values > column.maximum
    if column.kind == "category":
        known = {*column.categories, None}
        yield "not one of the categories", np.array([v not in known for v in values.tolist()])
    if column.kind == "date":
        yield (
            "a time of day, not a date",
            ~np.isnat(values) & (values != values.astype("datetime64[D]")),
        )


def _misfits(name: str, problems: list[tuple[str, _Mask]]) -> Iterator[Misfit]:
    for problem, mask in problems:
        rows = np.flatnonzero(mask)
        if len(rows):
            yield Misfit(name, problem, rows)


def _valid(array: pa.Array) -> _Mask:
    mask: _Mask = array.is_valid().to_numpy(zero_copy_only=False)
    return mask


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
