"""MLflow's scoring protocol, ``/invocations``: its bodies made into rows, its replies written.

Takes what ``mlflow models serve`` takes: JSON with ``dataframe_split``, ``dataframe_records``,
``instances`` or ``inputs``, and CSV. A body is brought into the outline that
:mod:`greenroom.request` reads, so that the rules for values are the same here and there. As in
MLflow, columns go by the names of the signature, and one that it does not name is passed over.
Pure: no HTTP, and no pandas.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from greenroom.errors import RequestMalformed
from greenroom.predictions import Predictions
from greenroom.reply import to_json
from greenroom.request import RequestType, Rows
from greenroom.schema import Column, Schema

__all__ = ["CSV", "JSON", "decode_invocation", "encode_predictions"]

JSON: Final = "application/json"
CSV: Final = "text/csv"

FORMATS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")
_MISSING: Final = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
_OUTLINE: Final = f"send a JSON object with one of {', '.join(FORMATS)}"
_encode: Final = msgspec.json.Encoder(enc_hook=to_json).encode


def decode_invocation(body: bytes, media_type: str, request_type: RequestType) -> Rows:
    """Read the rows of a scoring request.

    Parameters
    ----------
    body : bytes
    media_type : {"application/json", "text/csv"}
    request_type : RequestType
        What the rows are checked with.

    Raises
    ------
    RequestMalformed
        When the body is not of one of MLflow's outlines.
    RequestInvalid
        When fields are wrong; every one is named.

    Examples
    --------
    >>> ages = RequestType.compile(Schema((Column("age"),)))
    >>> decode_invocation(b'{"inputs": {"age": [40, 41]}}', JSON, ages).matrix()
    array([[40.],
           [41.]])
    """
    schema = request_type.schema
    rows = _from_csv(body, schema) if media_type == CSV else _from_json(body, schema)
    return request_type.decode(_encode(rows))


def encode_predictions(predictions: Predictions) -> bytes:
    """Write the reply of MLflow's scoring server: what ``predict`` gives, one entry a row.

    A forecast's entry is the list of prediction, lower and upper, as its ``predict`` has them.
    """
    outputs = predictions.outputs
    answered = outputs["prediction"]
    if "lower" in outputs:
        answered = np.stack([answered, outputs["lower"], outputs["upper"]], axis=1)
    return _encode({"predictions": answered.tolist()})


def _from_json(body: bytes, schema: Schema) -> list[dict[str, Any]]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestMalformed("the body is not JSON", advice=_OUTLINE) from None
    given = [name for name in FORMATS if isinstance(document, dict) and name in document]
    if len(given) != 1:
        raise RequestMalformed(f"the body holds {len(given)} of MLflow's formats", advice=_OUTLINE)
    if document.get("params"):
        raise RequestMalformed("this model takes no params", advice="leave params out")
    data = document[given[0]]
    if given[0] == "dataframe_split":
        return _split(data, schema)
    if isinstance(data, dict) and given[0] != "dataframe_records":
        return _by_column(data, schema)
    return _records(data, schema, given[0])


def _split(data: Any, schema: Schema) -> list[dict[str, Any]]:
    if not isinstance(data, dict) or not isinstance(data.get("data"), list):
        raise RequestMalformed("dataframe_split holds no list data")
    columns = data.get("columns")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise RequestMalformed("dataframe_split names no columns")
    if len(set(columns)) != len(columns):
        raise RequestMalformed("dataframe_split names a column twice")
    return _named(columns, data["data"], schema)


def _by_column(data: Mapping[str, Any], schema: Schema) -> list[dict[str, Any]]:
    columns = list(data.values())
    if not all(isinstance(values, list) for values in columns):
        raise RequestMalformed("a column is not a list of values")
    if len({len(values) for values in columns}) > 1:
        raise RequestMalformed("the columns are not of one length")
    return _named(list(data), list(zip(*columns, strict=True)), schema)


def _records(data: Any, schema: Schema, name: str) -> list[dict[str, Any]]:
    """Read rows one by one: by name, or, in ``instances`` and ``inputs``, in the schema's order."""
    if not isinstance(data, list):
        raise RequestMalformed(f"{name} is not a list of rows")
    if all(isinstance(row, dict) for row in data):
        return [_row(row, schema) for row in data]
    if name == "dataframe_records":
        raise RequestMalformed("dataframe_records is not a list of objects")
    return _named(list(schema.names), data, schema)


def _named(names: Sequence[str], rows: Iterable[Any], schema: Schema) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) != len(names):
            raise RequestMalformed("a row has not one value for each column")
        found.append(_row(dict(zip(names, row, strict=True)), schema))
    return found


def _row(row: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Return the values of the signature's columns, under the names that requests have."""
    return {column.request_name: row[column.name] for column in schema if column.name in row}


def _from_csv(body: bytes, schema: Schema) -> list[dict[str, Any]]:
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise RequestMalformed("the body is not CSV in UTF-8") from None
    if not lines:
        raise RequestMalformed("the body is empty", advice="the first line names the columns")
    columns = {column.name: column for column in schema}
    names = lines[0]
    if len(set(names)) != len(names):
        raise RequestMalformed("the first line names a column twice")
    known = [columns.get(name) for name in names]
    rows = [
        [_cell(text, column) for text, column in zip(line, known, strict=False)]
        for line in lines[1:]
        if line
    ]
    return _named(names, rows, schema)


def _cell(text: str, column: Column | None) -> Any:
    """Read a cell as its column's kind; what does not fit stays text, and is refused by name."""
    if text in _MISSING:
        return None
    if column is None or not column.numeric:
        return text
    if column.kind == "boolean":
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)
    try:
        number = float(text)
    except ValueError:
        return text
    # JSON has no infinity: as text it is refused by name, as null it would pass for missing.
    return number if math.isfinite(number) else text
