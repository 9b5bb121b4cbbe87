"""Live scores: how good a model's predictions turned out to be, by version and by day.

Metrics are those that training logs (:mod:`greenroom.evaluation.metrics`), so that a figure stands
beside the one that the version was selected for. A day is the day on which it was predicted, in
UTC. What was answered is joined with what was the case in :mod:`greenroom.tracing.outcomes`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from greenroom.errors import LogError
from greenroom.evaluation.metrics import evaluate
from greenroom.log.log_reading import PredictionLogReader, Window, id_instant
from greenroom.log.log_rows import joined_rows
from greenroom.task import Task
from greenroom.tracing.lineage import Lineage
from greenroom.tracing.outcomes import COLUMNS, Feedback, Outcomes, join_feedback, task_of

__all__ = ["LiveScore", "LiveScores", "ModelScores", "score_log"]

_IN_ORDER: Final = ("answered_at", "prediction_id")


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
    judged, unknown, problem = [], feedback.ids, None
    for name in dict.fromkeys([*models, *among]):
        try:
            parts = list(reader.batches(name, window, columns=COLUMNS))
        except LogError as error:
            problem = error
            continue
        unknown = unknown.filter(pc.invert(pc.is_in(unknown, value_set=_ids(parts))))
        if name in models:
            task = (tasks or {}).get(name)
            judged.append(_Judge(name, lineage, task).scores(parts, feedback))
    if problem is not None and not judged:
        raise problem
    earlier = sum(_before(one, since) for one in unknown.to_pylist())
    return LiveScores(
        since=None if since is None else since.isoformat().replace("+00:00", "Z"),
        n_feedback=feedback.n_received,
        n_duplicates=feedback.n_duplicates,
        n_contradictions=feedback.n_contradictions,
        n_unknown=len(unknown) - earlier,
        n_earlier=earlier,
        models=tuple(judged),
    )


def _ids(parts: Sequence[pa.Table]) -> pa.Array:
    chunks = [chunk for part in parts for chunk in part["prediction_id"].chunks]
    return pa.concat_arrays(chunks or [pa.array([], pa.string())])


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

    def scores(self, parts: Sequence[pa.Table], feedback: Feedback) -> ModelScores:
        scores: list[LiveScore] = []
        for version, digest in _versions(parts):
            # A version's answers are of one type; another version's may be of another.
            own = [part.filter(pc.equal(part["version"], version)) for part in parts]
            rows = joined_rows(own).sort_by([(name, "ascending") for name in _IN_ORDER])
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
        known = feedback.known(rows)
        task = task_of(origin.manifest, self._task, rows)
        self._named = self._named or task.name
        classes = () if origin.manifest is None else tuple(origin.manifest.classes)
        joined = Outcomes.of(known, feedback, task, classes)
        days = pc.unique(rows["day"]).to_pylist()
        for day in [*sorted(days), None]:
            n_rows = rows.num_rows if day is None else _count(rows["day"], day)
            yield _judged(joined, version, day, n_rows, task)


def _versions(parts: Sequence[pa.Table]) -> list[tuple[str, str]]:
    """Return the versions in order, each with the digest of its files."""
    named = ["version", "digest"]
    pairs = [part.group_by(named).aggregate([]).to_pylist() for part in parts]
    found = {one["version"]: one["digest"] or "" for one in chain.from_iterable(pairs)}
    return sorted(found.items(), key=lambda pair: (int(pair[0]) if pair[0].isdigit() else 0, pair))


def _count(values: pa.ChunkedArray, value: Any) -> int:
    return int(pc.sum(pc.equal(values, value)).as_py() or 0)


def _judged(
    joined: Outcomes, version: str, day: dt.date | None, n_rows: int, task: Task
) -> LiveScore:
    of_day = np.ones(len(joined), np.bool_) if day is None else joined.days == day
    truth, predictions = joined.usable(of_day)
    return LiveScore(
        version=version,
        day=None if day is None else day.isoformat(),
        n_predictions=n_rows,
        n_scored=len(truth),
        n_unusable=int((of_day & joined.unusable).sum()),
        metrics=evaluate(task.metrics, truth, predictions) if len(truth) else {},
    )
