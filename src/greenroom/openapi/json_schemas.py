"""JSON Schemas of what one model takes and answers: a row of a request, and a reply.

Made from a version's columns and from the outputs of its task, so that they say what the request
type refuses and what the reply type writes. Where they stand in a server's document is
:mod:`greenroom.openapi.openapi`'s business. Pure: values in, JSON Schema 2020-12 out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from greenroom.data.examples import plain_value
from greenroom.payloads.refusal import LARGEST_INTEGER, MAX_RECORDS
from greenroom.schema import Column, Schema
from greenroom.task import Output

__all__ = ["REPLY_FIELDS", "column_schema", "object_schema", "output_schema", "row_schema"]

REPLY_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "prediction_id": {
        "type": "string",
        "format": "uuid",
        "description": "By which this answer can be found again.",
    },
    "model_name": {"type": "string", "description": "The registered model."},
    "model_version": {"type": "string", "description": "Its version."},
    "model_stage": {"type": "string", "description": "The stage that the version was served from."},
    "model_source": {
        "type": "string",
        "description": "Where the version is from; said only while a fallback file answers.",
    },
    "timestamp": {"type": "string", "format": "date-time", "description": "When, in UTC."},
    "processing_time_ms": {"type": "number", "description": "How long it took, in milliseconds."},
}
"""What a reply may hold besides the task's outputs."""


def row_schema(schema: Schema, *, by_request_name: bool = True) -> dict[str, Any]:
    """Describe one row of a request.

    Parameters
    ----------
    schema : Schema
    by_request_name : bool
        Whether the fields have the names of requests, and nothing else may stand beside them; else
        they have those of the data, and what is not named is passed over, as MLflow does.

    Examples
    --------
    >>> row_schema(Schema((Column("age", nullable=True),)))["properties"]
    {'age': {'type': ['number', 'null']}}
    """
    # In pairs: an example of records is a list, and a column that holds one has no hash.
    named = [(c, c.request_name if by_request_name else c.name) for c in schema]
    found = object_schema(
        {name: column_schema(column) for column, name in named},
        required=[name for column, name in named if not column.nullable],
        title="One row",
    )
    return {**found, "additionalProperties": False} if by_request_name else found


def object_schema(
    properties: Mapping[str, Any], *, required: Sequence[str] = (), title: str = ""
) -> dict[str, Any]:
    """Describe an object by its fields; other fields may stand beside them."""
    found: dict[str, Any] = {"title": title} if title else {}
    found |= {"type": "object", "properties": dict(properties)}
    if required:
        found["required"] = list(required)
    return found


def column_schema(column: Column) -> dict[str, Any]:
    """Describe a field of a request: its type, range, unit and example.

    Examples
    --------
    >>> column_schema(Column("height", minimum=0, unit="cm", example=170))
    {'type': 'number', 'minimum': 0, 'description': 'Unit: cm.', 'x-unit': 'cm', 'examples': [170]}
    """
    kind: dict[str, Any] = dict(_KINDS[column.kind])
    kind |= _limits(column)
    if column.kind == "category":
        kind["enum"] = list(column.categories)
    if column.kind == "records":
        kind |= {
            "minItems": 1,
            "maxItems": MAX_RECORDS,
            "items": row_schema(Schema(column.columns)),
        }
    if column.nullable:
        kind["type"] = [kind["type"], "null"]
        if "enum" in kind:
            kind["enum"].append(None)
    unit = f"Unit: {column.unit}." if column.unit else ""
    description = " ".join(part for part in (column.description, unit) if part)
    if description:
        kind["description"] = description
    if column.unit:
        kind["x-unit"] = column.unit
    if column.example is not None:
        kind["examples"] = [plain_value(column.example)]
    return kind


def _limits(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if column.kind == "integer":
        found["minimum"], found["maximum"] = -LARGEST_INTEGER, LARGEST_INTEGER
    if column.minimum is not None:
        found["minimum"] = _short(max(column.minimum, found.get("minimum", column.minimum)))
    if column.maximum is not None:
        found["maximum"] = _short(min(column.maximum, found.get("maximum", column.maximum)))
    return found


_KINDS: Final[dict[str, dict[str, Any]]] = {
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "string": {"type": "string"},
    "category": {"type": "string"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "records": {"type": "array"},
}


def _short(value: float) -> float:
    """Write 120.0 as 120."""
    return int(value) if abs(value) <= LARGEST_INTEGER and float(value).is_integer() else value


def output_schema(output: Output, classes: Mapping[Any, str]) -> dict[str, Any]:
    """Describe a field of a reply.

    A number that is not finite is null, and so is one not given.
    """
    found: dict[str, Any] = {"description": output.description}
    match output.kind:
        case "number":
            found["type"] = ["number", "null"]
        case "boolean":
            found["type"] = ["boolean", "null"]
        case "time":
            found["type"] = ["string", "null"]
        case "texts":
            found |= {"type": ["array", "null"], "items": {"type": "string"}}
        case "by_class":
            share = {"type": ["number", "null"]}
            properties = dict.fromkeys(classes.values(), share)
            found |= {"type": ["object", "null"], "properties": properties}
        case "label":
            if classes:
                found["enum"] = list(classes)
            else:
                found["type"] = ["string", "number", "boolean", "null"]
    return found
