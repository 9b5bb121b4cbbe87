"""JSON Schemas of the server's own pages: which fields each one has, and what they mean.

What the pages hold is :mod:`greenroom.http.pages`' business, where routes and statuses stand is
:mod:`greenroom.http.site`'s. A field that only some servers or versions have is not required.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from greenroom.openapi.json_schemas import object_schema

__all__ = ["page_schema"]

_TEXT: Final = {"type": "string"}
_TEXTS: Final = {"type": "array", "items": _TEXT}
_NUMBER: Final = {"type": "integer", "minimum": 0}
_FLAG: Final = {"type": "boolean"}
_OBJECT: Final = {"type": "object"}
_MAYBE_NUMBER: Final = {"type": ["number", "null"], "minimum": 0}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}
_INSTANT: Final = {"type": "string", "description": "UTC, ISO 8601; empty where it is not known."}


def _said(schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {**schema, "description": description}


def _whole(title: str, **fields: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an object that always has all of its fields."""
    return object_schema(fields, required=list(fields), title=title)


def _rows(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(row)}


def _perhaps(description: str, **fields: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an object that may not be there yet."""
    whole = object_schema(fields, required=list(fields))
    return {**whole, "type": ["object", "null"], "description": description}


_PROBLEMS: Final = _said(_TEXTS, "What is wrong although predictions are answered, or why not.")
_HEALTH: Final = {
    "description": "Unhealthy: no prediction can be answered. Degraded: something is wrong.",
    "enum": ["healthy", "degraded", "unhealthy"],
}
_REGISTRY_STATE: Final = {"enum": ["starting", "healthy", "unavailable", "disabled"]}
_GENERATION: Final = _said(_NUMBER, "Which set of versions answers; it grows with each swap.")
_SELECTOR: Final = _said(_TEXT, "What is followed: a stage, an @alias, latest or a version.")
_ROUTE: Final = _said(_TEXT, "Where it answers.")
_LATEST: Final = _said(_OBJECT, "For each stage the highest version in it.")
_VERSION: Final = {
    "model_name": _said(_TEXT, "The registered model."),
    "model_version": _said(_MAYBE_TEXT, "The version that answers; null when none does."),
    "model_stage": _said(_MAYBE_TEXT, "The stage that it was served from."),
}
_SOURCE: Final = {
    "enum": ["registry", "fallback", None],
    "description": "Where the version that answers is from; null when none does.",
}
_RESPONSE_TIMES: Final = _perhaps(
    "How long predictions have taken of late; null in the first moments.",
    window_seconds=_said(_NUMBER, "How far back they count."),
    predictions=_said(_NUMBER, "How many there were, answered with any status."),
    mean_ms=_MAYBE_NUMBER,
    p50_ms=_MAYBE_NUMBER,
    p99_ms=_MAYBE_NUMBER,
)
_RESOURCES: Final = _perhaps(
    "What all processes of the server use; null in the first moments.",
    cpu_percent=_said(_MAYBE_NUMBER, "Of one processor, over the last seconds."),
    memory_bytes=_said(_MAYBE_NUMBER, "Resident; shared pages count for each process."),
    disk_free_bytes=_said(_MAYBE_NUMBER, "Where the state is."),
    disk_total_bytes=_MAYBE_NUMBER,
)
_ONLY_MODEL: Final = {
    "model_loaded": _said(_FLAG, "Whether a version answers."),
    **_VERSION,
    "model_source": _SOURCE,
}
"""Of a server with one model."""


def _with_only_model(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "properties": {**schema["properties"], **_ONLY_MODEL}}


_JOB: Final = _whole(
    "Training",
    job_id=_said(_TEXT, "By which it can be asked for."),
    state={"enum": ["running", "done", "failed"]},
    request=_said(_OBJECT, "What was asked for."),
    who=_said(_TEXT, "Whose token asked for it, and where."),
    began_at=_INSTANT,
    ended_at=_INSTANT,
    doing=_said(_TEXT, "What is being done, while it runs."),
    share=_said({"type": ["number", "null"]}, "How much of that is done, 0 to 1, where known."),
    problem=_said(_TEXT, "Why it failed."),
    model_name=_said(_TEXT, "The app's name for the model."),
    model_version=_said(_MAYBE_TEXT, "The version that was registered."),
    outcome={
        "enum": ["promoted", "registered", "refused", "unchanged", None],
        "description": "Whether the version is selected now, or what became of it instead.",
    },
    reasons=_said(_TEXTS, "The gate's reasons, for or against."),
    candidate=_said(_TEXT, "Which candidate was the best."),
    metrics=_said(_OBJECT, "Its figures on the hold-out."),
    run_id=_said(_TEXT, "The MLflow run."),
    run_url=_said(_TEXT, "Where MLflow shows the run."),
    dataset=_said(_TEXT, "What it was trained on."),
    n_rows=_said(_NUMBER, "How many rows that had."),
    trial=_said(_FLAG, "Whether the version never replaces one that was trained in full."),
)

_PAGES: Final[dict[str, dict[str, Any]]] = {
    "job": _JOB,
    "jobs": _whole("Trainings", jobs=_rows(_JOB)),
    "/": _with_only_model(
        _whole(
            "Basic health",
            status=_HEALTH,
            service=_said(_TEXT, "What the server is called."),
            health=_said(_TEXT, "The path of the detailed page."),
            docs=_said(_TEXT, "The path of the documentation."),
        )
    ),
    "/health": _with_only_model(
        _whole(
            "Health",
            status=_HEALTH,
            service=_said(_TEXT, "What the server is called."),
            mlflow_connection=_said(_REGISTRY_STATE, "Whether MLflow itself answers."),
            registry_access=_said(_REGISTRY_STATE, "Whether its registry does."),
            registry=_whole(
                "Registry",
                state=_REGISTRY_STATE,
                since=_INSTANT,
                problem=_said(_TEXT, "Why it is unavailable."),
            ),
            uptime_seconds=_NUMBER,
            response_times=_RESPONSE_TIMES,
            resources=_RESOURCES,
            models=_rows(
                _whole(
                    "Model",
                    name=_said(_TEXT, "The registered model."),
                    route=_ROUTE,
                    selector=_SELECTOR,
                    loaded=_said(_FLAG, "Whether a version answers."),
                    version=_MAYBE_TEXT,
                    stage=_MAYBE_TEXT,
                    source=_SOURCE,
                    since=_said(_MAYBE_TEXT, "Since when (UTC, ISO 8601) it has answered."),
                    runtime=_said(_MAYBE_TEXT, "What answers: compiled or native."),
                    latest_versions=_LATEST,
                    problems=_PROBLEMS,
                )
            ),
            problems=_PROBLEMS,
            alerts=_said(_TEXTS, "The alerts that fire; they do not change the status."),
            generation=_GENERATION,
            workers=_said(_NUMBER, "How many processes answer."),
            restart=_said(
                {"type": ["object", "null"]}, "The last rolling restart: since when, its state."
            ),
            greenroom_version=_TEXT,
        )
    ),
    "/live": _whole("Alive", status={"const": "alive"}),
    "/ready": _whole(
        "Ready",
        ready=_said(_FLAG, "Whether at least one model answers."),
        serving=_said(_TEXTS, "The models that answer."),
        missing=_said(
            _rows(_whole("Missing", name=_TEXT, problems=_TEXTS)), "Those that do not, and why."
        ),
    ),
    "/models": _whole(
        "Models",
        models=_rows(
            _whole(
                "Model",
                name=_said(_TEXT, "What it is called on this server, and in its paths."),
                **_VERSION,
                selector=_SELECTOR,
                route=_ROUTE,
                in_memory=_said(_FLAG, "Whether the worker that answers has it loaded."),
                problems=_PROBLEMS,
            )
        ),
    ),
    "/model/info": {
        **object_schema(
            {
                **_VERSION,
                "model_source": _SOURCE,
                "selector": _SELECTOR,
                "route": _ROUTE,
                "run_id": _said(_TEXT, "The MLflow run that made it."),
                "model_uri": _TEXT,
                "digest": _said(_TEXT, "SHA-256 over its files."),
                "aliases": _TEXTS,
                "registered_at": _INSTANT,
                "loaded_at": _INSTANT,
                "runtime": _said(_TEXT, "What answers: compiled or native."),
                "task": _TEXT,
                "classes": _said({"type": "array"}, "A classifier's labels, in order."),
                "metrics": _OBJECT,
                "params": _OBJECT,
                "generated_data": _said(_FLAG, "Whether it was trained on a stand-in."),
                "columns": _said(_rows(_OBJECT), "The fields of a request."),
                "latest_versions": _LATEST,
                "problems": _PROBLEMS,
            },
            required=[*_VERSION, "runtime", "task", "columns", "problems"],
            title="Version",
        ),
        "description": "A version that was trained here says how, in further fields.",
    },
    "/model/reload": _with_only_model(
        _whole(
            "Reload",
            reloaded=_said(_FLAG, "Whether another version answers now."),
            models=_rows(
                _whole(
                    "Model",
                    name=_TEXT,
                    **_VERSION,
                    previous_version=_said(_MAYBE_TEXT, "What answered before."),
                )
            ),
            problems=_PROBLEMS,
            generation=_GENERATION,
        )
    ),
}


def page_schema(path: str) -> dict[str, Any]:
    """Return the JSON Schema of what a page of the server's own answers.

    Examples
    --------
    >>> page_schema("/live")["required"]
    ['status']
    >>> page_schema("/models/{name}/info") == page_schema("/model/info")
    True
    """
    return _PAGES.get(path.replace("/models/{name}/", "/model/"), {"type": "object"})
