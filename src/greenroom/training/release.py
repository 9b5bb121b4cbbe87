"""From a trained model to a version that is registered, judged and, if it may be, selected.

What joins :mod:`greenroom.training.training` and :mod:`greenroom.promotion.promotion`, which know
nothing of each other. Where the selector is ``latest``, registering is deploying: the gate then
stands before it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from greenroom.app import App
from greenroom.deployment.fallback_file import write_fallback
from greenroom.deployment.fetching import fetch
from greenroom.errors import PromotionRefused, VersionError
from greenroom.evaluation.evidence import HoldOut
from greenroom.inference.runtime import load_native
from greenroom.model import Model
from greenroom.progress import OnProgress, silent
from greenroom.promotion.judging import Judgement, judge
from greenroom.promotion.promotion import Record, promote, record, with_judgement
from greenroom.registry.registry import ModelVersion, Registry
from greenroom.schema import take
from greenroom.selector import Selector
from greenroom.settings import ModelSettings, Settings
from greenroom.training.training import Trained, register, train_model
from greenroom.training.training_report import TrainedModel
from greenroom.training_route import TrainingPlan
from greenroom.versions.model_store import ModelStore

Outcome = Literal["promoted", "registered", "refused", "unchanged"]


@dataclass(frozen=True)
class Deployed:
    """Under which registered name a model is deployed, and what selects its version."""

    name: str
    selector: Selector


@dataclass(frozen=True)
class Release:
    """What training one model led to.

    ``reasons`` are the gate's, for or against; ``fallback_path`` is the file that the version was
    kept in too, empty where it was not.
    """

    trained: Trained
    outcome: Outcome
    version: str = ""
    reasons: tuple[str, ...] = ()
    fallback_path: str = ""


def deployed(model: Model, settings: Settings) -> Deployed:
    """Return the app's own name and selector, or those that the settings put in their place."""
    given = settings.models.get(model.name, ModelSettings())
    return Deployed(given.name or model.name, Selector.parse(given.serve or model.serve))


def train_and_release(
    app: App,
    model: Model,
    folder: Path,
    *,
    settings: Settings,
    registry: Registry,
    who: str,
    promotes: bool,
    plan: TrainingPlan | None = None,
    on_progress: OnProgress = silent,
) -> Release:
    """Train a model, register it, and take it through the gate; write its fallback file.

    Parameters
    ----------
    who : str
        Who the history names.
    promotes : bool
        Whether to go on to the gate, or to leave the version registered.
    plan : TrainingPlan, optional
        Which candidates are tried, on which data; default: as the model says.

    Notes
    -----
    A refused promotion is not a failed training: it is an outcome. What the gate refused does not
    become the fallback either.

    Raises
    ------
    ProcessError
        When the version is registered and its fallback file cannot be written.
    """
    where = deployed(model, settings)
    trained = train_model(
        app,
        model,
        folder,
        name=where.name,
        selector=where.selector,
        settings=settings,
        registry=registry,
        plan=plan,
        on_progress=on_progress,
    )
    release = _released(trained, where, registry, who, promotes, on_progress)
    path = settings.models.get(model.name, ModelSettings()).fallback_path
    if not path or release.outcome == "refused":
        return release
    on_progress(f"writing the fallback file {path}", None)
    _keep(registry, where.name, release.version, Path(path))
    return replace(release, fallback_path=path)


def _released(
    trained: Trained,
    where: Deployed,
    registry: Registry,
    who: str,
    promotes: bool,
    on_progress: OnProgress,
) -> Release:
    if where.selector.kind == "latest":
        return _release_latest(trained, where, registry, who)
    outcome: Outcome = "unchanged" if trained.unchanged else "registered"
    version = trained.version or register(registry, trained, where.name).version
    if not promotes or not where.selector.movable:
        return Release(trained, outcome, version)
    return _promote(trained, version, where, registry, who, on_progress)


def _keep(registry: Registry, name: str, version: str, path: Path) -> None:
    """Write a version's fallback file, from what the registry gives for it."""
    found = registry.version(name, version)
    with tempfile.TemporaryDirectory(prefix="greenroom-") as scratch:
        store = ModelStore(Path(scratch))
        write_fallback(path, store.path(fetch(registry, store, found)), found)


def _promote(
    trained: Trained,
    version: str,
    where: Deployed,
    registry: Registry,
    who: str,
    on_progress: OnProgress,
) -> Release:
    try:
        promotion = promote(
            registry,
            where.name,
            version,
            selector=where.selector,
            gate=trained.model.gate,
            task=trained.model.task,
            who=who,
            evidence=_foreign_evidence(registry, trained),
            on_progress=on_progress,
        )
    except PromotionRefused as refusal:
        return Release(trained, "refused", version, (refusal.message,))
    if not promotion.changed:
        return Release(trained, "unchanged", version)
    return Release(trained, "promoted", version, _reasons(promotion.judgement))


def report_of(release: Release) -> TrainedModel:
    """Return what a release says in a training's report."""
    trained = release.trained
    manifest, logged = trained.manifest, trained.logged
    metrics = manifest.metrics if manifest else {}
    return TrainedModel(
        model=trained.model.name,
        outcome=release.outcome,
        version=release.version,
        run_id=logged.run_id if logged else "",
        run_url=trained.run_url,
        candidate=manifest.candidate if manifest else "",
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        reasons=release.reasons,
        dataset=trained.dataset.name,
        n_rows=trained.dataset.n_rows,
        trial=manifest is not None and manifest.trial,
    )


def _reasons(judgement: Judgement | None) -> tuple[str, ...]:
    if judgement is None:
        return ()
    rows = f"on {judgement.n_rows:,} rows, {judgement.independence}"
    return tuple(f"{reason} ({rows})" for reason in judgement.decision.reasons)


def _release_latest(trained: Trained, where: Deployed, registry: Registry, who: str) -> Release:
    """Judge first: a version that is registered under ``latest`` is served."""
    if trained.unchanged or trained.fitted is None:
        return Release(trained, "unchanged", trained.version)
    registry.create_model(where.name)
    before = registry.resolve(where.name, where.selector).versions
    judgement = judge(
        registry,
        where.name,
        trained.fitted.holdout,
        selector=where.selector,
        gate=trained.model.gate,
        task=trained.model.task,
        trial=trained.manifest is not None and trained.manifest.trial,
        comparison=trained.comparison,
        evidence=_foreign_evidence(registry, trained),
    )
    passed = judgement.decision.passed
    version = register(registry, trained, where.name).version if passed else ""
    made = Record(
        action="promotion" if passed else "refusal",
        who=who,
        from_version=before[0].version if before else "",
        to_version=version,
        selector=str(where.selector),
        content_hash=trained.dataset.content_hash,
    )
    record(registry, where.name, with_judgement(made, judgement))
    return Release(trained, "promoted" if passed else "refused", version, _reasons(judgement))


def _foreign_evidence(
    registry: Registry, trained: Trained
) -> Callable[[ModelVersion], HoldOut | None]:
    """Let a champion that Greenroom did not train predict the rows that this training held out.

    What was held out from *its* training nobody can say, and the record says so.
    """

    def evidence(version: ModelVersion) -> HoldOut | None:
        if trained.prepared is None or trained.fitted is None:
            return None
        holdout = trained.fitted.holdout
        columns = take(trained.dataset.columns, trained.prepared.holdout)
        with tempfile.TemporaryDirectory(prefix="greenroom-") as folder:
            for file in registry.files(version):
                registry.download(version, file.path, Path(folder))
            try:
                predictions = load_native(Path(folder)).predict_rows(columns)
            except (VersionError, KeyError, ValueError):
                # It takes other columns, or does not load here: nothing to compare with.
                return None
        return HoldOut(holdout.keys, holdout.y, predictions)

    return evidence
