"""``GET /models/status``: each model in detail, as the documentation of this system has it."""

from __future__ import annotations

from typing import Any

from greenroom import Status
from greenroom.status import ModelStatus


def model_status(status: Status) -> dict[str, Any]:
    """Say of each model what is served, since when, how good it is, and what is wrong with it."""
    return {
        "status": status.health,
        "mlflow": {"state": status.registry.state, "since": status.registry.since},
        "models_loaded": sum(model.serving is not None for model in status.models),
        "models": {model.name: _one(model) for model in status.models},
    }


def _one(model: ModelStatus) -> dict[str, Any]:
    serving = model.serving
    about: dict[str, Any] = {
        "loaded": serving is not None,
        "endpoint": model.route,
        "stage": model.selector,
        "problems": list(model.problems),
    }
    if serving is None:
        return about
    return about | {
        "version": serving.version,
        "run_id": serving.run_id,
        "runtime": serving.runtime,
        "registered_at": serving.registered_at,
        "loaded_at": serving.loaded_at,
        "generated_data": serving.generated_data,
        "metrics": {
            name: value
            for name, value in serving.metrics.items()
            if not name.endswith(("_low", "_high"))
        },
    }
