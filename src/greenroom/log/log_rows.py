"""Rows of the log's tables, made of records: one row a prediction, with columns of their own types.

Beside what is known of every prediction (:data:`COMMON`) a row has a column for each field of the
request and each output of the model, under their own names. A name that is taken already, or that
table formats do not take, is changed by :func:`column_names`. Where tables are is
:mod:`greenroom.log.log_tables`' business.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from greenroom.log.log_records import Answers, Observations, Request, Version
from greenroom.payloads.request import MAX_ROWS, RequestType, Rows
from greenroom.schema import Column, Columns, Schema
from greenroom.task import TASKS, Output

__all__ = [
    "COMMON",
    "FEEDBACK",
    "column_names",
    "joined_rows",
    "observation_rows",
    "prediction_rows",
]

_INSTANT: Final = pa.timestamp("us", tz="UTC")

COMMON: Final = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("answered_at", _INSTANT),
        ("day", pa.date32()),
        ("version", pa.string()),
        ("stage", pa.string()),
        ("run_id", pa.string()),
        ("digest", pa.string()),
        ("engine", pa.string()),
        ("n_threads", pa.int32()),
        ("route", pa.string()),
        ("caller", pa.string()),
        ("request_id", pa.string()),
        ("latency_ms", pa.float64()),
        ("process", pa.string()),
        ("call", pa.int64()),
        ("call_rows", pa.int32()),
        ("call_row", pa.int32()),
        ("request_key", pa.string()),
        ("request_row", pa.int32()),
        ("request_form", pa.string()),
        ("request_body", pa.string()),
    ]
)
"""What is known of every prediction. ``request_key`` is the id of the first prediction of the same
request, whose row alone holds ``request_body``; ``call_row`` is the place of the request's rows in
the call of the model, ``request_row`` that of the prediction in the request."""

FEEDBACK: Final = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("actual", pa.string()),
        ("observed_at", _INSTANT),
        ("received_at", _INSTANT),
        ("day", pa.date32()),
        ("caller", pa.string()),
    ]
)
"""What was observed later; ``actual`` is JSON."""

_TYPES: Final[dict[str, Any]] = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "category": pa.string(),
    "date": pa.date32(),
    "datetime": _INSTANT,
    "records": pa.string(),
}
"""What is inside of a field stands there as JSON."""

_LABELS: Final[dict[type, Any]] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
}
_OUTPUTS: Final[dict[str, Any]] = {
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "by_class": pa.list_(pa.float64()),
    "texts": pa.list_(pa.string()),
    "time": _INSTANT,
}
_UNSPEAKABLE: Final = re.compile(r"[ ,;{}()\n\t=]")
_Lengths: TypeAlias = npt.NDArray[np.int64]
"""How many predictions answered each request."""

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def column_names(columns: Sequence[str], outputs: Sequence[str]) -> dict[str, str]:
    """Return what the columns of a request are called in a table.

    Names in tables know no upper and lower case, and of some signs nothing.

    Examples
    --------
    >>> column_names(["age", "Version", "debt ratio"], ["prediction"])
    {'age': 'age', 'Version': 'input_Version', 'debt ratio': 'debt_ratio'}
    """
    taken = {name.lower() for name in (*COMMON.names, *outputs)}
    found = {}
    for column in columns:
        name = _UNSPEAKABLE.sub("_", column)
        while name.lower() in taken:
            name = f"input_{name}"
        taken.add(name.lower())
        found[column] = name
    return found


def prediction_rows(version: Version, answers: Sequence[Answers]) -> pa.Table:
    """Return the rows of a version's answers, in their order.

    Parameters
    ----------
    version : Version
    answers : sequence of Answers
        At least one.
    """
    requests = [request for record in answers for request in record.requests]
    lengths = np.array([len(request.ids) for request in requests])
    table = _common(version, answers, requests, lengths)
    inputs = _inputs(version, requests, lengths)
    names = column_names([column.name for column in version.columns], version.outputs)
    for column in version.columns:
        table[names[column.name]] = inputs[column.name]
    outputs = {output.name: output for output in TASKS[version.task].outputs}
    for place, name in enumerate(version.outputs):
        values = list(chain.from_iterable(record.outputs[place] for record in answers))
        if outputs[name].kind == "time":
            values = [_instant(value) for value in values]
        table[name] = pa.array(values, _output_type(outputs[name], version.classes, values))
    return pa.table(table)


def observation_rows(records: Iterable[Observations]) -> pa.Table:
    """Return the rows of what was observed, in their order."""
    rows: list[tuple[Any, ...]] = []
    for record in records:
        received = _EPOCH + dt.timedelta(microseconds=record.at_us)
        for one in record.observations:
            observed = _EPOCH + dt.timedelta(microseconds=one.observed_at_us)
            actual = msgspec.json.encode(one.actual).decode()
            rows.append(
                (
                    one.prediction_id,
                    actual,
                    observed if one.observed_at_us else None,
                    received,
                    received.date(),
                    record.caller,
                )
            )
    records_of = [dict(zip(FEEDBACK.names, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(records_of, schema=FEEDBACK)


def joined_rows(parts: Sequence[pa.Table]) -> pa.Table:
    """Put rows of a model together that may be of several of its tables.

    A column that is of types with nothing in common, such as a number that was hashed from some day
    on, is text. Only the types of rows that are there count.

    Parameters
    ----------
    parts : sequence of pyarrow.Table
        At least one.

    Examples
    --------
    >>> joined_rows([pa.table({"x": [1]}), pa.table({"x": ["a"]})])["x"].to_pylist()
    ['1', 'a']
    """
    kinds: dict[str, list[pa.DataType]] = {}
    for part in [part for part in parts if part.num_rows] or parts:
        for field in part.schema:
            kinds.setdefault(field.name, []).append(field.type)
    for field in chain.from_iterable(part.schema for part in parts):
        kinds.setdefault(field.name, [field.type])
    schema = pa.schema([(name, _common_type(several)) for name, several in kinds.items()])
    filled = [_in_types(part, schema) for part in parts if part.num_rows]
    return pa.concat_tables([schema.empty_table(), *filled], promote_options="default")


def _common_type(kinds: Sequence[pa.DataType]) -> pa.DataType:
    """Return the type that values of several types have together: text where there is no other."""
    try:
        together = pa.unify_schemas(
            [pa.schema([("", kind)]) for kind in kinds], promote_options="permissive"
        )
    except pa.ArrowTypeError:
        return pa.string()
    return together.field(0).type


def _in_types(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows with columns of the types that a schema names."""
    for place, field in enumerate(part.schema):
        kind = schema.field(field.name).type
        if field.type == kind:
            continue
        if pa.types.is_list(field.type) and pa.types.is_string(kind):
            lists = part[field.name].to_pylist()
            texts = [None if one is None else msgspec.json.encode(one).decode() for one in lists]
            values = pa.chunked_array([pa.array(texts, kind)])
        else:
            values = part[field.name].cast(kind, safe=False)
        part = part.set_column(place, field.name, values)
    return part


def _common(
    version: Version, answers: Sequence[Answers], requests: Sequence[Request], lengths: _Lengths
) -> dict[str, pa.Array]:
    which = np.repeat(np.arange(len(requests)), lengths)
    n_each = [sum(len(request.ids) for request in record.requests) for record in answers]
    of_call = np.repeat(np.arange(len(answers)), n_each)
    first = np.cumsum(lengths) - lengths
    places = np.arange(len(which)) - first[which]

    def asked(values: Sequence[Any], name: str) -> pa.Array:
        return pa.array(values, COMMON.field(name).type).take(pa.array(which))

    def called(values: Sequence[int], name: str) -> pa.Array:
        return pa.array(np.asarray(values)[of_call], COMMON.field(name).type)

    def constant(value: Any, name: str) -> pa.Array:
        return pa.repeat(pa.scalar(value, COMMON.field(name).type), len(which))

    at_us = np.asarray([record.at_us for record in answers])[of_call].astype("datetime64[us]")
    body = pa.array([request.body for request in requests], pa.binary()).cast(pa.string())
    return {
        "prediction_id": pa.array(list(chain.from_iterable(one.ids for one in requests))),
        "answered_at": pa.array(at_us, _INSTANT),
        "day": pa.array(at_us.astype("datetime64[D]"), pa.date32()),
        "version": constant(version.version, "version"),
        "stage": constant(version.stage, "stage"),
        "run_id": constant(version.run_id, "run_id"),
        "digest": constant(version.digest, "digest"),
        "engine": constant(version.engine, "engine"),
        "n_threads": constant(version.n_threads, "n_threads"),
        "route": asked([request.route for request in requests], "route"),
        "caller": asked([request.caller for request in requests], "caller"),
        "request_id": asked([request.request_id for request in requests], "request_id"),
        "latency_ms": asked([request.latency_us / 1_000 for request in requests], "latency_ms"),
        "process": constant(version.process, "process"),
        "call": called([record.call for record in answers], "call"),
        "call_rows": called([record.call_rows for record in answers], "call_rows"),
        "call_row": asked([request.first_row for request in requests], "call_row"),
        "request_key": asked([request.ids[0] for request in requests], "request_key"),
        "request_row": pa.array(places, pa.int32()),
        "request_form": asked([request.form for request in requests], "request_form"),
        "request_body": body.take(pa.array(which, mask=places != 0)),
    }


def _inputs(
    version: Version, requests: Sequence[Request], lengths: _Lengths
) -> dict[str, pa.Array]:
    """Return what was asked, column by column, a value for each prediction."""
    if not version.columns:
        return {}  # all are private
    schema = Schema(version.columns)
    reader = RequestType.compile(schema)
    parts: list[dict[str, pa.Array]] = []
    n_each: list[int] = []
    for (form, single), some in groupby(requests, lambda one: (one.form, one.single)):
        if form != "body":
            for request in some:
                parts.append(_read_columns(schema, request))
                n_each.append(len(next(iter(parts[-1].values()))))
            continue
        bodies = [request.body for request in some]
        if single:
            rows = reader.decode_again(bodies)
            n_each += [1] * len(bodies)
        else:
            several = [reader.decode(body, max_rows=MAX_ROWS) for body in bodies]
            n_each += [one.n_rows for one in several]
            rows = Rows.joined(several)
        parts.append(_read_rows(schema, rows, numeric=reader.numeric))
    found = {name: _joined([part[name] for part in parts]) for name in schema.names}
    if np.array_equal(n_each, lengths):
        return found
    places = _places(n_each, lengths)
    return {name: values.take(places) for name, values in found.items()}


def _read_rows(schema: Schema, rows: Rows, *, numeric: bool) -> dict[str, pa.Array]:
    if numeric:
        columns = dict(zip(schema.names, rows.matrix().T.copy(), strict=True))
    else:
        columns = rows.columns()
    return {column.name: _array(column, columns[column.name]) for column in schema}


def _joined(parts: Sequence[pa.Array]) -> pa.Array:
    return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)


def _places(n_each: Sequence[int], lengths: _Lengths) -> pa.Array:
    """Return for each prediction which row was asked; one row may stand for several of them."""
    places, first = [], 0
    for n_rows, length in zip(n_each, lengths, strict=True):
        own = np.arange(first, first + n_rows)
        places.append(own if n_rows == length else np.full(length, first))
        first += n_rows
    return pa.array(np.concatenate(places))


def _array(column: Column, values: Any) -> pa.Array:
    """Return the values of a column in its own type; missing ones are null."""
    if column.kind == "records":
        return pa.array([None if rows is None else _inner(column, rows) for rows in values])
    found = pa.array(values, from_pandas=True)
    return found.cast(_TYPES[column.kind], safe=False)


def _read_columns(schema: Schema, request: Request) -> dict[str, pa.Array]:
    """Read a request that stands there column by column, or row by row with less than it had."""
    found = msgspec.json.decode(request.body)
    if request.form == "redacted":
        found = {column.name: [row.get(column.request_name) for row in found] for column in schema}
    return {column.name: _of_json(column, found[column.name]) for column in schema}


def _of_json(column: Column, values: Sequence[Any]) -> pa.Array:
    if column.kind in {"date", "datetime"}:
        values = [_instant(value) for value in values]
        return pa.array(values, _INSTANT).cast(_TYPES[column.kind], safe=False)
    if column.kind == "records":
        values = [None if rows is None else msgspec.json.encode(rows).decode() for rows in values]
    if column.kind in {"integer", "boolean"}:
        return pa.array(values, pa.float64()).cast(_TYPES[column.kind], safe=False)
    return pa.array(values, _TYPES[column.kind])


def _inner(column: Column, columns: Columns) -> str:
    """Write the rows inside of a field as JSON."""
    by_column = [_array(inner, columns[inner.name]).to_pylist() for inner in column.columns]
    names = [inner.request_name for inner in column.columns]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*by_column, strict=True)]
    return msgspec.json.encode(rows).decode()


def _instant(said: str | dt.datetime | None) -> dt.datetime | None:
    if said is None:
        return None
    found = dt.datetime.fromisoformat(said) if isinstance(said, str) else said
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _output_type(output: Output, classes: Sequence[Any], values: Sequence[Any]) -> Any:
    """Return the type of an output's column; that of labels goes by the classes."""
    if output.kind != "label":
        return _OUTPUTS[output.kind]
    kinds = {type(label) for label in (classes or values)}
    if len(kinds) == 1:
        return _LABELS.get(kinds.pop(), pa.string())
    return pa.float64() if kinds <= {int, float} else pa.string()
