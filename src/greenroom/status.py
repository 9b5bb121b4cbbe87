"""The server's state as one frozen value, which pages and an app's own views are made from.

The supervisor keeps it and gives every worker a copy when something changes. Nothing here is
computed from requests; counting those is the metrics' business.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

FALLBACK: Final = "fallback"
"""What everything that shows a version out of a fallback file calls its stage and its source."""


RegistryState: TypeAlias = Literal["starting", "healthy", "unavailable", "disabled"]


class VersionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The version of a model that answers at the moment.

    ``stage`` is what the selector calls it: ``Production``, or the version's own stage where the
    selector is an alias, ``latest`` or a number. Of a version whose ``source`` is the fallback file
    nobody knows whether it is selected; its stage is ``fallback``.
    """

    version: str
    stage: str
    source: Literal["registry", "fallback"] = "registry"
    run_id: str = ""
    model_uri: str = ""
    digest: str = ""
    aliases: tuple[str, ...] = ()
    registered_at: str = ""
    loaded_at: str = ""
    runtime: str = "native"
    generated_data: bool = False
    metrics: dict[str, float] = {}
    params: dict[str, Any] = {}


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the server: what is selected, what is served, and what is wrong with it.

    Of one that is ``optional`` nothing is wrong where nothing is selected.
    """

    name: str
    selector: str
    route: str
    serving: VersionStatus | None = None
    problems: tuple[str, ...] = ()
    latest_versions: dict[str, str] = {}
    optional: bool = False


class RegistryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the registry answers, and since when (UTC, ISO 8601) that has been so.

    It is ``disabled`` where it is not to be asked. ``mlflow_answers`` where MLflow itself is there
    although the registry is not to be had: its database is away, or it lets nobody in.
    """

    uri: str
    state: RegistryState = "starting"
    since: str = ""
    problem: str = ""
    mlflow_answers: bool = False

    @property
    def connection(self) -> RegistryState:
        """Whether MLflow itself answers."""
        return "healthy" if self.mlflow_answers else self.state

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong with it; one that nobody wants is not missed."""
        return self.state in {"healthy", "disabled"}


class RestartStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the last rolling restart of the workers is or went (UTC, ISO 8601)."""

    state: Literal["running", "done", "failed"]
    began_at: str
    ended_at: str = ""
    problem: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a page may show about the server.

    ``problems`` are those that are not a model's, nor the registry's: a full disk, say. ``alerts``
    are those that fire, a line each; they say nothing of whether predictions are answered.
    """

    app: str
    greenroom_version: str
    started_at: str
    generation: int = 0
    workers: int = 1
    registry: RegistryStatus
    models: tuple[ModelStatus, ...] = ()
    restart: RestartStatus | None = None
    problems: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()

    @property
    def health(self) -> Literal["healthy", "degraded", "unhealthy"]:
        """Unhealthy when no model answers, degraded when something is wrong, else healthy."""
        if not any(model.serving for model in self.models):
            return "unhealthy"
        whole = all((one.serving or one.optional) and not one.problems for one in self.models)
        restarted = self.restart is None or self.restart.state != "failed"
        known = self.registry.is_whole and not self.problems
        return "healthy" if whole and known and restarted else "degraded"
