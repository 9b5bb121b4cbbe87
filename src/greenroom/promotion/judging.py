"""Judging a candidate on evidence: held-out rows that neither version was trained on.

Each version that Greenroom trained carries its predictions for the rows that were held out from its
training. The gate sees the figures of both versions on the rows that both hold out, so that none
has an advantage from having seen some of them. Where rows are divided by time, a candidate also
carries what the champion says about the rows that it holds out and that came after the champion's
training (:mod:`greenroom.training.succession`). Where neither can be had, nothing is guessed: the
decision is no, and says why. Moving what is selected is :mod:`greenroom.promotion.promotion`'s
business.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal, TypeAlias

from greenroom.errors import PromotionError, VersionCorrupt
from greenroom.evaluation.evidence import HoldOut, common, read_holdout
from greenroom.evaluation.metrics import Metric, evaluate
from greenroom.gate import Decision, Gate
from greenroom.registry.registry import ModelVersion, Registry
from greenroom.selector import Selector
from greenroom.task import Task
from greenroom.versions.manifest import (
    CHAMPION_FILE,
    FOLDER,
    HOLDOUT_FILE,
    MANIFEST_FILE,
    Manifest,
    read_manifest,
)

MIN_ROWS: Final = 100
"""A comparison needs this many rows that both versions hold out, or all of a smaller hold-out."""

Independence: TypeAlias = Literal[
    "held out by both", "after both trainings", "unknown", "no champion"
]
Evidence: TypeAlias = Callable[[ModelVersion], HoldOut | None]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate decided, and on what.

    Parameters
    ----------
    decision : Decision
        The gate's.
    n_rows : int
        How many rows the figures are computed on.
    independence : {"held out by both", "after both trainings", "unknown", "no champion"}
        Whether these rows were held out from both trainings. ``after both trainings``: they are
        later than any that either was trained on. ``unknown``: one of the versions was not trained
        by Greenroom, and its predictions were given from outside.
    compared_with : str
        The champion's version; empty where there is none.
    """

    decision: Decision
    n_rows: int
    independence: Independence
    compared_with: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a champion said about a challenger's held-out rows that came after its training.

    Parameters
    ----------
    version : str
        The champion's.
    holdout : HoldOut
        Those of the challenger's rows, with the champion's predictions.
    """

    version: str
    holdout: HoldOut


@dataclass(frozen=True, slots=True)
class Carried:
    """The evidence that a version carries inside itself; ``comparison`` where it carries one."""

    manifest: Manifest
    holdout: HoldOut
    comparison: Comparison | None = None


def compare(
    gate: Gate,
    task: Task,
    challenger: HoldOut,
    champion: HoldOut | None,
    *,
    independence: Independence = "held out by both",
    compared_with: str = "",
) -> Judgement:
    """Judge a challenger on the rows that the champion holds out too.

    Parameters
    ----------
    gate : Gate
        What has to be shown.
    task : Task
        Where the gate's metric is found.
    challenger, champion : HoldOut
        What each said about its held-out rows; ``champion`` is None where there is none, and the
        challenger is judged on all of its own.
    independence : str
        What is known about the champion's rows.
    compared_with : str
        The champion's version.

    Raises
    ------
    AppError
        When the task has no such metric.
    """
    metric = task.metric(gate.metric)
    if champion is None:
        figure, problem = _figure(metric, challenger)
        decision = gate.judge(figure, greater_is_better=metric.greater_is_better)
        decision = _refused(gate, problem, figure) if problem else decision
        return Judgement(decision, len(challenger), "no champion")
    needed = max(1, min(MIN_ROWS, len(challenger), len(champion)))
    ours, theirs = common(challenger, champion)
    if len(ours) < needed:
        problem = (
            f"only {len(ours)} rows are held out by both versions, a comparison needs {needed} "
            f"(the candidate holds out {len(challenger)}, the present version {len(champion)})"
        )
        decision = _refused(gate, problem, _figure(metric, challenger)[0])
        return Judgement(decision, len(ours), independence, compared_with)
    figure, problem = _figure(metric, ours)
    other, _ = _figure(metric, theirs)
    decision = gate.judge(figure, champion=other, greater_is_better=metric.greater_is_better)
    decision = _refused(gate, problem, figure) if problem else decision
    return Judgement(decision, len(ours), independence, compared_with)


def judge(
    registry: Registry,
    name: str,
    challenger: HoldOut | None,
    *,
    selector: Selector,
    gate: Gate,
    task: Task,
    version: str = "",
    trial: bool = False,
    comparison: Comparison | None = None,
    evidence: Evidence | None = None,
) -> Judgement:
    """Judge a challenger against what ``gate.against`` (by default ``selector``) names now.

    Parameters
    ----------
    challenger : HoldOut, optional
        Its held-out predictions; None where it carries none.
    version : str
        Its version, where it is registered already: it is not compared with itself.
    trial : bool
        Whether it was trained as a trial: then it is refused where the champion is none. One that
        was trained in full is judged by the minimum alone where the champion is a trial.
    comparison : Comparison, optional
        What the challenger carries of a champion's answers; used where that is the champion.
    evidence : callable, optional
        Asked for a champion that carries no evidence: its predictions on the challenger's held-out
        rows, or None. What was held out from its training, nobody can say.

    Returns
    -------
    Judgement
        Of several versions in a stage, the one that was moved there last is the champion.
    """
    champion = champion_of(registry, name, selector, gate, version)
    against = champion.version if champion else ""
    if challenger is None or len(challenger) == 0:
        return _unjudged(gate, "the candidate carries no held-out predictions", against)
    if champion is None:
        return compare(gate, task, challenger, None)
    carried = read_carried(registry, champion)
    champion_is_trial = carried is not None and carried.manifest.trial
    if champion_is_trial and not trial:
        return compare(gate, task, challenger, None)
    if trial and not champion_is_trial:
        return _unjudged(
            gate, f"it was trained as a trial, and version {against} was trained in full", against
        )
    if comparison is not None and comparison.version == against:
        return compare(
            gate,
            task,
            challenger,
            comparison.holdout,
            independence="after both trainings",
            compared_with=against,
        )
    if carried is not None:
        return compare(gate, task, challenger, carried.holdout, compared_with=against)
    given = evidence(champion) if evidence else None
    if given is None:
        return _unjudged(
            gate, f"version {against} carries no held-out predictions to compare with", against
        )
    return compare(gate, task, challenger, given, independence="unknown", compared_with=against)


def gather(registry: Registry, name: str, version: str) -> HoldOut | None:
    """Download a version's held-out predictions; None for one that Greenroom did not train."""
    carried = read_carried(registry, registry.version(name, version))
    return carried.holdout if carried else None


def read_carried(registry: Registry, version: ModelVersion) -> Carried | None:
    """Download the evidence that a version carries; None for one that Greenroom did not train.

    Raises
    ------
    VersionCorrupt
        When it carries a part of it, or what cannot be read.
    """
    paths = {file.path for file in registry.files(version, FOLDER)}
    if MANIFEST_FILE not in paths:
        return None
    with TemporaryDirectory(prefix="greenroom-") as folder:
        directory = Path(folder)
        for path in (MANIFEST_FILE, HOLDOUT_FILE):
            if path not in paths:
                raise VersionCorrupt(f"{version.name} version {version.version} lacks {path}")
            registry.download(version, path, directory)
        manifest = read_manifest(directory)
        if manifest is None:
            raise VersionCorrupt(f"{version.name} version {version.version} lost {MANIFEST_FILE}")
        holdout = read_holdout(directory / HOLDOUT_FILE, manifest.classes)
        if not manifest.champion:
            return Carried(manifest, holdout)
        said = read_holdout(registry.download(version, CHAMPION_FILE, directory), manifest.classes)
        return Carried(manifest, holdout, Comparison(manifest.champion, said))


def gate_of(registry: Registry, name: str, version: str | None = None) -> tuple[Gate, str]:
    """Return the gate that a version was trained for, and its task's name.

    Parameters
    ----------
    version : str, optional
        Default: the newest.

    Raises
    ------
    PromotionError
        When there is no version, or it was not trained by Greenroom and says nothing of a gate.
    """
    if version is None:
        newest = registry.resolve(name, Selector("latest", "latest")).versions
        if not newest:
            raise PromotionError(f"{name} has no version to promote", advice="train one")
        found = newest[0]
    else:
        found = registry.version(name, version)
    carried = read_carried(registry, found)
    if carried is None:
        raise PromotionError(
            f"{name} version {found.version} was not trained by Greenroom and names no gate",
            advice="promote it from the folder of its app, or without the gate",
        )
    return carried.manifest.gate, carried.manifest.task


def champion_of(
    registry: Registry, name: str, selector: Selector, gate: Gate, version: str = ""
) -> ModelVersion | None:
    """Return the version that a candidate is compared with; None where there is none.

    Parameters
    ----------
    version : str
        The candidate's, where it is registered already.
    """
    if gate.against == "nothing":
        return None
    against = Selector.parse(gate.against) if gate.against else selector
    found = registry.resolve(name, against).versions
    return next((one for one in found if one.version != version), None)


def _figure(metric: Metric, holdout: HoldOut) -> tuple[float, str]:
    """Compute the metric, and say why not where it cannot be computed."""
    figures = evaluate((metric,), holdout.y, holdout.predictions, intervals=False)
    if metric.name in figures:
        return figures[metric.name], ""
    return math.nan, f"{metric.name} is undefined on the {len(holdout)} held-out rows"


def _refused(gate: Gate, problem: str, challenger: float = math.nan) -> Decision:
    return Decision(
        metric=gate.metric, passed=False, reasons=(problem,), challenger=challenger, champion=None
    )


def _unjudged(gate: Gate, problem: str, against: str) -> Judgement:
    independence: Independence = "unknown" if against else "no champion"
    return Judgement(_refused(gate, problem), 0, independence, against)
