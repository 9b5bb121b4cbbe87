"""Windows of the prediction log, read as a stream: so many columns of so many rows, never all.

For what goes through millions of rows once, in no particular order. What waits in the spool is read
first, then the tables, file by file. What is shipped in between stands in both: a table names the
segments that it has, and those are not given again. Rows in order and by id are
:mod:`greenroom.log.log_reading`'s business.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from greenroom.log.log_reading import Window, waiting_predictions
from greenroom.log.log_tables import LogTables, Writer, fits, table_dataset, table_schema
from greenroom.log.segments import Head
from greenroom.log.spool import Spool

__all__ = ["LogWindows"]

BATCH_ROWS: Final = 131_072
_READ_AHEAD: Final = 4
"""How many batches are decoded beforehand; each takes 8 bytes a row and column of numbers."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What waits of a model in one segment."""

    head: Head
    schema: pa.Schema
    rows: pa.Table


class LogWindows:
    """Reads windows of the log of one server.

    Parameters
    ----------
    tables : LogTables
    spool : Spool, optional
        Where predictions wait; None where only the tables can be reached.
    """

    def __init__(self, tables: LogTables, spool: Spool | None = None) -> None:
        self._tables: Final = tables
        self._spool: Final = spool

    def batches(
        self,
        model: str,
        window: Window,
        columns: Sequence[str],
        *,
        digest: str = "",
        texts: Collection[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        """Go through the predictions of a model in a window, in no particular order.

        Parameters
        ----------
        model : str
            The registered name.
        window : Window
        columns : sequence of str
            Which columns; a batch lacks those that its table does not have.
        digest : str
            Only what was answered by the version with these files; default: by any.
        texts : collection of str
            Columns whose texts recur: they are given as dictionaries where that costs less.

        Raises
        ------
        LogError
            When a table cannot be read. A model of which nothing is logged has no rows.
        """
        needed = list(dict.fromkeys([*columns, *(["digest"] if digest else [])]))
        waiting = self._waiting(model, window, needed)
        opened = [self._tables.open(uri) for uri in self._tables.predictions(model)]
        for part in waiting:
            if not _shipped(part, opened):
                yield from _of_version(part.rows.to_batches(), digest)
        for table in opened:
            yield from _of_version(_scan(table, window, needed, {*texts, "digest"}), digest)

    def latest(self, model: str, n_rows: int, window: Window, *, digest: str = "") -> Window:
        """Return the part of a window with its latest rows.

        Rows that were answered at the same microsecond as the first of them are in it too.

        Parameters
        ----------
        model : str
        n_rows : int
            How many, at least 1; the whole window where it has fewer.
        window : Window
        digest : str
            As for :meth:`batches`.

        Raises
        ------
        LogError
            When a table cannot be read.
        """
        times_us = np.empty(0, dtype=np.int64)
        for batch in self.batches(model, window, ["answered_at"], digest=digest):
            own = np.from_dlpack(batch.column("answered_at").drop_null().cast(pa.int64()))
            times_us = np.concatenate([times_us, own])
            if len(times_us) > max(4 * n_rows, 4 * BATCH_ROWS):
                times_us = _largest(times_us, n_rows)
        if len(times_us) <= n_rows:
            return window
        first_us = int(_largest(times_us, n_rows).min())
        since = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=first_us)
        return Window(since, window.until)

    def _waiting(self, model: str, window: Window, needed: Sequence[str]) -> list[_Waiting]:
        if self._spool is None:
            return []
        condition = window.filter()
        found = []
        for head, table in waiting_predictions(self._spool, model):
            rows = table if condition is None else table.filter(condition)
            rows = rows.select([name for name in needed if name in rows.column_names])
            found.append(_Waiting(head, table.schema, rows))
        return found


def _shipped(part: _Waiting, tables: Sequence[DeltaTable]) -> bool:
    """Whether the tables have it: the latest one that its columns fit, which they are shipped to.

    A writer's segments come in order.
    """
    for table in reversed(tables):
        if fits(part.schema, table_schema(table)):
            writer = Writer(part.head.spool.hex, part.head.slot)
            done = table.transaction_version(writer.transaction(part.head.sequence).app_id)
            return done is not None and done >= part.head.sequence
    return False


def _scan(
    table: DeltaTable, window: Window, needed: Sequence[str], texts: Collection[str]
) -> Iterator[pa.RecordBatch]:
    schema = table_schema(table)
    recurring = {name for name in texts if name in schema.names}
    dictionaries = {one for one in recurring if schema.field(one).type == pa.string()}
    reading = ds.ParquetReadOptions(dictionary_columns=dictionaries)
    scanner = table_dataset(table, reading).scanner(
        columns=[name for name in needed if name in schema.names],
        filter=window.filter(),
        batch_size=BATCH_ROWS,
        batch_readahead=_READ_AHEAD,
        fragment_readahead=1,
    )
    yield from scanner.to_batches()


def _of_version(batches: Any, digest: str) -> Iterator[pa.RecordBatch]:
    """Return the rows of one version alone."""
    for batch in batches:
        if not digest:
            yield batch
            continue
        answered = batch.column("digest")
        if pa.types.is_dictionary(answered.type):
            place = pc.index(answered.dictionary, digest).as_py()
            own = pc.equal(answered.indices, place)
        else:
            own = pc.equal(answered, digest)
        kept = batch if pc.all(own, skip_nulls=False).as_py() else batch.filter(own)
        if kept.num_rows:
            yield kept


def _largest(values: Any, n: int) -> Any:
    return np.partition(values, len(values) - n)[len(values) - n :] if len(values) > n else values
