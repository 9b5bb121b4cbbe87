"""Upkeep of the log's tables: small files become large ones, old days go, the logs stay short.

The work is done table by table and day by day, in steps that are each over soon, so that shipping
never waits for long; the shipper takes one at a time (:mod:`greenroom.log.shipper`). A step that
fails is left to the next turn. Reading and writing tables is :mod:`greenroom.log.log_tables`'
business, the rows of one person :mod:`greenroom.log.forgetting`'s.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from greenroom.errors import LogUnavailable
from greenroom.log.log_tables import LogTables, first_line, table_schema, writing

__all__ = ["GRACE_HOURS", "Step", "upkeep"]

SMALL_BYTES: Final = 64 * 2**20
"""A file below that is small."""

TARGET_BYTES: Final = 256 * 2**20

MANY_FILES: Final = 200
"""So many small files of a day that is not over yet are made into large ones all the same."""

GRACE_HOURS: Final = 1
"""How long a file that a table no longer has stays for those who are reading it."""


class Step(NamedTuple):
    """A piece of upkeep: what it is for, and what does it."""

    name: str
    do: Callable[[], object]


def upkeep(tables: LogTables, *, keep_days: int, today: dt.date) -> Iterator[Step]:
    """Return the steps that a turn of upkeep takes, each to be done before the next is asked for.

    Parameters
    ----------
    tables : LogTables
    keep_days : int
        How many days before today are kept; 0: all.
    today : date
        In UTC, as days are in tables.

    Raises
    ------
    LogUnavailable
        When a table cannot be read; so does a step that cannot be done.
    """
    for uri in tables.all():
        if keep_days:
            before = today - dt.timedelta(days=keep_days)
            if any(day < before for day in _files(tables.open(uri))):
                yield _step(
                    f"{uri}: days before {before} are deleted", tables, uri, _delete(before)
                )
        for day, n_small in sorted(_files(tables.open(uri), SMALL_BYTES).items()):
            if n_small >= (2 if day < today else MANY_FILES):
                yield _step(f"{uri}: files of {day} are joined", tables, uri, _join(day))
        yield _step(f"{uri}: what it no longer has is removed", tables, uri, _clean)


def _step(name: str, tables: LogTables, uri: str, work: Callable[[DeltaTable], object]) -> Step:
    def do() -> None:
        try:
            work(tables.open(uri))
        except (DeltaError, OSError) as error:
            raise LogUnavailable(f"{uri} cannot be kept: {first_line(error)}") from error

    return Step(name, do)


def _delete(before: dt.date) -> Callable[[DeltaTable], object]:
    # Of whole partitions: files go from the table, and none is read.
    return lambda table: table.delete(f"day < '{before}'")


def _join(day: dt.date) -> Callable[[DeltaTable], object]:
    return lambda table: table.optimize.compact(
        partition_filters=[("day", "=", str(day))],
        target_size=TARGET_BYTES,
        max_concurrent_tasks=1,  # it is nobody's hurry, and memory is the workers'
        writer_properties=writing(table_schema(table)),
    )


def _clean(table: DeltaTable) -> None:
    table.vacuum(retention_hours=GRACE_HOURS, enforce_retention_duration=False, dry_run=False)
    table.create_checkpoint()
    table.cleanup_metadata()


def _files(table: DeltaTable, below_bytes: float = float("inf")) -> Counter[dt.date]:
    """Count a table's files of less than so many bytes, by day."""
    files: Any = pa.table(table.get_add_actions(flatten=True))
    if not files.num_rows:
        return Counter()
    sizes = files["size_bytes"].to_pylist()
    days = files["partition.day"].to_pylist()
    return Counter(day for day, size in zip(days, sizes, strict=True) if size < below_bytes)
