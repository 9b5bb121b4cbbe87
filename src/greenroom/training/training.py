"""Training: from an app's data to a registered version, with its evidence.

Each model's training is one MLflow run, each candidate a run below it. What travels with the
version is written into the model's own directory. Whether it is then selected is for
:mod:`greenroom.promotion.promotion`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from greenroom.app import App
from greenroom.app_loading import pickle_by_value
from greenroom.compiler.compiled import compile_version
from greenroom.compiler.parity import ParityReport
from greenroom.data.examples import example_request, typical_values
from greenroom.data.frames import to_frame
from greenroom.errors import NotInRegistry
from greenroom.evaluation.evidence import write_holdout
from greenroom.model import Model
from greenroom.progress import OnProgress, silent
from greenroom.promotion.judging import Comparison
from greenroom.registry.registry import ModelVersion, Registry
from greenroom.schema import take
from greenroom.selector import Selector
from greenroom.settings import Settings
from greenroom.training.baselines import Baseline, judge_baselines
from greenroom.training.cross_validation import (
    CandidateScores,
    best,
    cross_validate,
)
from greenroom.training.dataset import Dataset, load_dataset
from greenroom.training.fitting import (
    Fitted,
    Prepared,
    fit_candidate,
    prepare,
    reference_columns,
    whole_pipeline,
    write_evidence,
)
from greenroom.training.journal import Journal, LoggedVersion, RunWriter
from greenroom.training.model_saving import signature_of
from greenroom.training.provenance import loading_requirements, record_code, record_environment
from greenroom.training.recording import (
    TRAINING_TAG,
    log_baselines,
    log_beginning,
    log_candidates,
    log_results,
    log_runtime,
    run_tags,
    version_tags,
)
from greenroom.training.succession import compared_with_champion, succeeding
from greenroom.training.tracking import Tracking
from greenroom.training_route import TrainingPlan
from greenroom.versions.manifest import (
    CHAMPION_FILE,
    Code,
    Data,
    Environment,
    Manifest,
    write_manifest,
)
from greenroom.versions.version_files import directory_digest


@dataclass(frozen=True)
class Trained:
    """What one model's training came to.

    ``version`` is that of an earlier training with the same data, code and settings, where the app
    asks for no second one (``unchanged``); else it is empty, and :func:`register` makes one.
    """

    model: Model
    run_url: str
    dataset: Dataset
    version: str = ""
    unchanged: bool = False
    logged: LoggedVersion | None = None
    manifest: Manifest | None = None
    prepared: Prepared | None = None
    fitted: Fitted | None = None
    scores: Sequence[CandidateScores] = ()
    baselines: Sequence[Baseline] = ()
    comparison: Comparison | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


Compare: TypeAlias = Callable[[Fitted, Prepared], Comparison | None]


def train_model(
    app: App,
    model: Model,
    folder: Path,
    *,
    name: str,
    selector: Selector,
    settings: Settings,
    registry: Registry,
    plan: TrainingPlan | None = None,
    on_progress: OnProgress = silent,
) -> Trained:
    """Train one model and log it; registering is :func:`register`.

    Parameters
    ----------
    folder : Path
        The app's folder.
    name : str
        The registered name that it is deployed under.
    selector : Selector
        What selects the version that it may have to be compared with.
    plan : TrainingPlan, optional
        Which candidates are tried, on which data; default: as the model says.

    Raises
    ------
    DataError
        When the data are missing or do not fit.
    RegistryUnavailable
        When MLflow does not answer.
    """
    plan = plan or TrainingPlan(model=model.name)
    model = plan.applied_to(model)
    on_progress(f"reading {model.dataset_name or 'the data'}", None)
    dataset = load_dataset(
        model, folder, rows=plan.rows, generated=settings.generated, on_progress=on_progress
    )
    code = record_code(folder)
    training = training_digest(model, dataset, code.code_hash, settings, plan)
    if app.retrain == "when changed":
        present = _already_registered(registry, name, training)
        if present is not None:
            return Trained(model, "", dataset, version=present.version, unchanged=True)

    def compare(fitted: Fitted, prepared: Prepared) -> Comparison | None:
        return compared_with_champion(
            registry, name, selector, fitted.holdout, prepared, settings.trust, on_progress
        )

    return train_and_log(
        Tracking(settings.tracking_uri, app.experiment, settings.place),
        app,
        model,
        folder,
        dataset,
        code,
        plan,
        title=f"{name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
        reference_rows=settings.reference_rows,
        training=training,
        compare=compare,
        on_progress=on_progress,
    )


def train_and_log(
    journal: Journal,
    app: App,
    model: Model,
    folder: Path,
    dataset: Dataset,
    code: Code,
    plan: TrainingPlan,
    *,
    title: str,
    reference_rows: int,
    training: str,
    compare: Compare = lambda *_: None,
    on_progress: OnProgress = silent,
) -> Trained:
    """Train one model on data that were read, and write it into a journal.

    Parameters
    ----------
    journal : Journal
        Where the run and the version go.
    title : str
        What the run is called.
    reference_rows : int
        How many rows the reference sample holds.
    training : str
        What :func:`training_digest` gave.
    compare : callable, optional
        Has the present champion answer the held-out rows, where that says something.
    """
    prepared = prepare(model, folder, dataset)
    pickle_by_value(folder)
    with journal.run(title, tags=run_tags(app, model, dataset, training)) as run:
        environment = record_environment()
        log_beginning(run, prepared, code, environment)
        scores = _scores(prepared, on_progress)
        log_candidates(journal, run, prepared, scores)
        baselines = judge_baselines(prepared)
        chosen = best(scores, model.task.metric(model.gate.metric))
        on_progress(f"fitting {chosen.name} on {len(prepared.train):,} rows", None)
        fitted = fit_candidate(prepared, chosen.name, reference_rows=reference_rows)
        comparison = compare(fitted, prepared)
        on_progress("compiling the model, logging it and its figures", None)
        made = _manifest(app, prepared, fitted, code, environment, plan)
        manifest = succeeding(made, prepared, comparison)
        log_results(run, prepared, fitted, chosen)
        log_baselines(run, baselines)
        logged, digest, parity = _log_version(run, prepared, fitted, manifest, comparison)
        log_runtime(run, parity)
    return Trained(
        model,
        run.url,
        dataset,
        logged=logged,
        manifest=manifest,
        prepared=prepared,
        fitted=fitted,
        scores=scores,
        baselines=baselines,
        comparison=comparison,
        tags=version_tags(manifest, training, digest, parity) | dataset.tags,
    )


def training_digest(
    model: Model,
    dataset: Dataset,
    code_hash: str,
    settings: Settings,
    plan: TrainingPlan | None = None,
) -> str:
    """Digest all that a training's result depends on: data, code, seed, settings and the plan."""
    parts = [dataset.content_hash, code_hash, model.seed, settings.reference_rows]
    if plan is not None and (plan.candidates or plan.is_trial):
        parts += [*plan.candidates, plan.is_trial]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def register(registry: Registry, trained: Trained, name: str) -> ModelVersion:
    """Make a version of the registered model ``name`` from a logged one, evidence as tags."""
    if trained.logged is None:
        raise ValueError("nothing was logged, so there is nothing to register")
    registry.create_model(name)
    return registry.create_version(
        name, trained.logged.source, trained.logged.run_id, dict(trained.tags)
    )


def _already_registered(registry: Registry, name: str, training: str) -> ModelVersion | None:
    try:
        versions = registry.versions(name)
    except NotInRegistry:
        return None
    same = [version for version in versions if version.tags.get(TRAINING_TAG) == training]
    return max(same, key=lambda version: int(version.version), default=None)


def _scores(prepared: Prepared, on_progress: OnProgress) -> list[CandidateScores]:
    inputs, folds = prepared.train_inputs, prepared.folds()
    return cross_validate(prepared.model, inputs, prepared.train_y, folds, on_progress=on_progress)


def _manifest(
    app: App,
    prepared: Prepared,
    fitted: Fitted,
    code: Code,
    environment: Environment,
    plan: TrainingPlan,
) -> Manifest:
    model, dataset = prepared.model, prepared.dataset
    return Manifest(
        app=app.name,
        model=model.name,
        task=model.task.name,
        candidate=fitted.candidate,
        columns=model.columns,
        request=model.request,
        target=model.target,
        inputs=tuple(str(name) for name in prepared.inputs.columns),
        classes=fitted.holdout.predictions.classes,
        features_digest=prepared.features.digest if prepared.features else "",
        context=tuple(dataset.context),
        reply=dict(model.reply),
        gate=model.gate,
        split=model.split,
        folds=model.folds,
        seed=model.seed,
        data=Data(
            name=dataset.name,
            source=dataset.source,
            dataset_hash=dataset.dataset_hash,
            content_hash=dataset.content_hash,
            n_rows=dataset.n_rows,
            generated=dataset.generated,
            n_available=dataset.n_available,
            named=bool(plan.dataset),
            dvc_md5=dataset.dvc_md5,
            dvc_differs=dataset.dvc_differs,
        ),
        trial=plan.is_trial,
        code=code,
        environment=environment,
        metrics=fitted.metrics,
        n_train=len(prepared.train),
        n_holdout=len(prepared.holdout),
        example=example_request(
            model.request_schema,
            typical_values(model.request_schema, reference_columns(prepared, fitted)),
        ),
    )


def _log_version(
    run: RunWriter,
    prepared: Prepared,
    fitted: Fitted,
    manifest: Manifest,
    comparison: Comparison | None,
) -> tuple[LoggedVersion, str, ParityReport]:
    digests: list[str] = []
    reports: list[ParityReport] = []

    def finish(directory: Path) -> None:
        write_manifest(directory, manifest)
        write_evidence(directory, prepared, fitted)
        if comparison is not None:
            write_holdout(directory / CHAMPION_FILE, comparison.holdout)
        reports.append(
            compile_version(
                directory,
                fitted.estimator,
                prepared.model.task,
                prepared.inputs.iloc[fitted.reference],
                fitted.reference_predictions,
                seed=prepared.model.seed,
            )
        )
        digests.append(directory_digest(directory))

    first = take(prepared.dataset.columns, fitted.reference[:1])
    logged = run.log_model(
        whole_pipeline(fitted.estimator, prepared.features, prepared.model),
        name=prepared.model.name,
        signature=signature_of(
            prepared.model.schema, fitted.reference_predictions.outputs["prediction"]
        ),
        example=to_frame(first),
        requirements=loading_requirements(fitted.estimator),
        finish=finish,
    )
    return logged, digests[-1], reports[-1]
