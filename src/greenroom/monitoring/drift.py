"""Drift: how far a window's rows, and the answers to them, are from what a version was trained on.

A window is fed batch by batch, counted, and let go of: a window of ten million rows takes no more
memory than one of ten thousand. Each column is counted as its kind asks for; the verdict is
:mod:`greenroom.monitoring.verdict`'s. Features and answers are judged apart: inputs that move are
drift of data, answers that move are drift of predictions, and either may come alone. Whether the
answers have become worse is :mod:`greenroom.monitoring.performance`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from greenroom.evaluation.predictions import Predictions
from greenroom.findings import ColumnDrift, Drift, Verdict
from greenroom.monitoring.compared import Compared, ComparedColumn
from greenroom.monitoring.compared_categories import CategoryColumn, is_categorical
from greenroom.monitoring.compared_numbers import NumberColumn, TextLengthColumn
from greenroom.monitoring.compared_times import TimeColumn
from greenroom.monitoring.reference import Reference
from greenroom.monitoring.verdict import DEFAULT_THRESHOLDS, DriftThresholds, Judgement, judge
from greenroom.schema import Column, Columns, n_rows
from greenroom.task import TASKS

__all__ = ["DriftMeter", "as_batches", "compare"]

_TEXT: Final = "text (its length)"


def compare(
    reference: Reference,
    batches: Iterable[pa.RecordBatch],
    thresholds: DriftThresholds = DEFAULT_THRESHOLDS,
    *,
    n_threads: int = 2,
) -> Drift:
    """Compare a window with a reference.

    Parameters
    ----------
    reference : Reference
        For a window of the log, :meth:`Reference.in_log`.
    batches : iterable of pyarrow.RecordBatch
        The window: columns by ``reference.names``, outputs under their own names; more of them
        than are needed, and fewer, are borne.
    thresholds : DriftThresholds
    n_threads : int
        How many columns are counted at a time.
    """
    with DriftMeter(reference, thresholds, n_threads=n_threads) as meter:
        for batch in batches:
            meter.add(batch)
        return meter.drift()


def as_batches(
    columns: Columns, predictions: Predictions | None = None
) -> Iterator[pa.RecordBatch]:
    """Return the rows of a dataset as a window, with what a version says of them where it is known.

    Parameters
    ----------
    columns : Columns
        The model's, as :func:`greenroom.training.dataset.load_dataset` reads them.
    predictions : Predictions, optional
        One for each row.
    """
    outputs = {} if predictions is None else predictions.outputs
    arrays = {
        name: pa.array(values, pa.string() if values.dtype == object else None)
        for name, values in {**columns, **outputs}.items()
        if values.ndim == 1 and not _holds_lists(values)
    }
    if n_rows(columns):
        yield pa.RecordBatch.from_pydict(arrays)


@dataclass(slots=True)
class _Watched:
    """A column, what counts it, and whether that can be done."""

    name: str
    role: Literal["feature", "prediction"]
    kind: str
    called: str = ""
    column: ComparedColumn | None = None
    problem: str = ""
    seen: bool = False

    def add(self, batch: pa.RecordBatch) -> None:
        place = batch.schema.get_field_index(self.called)
        if place < 0 or self.column is None:
            return
        values = batch.column(place)
        if not self.column.accepts(values.type):
            self.problem, self.column = f"the window holds it as {values.type}", None
            return
        self.seen = True
        self.column.add(values)


@dataclass(slots=True)
class _Measured:
    """What came of a column, and what is said of it."""

    watched: _Watched
    compared: Compared
    problem: str
    judgement: Judgement = field(default_factory=lambda: Judgement(False, None, None, ()))


class DriftMeter:
    """What a window is fed to, batch by batch; a context manager, which ends its threads.

    Parameters
    ----------
    reference, thresholds, n_threads
        As for :func:`compare`.

    Attributes
    ----------
    needed : tuple of str
        Which columns a window has to be read with.
    texts : tuple of str
        Those of them that hold texts which recur: a reader that gives them as dictionaries saves
        half of the time that they take.
    n_rows : int
        How many rows there were so far.
    """

    def __init__(
        self,
        reference: Reference,
        thresholds: DriftThresholds = DEFAULT_THRESHOLDS,
        *,
        n_threads: int = 2,
    ) -> None:
        self._reference: Final = reference
        self._thresholds: Final = thresholds
        self._notes: Final[list[str]] = []
        self._features: Final = [self._feature(one) for one in reference.manifest.columns]
        self._outputs: Final = list(self._watched_outputs())
        self._counted: Final = [
            one for one in (*self._features, *self._outputs) if one.column is not None
        ]
        self.needed: Final = tuple(dict.fromkeys(one.called for one in self._counted))
        self.texts: Final = tuple(
            one.called
            for one in self._counted
            if isinstance(one.column, CategoryColumn) and one.column.accepts(pa.string())
        )
        self.n_rows = 0
        self._threads: Final = ThreadPoolExecutor(n_threads) if n_threads > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown()

    def add(self, batch: pa.RecordBatch) -> None:
        """Count the rows of a batch."""
        self.n_rows += batch.num_rows
        if self._threads is None or batch.num_rows < _WORTH_THREADS:
            for one in self._counted:
                one.add(batch)
        else:
            list(self._threads.map(lambda one: one.add(batch), self._counted))

    def drift(self) -> Drift:
        """Return what is found of the rows so far."""
        return Drift(
            n_reference=len(self._reference),
            n_current=self.n_rows,
            features=self._judged(self._features),
            predictions=self._judged(self._outputs),
            notes=tuple(self._notes),
        )

    def _feature(self, column: Column) -> _Watched:
        values = self._reference.columns.get(column.name)
        called = self._reference.names.get(column.name, "")
        problem = self._reference.aside.get(column.name, "")
        watched = _Watched(column.name, "feature", column.kind, called)
        if problem or values is None or not called:
            watched.problem = problem or "the reference does not have it"
            return watched
        watched.column = _column_of(column, values)
        if isinstance(watched.column, TextLengthColumn):
            watched.kind = _TEXT
            self._notes.append(
                f"{column.name}: hardly two of its texts are equal, so that their lengths are "
                "compared"
            )
        if isinstance(watched.column, TimeColumn):
            self._notes.append(
                f"{column.name}: a time always moves on, so that its hours, weekdays and months "
                "are compared, in UTC"
            )
        return watched

    def _watched_outputs(self) -> Iterator[_Watched]:
        manifest, answers = self._reference.manifest, self._reference.answers
        task = TASKS.get(manifest.task)
        kinds = {output.name: output.kind for output in task.outputs} if task else {}
        for name, values in answers.outputs.items():
            kind = kinds.get(name)
            if kind is None and name != "prediction":
                continue  # what is kept beside the answers, such as a forecast's scale
            watched = _Watched(name, "prediction", str(kind or "number"), name)
            if kind == "label":
                watched.column = _labels(values, manifest.classes)
            elif kind == "boolean":
                watched.column = CategoryColumn(values, booleans=True)
            elif kind in {"number", None} and values.ndim == 1 and values.dtype.kind in "fiub":
                watched.column = NumberColumn(values)
            else:
                watched.problem = _NOT_COMPARED.get(str(kind), "it is not one value a row")
            yield watched

    def _judged(self, watched: Sequence[_Watched]) -> tuple[ColumnDrift, ...]:
        measured = [self._measured(one) for one in watched]
        judgements = judge([one.compared.checks for one in measured], self._thresholds)
        for one, judgement in zip(measured, judgements, strict=True):
            one.judgement = judgement
        return tuple(self._said(one) for one in measured)

    def _measured(self, one: _Watched) -> _Measured:
        nothing = Compared(n_reference=0, n_current=0)
        if one.column is None:
            return _Measured(one, nothing, one.problem or "it cannot be compared")
        if self.n_rows and not one.seen:
            return _Measured(one, nothing, "the window does not have it")
        return _Measured(one, one.column.compared(self._thresholds), "")

    def _said(self, one: _Measured) -> ColumnDrift:
        found, judgement = one.compared, one.judgement
        return ColumnDrift(
            column=one.watched.name,
            role=one.watched.role,
            kind=one.watched.kind,
            verdict=self._verdict(one),
            n_reference=found.n_reference,
            n_current=found.n_current,
            statistics=found.statistics,
            p_value=judgement.p_value,
            q_value=judgement.q_value,
            reasons=(one.problem,) if one.problem else judgement.reasons,
            distribution=found.distribution,
        )

    def _verdict(self, one: _Measured) -> Verdict:
        if one.problem:
            return "not compared"
        if one.judgement.drifted:
            return "drift"
        too_few = min(one.compared.n_reference, one.compared.n_current) < self._thresholds.min_rows
        return "too few rows" if too_few or not one.compared.enough else "stable"


_WORTH_THREADS: Final = 8_192
_NOT_COMPARED: Final = {
    "by_class": "it is a number for each class: prediction and probability are compared",
    "texts": "it is a list of texts",
    "time": "it is the time that was asked for",
}


def _column_of(column: Column, values: npt.NDArray[Any]) -> ComparedColumn:
    if column.kind == "boolean":
        return CategoryColumn(values, booleans=True)
    if column.kind == "category":
        return CategoryColumn(values, column.categories)
    if column.kind == "string":
        return CategoryColumn(values) if is_categorical(values) else TextLengthColumn(values)
    if column.kind in {"date", "datetime"}:
        return TimeColumn(values, days=column.kind == "date")
    return NumberColumn(values, integers=column.kind == "integer")


def _labels(values: npt.NDArray[Any], classes: Sequence[Any]) -> ComparedColumn:
    """Return what counts labels, which :mod:`greenroom.log.log_rows` has in one type."""
    kinds = {type(label) for label in (classes or values.tolist())}
    if kinds == {bool}:
        return CategoryColumn(values, booleans=True)
    if kinds <= {int, float}:
        kind: Any = int if kinds == {int} else float
    else:
        kind = str
    plain = np.empty(len(values), dtype=object)
    plain[:] = [None if label is None else kind(label) for label in values.tolist()]
    return CategoryColumn(plain, [kind(label) for label in classes])


def _holds_lists(values: npt.NDArray[Any]) -> bool:
    return values.dtype == object and any(isinstance(one, list | tuple) for one in values[:1_000])
