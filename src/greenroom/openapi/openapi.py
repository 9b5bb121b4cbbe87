"""The OpenAPI description of a server: what it serves now, field by field, and its other pages.

Made from the columns of the versions that answer at the moment, so that it changes when they do.
Types, ranges, units and examples come from the columns, replies from the task's outputs. Pure:
values in, a document (OpenAPI 3.1, JSON Schema 2020-12) out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote

from greenroom.access.callers import Access
from greenroom.data.examples import example_request
from greenroom.openapi.json_schemas import REPLY_FIELDS, object_schema, output_schema, row_schema
from greenroom.openapi.scoring_openapi import (
    SCORING_ERROR,
    SCORING_PATH,
    scoring_error,
    scoring_operation,
)
from greenroom.payloads.request import MAX_ROWS
from greenroom.schema import Schema
from greenroom.task import Task

__all__ = ["Operation", "PredictOperation", "build_openapi"]

OPENAPI_VERSION: Final = "3.1.0"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A page or an action that does not depend on a model's columns.

    ``statuses`` says what each status means that is answered with an error, ``page_statuses`` the
    same of those that are answered with the page itself; ``reply`` is the page's JSON Schema, and
    ``media_type`` what it is written in. ``body`` has the fields of a request's, where it has one,
    ``body_schema`` the whole of it where that is no single object, with ``body_example``;
    ``body_required`` says whether it may be left out, and ``patterns`` has by field the regular
    expression that a text has to match. ``scope`` is what a caller's token has to allow; nobody is
    let in by having forgotten it.
    """

    method: str
    path: str
    scope: Access
    summary: str
    tag: str
    statuses: Mapping[int, str] = field(default_factory=dict)
    page_statuses: Mapping[int, str] = field(default_factory=dict)
    reply: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    media_type: str = "application/json"
    body: Schema | None = None
    body_required: bool = True
    patterns: Mapping[str, str] = field(default_factory=dict)
    body_schema: Mapping[str, Any] | None = None
    body_example: Any = None

    @property
    def has_body(self) -> bool:
        """Whether a request has a body that is to be read."""
        return self.body is not None or self.body_schema is not None


@dataclass(frozen=True, kw_only=True)
class PredictOperation:
    """What one model's routes take and answer.

    Parameters
    ----------
    model : str
        The model's name on this server.
    paths : sequence of str
        Where it answers.
    summary, description : str
        What the page says about it: the version, or why there is none.
    schema : Schema, optional
        A row of a request; None while nothing is served.
    task : Task, optional
        What a reply holds.
    fields : mapping of str to str
        The fields of a reply and their sources.
    classes : mapping
        A classifier's labels, and how each is spelled as the name of a field.
    expands : bool
        Whether one request is answered with several rows.
    example : mapping
        A row that can be sent as it stands.
    constants : mapping of str to str
        What a reply says of the version, by source.
    scoring : bool
        Whether it answers MLflow's scoring protocol too.
    """

    model: str
    paths: Sequence[str]
    summary: str
    description: str = ""
    schema: Schema | None = None
    task: Task | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[Any, str] = field(default_factory=dict)
    expands: bool = False
    example: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    scoring: bool = False


def build_openapi(
    *,
    title: str,
    version: str,
    description: str,
    models: Sequence[PredictOperation],
    operations: Sequence[Operation],
    predict_statuses: Mapping[int, str],
    secured: bool = False,
) -> dict[str, Any]:
    """Describe a server.

    Parameters
    ----------
    title, version, description : str
        Of the server: the app's name and Greenroom's version.
    models : sequence of PredictOperation
        One for each model.
    operations : sequence of Operation
        Every other route.
    predict_statuses : mapping of int to str
        What a prediction answers with when it is not given, and why.
    secured : bool
        Whether callers have to send a token.

    Returns
    -------
    dict
        The document, made of what JSON knows.
    """
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Error": _ERROR}
    for model in models:
        schemas |= _model_schemas(model)
        for path in model.paths:
            answer = _predict_operation(model, path, predict_statuses)
            paths.setdefault(quote(path, safe="/~"), {})["post"] = answer
        if model.scoring:
            schemas["ScoringError"] = SCORING_ERROR
            paths[SCORING_PATH] = {"post": _scoring_operation(model)}
    for operation in operations:
        path = quote(operation.path, safe="/~{}")
        paths.setdefault(path, {})[operation.method.lower()] = _other_operation(operation)
    document: dict[str, Any] = {
        "openapi": OPENAPI_VERSION,
        "info": {"title": title, "version": version, "description": description},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if secured:
        _secure(document, {(one.method.lower(), one.path): one.scope for one in operations})
    return document


def _secure(document: dict[str, Any], scopes: Mapping[tuple[str, str], Access]) -> None:
    """Say what token each operation asks for; one that has no scope of its own predicts."""
    document["components"]["securitySchemes"] = {"token": _TOKEN}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            scope = scopes.get((method, unquote(path)), "predict")
            if scope == "open":
                continue
            operation["security"] = [{"token": [scope]}]
            refusals = {
                401: "There is no token, or none that is known here.",
                403: f"The token does not have the scope {scope}.",
            }
            for status, text in refusals.items():
                scoring = path == SCORING_PATH
                error = scoring_error(status, text) if scoring else _error(text)
                operation["responses"][str(status)] = error


_TOKEN: Final[dict[str, Any]] = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of this server, with the scope that the operation names.",
}


_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "description": "Why a request was not answered, and what to do about it.",
    "required": ["error", "detail"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message"],
            "properties": {
                "message": {"type": "string", "description": "What is wrong."},
                "advice": {"type": "string", "description": "What to do about it."},
                "problems": {
                    "type": "array",
                    "description": "Every field that is wrong, up to 100.",
                    "items": {
                        "type": "object",
                        "required": ["row", "field", "problem"],
                        "properties": {
                            "row": {"type": "integer", "description": "Counted from 0."},
                            "field": {"type": "string"},
                            "problem": {"type": "string"},
                        },
                    },
                },
            },
        },
        "detail": {"type": "string", "description": "Message and advice in one line."},
    },
}


def _predict_operation(
    model: PredictOperation, path: str, statuses: Mapping[int, str]
) -> dict[str, Any]:
    """Describe one route of a model."""
    operation: dict[str, Any] = {
        "tags": [model.model],
        "summary": model.summary,
        "operationId": _operation_id("post", path),
        "responses": {str(status): _error(text) for status, text in statuses.items()},
    }
    if model.description:
        operation["description"] = model.description
    if model.schema is None:
        body: dict[str, Any] = {"schema": {"type": ["object", "array"]}}
        good: dict[str, Any] = {"schema": {"type": "object"}}
    else:
        row, reply = _reference(model, "Row"), _reference(model, "Reply")
        many: dict[str, Any] = {"title": "Several rows", "type": "array", "items": row}
        many |= {"minItems": 1, "maxItems": MAX_ROWS}
        instances = object_schema({"instances": many}, required=["instances"], title="Instances")
        instances["additionalProperties"] = False
        one_row = model.expands
        body = {"schema": row if one_row else {"oneOf": [row, many, instances]}}
        body["examples"] = _examples(model)
        several = _reference(model, "Replies")
        good = {"schema": several if one_row else {"anyOf": [reply, several]}}
        operation["responses"]["422"] = _invalid(statuses[422], model.schema)
    operation["requestBody"] = {"required": True, "content": {"application/json": body}}
    operation["responses"] = {
        "200": {"description": "The prediction.", "content": {"application/json": good}},
        **operation["responses"],
    }
    return operation


def _scoring_operation(model: PredictOperation) -> dict[str, Any]:
    return scoring_operation(
        model.schema,
        model.task.outputs if model.task else (),
        model.classes,
        model.example,
        tag=model.model,
        description=model.description,
    )


def _examples(model: PredictOperation) -> dict[str, Any]:
    one = {"one row": {"summary": "One row", "value": dict(model.example)}}
    if model.expands:
        return one
    return {**one, "several rows": {"summary": "Several rows", "value": [dict(model.example)] * 2}}


def _other_operation(operation: Operation) -> dict[str, Any]:
    content = {operation.media_type: {"schema": dict(operation.reply)}}
    page_statuses = {200: "As described.", **operation.page_statuses}
    busy = {} if operation.scope == "open" else {503: "The server has too much to do."}
    return {
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": _operation_id(operation.method, operation.path),
        "responses": {
            **{
                str(status): {"description": text, "content": content}
                for status, text in page_statuses.items()
            },
            **{
                str(status): _error(text) for status, text in {**busy, **operation.statuses}.items()
            },
        },
        **_path_parameters(operation.path),
        **_request_body(operation),
    }


def _request_body(operation: Operation) -> dict[str, Any]:
    if operation.body_schema is not None:
        content = {"schema": dict(operation.body_schema), "example": operation.body_example}
    elif operation.body is not None:
        described = {**row_schema(operation.body), "title": "Request"}
        for name, pattern in operation.patterns.items():
            described["properties"][name]["pattern"] = pattern
        content = {"schema": described, "example": example_request(operation.body)}
    else:
        return {}
    required = operation.body_required
    return {"requestBody": {"required": required, "content": {"application/json": content}}}


def _path_parameters(path: str) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part[:1] == "{" and part[-1:] == "}"]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    return {"parameters": parameters} if parameters else {}


def _error(text: str) -> dict[str, Any]:
    """Describe an error, with an example of its own: the schema's would be the same for all."""
    return _error_with({"message": text}, text)


def _invalid(text: str, schema: Schema) -> dict[str, Any]:
    """Describe the refusal of a row in which the first field is wrong."""
    field = schema[0].request_name
    problem = {"row": 0, "field": field, "problem": "must not be null"}
    return _error_with({"message": f"{field} must not be null", "problems": [problem]}, text)


def _error_with(error: Mapping[str, Any], text: str) -> dict[str, Any]:
    example = {"error": error, "detail": error["message"]}
    content = {"schema": {"$ref": "#/components/schemas/Error"}, "example": example}
    return {"description": text, "content": {"application/json": content}}


def _model_schemas(model: PredictOperation) -> dict[str, Any]:
    """Return the component schemas of a model: a row, its reply, and the reply to several."""
    if model.schema is None or model.task is None:
        return {}
    outputs = {output.name: output for output in model.task.outputs}
    per_row, shared = {}, {}
    for name, source in model.fields.items():
        if source in outputs:
            per_row[name] = output_schema(outputs[source], model.classes)
        elif source == "prediction_id":
            per_row[name] = REPLY_FIELDS[source]
        else:
            shared[name] = _constant(source, model.constants)
    in_order = {name: (per_row | shared)[name] for name in model.fields}
    row = object_schema(per_row, required=list(per_row))
    rows = {"type": "array", "items": row, "description": "One for each row."}
    several = {"predictions": rows, **shared}
    return {
        _component(model, "Row"): row_schema(model.schema),
        _component(model, "Reply"): object_schema(
            in_order, required=list(in_order), title="Reply to one row"
        ),
        _component(model, "Replies"): object_schema(
            several, required=list(several), title="Reply to several rows"
        ),
    }


def _constant(source: str, constants: Mapping[str, str]) -> dict[str, Any]:
    """Describe a field that all rows of a reply share, with what it says at the moment."""
    found = dict(REPLY_FIELDS.get(source, {}))
    if source in constants:
        found["examples"] = [constants[source]]
    return found


def _reference(model: PredictOperation, part: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{_component(model, part)}"}


def _component(model: PredictOperation, part: str) -> str:
    """Name a component; OpenAPI allows letters, digits, dot, hyphen and underscore."""
    return f"{_identifier(model.model)}.{part}"


def _operation_id(method: str, path: str) -> str:
    return _identifier(method.lower() + path.replace("/", "."))


def _identifier(text: str) -> str:
    """Spell a name with the characters that OpenAPI allows."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._") else _code(c) for c in text)


def _code(character: str) -> str:
    return f"_x{ord(character):x}_"
