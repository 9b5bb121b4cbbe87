"""Predictions of the log as files: CSV, Parquet, or a JSON object a line.

Reading the log is :mod:`greenroom.log.log_reading`'s business.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, BinaryIO, Final, Literal, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from greenroom.errors import LogError
from greenroom.log.log_rows import COMMON
from greenroom.task import TASKS

__all__ = ["Form", "brief_columns", "cell", "instant", "write_rows"]

Form: TypeAlias = Literal["csv", "parquet", "json"]

_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_BRIEF: Final = ("answered_at", "prediction_id", "version", "caller", "latency_ms")


def instant(text: str, now: datetime) -> datetime:
    """Return the instant that a text names: how long ago, a day, or a time; in UTC.

    Raises
    ------
    LogError
        When it names none.

    Examples
    --------
    >>> now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    >>> instant("1h", now).hour, instant("2026-11-20", now).day
    (11, 20)
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago:
            return now - timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
        found = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise LogError(
            f"{text!r} is no time", advice="write 90s, 30m, 1h, 7d, 2026-11-20 or 2026-11-20T08:00"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def brief_columns(rows: pa.Table) -> list[str]:
    """Return the columns that say most: when, which, by which version, and what was answered."""
    outputs = {output.name for task in TASKS.values() for output in task.outputs}
    own = [name for name in rows.schema.names if name in outputs and name not in COMMON.names]
    return [*(name for name in _BRIEF if name in rows.schema.names), *own]


def write_rows(rows: pa.Table, form: Form, file: BinaryIO) -> None:
    """Write rows into a file that is open.

    Lists are JSON in a CSV file, and instants are in UTC.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> write_rows(pa.table({"a": [1], "b": [[0.5, 0.5]]}), "csv", file)
    >>> file.getvalue().decode().splitlines()
    ['"a","b"', '1,"[0.5,0.5]"']
    """
    if form == "parquet":
        pa_parquet.write_table(rows, file)
    elif form == "csv":
        pa_csv.write_csv(_flat(rows), file)
    else:
        for batch in rows.to_batches(max_chunksize=10_000):
            file.writelines(msgspec.json.encode(row) + b"\n" for row in batch.to_pylist())


def _flat(rows: pa.Table) -> pa.Table:
    """Return rows without lists."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
            texts = [
                None if one is None else msgspec.json.encode(one).decode()
                for one in rows[field.name].to_pylist()
            ]
            rows = rows.set_column(place, field.name, pa.array(texts, pa.string()))
    return rows


def cell(value: Any) -> str:
    """Return a value as a table on a terminal shows it.

    Examples
    --------
    >>> cell(0.123456789), cell(None), cell([0.25, 0.75])
    ('0.123457', '-', '0.25, 0.75')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1_000:03d}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list):
        return ", ".join(cell(one) for one in value)
    return str(value)
