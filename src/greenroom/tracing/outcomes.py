"""Outcomes: what a version has answered in a window, joined with what was the case.

Predictions and feedback are joined by the prediction's id. What counts is what was observed last:
the same observation sent twice counts once, one that contradicts an earlier one takes its place,
and both are counted. An observation of another kind than the answers is set apart, not judged.
Judging is :mod:`greenroom.tracing.live_scores`' business, and monitoring's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from greenroom.evaluation.evidence import to_array
from greenroom.evaluation.predictions import Predictions
from greenroom.log.log_rows import FEEDBACK
from greenroom.task import TASKS, Task
from greenroom.tracing.tracing import OUTPUTS, task_of_outputs
from greenroom.versions.manifest import Manifest

__all__ = ["COLUMNS", "Feedback", "Outcomes", "join_feedback", "task_of"]

COLUMNS: Final = ("prediction_id", "answered_at", "day", "version", "digest", *sorted(OUTPUTS))
"""Which columns of a log's table are needed."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What was observed last of each prediction, and how often something else was said.

    ``actual`` is JSON, for each of ``ids`` in the same place.
    """

    n_received: int
    n_duplicates: int
    n_contradictions: int
    ids: pa.Array
    actual: pa.Array

    def known(self, table: pa.Table) -> pa.Table:
        """Return those rows of predictions of which it is known what was the case."""
        return table.filter(pc.is_in(table["prediction_id"], value_set=self.ids))

    def of(self, ids: pa.ChunkedArray) -> list[Any]:
        """Return what was the case for predictions, all of which are known."""
        said = self.actual.take(pc.index_in(ids, value_set=self.ids).combine_chunks())
        found = said.dictionary_encode()
        values = [msgspec.json.decode(one) for one in found.dictionary.to_pylist()]
        return [values[place] for place in found.indices.to_pylist()]


def join_feedback(rows: pa.Table) -> Feedback:
    """Reduce feedback to what counts of each prediction.

    Parameters
    ----------
    rows : pyarrow.Table
        As :meth:`greenroom.log.log_reading.PredictionLogReader.feedback` gives it.
    """
    said = ["prediction_id", "actual"]
    distinct = rows.group_by([*said, "observed_at"]).aggregate([("received_at", "min")])
    when = pc.coalesce(distinct["observed_at"], distinct["received_at_min"])
    order = [(name, "ascending") for name in ("when", "received_at_min", "actual")]
    # What is grouped by one thread is taken in its order.
    latest = distinct.append_column("when", when).sort_by(order)
    latest = latest.group_by("prediction_id", use_threads=False).aggregate([("actual", "last")])
    values = distinct.group_by(said).aggregate([]).group_by("prediction_id")
    n_values = values.aggregate([("actual", "count")])["actual_count"]
    return Feedback(
        n_received=rows.num_rows,
        n_duplicates=rows.num_rows - distinct.num_rows,
        n_contradictions=int(pc.sum(pc.greater(n_values, 1)).as_py() or 0),
        ids=_flat(latest["prediction_id"], FEEDBACK.field("prediction_id").type),
        actual=_flat(latest["actual_last"], FEEDBACK.field("actual").type),
    )


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a version has answered, and what was the case, row by row.

    Parameters
    ----------
    days : ndarray of datetime.date, shape (n_samples,)
        On which it was predicted, in UTC.
    truth : ndarray, shape (n_samples,)
    predictions : Predictions
    unusable : ndarray of bool, shape (n_samples,)
        True where the observation is of another kind than the answers; the truth means nothing.
    """

    days: npt.NDArray[Any]
    truth: npt.NDArray[Any]
    predictions: Predictions
    unusable: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, known: pa.Table, feedback: Feedback, task: Task, classes: tuple[Any, ...] = ()
    ) -> Outcomes:
        """Join rows of the log with feedback.

        Parameters
        ----------
        known : pyarrow.Table
            Rows of one version, as :meth:`Feedback.known` gives them.
        feedback : Feedback
        task : Task
        classes : tuple
            The manifest's; without them, those that occur.
        """
        outputs = {}
        for output in task.outputs:
            if output.name in known.column_names and not known[output.name].null_count:
                outputs[output.name] = _values(known[output.name])
        answered = outputs.get("prediction", np.zeros(0))
        values = [_as_answered(value, answered) for value in feedback.of(known["prediction_id"])]
        unusable = np.array([value is None for value in values], dtype=np.bool_)
        stand_in = answered[0] if len(answered) else 0
        truth = np.array([stand_in if value is None else value for value in values])
        days = np.array(known["day"].to_pylist(), dtype=object)
        classes = classes or _labels(outputs, truth[~unusable], task)
        if task.name == "classification" and not classes:
            # Whose the probabilities are is not known.
            outputs = {name: values for name, values in outputs.items() if name == "prediction"}
        return cls(days, truth, Predictions(outputs, classes), unusable)

    def __len__(self) -> int:
        return len(self.truth)

    def usable(
        self, among: npt.NDArray[np.bool_] | None = None
    ) -> tuple[npt.NDArray[Any], Predictions]:
        """Return truth and predictions of the rows that can be judged, of all or of some."""
        chosen = ~self.unusable if among is None else among & ~self.unusable
        return self.truth[chosen], self.predictions.take(chosen)


def task_of(manifest: Manifest | None, told: Task | None, rows: pa.Table) -> Task:
    """Return the task of a version: what it says itself, else what is told, else as it answers."""
    if manifest is not None and manifest.task in TASKS:
        return TASKS[manifest.task]
    if told is not None:
        return told
    named = [n for n in rows.column_names if n in OUTPUTS and rows[n].null_count < len(rows)]
    if "prediction" in named and not pa.types.is_floating(rows["prediction"].type):
        return TASKS["classification"]
    return TASKS[task_of_outputs(named)]


def _flat(values: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], kind)


def _values(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return an output's values, those for each class as columns."""
    values = _flat(column, column.type)
    if pa.types.is_list(values.type) and pa.types.is_floating(values.type.value_type):
        flat = to_array(values.flatten())
        return flat.reshape(len(values), len(flat) // max(1, len(values)))
    return to_array(values)


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


def _as_answered(value: Any, answered: npt.NDArray[Any]) -> Any:
    """Return what was observed in the type of the answers; None where it is of another kind.

    Examples
    --------
    >>> _as_answered(True, np.array([0, 1])), _as_answered("high", np.array([0, 1]))
    (1, None)
    """
    kind = answered.dtype.kind
    if kind in "OUS":
        return value if isinstance(value, str) else None
    if isinstance(value, str) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if kind == "b":
        return bool(value) if value in (0, 1) else None
    if kind in "iu":
        return int(value) if float(value).is_integer() else None
    return float(value)
