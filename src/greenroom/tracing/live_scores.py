"""Live scores: how good a model's predictions turned out to be, by version and by day.

Predictions and feedback are joined by the prediction's id. What counts is what was observed last:
the same observation sent twice counts once, one that contradicts an earlier one takes its place,
and both are counted. Metrics are those that training logs (:mod:`greenroom.evaluation.metrics`), so
that a figure stands beside the one that the version was selected for. A day is the day on which it
was predicted, in UTC.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from greenroom.errors import LogError
from greenroom.evaluation.metrics import evaluate
from greenroom.evaluation.predictions import Predictions
from greenroom.log.log_reading import PredictionLogReader, Window, id_instant
from greenroom.task import TASKS, Task
from greenroom.tracing.lineage import Lineage
from greenroom.tracing.tracing import OUTPUTS, task_of_outputs
from greenroom.versions.manifest import Manifest

__all__ = ["Feedback", "LiveScore", "LiveScores", "ModelScores", "join_feedback", "score_log"]


class LiveScore(msgspec.Struct, frozen=True, kw_only=True):
    """How good the predictions of a version were on one day, or in the whole window.

    ``day`` is ISO 8601, and None for the whole window. ``n_predictions`` are all there were,
    ``n_scored`` those of which it is known what was the case; ``n_unusable`` observations are of
    another kind than the model's answers. ``metrics`` are as
    :func:`greenroom.evaluation.metrics.evaluate` gives them, with ``_low`` and ``_high`` where
    there is an interval (95 %).
    """

    version: str
    day: str | None
    n_predictions: int
    n_scored: int
    n_unusable: int = 0
    metrics: dict[str, float] = {}


class ModelScores(msgspec.Struct, frozen=True, kw_only=True):
    """The live scores of one model; ``training`` has the hold-out's figures by version."""

    model: str
    task: str
    scores: tuple[LiveScore, ...]
    training: dict[str, dict[str, float]] = {}
    notes: tuple[str, ...] = ()


class LiveScores(msgspec.Struct, frozen=True, kw_only=True):
    """The live scores of a server's models, and how the feedback was.

    ``n_feedback`` observations were received; ``n_duplicates`` said again what had been said,
    ``n_contradictions`` are predictions of which different things were said, ``n_unknown`` are of
    ids that none of the models has answered with, and ``n_earlier`` of predictions before the
    window.
    """

    since: str | None
    n_feedback: int
    n_duplicates: int
    n_contradictions: int
    n_unknown: int
    n_earlier: int
    models: tuple[ModelScores, ...]


@dataclass(slots=True)
class Feedback:
    """What was observed last of each prediction, and how often something else was said.

    ``actual`` has by prediction id the value.
    """

    n_received: int = 0
    n_duplicates: int = 0
    n_contradictions: int = 0
    actual: dict[str, Any] = field(default_factory=dict)


_COLUMNS: Final = ("prediction_id", "answered_at", "day", "version", "digest")
_TIMELESS: Final = dt.datetime.min.replace(tzinfo=dt.UTC)


def join_feedback(rows: pa.Table) -> Feedback:
    """Reduce feedback to what counts of each prediction.

    Parameters
    ----------
    rows : pyarrow.Table
        As :meth:`greenroom.log.log_reading.PredictionLogReader.feedback` gives it.
    """
    found = Feedback(n_received=rows.num_rows)
    seen: set[tuple[Any, ...]] = set()
    said: dict[str, set[str]] = {}
    latest: dict[str, tuple[dt.datetime, dt.datetime]] = {}
    names = ("prediction_id", "actual", "observed_at", "received_at")
    for one, actual, observed, received in zip(
        *(rows[name].to_pylist() for name in names), strict=True
    ):
        if (one, actual, observed) in seen:
            found.n_duplicates += 1
            continue
        seen.add((one, actual, observed))
        said.setdefault(one, set()).add(actual)
        when = (observed or received or _TIMELESS, received)
        if one not in latest or when >= latest[one]:
            latest[one] = when
            found.actual[one] = msgspec.json.decode(actual)
    found.n_contradictions = sum(len(values) > 1 for values in said.values())
    return found


def score_log(
    reader: PredictionLogReader,
    lineage: Lineage,
    models: Sequence[str],
    *,
    among: Sequence[str] = (),
    since: dt.datetime | None = None,
    tasks: Mapping[str, Task] | None = None,
) -> LiveScores:
    """Join the log with its feedback, and judge what is known.

    Parameters
    ----------
    reader : PredictionLogReader
    lineage : Lineage
        Where training's figures are found.
    models : sequence of str
        The registered names of the models to judge.
    among : sequence of str
        Further models whose feedback is not unknown.
    since : datetime, optional
        From when on predictions count.
    tasks : mapping of str to Task, optional
        By registered name; a version that Greenroom trained says so itself.

    Raises
    ------
    LogError
        When the log has no prediction of any of the models, or cannot be read.
    """
    window = Window(since)
    feedback = join_feedback(reader.feedback(window))
    judged, answered, problem = [], set[str](), None
    for name in dict.fromkeys([*models, *among]):
        try:
            table = reader.predictions(name, window, columns=[*_COLUMNS, *sorted(OUTPUTS)])
        except LogError as error:
            problem = error
            continue
        answered.update(_known(table, feedback))
        if name in models:
            task = (tasks or {}).get(name)
            judged.append(_Judge(name, lineage, task).scores(table, feedback))
    if problem is not None and not judged:
        raise problem
    other = [one for one in feedback.actual if one not in answered]
    earlier = sum(_before(one, since) for one in other)
    return LiveScores(
        since=None if since is None else since.isoformat().replace("+00:00", "Z"),
        n_feedback=feedback.n_received,
        n_duplicates=feedback.n_duplicates,
        n_contradictions=feedback.n_contradictions,
        n_unknown=len(other) - earlier,
        n_earlier=earlier,
        models=tuple(judged),
    )


def _known(table: pa.Table, feedback: Feedback) -> list[str]:
    return _observed(table, feedback)["prediction_id"].to_pylist()  # type: ignore[no-any-return]


def _observed(table: pa.Table, feedback: Feedback) -> pa.Table:
    """Return those rows of which it is known what was the case."""
    ids = pa.array(list(feedback.actual), pa.string())
    return table.filter(pc.is_in(table["prediction_id"], value_set=ids))


def _before(prediction_id: str, since: dt.datetime | None) -> bool:
    instant = id_instant(prediction_id)
    return since is not None and instant is not None and instant < since


class _Judge:
    """What judges the predictions of one model."""

    def __init__(self, name: str, lineage: Lineage, task: Task | None) -> None:
        self._name = name
        self._lineage = lineage
        self._task = task
        self._training: dict[str, dict[str, float]] = {}
        self._notes: list[str] = []
        self._named = task.name if task else ""

    def scores(self, table: pa.Table, feedback: Feedback) -> ModelScores:
        scores: list[LiveScore] = []
        for version, digest in _versions(table):
            rows = table.filter(pc.equal(table["version"], version))
            scores += self._version(version, digest, rows, feedback)
        return ModelScores(
            model=self._name,
            task=self._named,
            scores=tuple(scores),
            training=self._training,
            notes=tuple(dict.fromkeys(self._notes)),
        )

    def _version(
        self, version: str, digest: str, rows: pa.Table, feedback: Feedback
    ) -> Iterator[LiveScore]:
        origin = self._lineage.origin(self._name, version, digest)
        if origin.problem:
            self._notes.append(origin.problem)
        if origin.manifest is not None:
            self._training[version] = dict(origin.manifest.metrics)
        known = _observed(rows, feedback)
        task = self._task_of(origin.manifest, rows)
        self._named = self._named or task.name
        classes = () if origin.manifest is None else tuple(origin.manifest.classes)
        joined = _Joined.of(known, feedback, task, classes)
        days = pc.unique(rows["day"]).to_pylist()
        for day in [*sorted(days), None]:
            n_rows = rows.num_rows if day is None else _count(rows["day"], day)
            yield joined.judged(version, day, n_rows, task)

    def _task_of(self, manifest: Manifest | None, rows: pa.Table) -> Task:
        if manifest is not None and manifest.task in TASKS:
            return TASKS[manifest.task]
        if self._task is not None:
            return self._task
        named = [n for n in rows.column_names if n in OUTPUTS and rows[n].null_count < len(rows)]
        if "prediction" in named and not pa.types.is_floating(rows["prediction"].type):
            return TASKS["classification"]
        return TASKS[task_of_outputs(named)]


def _versions(table: pa.Table) -> list[tuple[str, str]]:
    """Return the versions in order, each with the digest of its files."""
    pairs = table.group_by(["version", "digest"]).aggregate([]).to_pylist()
    found = {one["version"]: one["digest"] or "" for one in pairs}
    return sorted(found.items(), key=lambda pair: (int(pair[0]) if pair[0].isdigit() else 0, pair))


def _count(values: pa.ChunkedArray, value: Any) -> int:
    return int(pc.sum(pc.equal(values, value)).as_py() or 0)


class _Joined:
    """What a version has answered, and what was the case."""

    def __init__(
        self,
        days: npt.NDArray[Any],
        truth: npt.NDArray[Any],
        predictions: Predictions,
        unusable: npt.NDArray[np.bool_],
    ) -> None:
        self._days = days
        self._truth = truth
        self._predictions = predictions
        self._unusable = unusable

    @classmethod
    def of(
        cls, known: pa.Table, feedback: Feedback, task: Task, classes: tuple[Any, ...]
    ) -> _Joined:
        outputs = {}
        for output in task.outputs:
            if output.name in known.column_names and not known[output.name].null_count:
                outputs[output.name] = _array(known[output.name].to_pylist(), output.kind)
        said = [feedback.actual[one] for one in known["prediction_id"].to_pylist()]
        answered = outputs.get("prediction", np.zeros(0))
        values = [_as_answered(value, answered) for value in said]
        unusable = np.array([value is None for value in values], dtype=np.bool_)
        stand_in = answered[0] if len(answered) else 0
        truth = np.array([stand_in if value is None else value for value in values])
        days = np.array(known["day"].to_pylist(), dtype=object)
        classes = classes or _labels(outputs, truth[~unusable], task)
        if task.name == "classification" and not classes:
            # Whose the probabilities are is not known.
            outputs = {name: values for name, values in outputs.items() if name == "prediction"}
        return cls(days, truth, Predictions(outputs, classes), unusable)

    def judged(self, version: str, day: dt.date | None, n_rows: int, task: Task) -> LiveScore:
        of_day = np.ones(len(self._days), np.bool_) if day is None else self._days == day
        chosen = of_day & ~self._unusable
        metrics = {}
        if chosen.any():
            part = self._predictions.take(chosen)
            metrics = evaluate(task.metrics, self._truth[chosen], part)
        return LiveScore(
            version=version,
            day=None if day is None else day.isoformat(),
            n_predictions=n_rows,
            n_scored=int(chosen.sum()),
            n_unusable=int((of_day & self._unusable).sum()),
            metrics=metrics,
        )


def _labels(
    outputs: Mapping[str, npt.NDArray[Any]], truth: npt.NDArray[Any], task: Task
) -> tuple[Any, ...]:
    """Return the labels of a classifier that does not say them, where all of them occur.

    Estimators have them in order, and as many probabilities a row.
    """
    probabilities = outputs.get("probabilities")
    if task.name != "classification" or probabilities is None or not len(probabilities):
        return ()
    occurring = sorted({*outputs["prediction"].tolist(), *truth.tolist()})
    return tuple(occurring) if len(occurring) == probabilities.shape[1] else ()


def _array(values: Sequence[Any], kind: str) -> npt.NDArray[Any]:
    if kind == "texts":
        found = np.empty(len(values), dtype=object)
        found[:] = values
        return found
    return np.array(values)


def _as_answered(value: Any, answered: npt.NDArray[Any]) -> Any:
    """Return what was observed in the type of the answers; None where it is of another kind.

    Examples
    --------
    >>> _as_answered(True, np.array([0, 1])), _as_answered("high", np.array([0, 1]))
    (1, None)
    """
    kind = answered.dtype.kind
    if kind in "US":
        return value if isinstance(value, str) else None
    if isinstance(value, str) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if kind == "b":
        return bool(value) if value in (0, 1) else None
    if kind in "iu":
        return int(value) if float(value).is_integer() else None
    return float(value)
