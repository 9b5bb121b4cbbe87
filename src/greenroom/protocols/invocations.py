"""MLflow's scoring protocol, ``/invocations``: its bodies made into rows, its replies written.

Takes what ``mlflow models serve`` takes: JSON with ``dataframe_split``, ``dataframe_records``,
``instances`` or ``inputs``, and CSV. A body is brought into the outline that
:mod:`greenroom.payloads.request` reads, so that the rules for values are the same here and there.
As in MLflow, columns go by the names of the signature, and one that it does not name is passed
over; so is a field beside the format. ``NaN`` is a missing value, because MLflow's own client
writes it.

Stricter than MLflow on purpose: a value that does not fit its column is refused and not cast
(``"1.5"``, ``1.5`` for an integer, ``Infinity``), and so are ``params``, a name that is given
twice, and a row without a value for each column. Pure: no HTTP, and no pandas.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from greenroom.errors import RequestMalformed
from greenroom.evaluation.predictions import Predictions
from greenroom.payloads.json_literals import TOO_LARGE, has_literals, replace_literals
from greenroom.payloads.reply import to_json
from greenroom.payloads.request import RequestType, Rows
from greenroom.schema import Column, Schema

__all__ = ["CSV", "JSON", "decode_invocation", "encode_predictions"]

JSON: Final = "application/json"
CSV: Final = "text/csv"

FORMATS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")
_MISSING: Final = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
}  # fmt: skip
"""What ``pandas.read_csv``, with which MLflow reads CSV, takes for a missing value."""

_INFINITY: Final = msgspec.Raw(TOO_LARGE)
"""What an infinity is passed on as: a number too large for a double, which is refused by name."""

_NAME: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"(\s*+:)?', re.DOTALL)
"""Every string of a JSON text; the group takes part where it is a name."""

_OF_SPLIT: Final = frozenset({"columns", "index", "data"})
_OUTLINE: Final = f"send a JSON object with one of {', '.join(FORMATS)}"
_encode: Final = msgspec.json.Encoder(enc_hook=to_json).encode
_decode_any_number: Final = msgspec.json.Decoder(float_hook=float).decode


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
    document = _document(body.removeprefix(codecs.BOM_UTF8))
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


def _document(body: bytes) -> Any:
    """Read JSON; only where that fails, once more with what pandas and Python write beside it."""
    try:
        try:
            document = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # NaN, or a number too large for a double.
            text = replace_literals(body) if has_literals(body) else body
            document = _infinite(_decode_any_number(text))
        repeats = _repeats_a_name(body, document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RequestMalformed("the body is not JSON in UTF-8", advice=_OUTLINE) from None
    except RecursionError:
        raise RequestMalformed("the body is nested too deeply", advice=_OUTLINE) from None
    if repeats:
        raise RequestMalformed("the body gives a name twice in one object")
    return document


def _infinite(node: Any) -> Any:
    """Replace infinities, which JSON cannot hold, by what is refused as one."""
    if isinstance(node, dict):
        return {name: _infinite(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_infinite(value) for value in node]
    return _INFINITY if isinstance(node, float) and math.isinf(node) else node


def _repeats_a_name(body: bytes, document: Any) -> bool:
    """Whether an object gives a name twice, of which reading has kept the last.

    As many colons as there are names is the quick proof that none does.
    """
    n_names = _n_names(document)
    if body.count(b":") == n_names:
        return False
    return sum(1 for colon in _NAME.findall(body) if colon) != n_names


def _n_names(node: Any) -> int:
    """Count the names in all objects of a document; one that is given twice counts once."""
    count = len(node) if isinstance(node, dict) else 0
    if isinstance(node, dict | list):
        values = node.values() if isinstance(node, dict) else node
        count += sum(_n_names(value) for value in values if isinstance(value, dict | list))
    return count


def _split(data: Any, schema: Schema) -> list[dict[str, Any]]:
    if not isinstance(data, dict) or not isinstance(data.get("data"), list):
        raise RequestMalformed("dataframe_split holds no list data")
    if not data.keys() <= _OF_SPLIT:
        raise RequestMalformed("dataframe_split holds other fields than columns, index and data")
    index = data.get("index")
    if index is not None and (not isinstance(index, list) or len(index) != len(data["data"])):
        raise RequestMalformed("dataframe_split has not one index for each row")
    columns = data.get("columns")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise RequestMalformed("dataframe_split names no columns")
    if len(set(columns)) != len(columns):
        raise RequestMalformed("dataframe_split names a column twice")
    return _named(columns, data["data"], schema)


def _by_column(data: Mapping[str, Any], schema: Schema) -> list[dict[str, Any]]:
    columns = list(data.values())
    if columns and not any(isinstance(values, list) for values in columns):
        return [_row(data, schema)]
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
    if len(schema) == 1 and not any(isinstance(value, list) for value in data):
        data = [[value] for value in data]
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
    rows = []
    for line in filter(None, lines[1:]):
        if len(line) != len(known):
            raise RequestMalformed("a row has not one value for each column")
        rows.append([_cell(text, column) for text, column in zip(line, known, strict=True)])
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
        number = float(text) if "_" not in text else None
    except ValueError:
        return text
    if number is None or math.isnan(number):
        return text
    return number if math.isfinite(number) else _INFINITY
