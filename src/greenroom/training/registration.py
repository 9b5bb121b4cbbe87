"""Registration: from a folder of trained models to versions that are selected.

For models that were trained elsewhere or before there was an MLflow server. What is registered is
selected at once: no gate is asked, and the history says so. What was registered from the same files
before is left alone, and so is what has been selected since.

Cut off anywhere, it is taken up by the next call: a version is made last of all, with its digest,
and the registered model says which files were carried out to the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from greenroom.errors import (
    NotInRegistry,
    PromotionUnderway,
    RegistryError,
    RegistryUnavailable,
)
from greenroom.progress import OnProgress, silent
from greenroom.promotion.history import Record
from greenroom.promotion.moving import FRESH_S
from greenroom.promotion.promotion import promote, record
from greenroom.registry.registered import READY, ModelVersion
from greenroom.registry.registry import Registry
from greenroom.task import TASKS
from greenroom.training.model_folder import ModelEntry
from greenroom.training.release import Deployed
from greenroom.training.run_folder import KeptRun
from greenroom.training.tracking import Tracking
from greenroom.versions.model_store import DIGEST_TAG
from greenroom.versions.version_files import LEFT_OUT

FOLDER_TAG: Final = "greenroom.folder"
"""The tag of a registered model with the digest of the files that were registered last, wholly."""

_ASK_AGAIN_S: Final = 1.0

Outcome = Literal["registered", "selected", "unchanged"]


@dataclass(frozen=True)
class Registered:
    """What came of one model.

    Parameters
    ----------
    name : str
        The registered model.
    version : str
        The version with the folder's files.
    outcome : {"registered", "selected", "unchanged"}
        A new version; an earlier one with these files, selected again; nothing to be done.
    reason : str
        Why there is a new version, where there were others.
    selected : tuple of str
        What the selector names now.
    """

    name: str
    version: str
    outcome: Outcome
    reason: str = ""
    selected: tuple[str, ...] = ()


def wait_for_registry(
    registry: Registry,
    timeout_s: float,
    *,
    on_progress: OnProgress = silent,
    clock_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until MLflow answers.

    Raises
    ------
    RegistryUnavailable
        When it does not, for ``timeout_s`` seconds.
    RegistryError
        At once, when it refuses.
    """
    began_s = clock_s()
    while True:
        try:
            registry.ping()
        except RegistryUnavailable as error:
            waited_s = clock_s() - began_s
            if waited_s >= timeout_s:
                raise RegistryUnavailable(
                    f"{error.message} (for {timeout_s:.0f} s)", advice=error.advice
                ) from error
            on_progress(f"waiting for MLflow at {registry.uri}: {waited_s:.0f} s", None)
            sleep(_ASK_AGAIN_S)
        else:
            return


def register_entry(
    registry: Registry,
    tracking: Callable[[], Tracking],
    entry: ModelEntry,
    where: Deployed,
    *,
    who: str,
    on_progress: OnProgress = silent,
) -> Registered:
    """Register a model of a folder, unless that was done, and let the selector name it.

    Parameters
    ----------
    tracking : callable
        Called when there is a run to be written: MLflow's client takes seconds to import.
    where : Deployed
        The registered name, and what selects its version.
    who : str
        Who the history names.

    Raises
    ------
    VersionError
        When the model cannot be registered
        (:meth:`greenroom.training.model_folder.ModelEntry.check`).
    RegistryError
        When MLflow refuses, cannot be reached, or does not give back what it was given.
    """
    on_progress(f"reading {entry.directory}", None)
    entry.check()
    done, versions = _registered_before(registry, where.name)
    same = [one for one in versions if one.tags.get(DIGEST_TAG) == entry.digest]
    whole = [one for one in same if _is_whole(registry, one, entry)]
    if whole and done == entry.digest:
        return Registered(
            where.name, whole[-1].version, "unchanged", "", _selected(registry, where)
        )
    if where.selector.kind == "latest":
        whole = [one for one in whole if one is versions[-1]]  # an older one cannot be selected
    outcome: Outcome = "selected"
    if whole:
        version = whole[-1].version
    else:
        made = _create(registry, tracking(), entry, where, on_progress)
        version = _first_of_doubles(registry, made, versions, entry) or made.version
        if version == made.version:
            outcome = "registered"
        else:
            registry.delete_version(made.name, made.version)
            on_progress(f"version {version} has these files, registered at the same time", None)
    _select(registry, where, version, who, on_progress)
    registry.set_model_tag(where.name, FOLDER_TAG, entry.digest)
    reason = _reason(versions, same) if outcome == "registered" else ""
    return Registered(where.name, version, outcome, reason, _selected(registry, where))


def _registered_before(registry: Registry, name: str) -> tuple[str, list[ModelVersion]]:
    """Return which files were registered last, to the end, and all versions that are ready."""
    try:
        done = registry.registered_model(name).tags.get(FOLDER_TAG, "")
        return done, [one for one in registry.versions(name) if one.status == READY]
    except NotInRegistry:
        return "", []


def _is_whole(registry: Registry, version: ModelVersion, entry: ModelEntry) -> bool:
    """Whether MLflow still has the files of a version: they may go while its database stays."""
    try:
        files = [file for file in registry.files(version) if file.path not in LEFT_OUT]
    except RegistryUnavailable:
        raise
    except RegistryError:
        return False
    there = {
        file.path: entry.sizes.get(file.path) if file.size is None else file.size for file in files
    }
    return there == entry.sizes


def _reason(versions: list[ModelVersion], same: list[ModelVersion]) -> str:
    if same:
        return f"the files of version {same[-1].version} cannot be read any more"
    return "its files have changed" if versions else ""


def _create(
    registry: Registry,
    tracking: Tracking,
    entry: ModelEntry,
    where: Deployed,
    on_progress: OnProgress,
) -> ModelVersion:
    """Write the run, upload the files, and make a version of them."""
    registry.create_model(where.name)
    tracking.end_unfinished(DIGEST_TAG, entry.digest)
    mark = {DIGEST_TAG: entry.digest}
    kept = entry.kept.run if entry.kept else KeptRun(title=where.name)
    on_progress(f"writing the run of {where.name} to MLflow", None)
    with tracking.run(
        kept.title,
        tags=kept.tags | mark,
        started_at_ms=kept.started_at_ms or None,
        ended_at_ms=kept.ended_at_ms or None,
    ) as run:
        run.log_params(kept.params)
        run.log_metrics(kept.metrics)
        if entry.run_folder is not None:
            run.upload_folder(entry.run_folder)
        for candidate in entry.kept.candidates if entry.kept else ():
            with tracking.run(
                candidate.title,
                tags=candidate.tags | mark,
                parent=run,
                started_at_ms=candidate.started_at_ms,
                ended_at_ms=candidate.ended_at_ms,
            ) as below:
                below.log_params(candidate.params)
                below.log_metrics(candidate.metrics)
        on_progress(f"uploading the files of {where.name} to MLflow", None)
        logged = run.upload_model(entry.directory, name=entry.name)
    tags = (dict(entry.kept.tags) if entry.kept else {}) | mark
    version = registry.create_version(where.name, logged.source, logged.run_id, tags)
    if not _is_whole(registry, version, entry):
        raise RegistryError(
            f"MLflow does not give back the files of {where.name} version {version.version}",
            advice="look at its artifact store: its folder, and --artifacts-destination",
        )
    return version


def _first_of_doubles(
    registry: Registry, made: ModelVersion, before: list[ModelVersion], entry: ModelEntry
) -> str:
    """Return the version that somebody made of the same files meanwhile, before this one.

    MLflow numbers versions one after the other, so of two that are made at the same moment the
    later one finds the earlier one, and never the other way round.
    """
    known = {one.version for one in before}
    for one in registry.versions(made.name):
        if (
            one.version not in known
            and int(one.version) < int(made.version)
            and one.status == READY
            and one.tags.get(DIGEST_TAG) == entry.digest
            and _is_whole(registry, one, entry)
        ):
            return one.version
    return ""


def _select(
    registry: Registry,
    where: Deployed,
    version: str,
    who: str,
    on_progress: OnProgress,
) -> None:
    """Let the selector name a version, outside the gate."""
    if where.selector.kind == "latest":
        made = Record(
            action="promotion", who=who, to_version=version, selector="latest", outside_gate=True
        )
        record(registry, where.name, made)
    if not where.selector.movable:
        return
    deadline_s = time.monotonic() + 2 * FRESH_S
    while True:
        try:
            promote(
                registry,
                where.name,
                version,
                selector=where.selector,
                gate=None,
                task=TASKS["classification"],  # the gate's, and none is asked
                who=who,
                on_progress=on_progress,
            )
        except PromotionUnderway as error:
            # Most likely of the process that this one takes the place of.
            if time.monotonic() > deadline_s:
                raise
            on_progress(f"waiting for another promotion of {where.name}: {error.message}", None)
            time.sleep(_ASK_AGAIN_S)
        else:
            return


def _selected(registry: Registry, where: Deployed) -> tuple[str, ...]:
    return tuple(one.version for one in registry.resolve(where.name, where.selector).versions)
