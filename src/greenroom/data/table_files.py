"""Table files: the bytes of a CSV or Parquet file, taken apart into Arrow columns.

Columns of a CSV file come out as texts: what they mean is decided by the app's columns alone, in
:mod:`greenroom.data.casting`. What is wrong with the file as a table is collected, not raised, so
that it can be told together with what is wrong with its values. Where the bytes come from is
:mod:`greenroom.training.dataset`'s business.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from greenroom.errors import DataError

PARQUET_MAGIC: Final = b"PAR1"
SHOWN_ROWS: Final = 3


@dataclass(frozen=True, slots=True)
class Places:
    """How to speak of rows: by their line in a text file, else by their number from 1.

    Examples
    --------
    >>> Places("line", 2).of([0, 1, 5, 9]), Places().of([4])
    ('lines 2, 3, 7, ...', 'row 5')
    """

    noun: str = "row"
    first: int = 1

    def of(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> str:
        """Return the first few of ``rows``, given as positions."""
        noun = self.noun if len(rows) == 1 else f"{self.noun}s"
        shown = [str(int(row) + self.first) for row in rows[:SHOWN_ROWS]]
        more = ["..."] if len(rows) > SHOWN_ROWS else []
        return f"{noun} {', '.join(shown + more)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """What a file holds of the columns that were asked for.

    Parameters
    ----------
    columns : mapping of str to pyarrow ChunkedArray
        Those that are there; texts where the file is CSV.
    ignored : tuple of str
        The other columns of the file.
    problems : tuple of str
        What is wrong with the file as a table.
    places : Places
        How to speak of its rows.
    """

    columns: Mapping[str, pa.ChunkedArray]
    ignored: tuple[str, ...]
    problems: tuple[str, ...] = ()
    places: Places = Places()


def read_table(data: bytes, wanted: Sequence[str] | None, source: str) -> TableFile:
    """Take a file apart: Parquet when it begins as Parquet does, else CSV in UTF-8.

    Parameters
    ----------
    data : bytes
        The whole file.
    wanted : sequence of str, optional
        The columns to read; one that is not there is left out. None for all.
    source : str
        What an error calls the file.

    Raises
    ------
    DataError
        When the file cannot be read at all.
    """
    if data.startswith(PARQUET_MAGIC):
        return _from_parquet(data, wanted, source)
    return _from_csv(data, wanted, source)


def _from_parquet(data: bytes, wanted: Sequence[str] | None, source: str) -> TableFile:
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(pa.BufferReader(data)) as file:
            names = file.schema_arrow.names
            wanted = names if wanted is None else wanted
            table = file.read(columns=[name for name in wanted if name in names])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"dataset {source} cannot be read as Parquet") from error
    return TableFile(
        columns={name: table[name] for name in table.column_names},
        ignored=tuple(name for name in names if name not in wanted),
    )


def _from_csv(data: bytes, wanted: Sequence[str] | None, source: str) -> TableFile:
    header = _header(data, source)
    wanted = [name for name in header if name] if wanted is None else wanted
    there = [name for name in dict.fromkeys(wanted) if name in header]
    table, refused = _read_csv(data, there, source, one_column=len(header) == 1)
    problems = [f"column {name!r} is there more than once" for name in _doubled(there, header)]
    if refused:
        counted = "1 line has" if len(refused) == 1 else f"{len(refused)} lines have"
        problems.append(
            f"{counted} another number of fields than the header's {len(header)} "
            f"({Places('line', 0).of(refused)})"
        )
    n_lines = data.count(b"\n") + (not data.endswith(b"\n"))
    by_line = n_lines == table.num_rows + 1  # else values hold line breaks, or lines were refused
    return TableFile(
        columns={name: table[name] for name in table.column_names},
        ignored=tuple(name or "(unnamed)" for name in header if name not in there),
        problems=tuple(problems),
        places=Places("line", 2) if by_line else Places(),
    )


def _header(data: bytes, source: str) -> list[str]:
    try:
        header = next(csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"dataset {source} is neither Parquet nor CSV in UTF-8") from error
    if not header:
        raise DataError(f"dataset {source} is empty", advice="its first line must name the columns")
    return header


def _doubled(names: Sequence[str], header: Sequence[str]) -> list[str]:
    return [name for name in names if header.count(name) > 1]


def _read_csv(
    data: bytes, wanted: list[str], source: str, *, one_column: bool
) -> tuple[pa.Table, list[int]]:
    """Return the columns as texts, and the lines that have too many or too few fields."""
    refused: list[int | None] = []

    def refuse(row: Any) -> str:
        refused.append(row.number)  # known only when one thread reads
        return "skip"

    try:
        table = _parse(data, wanted, refuse, one_column=one_column, use_threads=True)
        if refused:
            refused.clear()
            table = _parse(data, wanted, refuse, one_column=one_column, use_threads=False)
    except pa.ArrowInvalid as error:
        # Arrow's message may quote the line, and a line may be private.
        reason = "is not in UTF-8" if "UTF8" in str(error) else "cannot be read as CSV"
        raise DataError(f"dataset {source} {reason}") from error
    return table.select(wanted), [number for number in refused if number is not None]


def _parse(
    data: bytes, wanted: list[str], refuse: Any, *, one_column: bool, use_threads: bool
) -> pa.Table:
    from pyarrow import csv as arrow_csv

    return arrow_csv.read_csv(
        pa.BufferReader(data),
        read_options=arrow_csv.ReadOptions(use_threads=use_threads),
        parse_options=arrow_csv.ParseOptions(
            newlines_in_values=True,
            ignore_empty_lines=not one_column,  # there, an empty line is a missing value
            invalid_row_handler=refuse,
        ),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=wanted or None,
            column_types=dict.fromkeys(wanted, pa.string()),
        ),
    )
