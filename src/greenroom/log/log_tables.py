"""The log's Delta tables: one a model, written exactly once, and one for feedback.

Layout below the log's address::

    <model>/predictions-0001    a table, partitioned by day
    <model>/predictions-0002    the next one, from when a column had another type
    feedback-0001

A segment is one transaction of a table: it names the writer (the spool's id and the slot) and the
segment's number, and what the table has is never written again. The library records both and leaves
comparing to us. Types are compared here too, because the library would write 1.5 into a column of
integers as 1.

Turning records into rows is :mod:`greenroom.log.log_rows`' business.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import DeltaError
from pyarrow import fs

from greenroom.errors import LogUnavailable

__all__ = [
    "CONFIGURATION",
    "LogTables",
    "Writer",
    "first_line",
    "fits",
    "table_dataset",
    "table_schema",
    "writing",
]

FORMAT: Final = 1
_PREDICTIONS: Final = "predictions"
_FEEDBACK: Final = "feedback"
_LOCK: Final = "tables.lock"


class LogTables:
    """The tables below one address.

    Parameters
    ----------
    uri : str
        A folder, or an address such as ``s3://bucket/log``. Who asks there is said by the variables
        that the store's own tools read, and by nothing else.
    """

    def __init__(self, uri: str) -> None:
        self.uri: Final = uri.rstrip("/")
        self.folder: Final = None if "://" in self.uri else Path(self.uri)
        self._known: dict[tuple[str, str], list[str]] = {}

    def predictions(self, model: str) -> list[str]:
        """Return the addresses of a model's tables, the oldest first."""
        return self._generations(_folder_name(model), _PREDICTIONS)

    def feedback(self) -> list[str]:
        """Return the addresses of the tables of feedback, the oldest first."""
        return self._generations("", _FEEDBACK)

    def all(self) -> list[str]:
        """Return the addresses of all tables; in a store that is no folder, of those known here."""
        names = [_folder_name(model) for model in self.models()]
        return [
            *(uri for name in names for uri in self._generations(name, _PREDICTIONS)),
            *self.feedback(),
        ]

    def models(self) -> list[str]:
        """Return the registered names that have tables, as far as :meth:`all` knows them."""
        found = {folder for folder, _ in self._known if folder}
        if self.folder is not None and self.folder.is_dir():
            found |= {
                path.name
                for path in self.folder.iterdir()
                if (path / f"{_PREDICTIONS}-0001").is_dir()
            }
        return sorted(unquote(name.replace("~", "%")) for name in found)

    @contextmanager
    def changing(self, *, wait: bool = False) -> Iterator[bool]:
        """Be the only process of this machine that changes the tables, inside the block.

        Says whether it is; with ``wait`` it always is, in the end. Tables in a store that is no
        folder have no lock: whoever changes them has to bear others.
        """
        if self.folder is None:
            yield True
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        alone = False
        try:
            with suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                alone = True
            yield alone
        finally:
            os.close(fd)

    def write_predictions(self, model: str, rows: pa.Table, transaction: Transaction) -> bool:
        """Write rows into a model's table, unless the transaction has been; return whether."""
        return self._write(_folder_name(model), _PREDICTIONS, rows, transaction)

    def write_feedback(self, rows: pa.Table, transaction: Transaction) -> bool:
        """Write rows of feedback, unless the transaction has been; return whether."""
        return self._write("", _FEEDBACK, rows, transaction)

    def open(self, uri: str) -> DeltaTable:
        """Open a table.

        Raises
        ------
        LogUnavailable
            When the store does not answer, there is no table, or it is of a later format.
        """
        try:
            table = DeltaTable(uri)
        except (DeltaError, OSError) as error:
            raise LogUnavailable(f"{uri} cannot be read: {first_line(error)}") from error
        found = (table.metadata().description or "").removeprefix(_DESCRIPTION)
        if found.isdigit() and int(found) > FORMAT:
            raise LogUnavailable(
                f"{uri} has format {found}, this Greenroom knows {FORMAT}",
                advice="upgrade greenroom",
            )
        return table

    def _write(self, folder: str, kind: str, rows: pa.Table, transaction: Transaction) -> bool:
        generations = self._generations(folder, kind)
        for uri in reversed(generations):
            table = self.open(uri)
            if fits(rows.schema, table_schema(table)):
                done = table.transaction_version(transaction.app_id)
                if done is not None and done >= transaction.version:
                    return False
                self._append(table, rows, transaction)
                return True
        fresh = self._join(folder, f"{kind}-{len(generations) + 1:04d}")
        self._append(fresh, rows, transaction)
        return True

    def _append(self, table: str | DeltaTable, rows: pa.Table, transaction: Transaction) -> None:
        try:
            write_deltalake(
                table,
                rows,
                mode="append",
                schema_mode="merge",
                partition_by=["day"],
                writer_properties=writing(rows.schema),
                configuration=CONFIGURATION if isinstance(table, str) else None,
                description=f"{_DESCRIPTION}{FORMAT}" if isinstance(table, str) else None,
                commit_properties=CommitProperties(app_transactions=[transaction]),
            )
        except (DeltaError, OSError) as error:
            uri = table if isinstance(table, str) else table.table_uri
            raise LogUnavailable(f"{uri} cannot be written: {first_line(error)}") from error

    def _generations(self, folder: str, kind: str) -> list[str]:
        """Return the tables there are; asked for once, as only we make them."""
        known = self._known.setdefault((folder, kind), [])
        while self._is_table(uri := self._join(folder, f"{kind}-{len(known) + 1:04d}")):
            known.append(uri)
        return list(known)

    def _is_table(self, uri: str) -> bool:
        try:
            return DeltaTable.is_deltatable(uri)
        except (DeltaError, OSError) as error:
            raise LogUnavailable(f"{uri} cannot be read: {first_line(error)}") from error

    def _join(self, *parts: str) -> str:
        return "/".join([self.uri, *(part for part in parts if part)])


CONFIGURATION: Final = {
    # A checkpoint makes the table quick to open; the log is opened more often than it is written.
    "delta.checkpointInterval": "50",
    # A commit every few seconds makes many files; nobody reads a table as it was long ago.
    "delta.logRetentionDuration": "interval 1 days",
    # A commit says between which values each column of a file lies. Those of requests stay out of
    # it: what is deleted from a table would be in its log for a while.
    "delta.dataSkippingStatsColumns": "prediction_id,answered_at,received_at",
}
"""How the tables are laid out."""

_SOUGHT: Final = frozenset({"prediction_id", "answered_at", "received_at", "request_key"})
_NEVER_REPEATED: Final = frozenset({"prediction_id", "request_key", "request_body"})

_LETTING_GO_S: Final = 0.1
"""How long a process that has read from a store waits for Arrow's threads at its end."""

_DESCRIPTION: Final = "A log of predictions, written by Greenroom; format "


class Writer:
    """Who writes a segment: names it to a table.

    Examples
    --------
    >>> Writer("0c9e", 3).transaction(12).app_id
    'greenroom:0c9e:03'
    """

    def __init__(self, spool: str, slot: int) -> None:
        self._app_id: Final = f"greenroom:{spool}:{slot:02d}"

    def transaction(self, sequence: int) -> Transaction:
        """Return the transaction of a segment."""
        return Transaction(self._app_id, sequence)


def writing(schema: pa.Schema) -> WriterProperties:
    """Return how files with these columns are written: what it costs is taken from answering.

    A dictionary is tried for texts alone, since numbers of requests hardly ever repeat, and ids and
    bodies never do. The least and greatest value of a column are noted where somebody looks for
    them. zstd at level 1 takes as long as snappy, for files two thirds of the size.
    """
    texts = {
        field.name
        for field in schema
        if pa.types.is_string(field.type) and field.name not in _NEVER_REPEATED
    }
    repeated = ColumnProperties(dictionary_enabled=True, statistics_enabled="NONE")
    sought = ColumnProperties(dictionary_enabled=False, statistics_enabled="CHUNK")
    return WriterProperties(
        compression="ZSTD",
        compression_level=1,
        default_column_properties=ColumnProperties(
            dictionary_enabled=False, statistics_enabled="NONE"
        ),
        column_properties={
            **dict.fromkeys(texts, repeated),
            **dict.fromkeys(_SOUGHT & set(schema.names), sought),
        },
    )


def _folder_name(model: str) -> str:
    """Return a registered name as a folder's: any may be one, also with blanks.

    Escaped as in an address, with ``~`` for ``%``, which deltalake takes for an escape of its own.
    """
    return quote(model, safe="").replace("~", "%7E").replace("%", "~")


def table_schema(table: DeltaTable) -> pa.Schema:
    """Return the columns of a table."""
    return pa.schema(table.schema().to_arrow())


def table_dataset(table: DeltaTable, reading: ds.ParquetReadOptions | None = None) -> ds.Dataset:
    """Return a table as something that is read file by file.

    A folder's files are opened by Arrow itself. Those of a store are opened by the library's Python
    objects, which Arrow's threads let go of some time after the last row was given; a thread that
    asks for the interpreter while that ends takes the process down with it ("terminate called
    without an active exception", https://github.com/apache/arrow/issues/34314). So there a process
    waits for them at its end.

    Parameters
    ----------
    table : deltalake.DeltaTable
    reading : pyarrow.dataset.ParquetReadOptions, optional
        How columns are read.
    """
    own: fs.FileSystem | None = None
    if table.table_uri.startswith("file:"):
        system, path = fs.FileSystem.from_uri(table.table_uri)
        own = fs.SubTreeFileSystem(path, system)
    else:
        _let_go_at_exit()
    return table.to_pyarrow_dataset(filesystem=own, parquet_read_options=reading)


@cache
def _let_go_at_exit() -> None:
    atexit.register(time.sleep, _LETTING_GO_S)


def fits(new: pa.Schema, known: pa.Schema) -> bool:
    """Whether every column that both have is of one type."""
    types = {field.name.lower(): field.type for field in known}
    return all(_same(types.get(field.name.lower(), field.type), field.type) for field in new)


def _same(one: Any, other: Any) -> bool:
    if pa.types.is_list(one) and pa.types.is_list(other):
        return _same(one.value_type, other.value_type)
    return bool(one == other)


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says."""
    return str(error).strip().partition("\n")[0]
