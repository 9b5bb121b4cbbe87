"""The server's own pages, as plain values: health, what is served, and what a version is.

Each is a function of the server's status or of a loaded version, and gives what is sent as JSON;
those that say whether something works give the HTTP status too. Routes, and everything else that
is HTTP, are :mod:`greenroom.http.serving`'s business.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Final, NamedTuple

import msgspec

from greenroom.errors import NotServing
from greenroom.inference.generation import Deployment, predict_path
from greenroom.inference.served_model import ServedModel
from greenroom.schema import Column
from greenroom.status import ModelStatus, Status
from greenroom.versions.manifest import Manifest
from greenroom.vitals import WINDOW_S, Vitals

__all__ = [
    "GENERATED_DATA",
    "Later",
    "Page",
    "TextPage",
    "health",
    "live",
    "mlflow_version",
    "model_info",
    "model_list",
    "not_serving",
    "ping",
    "predict_path",
    "ready",
    "reloaded",
    "root",
]

GENERATED_DATA: Final = "generated data"
"""What everything that shows a version trained on a stand-in calls it."""


class Page(NamedTuple):
    """What a page says, and its HTTP status."""

    document: Mapping[str, Any]
    status: int = 200


class Later(NamedTuple):
    """A page that takes long: whoever waits for it is not counted as being answered meanwhile."""

    page: Callable[[], Awaitable[Page]]


class TextPage(NamedTuple):
    """A page that is plain text, and its HTTP status."""

    text: str
    status: int = 200


def ping(status: Status) -> TextPage:
    """Say whether predictions are answered, as MLflow's scoring server does: with an empty line."""
    return TextPage("\n", ready(status).status)


@functools.cache
def mlflow_version() -> TextPage:
    """Say which MLflow is installed, as MLflow's scoring server does."""
    return TextPage(metadata.version("mlflow"))


def live() -> Page:
    """Say that the process runs, whatever it can answer."""
    return Page({"status": "alive"})


def ready(status: Status) -> Page:
    """Say whether predictions are answered: 200 when at least one model's are.

    One of several that is not served does not make a server unready: taking it out of rotation
    would take the others away too. What is missing is named either way.
    """
    missing = [model for model in status.models if model.serving is None]
    is_ready = len(missing) < len(status.models)
    document = {
        "ready": is_ready,
        "serving": [model.name for model in status.models if model.serving is not None],
        "missing": [{"name": m.name, "problems": list(m.problems)} for m in missing],
    }
    return Page(document, 200 if is_ready else 503)


def root(status: Status) -> Page:
    """Say what this is and whether it works: the basic health check."""
    document = {
        "status": status.health,
        "service": status.app,
        **_only_model(status),
        "health": "/health",
        "docs": "/docs",
    }
    return Page(document, _health_status(status))


def health(status: Status, vitals: Vitals | None = None, *, now: datetime | None = None) -> Page:
    """Say in detail how the server is: 503 when no prediction can be answered, else 200.

    Parameters
    ----------
    status : Status
    vitals : Vitals, optional
        How the server is doing; None before that is known.
    now : datetime, optional
        The time that ``uptime_seconds`` is counted to.
    """
    document = {
        "status": status.health,
        "service": status.app,
        **_only_model(status),
        "mlflow_connection": status.registry.connection,
        "registry_access": status.registry.state,
        "registry": {
            "state": status.registry.state,
            "since": status.registry.since,
            "problem": status.registry.problem,
        },
        "uptime_seconds": _uptime_s(status.started_at, now or datetime.now(UTC)),
        "response_times": vitals and _response_times(vitals),
        "resources": vitals and _resources(vitals),
        "models": [_model_health(model) for model in status.models],
        "problems": _problems(status),
        "alerts": status.alerts,
        "generation": status.generation,
        "workers": status.workers,
        "restart": status.restart,
        "greenroom_version": status.greenroom_version,
    }
    return Page(document, _health_status(status))


def _health_status(status: Status) -> int:
    return 503 if status.health == "unhealthy" else 200


def _only_model(status: Status) -> dict[str, Any]:
    """Return the model's fields where there is exactly one, as documented clients expect them."""
    if len(status.models) != 1:
        return {}
    (model,) = status.models
    serving = model.serving
    return {
        "model_loaded": serving is not None,
        "model_name": model.name,
        "model_version": serving.version if serving else None,
        "model_stage": serving.stage if serving else None,
        "model_source": serving.source if serving else None,
    }


def _model_health(model: ModelStatus) -> dict[str, Any]:
    serving = model.serving
    document = {
        "name": model.name,
        "route": model.route,
        "selector": model.selector,
        "loaded": serving is not None,
        "version": serving.version if serving else None,
        "stage": serving.stage if serving else None,
        "source": serving.source if serving else None,
        "since": serving.loaded_at if serving else None,
        "runtime": serving.runtime if serving else None,
        "latest_versions": model.latest_versions,
        "problems": list(model.problems),
    }
    if serving is not None and serving.generated_data:
        document["data"] = GENERATED_DATA
    return document


def _problems(status: Status) -> list[str]:
    problems = [f"{model.name}: {problem}" for model in status.models for problem in model.problems]
    registry = status.registry
    if not registry.is_whole:
        said = "has not answered yet" if registry.state == "starting" else "is unavailable"
        since = f" since {registry.since}" if registry.since else ""
        reason = f": {registry.problem}" if registry.problem else ""
        problems.append(f"the model registry {said}{since}{reason}")
    problems += status.problems
    restart = status.restart
    if restart is not None and restart.state == "failed":
        problems.append(f"the restart of {restart.began_at} stopped: {restart.problem}")
    return problems


def _response_times(vitals: Vitals) -> dict[str, Any]:
    """Say how long predictions have taken of late; null where there were none."""
    seconds = {"mean_ms": vitals.mean_s, "p50_ms": vitals.p50_s, "p99_ms": vitals.p99_s}
    return {
        "window_seconds": int(WINDOW_S),
        "predictions": int(vitals.n_answers),
        **{name: None if math.isnan(of) else round(1_000 * of, 3) for name, of in seconds.items()},
    }


def _resources(vitals: Vitals) -> dict[str, Any]:
    """Say what all processes of the server use, and what room its state has."""
    cpu = vitals.cpu_percent
    sizes = {
        "memory_bytes": vitals.memory_bytes,
        "disk_free_bytes": vitals.disk_free_bytes,
        "disk_total_bytes": vitals.disk_total_bytes,
    }
    return {
        "cpu_percent": None if math.isnan(cpu) else round(cpu, 1),
        **{name: None if math.isnan(size) else int(size) for name, size in sizes.items()},
    }


def _uptime_s(started_at: str, now: datetime) -> int:
    return max(0, int((now - datetime.fromisoformat(started_at)).total_seconds()))


def not_serving(deployment: Deployment) -> NotServing:
    """Make the error of a route whose model has no version to answer with."""
    return NotServing(
        deployment.reason or f"{deployment.name} has no version that can be served yet",
        advice=deployment.advice,
    )


def model_list(models: Mapping[str, ServedModel], status: Status) -> Page:
    """List the models of the server, by what they are called on it."""
    by_route = {model.route: model for model in status.models}
    return Page({"models": [_listed(served, by_route) for served in models.values()]})


def _listed(served: ServedModel, by_route: Mapping[str, ModelStatus]) -> dict[str, Any]:
    deployment = served.deployment
    shown = _shown(deployment, by_route)
    serving = shown.serving
    return {
        "name": deployment.model,
        "model_name": deployment.name,
        "model_version": serving.version if serving else None,
        "model_stage": serving.stage if serving else None,
        "selector": deployment.selector,
        "route": deployment.route,
        "in_memory": served.runtime is not None,
        "problems": list(shown.problems),
    }


def _shown(deployment: Deployment, by_route: Mapping[str, ModelStatus]) -> ModelStatus:
    """Return what is known of a deployment now, aliases and problems included.

    Those change without a swap, so they come from the status; the version that answers, from the
    deployment itself, also while the status is still about another one.
    """
    own = deployment.status
    known = by_route.get(deployment.route, own)
    return known if _identity(known) == _identity(own) else own


def _identity(model: ModelStatus) -> tuple[str, str, str]:
    serving = model.serving
    return (model.name, serving.version, serving.digest) if serving else (model.name, "", "")


def model_info(served: ServedModel, status: Status) -> Page:
    """Say everything about the version that answers: what it is, and how it came to be.

    Raises
    ------
    NotServing
        When there is none.
    """
    deployment, runtime = served.deployment, served.runtime
    shown = _shown(deployment, {model.route: model for model in status.models})
    serving = shown.serving
    if serving is None or runtime is None:
        raise not_serving(deployment)
    manifest = runtime.manifest
    generated = serving.generated_data or bool(manifest and manifest.data.generated)
    document = {
        "model_name": deployment.name,
        "model_version": serving.version,
        "model_stage": serving.stage,
        "model_source": serving.source,
        "selector": deployment.selector,
        "route": deployment.route,
        **msgspec.structs.asdict(serving),
        # What answers here, which may be the estimator of a version that has a graph.
        "runtime": runtime.kind,
        "task": runtime.task.name,
        "classes": list(runtime.classes),
        "metrics": serving.metrics or (manifest.metrics if manifest else {}),
        "generated_data": generated,
        **({"data": GENERATED_DATA} if generated else {}),
        **(_origin(manifest) if manifest else {}),
        "columns": [_column(column) for column in runtime.schema],
        "latest_versions": shown.latest_versions,
        "problems": list(shown.problems),
    }
    # Said above, under the names that replies have.
    return Page({name: value for name, value in document.items() if name not in _RENAMED})


_RENAMED: Final = frozenset({"version", "stage", "source"})


def reloaded(
    before: Mapping[str, ServedModel], after: Mapping[str, ServedModel], status: Status
) -> Page:
    """Say what a reload changed.

    Parameters
    ----------
    before, after : mapping
        What was served by name, and what is now, by all workers.
    status : Status
        The server's status after it.
    """
    models = [_change(before.get(name), served.deployment) for name, served in after.items()]
    document = {
        "reloaded": any(model["model_version"] != model["previous_version"] for model in models),
        **_only_model(status),
        "models": models,
        "problems": _problems(status),
        "generation": status.generation,
    }
    return Page(document)


def _change(before: ServedModel | None, now: Deployment) -> dict[str, Any]:
    previous = before.deployment.serving if before else None
    return {
        "name": now.model,
        "model_name": now.name,
        "model_version": now.serving.version if now.serving else None,
        "model_stage": now.serving.stage if now.serving else None,
        "previous_version": previous.version if previous else None,
    }


def _origin(manifest: Manifest) -> dict[str, Any]:
    """Return what a version says about its own training."""
    return {
        "candidate": manifest.candidate,
        "dataset_name": manifest.data.name,
        "dataset_hash": manifest.data.dataset_hash,
        "content_hash": manifest.data.content_hash,
        "n_rows": manifest.data.n_rows,
        "n_train": manifest.n_train,
        "n_holdout": manifest.n_holdout,
        "seed": manifest.seed,
        "code_hash": manifest.code.code_hash,
        "git_commit": manifest.code.git_commit,
        "features_digest": manifest.features_digest,
        "trained_with": {
            "python": manifest.environment.python,
            "packages": manifest.environment.packages,
        },
    }


def _column(column: Column) -> dict[str, Any]:
    """Describe a field of a request; what says nothing is left out."""
    described = {
        "name": column.name,
        "request_name": column.request_name,
        "kind": column.kind,
        "nullable": column.nullable,
        "minimum": column.minimum,
        "maximum": column.maximum,
        "categories": list(column.categories),
        "unit": column.unit,
        "description": column.description,
        "example": column.example,
    }
    return {name: value for name, value in described.items() if value not in (None, "", [])}
