"""How the OpenAPI document describes MLflow's scoring protocol, ``/invocations``.

The columns have the names of the data here, not those of requests, and a column that is not named
is passed over. How bodies are read is :mod:`greenroom.protocols.invocations`' business. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from greenroom.openapi.json_schemas import object_schema, output_schema, row_schema
from greenroom.schema import Schema
from greenroom.task import Output

__all__ = ["SCORING_ERROR", "SCORING_PATH", "scoring_error", "scoring_operation"]

SCORING_PATH: Final = "/invocations"
"""Where a server with one model answers MLflow's scoring protocol."""

SCORING_ERROR: Final[dict[str, Any]] = {
    "description": "Why a scoring request was not answered, as MLflow's clients expect it.",
    **object_schema(
        {
            "error_code": {"type": "string", "examples": ["BAD_REQUEST"]},
            "message": {"type": "string", "description": "What is wrong, and what to do."},
        },
        required=["error_code", "message"],
    ),
}
"""The component schema ``ScoringError``."""

_STATUSES: Final[Mapping[int, str]] = {
    400: "The body is of none of MLflow's formats, or values do not fit their columns.",
    413: "The body is larger than the server reads.",
    415: "The body is neither application/json nor text/csv.",
    500: "The server failed; its log says more.",
    503: "No version is served at the moment, or the server has too much to do; the reply says "
    "which, and what to do.",
    504: "There was no answer in time.",
}
_CODES: Final = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def scoring_operation(
    schema: Schema | None,
    outputs: Sequence[Output],
    classes: Mapping[Any, str],
    example: Mapping[str, Any],
    *,
    tag: str,
    description: str,
) -> dict[str, Any]:
    """Describe ``POST /invocations``.

    Parameters
    ----------
    schema : Schema or None
        The columns of a row; None while nothing is served.
    outputs : sequence of Output
        What is predicted.
    classes : mapping
        A classifier's labels.
    example : mapping
        A row by request names.
    tag, description : str
        The model's name, and which version answers.
    """
    return {
        "tags": [tag],
        "summary": "Predictions as mlflow models serve answers them",
        "operationId": "post.invocations",
        "description": description,
        "requestBody": {"required": True, "content": _bodies(schema, example)},
        "responses": {
            "200": {
                "description": "The predictions, one for each row.",
                "content": {"application/json": {"schema": _reply(outputs, classes)}},
            },
            **{str(status): scoring_error(status, text) for status, text in _STATUSES.items()},
        },
    }


def _bodies(schema: Schema | None, example: Mapping[str, Any]) -> dict[str, Any]:
    if schema is None:
        return {
            "application/json": {"schema": {"type": "object"}},
            "text/csv": {"schema": {"type": "string"}},
        }
    row = {c.name: example[c.request_name] for c in schema if c.request_name in example}
    values = list(row.values())
    shown = {
        "dataframe_split": {"columns": list(row), "data": [values]},
        "dataframe_records": [row],
        "instances": [values],
        "inputs": {name: [value] for name, value in row.items()},
    }
    return {
        "application/json": {
            "schema": {"oneOf": list(_formats(schema))},
            "examples": {name: {"value": {name: value}} for name, value in shown.items()},
        },
        "text/csv": {
            "schema": {"type": "string", "description": "The first line names the columns."},
            "example": f"{_line(row)}\n{_line(values)}\n",
        },
    }


def _formats(schema: Schema) -> list[dict[str, Any]]:
    """Return the schema of each of MLflow's formats, told apart by their one field."""
    record = row_schema(schema, by_request_name=False)
    records = {"type": "array", "items": record, "minItems": 1}
    lists = {"type": "array", "items": {"type": "array"}, "minItems": 1}
    by_column = {"type": "object", "additionalProperties": {"type": "array"}}
    any_of = {"anyOf": [records, lists, by_column]}
    split = object_schema(
        {
            "columns": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            "data": lists,
        },
        required=["columns", "data"],
    )
    formats = {
        "dataframe_split": split,
        "dataframe_records": records,
        "instances": any_of,
        "inputs": any_of,
    }
    return [
        object_schema({name: content}, required=[name], title=name)
        for name, content in formats.items()
    ]


def _reply(outputs: Sequence[Output], classes: Mapping[Any, str]) -> dict[str, Any]:
    kinds = {output.name: output_schema(output, classes) for output in outputs}
    one = kinds.get("prediction", {})
    if "lower" in kinds:
        one = {
            "type": "array",
            "description": "The prediction, and the lower and upper end of its interval.",
            "items": {"type": ["number", "null"]},
        }
    predictions = {"type": "array", "items": one}
    return object_schema({"predictions": predictions}, required=["predictions"])


def scoring_error(status: int, text: str) -> dict[str, Any]:
    """Describe what is answered instead of predictions."""
    content = {
        "schema": {"$ref": "#/components/schemas/ScoringError"},
        "example": {"error_code": _CODES.get(status, "BAD_REQUEST"), "message": text},
    }
    return {"description": text, "content": {"application/json": content}}


def _line(cells: Any) -> str:
    """Write a line of CSV; only what has to be quoted is."""
    return ",".join(_cell(cell) for cell in cells)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return '"{}"'.format(text.replace('"', '""')) if set(text) & set(',"\r\n') else text
