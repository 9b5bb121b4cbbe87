"""What the run of a training says: its parameters, its candidates, its figures, its tags.

Written into a :class:`greenroom.training.journal.Journal`, whichever it is. What is trained, and
when, is :mod:`greenroom.training.training`'s business; what travels inside the version is
:mod:`greenroom.versions.manifest`'s.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from greenroom.app import App
from greenroom.compiler.parity import ParityReport
from greenroom.model import Model
from greenroom.training.baselines import Baseline
from greenroom.training.cross_validation import CandidateScores, candidate_params
from greenroom.training.dataset import Dataset
from greenroom.training.figures import classification_report, feature_importance, figures_for
from greenroom.training.fitting import Fitted, Prepared
from greenroom.training.journal import Journal, RunWriter
from greenroom.training.run_params import run_params
from greenroom.unfinished_runs import JOB_TAG, JOB_VARIABLE
from greenroom.versions.manifest import Code, Environment, Manifest
from greenroom.versions.model_store import DIGEST_TAG

TRAINING_TAG: Final = "greenroom.training"
"""The tag that holds the digest of all that a training's result depends on."""

_INTERVAL: Final = ("_low", "_high")


def run_tags(app: App, model: Model, dataset: Dataset, training: str) -> dict[str, str]:
    """Label a run with what is trained, and on what."""
    tags = {
        "greenroom.app": app.name,
        "greenroom.model": model.name,
        "greenroom.metrics": "hold-out",
        TRAINING_TAG: training,
    }
    job = os.environ.get(JOB_VARIABLE, "")
    return tags | dataset.tags | ({JOB_TAG: job} if job else {})


def log_beginning(run: RunWriter, prepared: Prepared, code: Code, environment: Environment) -> None:
    """Record what the training starts from, so that one that fails can be understood too."""
    run.log_params(run_params(prepared))
    tags = {"greenroom.code_hash": code.code_hash, "greenroom.git_dirty": str(code.git_dirty)}
    run.set_tags(tags | ({"mlflow.source.git.commit": code.git_commit} if code.git_commit else {}))
    run.log_files({"environment.json": _json(environment), "code.json": _json(code)})


def log_candidates(
    journal: Journal, parent: RunWriter, prepared: Prepared, scores: Sequence[CandidateScores]
) -> None:
    """Write a run for each candidate below the training's: its parameters and its scores."""
    model = prepared.model
    tags = {
        "greenroom.model": model.name,
        "greenroom.metrics": f"mean over {model.folds} folds of the training rows",
    }
    for score in scores:
        with journal.run(score.name, tags=tags, parent=parent) as run:
            params = candidate_params(model, score.name)
            run.log_params(
                {"candidate": score.name, "dataset_name": prepared.dataset.name, **params}
            )
            run.log_metrics(score.flat())


def log_baselines(run: RunWriter, baselines: Sequence[Baseline]) -> None:
    """Record the hold-out figures of what the candidates have to be better than."""
    for position, baseline in enumerate(baselines, start=1):
        prefix = "baseline" if len(baselines) == 1 else f"baseline_{position}"
        run.log_params({prefix: baseline.name})
        points = {k: v for k, v in baseline.metrics.items() if not k.endswith(_INTERVAL)}
        run.log_metrics({f"{prefix}_{name}": value for name, value in points.items()})


def log_results(
    run: RunWriter, prepared: Prepared, fitted: Fitted, chosen: CandidateScores
) -> None:
    """Write what the chosen candidate came to: its scores, figures and files."""
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


def _runtime(report: ParityReport) -> str:
    return "compiled" if report.passed else "native"


def log_runtime(run: RunWriter, report: ParityReport) -> None:
    """Record what will serve the version, and where that is its estimator, why."""
    run.log_params({"runtime": _runtime(report)})
    tags = {"greenroom.runtime": _runtime(report)}
    if report.reason:
        tags["greenroom.runtime_reason"] = report.reason
    run.set_tags(tags)
    run.log_files({"parity.json": _json(report)})


def version_tags(
    manifest: Manifest, training: str, digest: str, parity: ParityReport
) -> dict[str, str]:
    """Label a version with where it comes from and what it scored on the hold-out."""
    tags = {
        TRAINING_TAG: training,
        DIGEST_TAG: digest,
        "greenroom.runtime": _runtime(parity),
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
