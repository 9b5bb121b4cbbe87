"""What an app's management routes take and answer: the registry's models, transitions, a reload.

The pages are pure functions of what the supervisor brought. It alone talks to MLflow: a worker asks
it (:mod:`greenroom.errands`). Which routes there are, the app says (:mod:`greenroom.management`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from greenroom.access.callers import Access
from greenroom.errands import (
    DescribeModel,
    Done,
    Errand,
    ListModels,
    ModelDescribed,
    ModelsListed,
    MoveVersion,
    VersionMoved,
)
from greenroom.errors import ProcessError, RegistryUnavailable, VersionError
from greenroom.http.endpoints import Action, Call, Endpoint
from greenroom.http.error_replies import HttpRefusal
from greenroom.http.pages import Page, reloaded
from greenroom.inference.served_model import ServedModel
from greenroom.management import Management
from greenroom.openapi.management_schemas import management_schema
from greenroom.openapi.openapi import Operation
from greenroom.payloads.fields import read_fields
from greenroom.promotion.history import PREFIX, Record
from greenroom.promotion.moving import INTENT_TAG
from greenroom.registry.registered import ModelVersion, RegisteredModel
from greenroom.schema import Column, Schema
from greenroom.selector import STAGES
from greenroom.status import Status

__all__ = ["ANONYMOUS", "Ask", "management_endpoints"]

ANONYMOUS: Final = "anonymous"
"""Who the history names where nobody is asked for a token."""

Ask: TypeAlias = Callable[[Errand], Awaitable[Done]]
_Came = TypeVar("_Came", bound=Done)

RELOAD: Final = Schema(
    (
        Column(
            "force_mlflow",
            "boolean",
            nullable=True,
            description="Whether it is an error that the registry does not answer; else what can "
            "be served without it is kept.",
            example=True,
        ),
    )
)
TRANSITION: Final = Schema(
    (
        Column("version", "string", description="The version's number.", example="4"),
        Column(
            "stage",
            "category",
            categories=STAGES,
            description="Where it is moved to.",
            example="Production",
        ),
        Column(
            "archive_existing",
            "boolean",
            nullable=True,
            description="Whether other versions in the stage are archived; by default they stay.",
            example=True,
        ),
    )
)


def management_endpoints(
    management: Management,
    *,
    ask: Ask,
    reload: Callable[[], Awaitable[Status]],
    models: Callable[[], Mapping[str, ServedModel]],
    status: Callable[[], Status],
    mlflow_enabled: bool = True,
) -> list[Endpoint]:
    """Return the routes that an app declares.

    Parameters
    ----------
    management : Management
        Where they are.
    ask : callable
        Has the supervisor do an errand.
    reload : callable
        Has the registry asked now, and returns when all workers serve what it selects.
    models : callable
        Returns what is served at the moment, by name.
    status : callable
        Returns the server's status.
    mlflow_enabled : bool
        Whether the registry may be asked at all.
    """
    pages = _Pages(ask, reload, models, status, mlflow_enabled=mlflow_enabled)
    return list(_endpoints(management, pages))


def _endpoints(management: Management, pages: _Pages) -> Iterator[Endpoint]:
    rows: tuple[tuple[str, str, Access, str, dict[int, str], Schema | None, Action], ...] = (
        ("models", "GET", "read", "The registered models.", _AWAY, None, pages.listed),
        ("model", "GET", "read", "A registered model.", _LOST, None, pages.described),
        ("transition", "POST", "admin", _MOVE, _UNMOVED, TRANSITION, pages.moved),
        ("reload", "POST", "admin", _RELOAD, _UNRELOADED, RELOAD, pages.reloaded),
    )
    for kind, method, scope, summary, statuses, body, answer in rows:
        path = getattr(management, kind)
        if path:
            operation = Operation(
                method=method,
                path=path,
                scope=scope,
                tag="management",
                summary=summary,
                statuses=statuses if body is None else {**_UNREAD, **statuses},
                reply=management_schema(kind),
                body=body,
                body_required=kind != "reload",
                patterns={"version": _VERSION_PATTERN} if kind == "transition" else {},
            )
            yield Endpoint(operation, answer)


_AWAY: Final = {
    502: "The registry answered what makes no sense.",
    503: "The registry does not answer.",
}
_LOST: Final = {404: "There is no such registered model.", **_AWAY}
_UNREAD: Final = {
    400: "The body is not one JSON object.",
    413: "The body is larger than the server reads.",
    415: "The body is not sent as application/json.",
    422: "Fields are missing, unknown or wrong: all of them are named.",
}
_MOVE: Final = "Move a version to another stage; the history says who did."
_UNMOVED: Final = {
    **_AWAY,
    404: "There is no such registered model, or it has no such version.",
    409: "The stage that is served would hold two versions; or the version is not ready, or the "
    "gate refuses it, or a promotion is under way.",
}
_RELOAD: Final = "Ask the registry now; answered when all workers serve what it selects."
_UNRELOADED: Final = {
    **_AWAY,
    409: "What the registry selects cannot be served; the last good version goes on.",
}


class _Pages:
    """The answers, each an errand and a page made of what came of it."""

    def __init__(
        self,
        ask: Ask,
        reload: Callable[[], Awaitable[Status]],
        models: Callable[[], Mapping[str, ServedModel]],
        status: Callable[[], Status],
        *,
        mlflow_enabled: bool,
    ) -> None:
        self._mlflow_enabled = mlflow_enabled
        self._ask = ask
        self._reload = reload
        self._models = models
        self._status = status

    async def listed(self, _: Call) -> Page:
        return registered_models(await self._came(ListModels(), ModelsListed))

    async def described(self, call: Call) -> Page:
        name = call.parameters["name"]
        return registered_model(await self._came(DescribeModel(name), ModelDescribed))

    async def moved(self, call: Call) -> Page:
        fields = read_fields(call.body, TRANSITION, {"version": _version_problem})
        errand = MoveVersion(
            name=call.parameters["name"],
            version=fields["version"],
            stage=fields["stage"],
            archive_existing=bool(fields["archive_existing"]),
            who=call.caller or ANONYMOUS,
        )
        return moved(await self._came(errand, VersionMoved))

    async def reloaded(self, call: Call) -> Page:
        fields = read_fields(call.body, RELOAD) if call.body.strip() else {}
        if fields.get("force_mlflow"):
            self._require_mlflow()
        before = self._models()
        try:
            status = await self._reload()
        except VersionError as error:
            # The registry selects what cannot be served, and the last good version goes on.
            raise HttpRefusal(409, error.message, advice=error.advice) from error
        except RegistryUnavailable:
            if fields.get("force_mlflow"):
                raise
            status = self._status()
        return reloaded(before, self._models(), status)

    async def _came(self, errand: Errand, kind: type[_Came]) -> _Came:
        self._require_mlflow()
        outcome = await self._ask(errand)
        if not isinstance(outcome, kind):
            raise ProcessError(f"the supervisor answered with {type(outcome).__name__}")
        return outcome

    def _require_mlflow(self) -> None:
        if not self._mlflow_enabled:
            raise RegistryUnavailable(
                "MLflow is not asked for anything by this server",
                advice="set mlflow_enabled to true, and start it again",
            )


_VERSION_PATTERN: Final = "^[1-9][0-9]{0,17}$"


def _version_problem(version: str) -> str:
    right = re.fullmatch(_VERSION_PATTERN[1:-1], version)
    return "" if right else "must be the number of a version, such as 4"


def registered_models(found: ModelsListed) -> Page:
    """List the registered models.

    Examples
    --------
    >>> registered_models(ModelsListed((RegisteredModel("credit"),))).document["count"]
    1
    """
    models = [
        {
            "name": model.name,
            "creation_timestamp": model.created_at_ms,
            "last_updated_timestamp": model.updated_at_ms,
            "latest_versions": model.versions_by_stage,
            "aliases": dict(model.aliases),
        }
        for model in found.models
    ]
    return Page({"registered_models": models, "count": len(models)})


def registered_model(found: ModelDescribed) -> Page:
    """Say what there is of a registered model: its versions, newest first, and its history."""
    model = found.model
    document = {
        "name": model.name,
        "creation_timestamp": model.created_at_ms,
        "last_updated_timestamp": model.updated_at_ms,
        "latest_versions": model.versions_by_stage,
        "aliases": dict(model.aliases),
        "tags": _own_tags(model),
        "versions": [_version(version) for version in reversed(found.versions)],
        "history": [_happened(record) for record in found.history],
    }
    return Page(document)


def _own_tags(model: RegisteredModel) -> dict[str, str]:
    """Return the tags without the records that Greenroom keeps in them, which are the history."""
    return {
        name: value
        for name, value in model.tags.items()
        if not name.startswith(PREFIX) and name != INTENT_TAG
    }


def _version(version: ModelVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "stage": version.stage,
        "status": version.status,
        "run_id": version.run_id,
        "source": version.source,
        "creation_timestamp": version.created_at_ms,
        "last_updated_timestamp": version.updated_at_ms,
        "aliases": list(version.aliases),
        "tags": dict(version.tags),
    }


def _happened(record: Record) -> dict[str, Any]:
    said = msgspec.structs.asdict(record)
    return {name: said[name] for name in HISTORY_FIELDS}


HISTORY_FIELDS: Final = (
    "at",
    "who",
    "action",
    "outcome",
    "selector",
    "from_version",
    "to_version",
    "outside_gate",
    "passed",
    "reasons",
)


def moved(done: VersionMoved) -> Page:
    """Say what a transition changed."""
    document = {
        "name": done.name,
        "version": done.version,
        "stage": done.stage,
        "previous_stage": done.from_stage,
        "archived": list(done.archived),
        "changed": done.changed,
        "latest_versions": done.latest_versions,
    }
    return Page(document)
