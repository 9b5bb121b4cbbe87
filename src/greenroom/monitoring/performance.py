"""Performance: how good a version's answers in a window are, with labels and without.

With feedback the task's metrics are computed on the rows whose truth is known, and put beside the
hold-out's figures: worse, or not (:mod:`.comparison`); and it is asked whether the relation between
answers and truth is still the one of the hold-out (:mod:`.concept`). For classifiers the figures
of all rows are estimated too (:mod:`.estimation`).

What was reported is judged, and may not be like the rest: of a loan that was refused nobody learns
what would have become of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from greenroom.errors import GreenroomError
from greenroom.evaluation.evidence import HoldOut, read_holdout
from greenroom.evaluation.metrics import evaluate
from greenroom.evaluation.predictions import Predictions, label_positions
from greenroom.evaluation.scores import Floats
from greenroom.findings import LivePerformance
from greenroom.log.log_reading import PredictionLogReader, Window
from greenroom.monitoring.answers import Asked, labelled_rows, sampled_answers
from greenroom.monitoring.calibration import calibrations
from greenroom.monitoring.comparison import (
    BOUNDS,
    ROW_MEANS,
    Bounds,
    compare_metrics,
    dependence,
    stretched,
    worse_in_words,
)
from greenroom.monitoring.concept import concept_drift
from greenroom.monitoring.estimation import estimate_performance
from greenroom.task import TASKS, Task
from greenroom.tracing.lineage import Lineage
from greenroom.tracing.outcomes import Feedback, Outcomes, join_feedback, task_of
from greenroom.versions.manifest import HOLDOUT_FILE, Manifest
from greenroom.wording import counted

__all__ = ["Performance", "judge_performance", "observe_performance"]

_OF_CLASSES: Final = frozenset({"classification", "anomaly"})


class Performance(NamedTuple):
    """How good a version's answers are; None, with a note, where that cannot be said."""

    observed: LivePerformance | None
    estimate: LivePerformance | None
    notes: tuple[str, ...] = ()


def judge_performance(
    reader: PredictionLogReader,
    lineage: Lineage,
    model: str,
    version: str,
    digest: str,
    window: Window,
    *,
    task: Task | None = None,
    feedback: Feedback | None = None,
    bounds: Bounds = BOUNDS,
    seed: int = 0,
) -> Performance:
    """Judge a version's answers in a window, by what was reported and by their probabilities.

    Parameters
    ----------
    reader : PredictionLogReader
    lineage : Lineage
        Where the version's manifest and hold-out are found.
    model, version, digest : str
        The registered model, its version, and the digest of the files that answered.
    window : Window
        When it was answered; feedback counts whenever it came.
    task : Task, optional
        Of a version that does not say it itself.
    feedback : Feedback, optional
        What :func:`greenroom.tracing.outcomes.join_feedback` made of all feedback since the
        window's beginning: to be read once for several models. Default: it is read.
    bounds : Bounds
    seed : int
        The same seed gives the same estimate.

    Raises
    ------
    LogError
        When the log has nothing of the model, or cannot be read.
    """
    asked = Asked(model, version, digest, window)
    if feedback is None:
        feedback = join_feedback(reader.feedback(Window(window.since)))
    origin = lineage.origin(model, version, digest)
    manifest = origin.manifest
    holdout, problem = _holdout(lineage, asked, manifest)
    notes = [one for one in (origin.problem, problem) if one]
    observed = _observed(reader, asked, feedback, manifest, holdout, task, bounds)
    if observed is None:
        notes.append(f"nothing is known of what was the case for the answers of version {version}")
    estimate: LivePerformance | None = None
    if manifest is None or manifest.task != "classification":
        notes.append("no estimate without labels: only classifiers with a hold-out have one")
    elif holdout is not None:
        estimate, problem = _estimate(reader, asked, manifest, holdout, bounds, seed)
        notes += [problem] if problem else []
    return Performance(observed, estimate, tuple(dict.fromkeys(notes)))


def observe_performance(
    task: Task,
    truth: npt.NDArray[Any],
    predictions: Predictions,
    *,
    holdout: HoldOut | None = None,
    training: Mapping[str, float] | None = None,
    ordered: bool = False,
    bounds: Bounds = BOUNDS,
) -> LivePerformance:
    """Judge answers whose truth is known.

    Parameters
    ----------
    task : Task
    truth : ndarray, shape (n_samples,)
        At least one row, in the order of time.
    predictions : Predictions
        For the same rows.
    holdout : HoldOut, optional
        The version's, in the order of its data.
    training : mapping of str to float, optional
        The training's figures, where there is no hold-out to compute them from.
    ordered : bool
        Whether rows that follow each other may depend on each other, as the hours of a day do:
        intervals are wider then.
    bounds : Bounds
    """
    live = evaluate(task.metrics, truth, predictions)
    trained = dict(training or {})
    if holdout is not None and len(holdout):
        trained |= evaluate(task.metrics, holdout.y, holdout.predictions)
    if ordered:
        live = stretched(live, _dependence(task, truth, predictions))
        if holdout is not None and holdout.y is not None:
            trained = stretched(trained, _dependence(task, holdout.y, holdout.predictions))
    judged, notes = _judged(task, truth, predictions, holdout, bounds)
    metrics = compare_metrics(task.metrics, live, trained, bounds=bounds, judged=judged)
    drifted, reasons = None, worse_in_words(metrics)
    if len(truth) >= bounds.minimum_rows:
        concept = concept_drift(task.name, holdout, truth, predictions, ordered=ordered)
        drifted, reasons = concept.drifted, (*reasons, *concept.reasons)
        notes = (*notes, *concept.notes)
    else:
        notes = (*notes, f"concept drift: {bounds.minimum_rows} rows with a truth are needed")
    known = None if holdout is None or holdout.y is None else (holdout.y, holdout.predictions)
    return LivePerformance(
        estimated=False,
        n_scored=len(truth),
        metrics=metrics,
        concept_drifted=drifted,
        calibration=calibrations(known, (truth, predictions)),
        reasons=reasons,
        notes=notes,
    )


def _observed(
    reader: PredictionLogReader,
    asked: Asked,
    feedback: Feedback,
    manifest: Manifest | None,
    holdout: HoldOut | None,
    told: Task | None,
    bounds: Bounds,
) -> LivePerformance | None:
    rows = labelled_rows(reader, asked, feedback)
    if not rows.num_rows:
        return None
    task = task_of(manifest, told, rows)
    classes = () if manifest is None else tuple(manifest.classes)
    outcomes = Outcomes.of(rows, feedback, task, classes)
    truth, predictions = outcomes.usable()
    n_unusable = int(outcomes.unusable.sum())
    notes = [f"{n_unusable} observations are of another kind than the answers"] * bool(n_unusable)
    if not len(truth):
        return LivePerformance(estimated=False, n_scored=0, notes=tuple(notes))
    found = observe_performance(
        task,
        truth,
        predictions,
        holdout=holdout,
        training=None if manifest is None else manifest.metrics,
        ordered=task.name == "forecast" or (manifest is not None and bool(manifest.split.time)),
        bounds=bounds,
    )
    return msgspec.structs.replace(found, notes=(*notes, *found.notes))


def _estimate(
    reader: PredictionLogReader,
    asked: Asked,
    manifest: Manifest,
    holdout: HoldOut,
    bounds: Bounds,
    seed: int,
) -> tuple[LivePerformance | None, str]:
    """Return the estimate; without one, why there is none."""
    if holdout.y is None or "probabilities" not in holdout.predictions.outputs:
        return None, "no estimate without labels: the version answers without probabilities"
    total, predictions = sampled_answers(reader, asked, tuple(manifest.classes), seed=seed)
    if predictions is None:
        return None, "no estimate without labels: the window holds no answer with probabilities"
    trained = evaluate(TASKS[manifest.task].metrics, holdout.y, holdout.predictions)
    found = estimate_performance(
        holdout, predictions, trained, n_rows=total, bounds=bounds, seed=seed
    )
    return found, ""


def _holdout(
    lineage: Lineage, asked: Asked, manifest: Manifest | None
) -> tuple[HoldOut | None, str]:
    """Return what the version said about its held-out rows; without it, why it is not there."""
    if manifest is None:
        return None, ""
    try:
        with lineage.files(asked.model, asked.version, asked.digest, HOLDOUT_FILE) as folder:
            held = read_holdout(folder / HOLDOUT_FILE, tuple(manifest.classes))
            return _of_known_truth(held), ""
    except GreenroomError as error:
        return None, f"the hold-out of version {asked.version} cannot be read: {error}"


def _of_known_truth(held: HoldOut) -> HoldOut:
    """Return the rows whose truth is known; of an anomaly model it may be of some, or of none."""
    if held.y is None or held.y.dtype.kind != "f":
        return held
    known = ~np.isnan(held.y)
    return held.take(known) if known.any() else replace(held, y=None)


def _judged(
    task: Task,
    truth: npt.NDArray[Any],
    predictions: Predictions,
    holdout: HoldOut | None,
    bounds: Bounds,
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return which metrics the rows are enough for, and a note where that is not all."""
    names = frozenset(metric.name for metric in task.metrics)
    if len(truth) < bounds.minimum_rows:
        few = f"of {counted(len(truth), 'row')} the truth is known, too few to judge by"
        return frozenset(), (f"{few} ({bounds.minimum_rows} are needed)",)
    if task.name not in _OF_CLASSES:
        return names, ()
    rarest = _rarest(task, truth, predictions)
    if holdout is not None and holdout.y is not None:
        rarest = min(rarest, _rarest(task, holdout.y, holdout.predictions))
    if rarest >= bounds.minimum_of_class:
        return names, ()
    few = f"some class has {counted(rarest, 'row')} whose truth is known"
    return names & ROW_MEANS, (f"{few}: figures of single classes are shown, not judged",)


def _rarest(task: Task, truth: npt.NDArray[Any], predictions: Predictions) -> int:
    """Return how many rows the rarest class has."""
    if task.name == "anomaly":
        n_events = int(np.count_nonzero(truth == 1))
        return min(n_events, len(truth) - n_events)
    labels, true, _ = label_positions(truth, predictions)
    n_known = len(predictions.classes or labels)
    return int(np.bincount(true, minlength=n_known)[:n_known].min())


def _dependence(task: Task, truth: npt.NDArray[Any], predictions: Predictions) -> float:
    """Return by what intervals are wider because rows that follow each other are alike."""
    said = predictions.outputs["prediction"]
    errors: Floats
    if task.name in _OF_CLASSES:
        errors = np.asarray(said != truth, np.float64)
    else:
        errors = np.asarray(truth, np.float64) - np.asarray(said, np.float64)
    return float(np.sqrt(dependence(errors)))
