"""What is wrong with a request that was refused: every bad field of every row, by name.

The slow second reading of a body, with Python's own ``json``, which unlike the fast one also takes
what JSON does not allow (``NaN``, a name given twice) and so can say that it is there. Its rules
are exactly those of :mod:`greenroom.payloads.request`. A value is never repeated, it may be
private; names of fields are, cut to a bearable length.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any, Final

import msgspec

from greenroom.errors import FieldProblem, RequestInvalid, RequestMalformed
from greenroom.schema import LARGEST_EXACT_INTEGER, Column, Schema

__all__ = [
    "LARGEST_INTEGER",
    "MAX_LISTED",
    "MAX_RECORDS",
    "explain",
    "field_problems",
    "is_instant",
    "parse_body",
    "readable_name",
    "sentence",
    "too_many_rows",
    "value_problem",
]

LARGEST_INTEGER: Final = LARGEST_EXACT_INTEGER - 1
"""The largest integer that is taken: a greater one may be another that was rounded to it."""

MAX_LISTED: Final = 100
"""How many problems are listed."""

MAX_RECORDS: Final = 10_000
"""How many rows a field of kind ``records`` may hold."""

_MAX_COUNTED: Final = 10_000
_MAX_NAME: Final = 64
_MAX_DIGITS: Final = 400
_IN_SENTENCE: Final = 3
_OUTLINES: Final = (
    'send one row as {...}, or several as [{...}, ...] or {"instances": [{...}, ...]}'
)


def explain(body: bytes, schema: Schema, *, max_rows: int) -> None:
    """Raise what is wrong with ``body`` as a request for rows of ``schema``; nothing if it is good.

    Raises
    ------
    RequestMalformed
        When the body is not JSON, or neither a row nor a list of rows.
    RequestInvalid
        Naming up to 100 problems, and how many more there are.

    Examples
    --------
    >>> explain(b'{"age": NaN}', Schema((Column("age"),)), max_rows=10)
    Traceback (most recent call last):
    greenroom.errors.RequestInvalid: age is not finite; /docs shows every field...
    """
    document = parse_body(body, _OUTLINES)
    rows, single = _rows(document, schema)
    if len(rows) > max_rows:
        raise too_many_rows(len(rows), max_rows)
    found = list(islice(_problems(document, rows, schema), _MAX_COUNTED))
    if found:
        raise RequestInvalid(
            sentence(found, single=single),
            found[:MAX_LISTED],
            advice="/docs shows every field, with its type and range",
        )


def too_many_rows(n_rows: int, max_rows: int) -> RequestInvalid:
    """Make the error for a request with more rows than one may hold."""
    return RequestInvalid(
        f"{n_rows} rows are more than one request may hold",
        (),
        advice=f"send at most {max_rows} at a time",
    )


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its names were given more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: tuple[str, ...] = ()
        if len(self) < len(pairs):
            times = Counter(name for name, _ in pairs)
            self.repeated = tuple(name for name in self if times[name] > 1)
        for name, value in pairs:
            _require_text(name)
            if isinstance(value, str):
                _require_text(value)


def _require_text(text: str) -> None:
    """Refuse half of a surrogate pair, which an escape can spell and no encoding can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestMalformed("the body is not JSON: a string holds half a character") from None


def _integer(digits: str) -> float:
    """Read an integer as the float that it becomes; Python refuses to read very long ones."""
    return float(digits) if len(digits) <= _MAX_DIGITS else math.inf


def parse_body(body: bytes, outline: str) -> Any:
    """Return what a body says as JSON; its objects remember names that were given twice.

    Parameters
    ----------
    body : bytes
    outline : str
        What should be sent instead of nothing.

    Raises
    ------
    RequestMalformed
        When it is empty, or not JSON.
    """
    if not body.strip():
        raise RequestMalformed("the body is empty", advice=outline)
    try:
        text = body.decode()
        return json.loads(text, object_pairs_hook=_Object, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise RequestMalformed(f"the body is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RequestMalformed(f"the body is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise RequestMalformed("the body is nested too deeply", advice=outline) from None


def _rows(document: Any, schema: Schema) -> tuple[Sequence[Any], bool]:
    """Return the rows, and whether the body was one by itself."""
    if isinstance(document, _Object):
        if "instances" not in document or _is_field("instances", schema):
            return (document,), True
        if len(document) > 1:
            raise RequestMalformed("beside instances the body holds other fields", advice=_OUTLINES)
        document = document["instances"]
    if not isinstance(document, list):
        raise RequestMalformed("the body is neither a row nor a list of rows", advice=_OUTLINES)
    if not document:
        raise RequestInvalid("the list of rows is empty", (), advice="send at least one row")
    return document, False


def _is_field(name: str, schema: Schema) -> bool:
    return any(column.request_name == name for column in schema)


def _problems(document: Any, rows: Sequence[Any], schema: Schema) -> Iterator[FieldProblem]:
    if isinstance(document, _Object) and document is not rows[0] and document.repeated:
        yield FieldProblem(0, "instances", "is given twice")
    fields = {column.request_name: column for column in schema}
    for number, row in enumerate(rows):
        if not isinstance(row, _Object):
            yield FieldProblem(number, "", "is not an object with fields")
            continue
        for name, problem in field_problems(row, fields):
            yield FieldProblem(number, name, problem)


def field_problems(row: Any, fields: Mapping[str, Column]) -> Iterator[tuple[str, str]]:
    """Give every bad field of an object that :func:`parse_body` has read, with the problem.

    Parameters
    ----------
    row : dict
    fields : mapping of str to Column
        By request name, all that there may be.
    """
    for name, column in fields.items():
        if name in row and column.kind == "records" and isinstance(row[name], list):
            yield from _records_problems(name, column, row[name])
        elif name in row:
            problem = value_problem(column, row[name])
            if problem:
                yield name, problem
        elif not column.nullable:
            yield name, "is missing"
    for name in row:
        if name not in fields:
            yield readable_name(name), "is unknown"
    for name in row.repeated:
        yield readable_name(name), "is given twice"


def _records_problems(name: str, column: Column, rows: list[Any]) -> Iterator[tuple[str, str]]:
    """Say what is wrong with rows inside of a row, by ``name[place].field``."""
    if not rows:
        yield name, "is empty: leave it out, or send at least one row"
    if len(rows) > MAX_RECORDS:
        yield name, f"has {len(rows)} rows, more than the {MAX_RECORDS} that it may have"
        return
    fields = {inner.request_name: inner for inner in column.columns}
    for place, row in enumerate(rows):
        if not isinstance(row, _Object):
            yield f"{name}[{place}]", "is not an object with fields"
            continue
        for field, problem in field_problems(row, fields):
            yield f"{name}[{place}].{field}", problem


def readable_name(name: str) -> str:
    """Return a name that a client made up, fit to be shown: printable and cut."""
    text = "".join(character if character.isprintable() else "?" for character in name)
    return text if len(text) <= _MAX_NAME else f"{text[:_MAX_NAME]}..."


def value_problem(column: Column, value: Any) -> str:
    """Say what is wrong with a value as JSON has it, its integers as floats; else nothing."""
    if value is None:
        return "" if column.nullable else "must not be null"
    match column.kind:
        case "number" | "integer":
            return _number_problem(column, value)
        case "boolean":
            return "" if isinstance(value, bool) else "must be true or false"
        case "string":
            return "" if isinstance(value, str) else "must be a string"
        case "category":
            return _category_problem(column, value)
        case "records":
            return "must be a list of rows"
        case "date":
            return "" if _reads_as(value, date) else "must be a date, such as 2024-01-15"
        case _:
            return _datetime_problem(value)


def _number_problem(column: Column, value: Any) -> str:
    if not isinstance(value, float):
        return f"must be a number, not {_KINDS.get(type(value), 'an object')}"
    if not math.isfinite(value):
        return "is not finite"
    if column.kind == "integer":
        if not value.is_integer():
            return "must be a whole number"
        if abs(value) > LARGEST_INTEGER:
            return "is too large for an integer that is kept exactly"
    unit = f" {column.unit}" if column.unit else ""
    if column.minimum is not None and value < column.minimum:
        return f"is below the minimum, {column.minimum:g}{unit}"
    if column.maximum is not None and value > column.maximum:
        return f"is above the maximum, {column.maximum:g}{unit}"
    return ""


_KINDS: Final[dict[type, str]] = {bool: "a boolean", str: "a string", list: "a list"}


def _category_problem(column: Column, value: Any) -> str:
    if isinstance(value, str) and value in column.categories:
        return ""
    shown = ", ".join(column.categories[:20])
    return f"must be one of {shown}{', ...' if len(column.categories) > 20 else ''}"


def _datetime_problem(value: Any) -> str:
    if not _reads_as(value, datetime):
        return "must be a date and time, such as 2024-01-15T10:30:00Z"
    if not is_instant(msgspec.convert(value, datetime)):
        return "is outside the years 1 to 9999 in UTC"
    return ""


def is_instant(value: datetime) -> bool:
    """Say whether an instant has a date in UTC: an offset may take it out of the years there are.

    Examples
    --------
    >>> is_instant(datetime.fromisoformat("9999-12-31T23:30:00-01:00"))
    False
    """
    if value.year not in {1, 9999} or value.tzinfo is None:
        return True
    try:
        value.astimezone(UTC)
    except OverflowError:
        return False
    return True


def _reads_as(value: Any, kind: type) -> bool:
    if not isinstance(value, str):
        return False
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def sentence(found: Sequence[FieldProblem], *, single: bool) -> str:
    """Say the first few in one sentence, and how many more there are."""
    said = [_clause(problem, single=single) for problem in found[:_IN_SENTENCE]]
    more = len(found) - len(said)
    if more:
        at_least = "at least " if len(found) == _MAX_COUNTED else ""
        said.append(f"and {at_least}{more} more")
    return "; ".join(said)


def _clause(problem: FieldProblem, *, single: bool) -> str:
    clause = f"{problem.field} {problem.problem}".strip()
    return clause if single else f"row {problem.row}: {clause}"
