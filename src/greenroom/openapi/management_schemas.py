"""JSON Schemas of what management routes answer: which fields each reply has, and what they mean.

What the replies hold is :mod:`greenroom.http.management_pages`'s business.
"""

from __future__ import annotations

from typing import Any, Final

from greenroom.openapi.json_schemas import object_schema
from greenroom.openapi.page_schemas import page_schema

__all__ = ["management_schema"]

_TEXT: Final = {"type": "string"}
_TEXTS: Final = {"type": "array", "items": _TEXT}
_BY_NAME: Final = {"type": "object", "additionalProperties": _TEXT}
_CREATED: Final = {
    "type": "integer",
    "description": "When it was made, in milliseconds since 1970-01-01 UTC.",
}
_UPDATED: Final = {
    "type": "integer",
    "description": "When it was changed, in milliseconds since 1970-01-01 UTC.",
}
_LATEST: Final = {**_BY_NAME, "description": "For each stage the highest version in it."}
_ALIASES: Final = {**_BY_NAME, "description": "The version that each alias names."}


def _whole(title: str, **fields: Any) -> dict[str, Any]:
    return object_schema(fields, required=list(fields), title=title)


_SUMMARY: Final[dict[str, Any]] = {
    "name": _TEXT,
    "creation_timestamp": _CREATED,
    "last_updated_timestamp": _UPDATED,
    "latest_versions": _LATEST,
    "aliases": _ALIASES,
}
_VERSION: Final = _whole(
    "Version",
    version=_TEXT,
    stage=_TEXT,
    status={**_TEXT, "description": "READY, or why it is not."},
    run_id={**_TEXT, "description": "The MLflow run that made it."},
    source={**_TEXT, "description": "What it was registered from."},
    creation_timestamp=_CREATED,
    last_updated_timestamp=_UPDATED,
    aliases=_TEXTS,
    tags=_BY_NAME,
)
_RECORD: Final = _whole(
    "Record",
    at={**_TEXT, "description": "When, in UTC; empty where it is not known."},
    who=_TEXT,
    action={"enum": ["promotion", "refusal", "rollback", "transition", "move", "unreadable"]},
    outcome={"enum": ["done", "resumed", "abandoned"]},
    selector={**_TEXT, "description": "What was moved: a stage or an @alias."},
    from_version={**_TEXT, "description": "What it named before; empty for nothing."},
    to_version={**_TEXT, "description": "What it named then; empty for nothing."},
    outside_gate={"type": "boolean", "description": "Whether no gate was asked."},
    passed={"type": ["boolean", "null"], "description": "What the gate said."},
    reasons=_TEXTS,
)
_REPLIES: Final[dict[str, dict[str, Any]]] = {
    "models": _whole(
        "Registered models",
        registered_models={"type": "array", "items": _whole("Registered model", **_SUMMARY)},
        count={"type": "integer", "minimum": 0},
    ),
    "model": _whole(
        "Registered model",
        **_SUMMARY,
        tags=_BY_NAME,
        versions={"type": "array", "items": _VERSION, "description": "The newest first."},
        history={"type": "array", "items": _RECORD, "description": "The oldest first."},
    ),
    "transition": _whole(
        "Transition",
        name=_TEXT,
        version=_TEXT,
        stage=_TEXT,
        previous_stage=_TEXT,
        archived={**_TEXTS, "description": "The versions that were moved out of the stage."},
        changed={"type": "boolean", "description": "Whether it was not there already."},
        latest_versions=_LATEST,
    ),
    "reload": page_schema("/model/reload"),
}


def management_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of what a management route answers.

    Examples
    --------
    >>> management_schema("models")["required"]
    ['registered_models', 'count']
    """
    return _REPLIES[kind]
