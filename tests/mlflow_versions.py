"""Versions on a real MLflow server, made over REST: importing mlflow would take ten seconds."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import httpx

from greenroom.registry.registry import ModelVersion, Registry


def log_files(uri: str, files: Mapping[str, bytes]) -> str:
    """Make a logged model that holds ``files``; return its source for a version."""
    with httpx.Client(base_url=uri, timeout=30) as client:
        body = {"experiment_id": "0", "name": f"made-{secrets.token_hex(4)}"}
        answer = client.post("/api/2.0/mlflow/logged-models", json=body).raise_for_status()
        info = answer.json()["model"]["info"]
        root = info["artifact_uri"].removeprefix("mlflow-artifacts:/").strip("/")
        for path, content in files.items():
            where = f"/api/2.0/mlflow-artifacts/artifacts/{quote(f'{root}/{path}')}"
            client.put(where, content=content).raise_for_status()
        model_id = info["model_id"]
        done = {"model_id": model_id, "status": "LOGGED_MODEL_READY"}
        client.patch(f"/api/2.0/mlflow/logged-models/{model_id}", json=done).raise_for_status()
    return f"models:/{model_id}"


def register_files(registry: Registry, name: str, files: Mapping[str, bytes]) -> ModelVersion:
    """Register a version that holds ``files``."""
    registry.create_model(name)
    return registry.create_version(name, log_files(registry.uri, files))


def files_in(folder: Path) -> dict[str, bytes]:
    """Read a folder of the disk as :func:`log_files` takes it."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
