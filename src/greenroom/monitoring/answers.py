"""Answers: what monitoring reads of a version's answers in a window, in bounded memory.

Of rows whose truth is known, the outputs and when they were answered; of all others no more than a
random sample of a classifier's probabilities, taken while the window goes by.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from greenroom.evaluation.evidence import to_array
from greenroom.evaluation.predictions import Predictions
from greenroom.evaluation.scores import Floats
from greenroom.log.log_reading import PredictionLogReader, Window
from greenroom.log.log_rows import joined_rows
from greenroom.tracing.outcomes import COLUMNS, Feedback

__all__ = ["Asked", "labelled_rows", "sampled_answers"]

SAMPLED_ROWS: Final = 200_000
"""Of a larger window so many rows are looked at: by then chance is far below any margin."""


class Asked(NamedTuple):
    """Whose answers, and when: a registered model, its version, the digest of its files."""

    model: str
    version: str
    digest: str
    window: Window

    @property
    def rows(self) -> ds.Expression:
        """What selects the version's rows."""
        return (ds.field("version") == self.version) & (ds.field("digest") == self.digest)


def labelled_rows(reader: PredictionLogReader, asked: Asked, feedback: Feedback) -> pa.Table:
    """Return the version's rows of which it is known what was the case, in the order of time.

    That is the time that is forecast, where there is one, else that of the answer.

    Raises
    ------
    LogError
        When the log has nothing of the model, or cannot be read.
    """
    where = asked.rows & ds.field("prediction_id").isin(feedback.ids)
    parts = list(reader.batches(asked.model, asked.window, columns=COLUMNS, where=where))
    if not parts:
        return pa.table({})
    table = joined_rows(parts)
    first = [
        name for name in ("time", "answered_at", "prediction_id") if name in table.column_names
    ]
    return table.sort_by([(name, "ascending") for name in first])


def sampled_answers(
    reader: PredictionLogReader,
    asked: Asked,
    classes: tuple[Any, ...],
    *,
    seed: int = 0,
    n_rows: int = SAMPLED_ROWS,
) -> tuple[int, Predictions | None]:
    """Return how many answers a classifier gave, and a random sample of them.

    Returns
    -------
    n_rows : int
    predictions : Predictions or None
        With ``prediction`` and ``probabilities``; None where no answer holds probabilities.

    Raises
    ------
    LogError
        When the log has nothing of the model, or cannot be read.
    """
    random = np.random.default_rng(seed)
    total, kept = 0, _Kept.none(len(classes))
    for labels, probabilities in _probabilities(reader, asked, classes):
        total += len(labels)
        fresh = _Kept(random.random(len(labels)), labels, probabilities)
        kept = kept.with_more(fresh, n_rows)
    if not total:
        return 0, None
    outputs = {"prediction": kept.labels, "probabilities": kept.probabilities}
    return total, Predictions(outputs, classes)


class _Kept(NamedTuple):
    """The rows with the least draws of all that went by: a random sample."""

    draws: Floats
    labels: npt.NDArray[Any]
    probabilities: Floats

    @classmethod
    def none(cls, n_classes: int) -> _Kept:
        return cls(np.zeros(0), np.zeros(0, dtype=object), np.zeros((0, n_classes)))

    def with_more(self, other: _Kept, n_rows: int) -> _Kept:
        joined = [
            np.concatenate(pair) if len(self.draws) else pair[1]
            for pair in zip(self, other, strict=True)
        ]
        if len(joined[0]) > n_rows:
            least = np.argpartition(joined[0], n_rows)[:n_rows]
            joined = [values[least] for values in joined]
        return _Kept(*joined)


def _probabilities(
    reader: PredictionLogReader, asked: Asked, classes: tuple[Any, ...]
) -> Iterator[tuple[npt.NDArray[Any], Floats]]:
    """Give answers and their probabilities; of two classes one is enough to be read."""
    name = "probability" if len(classes) == 2 else "probabilities"
    columns = ["prediction", name]
    for table in reader.batches(asked.model, asked.window, columns=columns, where=asked.rows):
        if set(columns) - set(table.column_names):
            continue
        whole = table.drop_null()
        if not whole.num_rows:
            continue
        labels = to_array(pa.concat_arrays(whole["prediction"].chunks))
        said = pa.concat_arrays(whole[name].chunks)
        if name == "probabilities":
            yield labels, to_array(said.flatten()).reshape(len(labels), -1)
            continue
        event = to_array(said)
        yield labels, np.stack([1 - event, event], axis=1)
