"""Training: from an app's data to a registered version, with its evidence.

Each model's training is one MLflow run, each candidate a run below it. What travels with the
version is written into the model's own directory. Whether it is then selected is for
:mod:`greenroom.promotion`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from greenroom.app import App
from greenroom.app_loading import pickle_by_value
from greenroom.baselines import Baseline, judge_baselines
from greenroom.compiled import compile_version
from greenroom.cross_validation import (
    CandidateScores,
    best,
    candidate_params,
    cross_validate,
)
from greenroom.dataset import Dataset, load_dataset
from greenroom.errors import NotInRegistry
from greenroom.evidence import write_holdout
from greenroom.examples import example_request, typical_values
from greenroom.figures import classification_report, feature_importance, figures_for
from greenroom.fitting import (
    Fitted,
    Prepared,
    fit_candidate,
    prepare,
    reference_columns,
    whole_pipeline,
    write_evidence,
)
from greenroom.frames import to_frame
from greenroom.judging import Comparison
from greenroom.manifest import (
    CHAMPION_FILE,
    Code,
    Data,
    Environment,
    Manifest,
    write_manifest,
)
from greenroom.model import Model
from greenroom.model_store import DIGEST_TAG
from greenroom.parity import ParityReport
from greenroom.progress import OnProgress, silent
from greenroom.provenance import loading_requirements, record_code, record_environment
from greenroom.registry import ModelVersion, Registry
from greenroom.run_params import run_params
from greenroom.schema import take
from greenroom.selector import Selector
from greenroom.settings import Settings
from greenroom.succession import compared_with_champion, succeeding
from greenroom.tracking import LoggedVersion, Run, Tracking, signature_of
from greenroom.training_route import TrainingPlan
from greenroom.version_files import directory_digest

_INTERVAL: Final = ("_low", "_high")

TRAINING_TAG: Final = "greenroom.training"


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
    prepared = prepare(model, folder, dataset)
    pickle_by_value(folder)
    tracking = Tracking(settings.tracking_uri, app.experiment)
    title = f"{name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    with tracking.run(title, tags=_run_tags(app, model, dataset, training)) as run:
        environment = record_environment()
        _log_beginning(run, prepared, code, environment)
        inputs, folds = prepared.train_inputs, prepared.folds()
        scores = cross_validate(model, inputs, prepared.train_y, folds, on_progress=on_progress)
        _log_candidates(tracking, run, prepared, scores)
        baselines = judge_baselines(prepared)
        chosen = best(scores, model.task.metric(model.gate.metric))
        on_progress(f"fitting {chosen.name} on {len(prepared.train):,} rows", None)
        fitted = fit_candidate(prepared, chosen.name, reference_rows=settings.reference_rows)
        comparison = compared_with_champion(
            registry, name, selector, fitted.holdout, prepared, settings.trust, on_progress
        )
        on_progress("compiling the model, logging it and its figures to MLflow", None)
        made = _manifest(app, prepared, fitted, code, environment, plan)
        manifest = succeeding(made, prepared, comparison)
        _log_results(run, prepared, fitted, chosen)
        _log_baselines(run, baselines)
        logged, digest, parity = _log_version(run, prepared, fitted, manifest, comparison)
        _log_runtime(run, parity)
    tags = _version_tags(manifest, training, digest) | {"greenroom.runtime": _runtime(parity)}
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
        tags=tags,
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


def _run_tags(app: App, model: Model, dataset: Dataset, training: str) -> dict[str, str]:
    tags = {
        "greenroom.app": app.name,
        "greenroom.model": model.name,
        "greenroom.metrics": "hold-out",
        TRAINING_TAG: training,
    }
    return tags | ({"greenroom.data": "generated data"} if dataset.generated else {})


def _log_beginning(run: Run, prepared: Prepared, code: Code, environment: Environment) -> None:
    """Record what the training starts from, so that one that fails can be understood too."""
    run.log_params(run_params(prepared))
    tags = {"greenroom.code_hash": code.code_hash, "greenroom.git_dirty": str(code.git_dirty)}
    run.set_tags(tags | ({"mlflow.source.git.commit": code.git_commit} if code.git_commit else {}))
    run.log_files({"environment.json": _json(environment), "code.json": _json(code)})


def _log_candidates(
    tracking: Tracking, parent: Run, prepared: Prepared, scores: Sequence[CandidateScores]
) -> None:
    model = prepared.model
    tags = {
        "greenroom.model": model.name,
        "greenroom.metrics": f"mean over {model.folds} folds of the training rows",
    }
    for score in scores:
        with tracking.run(score.name, tags=tags, parent=parent) as run:
            params = candidate_params(model, score.name)
            run.log_params(
                {"candidate": score.name, "dataset_name": prepared.dataset.name, **params}
            )
            run.log_metrics(score.flat())


def _log_baselines(run: Run, baselines: Sequence[Baseline]) -> None:
    """Record the hold-out figures of what the candidates have to be better than."""
    for position, baseline in enumerate(baselines, start=1):
        prefix = "baseline" if len(baselines) == 1 else f"baseline_{position}"
        run.log_params({prefix: baseline.name})
        points = {k: v for k, v in baseline.metrics.items() if not k.endswith(_INTERVAL)}
        run.log_metrics({f"{prefix}_{name}": value for name, value in points.items()})


def _log_results(run: Run, prepared: Prepared, fitted: Fitted, chosen: CandidateScores) -> None:
    model, holdout = prepared.model, fitted.holdout
    run.log_params({"candidate": chosen.name, **candidate_params(model, chosen.name)})
    folds = {f"cv_{name}": value for name, value in chosen.flat().items()}
    run.log_metrics(fitted.metrics | folds)
    importance = None
    if holdout.y is not None:
        importance = feature_importance(
            lambda X: model.task.predict(fitted.estimator, X),
            prepared.inputs.iloc[prepared.holdout],
            holdout.y,
            model.task.metric(model.gate.metric),
            model.seed,
        )
    figures = figures_for(model.task.name, holdout.y, holdout.predictions, importance=importance)
    run.log_figures(figures)
    files = dict(model.artifacts(fitted.estimator)) if model.artifacts else {}
    if model.task.name == "classification" and holdout.y is not None:
        report = classification_report(holdout.y, holdout.predictions)
        files["classification_report.txt"] = report.encode()
    if files:
        run.log_files(files)


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
    run: Run,
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


def _runtime(report: ParityReport) -> str:
    return "compiled" if report.passed else "native"


def _log_runtime(run: Run, report: ParityReport) -> None:
    """Record what will serve the version, and where that is its estimator, why."""
    run.log_params({"runtime": _runtime(report)})
    tags = {"greenroom.runtime": _runtime(report)}
    if report.reason:
        tags["greenroom.runtime_reason"] = report.reason
    run.set_tags(tags)
    run.log_files({"parity.json": _json(report)})


def _version_tags(manifest: Manifest, training: str, digest: str) -> dict[str, str]:
    tags = {
        TRAINING_TAG: training,
        DIGEST_TAG: digest,
        "greenroom.candidate": manifest.candidate,
        "greenroom.dataset_hash": manifest.data.dataset_hash,
        "greenroom.content_hash": manifest.data.content_hash,
        "greenroom.code_hash": manifest.code.code_hash,
        "greenroom.n_train": str(manifest.n_train),
        "greenroom.n_holdout": str(manifest.n_holdout),
    }
    if manifest.trial:
        tags["greenroom.trial"] = "true"
    if manifest.data.generated:
        tags["greenroom.data"] = "generated data"
    figures = {f"greenroom.{name}": repr(value) for name, value in manifest.metrics.items()}
    return tags | {key: text for key, text in figures.items() if not key.endswith(_INTERVAL)}


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)
