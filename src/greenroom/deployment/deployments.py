"""What a selection means for a route: the version to serve, or why there is none.

Pure: what the registry said goes in, values and sentences come out. Asking it, and bringing files
to disk, is :mod:`greenroom.deployment.following`'s business.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from greenroom.compiler.compiled import read_parity
from greenroom.inference.generation import Deployment
from greenroom.registry.registered import ModelVersion, RegisteredModel
from greenroom.schema import Column
from greenroom.selector import Selector
from greenroom.status import VersionStatus
from greenroom.versions.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Target:
    """What a route is to serve.

    Parameters
    ----------
    model : str
        The app's name for the model; the registered one where there is no app.
    name : str
        The registered name.
    selector : Selector
        What is followed.
    route : str
        The path that answers; no two targets share one.
    declared : tuple of Column
        The columns of a request, for versions whose signature does not name them.
    optional : bool
        Whether nothing is wrong where nothing is selected.
    preprocessing : str
        The artifact of a run without which a version of another trainer is not whole.
    fallback_path : str
        The fallback file; empty where there is none.
    request, task
        What the app's clients send, and what its model does: what a fallback file has to fit.
    place : str
        The address that a version's files have to lie under; empty for anywhere.
    """

    model: str
    name: str
    selector: Selector
    route: str
    declared: tuple[Column, ...] = ()
    optional: bool = False
    preprocessing: str = ""
    fallback_path: str = ""
    request: tuple[Column, ...] = ()
    task: str = ""
    place: str = ""


def chosen_version(served: Deployment, selected: Sequence[ModelVersion]) -> ModelVersion | None:
    """Return the version to serve: of several the one that is served now, else the first.

    The registry gives them so that the one that was moved last comes first.
    """
    for version in selected:
        if served.serving is not None and version.version == served.serving.version:
            return version
    return next(iter(selected), None)


def deployment_of(
    target: Target,
    version: ModelVersion,
    digest: str,
    directory: str,
    manifest: Manifest | None,
    compiled: str = "",
) -> Deployment:
    """Return the deployment of a version whose files are in ``directory``.

    ``compiled`` is where those are that were compiled of them, empty without any.
    """
    return Deployment(
        model=target.model,
        name=target.name,
        selector=str(target.selector),
        route=target.route,
        serving=_status(target, version, digest, manifest, runtime_of(directory, compiled)),
        directory=directory,
        compiled=compiled,
        declared=target.declared,
        optional=target.optional,
        place=target.place,
    )


def no_deployment(target: Target, reason: str, advice: str = "") -> Deployment:
    """Return the deployment of nothing, and why."""
    return Deployment(
        model=target.model,
        name=target.name,
        selector=str(target.selector),
        route=target.route,
        reason=reason,
        advice=advice,
        optional=target.optional,
    )


def nothing_selected(target: Target, model: RegisteredModel | None) -> Deployment:
    """Return the deployment of nothing, because the selector names no version.

    Examples
    --------
    >>> target = Target("credit", "credit", Selector.parse("Production"), "/predict")
    >>> nothing_selected(target, None).reason
    'No model in Production stage: credit is not registered'
    """
    name, selector = target.name, target.selector
    what, without = {
        "stage": (f"in {selector.value} stage", "has no version there"),
        "alias": (f"at alias {selector}", "has no such alias"),
        "latest": ("to serve", "has no version"),
        "version": ("to serve", f"has no version {selector.value}"),
    }[selector.kind]
    if model is None:
        without = "is not registered"
    advice = "train and register it with `greenroom train`"
    if model is not None and model.latest_versions:
        promote = f"`greenroom promote {shlex.quote(name)}`"
        advice = f"promote a version with {promote}" if selector.movable else "select another one"
    found = no_deployment(target, f"No model {what}: {name} {without}", advice)
    return replace(found, selected=False)


def problems_of(
    target: Target,
    model: RegisteredModel | None,
    selected: Sequence[ModelVersion],
    chosen: ModelVersion | None,
) -> tuple[str, ...]:
    """Say what is wrong with a selection although it can be followed.

    Two versions in the selected stage; and a mirror that names another version than the selector,
    which is never followed.
    """
    return (*_several(target, selected, chosen), *_disagreements(target, model, selected))


def with_problems(deployment: Deployment, *problems: str) -> Deployment:
    """Return a deployment with these problems instead of its own."""
    return replace(deployment, problems=problems)


def runtime_of(directory: str, compiled: str) -> str:
    """Say which runtime a version has files for; a worker logs it when it takes the other."""
    reports = (read_parity(Path(folder)) for folder in (directory, compiled) if folder)
    proved = any(report is not None and report.passed for report in reports)
    return "compiled" if proved else "native"


def instant(seconds: float) -> str:
    """Return an instant, given in seconds since 1970, as ISO 8601 in UTC to the millisecond.

    Examples
    --------
    >>> instant(1.5)
    '1970-01-01T00:00:01.500Z'
    """
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _several(
    target: Target, selected: Sequence[ModelVersion], chosen: ModelVersion | None
) -> Iterator[str]:
    if len(selected) > 1 and chosen is not None:
        numbers = sorted(version.number for version in selected)
        listed = " and ".join(map(str, numbers))
        yield (
            f"versions {listed} of {target.name} are in {target.selector};"
            f" version {chosen.version} is served until one of them is moved out"
        )


def _disagreements(
    target: Target, model: RegisteredModel | None, selected: Sequence[ModelVersion]
) -> Iterator[str]:
    mirror = target.selector.mirror
    if mirror is None or model is None:
        return
    named = (
        model.aliases.get(mirror.value)
        if mirror.kind == "alias"
        else next((one.version for one in model.latest_versions if one.stage == mirror.value), None)
    )
    if named is not None and named not in [version.version for version in selected]:
        followed = f"version {selected[0].version}" if selected else "nothing"
        yield (
            f"{_called(mirror)} names version {named} and {_called(target.selector)} {followed};"
            f" {_called(target.selector)} is followed"
        )


def _called(selector: Selector) -> str:
    return f"alias {selector}" if selector.kind == "alias" else f"stage {selector}"


def _status(
    target: Target, version: ModelVersion, digest: str, manifest: Manifest | None, runtime: str
) -> VersionStatus:
    in_stage = target.selector.kind == "stage"
    return VersionStatus(
        version=version.version,
        stage=target.selector.value if in_stage else version.stage,
        run_id=version.run_id,
        model_uri=f"models:/{version.name}/{version.version}",
        digest=digest,
        aliases=version.aliases,
        registered_at=instant(version.created_at_ms / 1000),
        runtime=runtime,
        generated_data=manifest is not None and manifest.data.generated,
        metrics={} if manifest is None else manifest.metrics,
        params={} if manifest is None else _params(manifest),
    )


def _params(manifest: Manifest) -> dict[str, Any]:
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
    }
