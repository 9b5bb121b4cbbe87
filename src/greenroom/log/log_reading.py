"""Reading the prediction log: what is in its tables, and what still waits in the spool.

A prediction is found from the moment in which its client has it. The spool is read first and the
tables afterwards, so that a row that is shipped in between is found twice and never missed; by its
id it is given once. Days are partitions: a window of time opens no other files.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from greenroom.errors import NothingLogged
from greenroom.log.log_records import Answers, Observations, Record, Version, read_record
from greenroom.log.log_rows import FEEDBACK, joined_rows, observation_rows, prediction_rows
from greenroom.log.log_tables import LogTables, table_dataset
from greenroom.log.segments import Head, Segment
from greenroom.log.spool import Spool

__all__ = ["PredictionLogReader", "Window", "id_instant", "waiting_predictions"]

_LEEWAY: Final = dt.timedelta(minutes=10)
"""How far apart an id's time and that of its answer may be: a slow call, a clock set back."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, its beginning included and its end not; None where it is open."""

    since: dt.datetime | None = None
    until: dt.datetime | None = None

    def filter(self, column: str = "answered_at") -> ds.Expression | None:
        """Return what selects its rows, by day first, so that other days' files stay closed."""
        parts = []
        if self.since is not None:
            parts += [ds.field("day") >= self.since.date(), ds.field(column) >= self.since]
        if self.until is not None:
            parts += [ds.field("day") <= self.until.date(), ds.field(column) < self.until]
        found: ds.Expression | None = None
        for part in parts:
            found = part if found is None else found & part
        return found


class PredictionLogReader:
    """Reads the log of one server.

    Parameters
    ----------
    tables : LogTables
    spool : Spool, optional
        Where predictions wait; None where only the tables can be reached.
    """

    def __init__(self, tables: LogTables, spool: Spool | None = None) -> None:
        self._tables: Final = tables
        self._spool: Final = spool

    def predictions(
        self,
        model: str,
        window: Window = Window(),
        *,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """Return the predictions of a model in a window, the earliest first.

        A column that has had several types in these rows is text.

        Parameters
        ----------
        model : str
            The registered name.
        window : Window
        columns : sequence of str, optional
            Which columns, of those there are; default: all.
        limit : int, optional
            At most so many, the latest.

        Raises
        ------
        NothingLogged
            When the log has nothing of such a model.
        LogError
            When a table cannot be read.
        """
        needed = None
        if columns is not None:
            needed = list(dict.fromkeys([*columns, "answered_at", "prediction_id"]))
        waiting, uris = self._of_model(model)
        parts = [self._read(uri, window.filter(), needed) for uri in uris]
        parts += [self._selected(table, window.filter(), needed) for table in waiting]
        found = _once(joined_rows(parts))
        found = found.sort_by([("answered_at", "ascending"), ("prediction_id", "ascending")])
        if limit is not None and found.num_rows > limit:
            found = found.slice(found.num_rows - limit)
        if columns is None:
            return found
        return found.select([column for column in columns if column in found.column_names])

    def batches(
        self,
        model: str,
        window: Window = Window(),
        *,
        columns: Sequence[str],
        where: ds.Expression | None = None,
    ) -> Iterator[pa.Table]:
        """Give the predictions of a model in a window part by part, in no order.

        Columns have the types of their part. For windows that are too large to be held as a whole.

        Parameters
        ----------
        model : str
            The registered name.
        window : Window
        columns : sequence of str
            Which columns, of those there are.
        where : pyarrow.dataset.Expression, optional
            Which rows.

        Raises
        ------
        NothingLogged
            When the log has nothing of such a model.
        LogError
            When a table cannot be read.
        """
        waiting, uris = self._of_model(model)
        condition = window.filter()
        if where is not None:
            condition = where if condition is None else condition & where
        seen: set[str] = set()
        for table in waiting:
            chosen = self._selected(table, condition, None)
            seen.update(chosen["prediction_id"].to_pylist())
            yield self._selected(chosen, None, columns)
        if seen:  # what was shipped since the spool was read stands in both
            fresh = ~ds.field("prediction_id").isin(pa.array(sorted(seen)))
            condition = fresh if condition is None else condition & fresh
        for uri in uris:
            dataset = table_dataset(self._tables.open(uri))
            known = [column for column in columns if column in dataset.schema.names]
            for batch in dataset.to_batches(columns=known, filter=condition):
                yield pa.Table.from_batches([batch])

    def find(self, prediction_id: str, models: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
        """Return the model and the row of a prediction; None where there is none.

        Parameters
        ----------
        prediction_id : str
        models : sequence of str
            The registered names among which it is looked for.
        """
        instant = id_instant(prediction_id)
        if instant is None:
            return None
        window = Window(instant - _LEEWAY, instant + _LEEWAY)
        where = ds.field("prediction_id") == prediction_id
        for model in models:
            selected = window.filter()
            condition = where if selected is None else selected & where
            waiting = [self._selected(one, where, None) for one in self._waiting_predictions(model)]
            shipped = [self._read(uri, condition, None) for uri in self._tables.predictions(model)]
            for table in (*waiting, *shipped):
                if table.num_rows:
                    return model, table.to_pylist()[0]
        return None

    def call(self, model: str, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what the log has of the call of a model that answered a row, in its order.

        Parameters
        ----------
        model : str
            The registered name.
        row : mapping of str to object
            As :meth:`find` gives it.
        """
        window = Window(row["answered_at"] - _LEEWAY, row["answered_at"] + _LEEWAY)
        where = (ds.field("process") == row["process"]) & (ds.field("call") == row["call"])
        within = window.filter()
        shipped = where if within is None else within & where
        parts = [self._selected(one, where, None) for one in self._waiting_predictions(model)]
        parts += [self._read(uri, shipped, None) for uri in self._tables.predictions(model)]
        found = _once(joined_rows(parts))
        rows: list[dict[str, Any]] = found.sort_by(
            [("call_row", "ascending"), ("request_row", "ascending")]
        ).to_pylist()
        return rows

    def observed(self, prediction_id: str) -> list[dict[str, Any]]:
        """Return what was observed of one prediction, the earliest first."""
        instant = id_instant(prediction_id)
        found = self.feedback(Window(None if instant is None else instant - _LEEWAY))
        rows: list[dict[str, Any]] = found.filter(
            pc.field("prediction_id") == prediction_id
        ).to_pylist()
        return rows

    def feedback(self, window: Window = Window()) -> pa.Table:
        """Return what was observed, by when it was received, the earliest first."""
        condition = window.filter("received_at")
        waiting = observation_rows(
            record for record in self._waiting() if isinstance(record, Observations)
        )
        parts = [self._selected(waiting, condition, None)]
        parts += [self._read(uri, condition, None) for uri in self._tables.feedback()]
        found = pa.concat_tables(parts, promote_options="permissive").select(FEEDBACK.names)
        # What is shipped between the two looks is found in both, the same to the microsecond.
        return found.group_by(FEEDBACK.names).aggregate([]).sort_by("received_at")

    def _read(
        self, uri: str, condition: ds.Expression | None, columns: Sequence[str] | None
    ) -> pa.Table:
        dataset = table_dataset(self._tables.open(uri))
        known = None if columns is None else [c for c in columns if c in dataset.schema.names]
        return dataset.to_table(columns=known, filter=condition)

    @staticmethod
    def _selected(
        table: pa.Table, condition: ds.Expression | None, columns: Sequence[str] | None
    ) -> pa.Table:
        found = table if condition is None else table.filter(condition)
        if columns is None:
            return found
        return found.select([column for column in columns if column in found.schema.names])

    def _of_model(self, model: str) -> tuple[list[pa.Table], list[str]]:
        """Return what waits of a model, and afterwards where its tables are."""
        waiting = list(self._waiting_predictions(model))
        uris = self._tables.predictions(model)
        if not uris and not waiting:
            raise NothingLogged(
                f"the log in {self._tables.uri} has no prediction of {model!r}",
                advice="the server of an app logs in the app's folder: name the app, or go there",
            )
        return waiting, uris

    def _waiting_predictions(self, model: str) -> Iterator[pa.Table]:
        """Return what waits in the spool of a model, a table for each version and segment."""
        if self._spool is not None:
            for _, rows in waiting_predictions(self._spool, model):
                yield rows

    def _waiting(self) -> Iterator[Record]:
        if self._spool is not None:
            for slot in self._spool.slots():
                for segment in slot.segments():
                    yield from _records(segment)


def waiting_predictions(spool: Spool, model: str) -> Iterator[tuple[Head, pa.Table]]:
    """Go through what waits of a model: the head of a segment, and the rows of a version in it.

    Parameters
    ----------
    spool : Spool
    model : str
        The registered name.
    """
    for slot in spool.slots():
        for segment in slot.segments():
            versions: dict[int, Version] = {}
            answers: dict[int, list[Answers]] = {}
            for record in _records(segment):
                if isinstance(record, Version):
                    versions[record.number] = record
                elif isinstance(record, Answers):
                    answers.setdefault(record.version, []).append(record)
            for number, own in answers.items():
                if versions[number].name == model:
                    yield segment.head, prediction_rows(versions[number], own)


def id_instant(prediction_id: str) -> dt.datetime | None:
    """Return when a prediction id was made (RFC 9562, version 7); None where it is none.

    Examples
    --------
    >>> id_instant("01a1fdaf-3458-7e84-89ac-6f8ee5e36bff").year
    2026
    >>> id_instant("nonsense") is None
    True
    """
    try:
        found = UUID(prediction_id)
    except ValueError:
        return None
    if found.version != 7:
        return None
    return dt.datetime.fromtimestamp((found.int >> 80) / 1_000, dt.UTC)


def _records(segment: Segment) -> Iterator[Record]:
    """Go through a segment; one that was shipped since it was listed stands in the tables."""
    with suppress(FileNotFoundError):
        for payload in segment.frames():
            yield read_record(payload)


def _once(table: pa.Table) -> pa.Table:
    """Return a table's rows without those whose id stands there before."""
    if len(pc.unique(table["prediction_id"])) == table.num_rows:
        return table
    places = pa.array(range(table.num_rows))
    first = (
        table.append_column("place", places).group_by("prediction_id").aggregate([("place", "min")])
    )
    return table.take(first["place_min"])
