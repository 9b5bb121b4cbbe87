"""Datasets: a model's rows, read from where the app says and checked against its columns.

CSV and Parquet, from the app's folder or any fsspec address, or rows that a function of the app's
returns. Everything that does not fit is reported at once, by column and line, never with a value.
Data are generated only when that was asked for and the file is not there, and are marked as such.

Casting values is :mod:`greenroom.casting`'s business, and dividing the rows
:mod:`greenroom.split`'s.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from greenroom.app import Model
from greenroom.casting import Cast, Misfit, cast_column, cast_labels, to_arrow
from greenroom.errors import DataError, DataMissing
from greenroom.fingerprint import content_hash, file_digest
from greenroom.progress import OnProgress, silent
from greenroom.schema import Column, Columns

LABEL_TASKS: Final = frozenset({"classification", "anomaly"})
"""Tasks whose target is a class; others' is a number."""

_PARQUET_MAGIC: Final = b"PAR1"
_SHOWN_ROWS: Final = 3
_SCHEMES: Final = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The rows that a model is trained on.

    Parameters
    ----------
    name : str
        How runs call the data.
    source : str
        Where they came from, as the app wrote it.
    columns : Columns
        The model's columns, in the model's order.
    target : ndarray, shape (n_samples,), optional
        int64 for classes that are integers, object for those that are texts, float64 for numbers.
    dataset_hash : str
        SHA-256 of the file's bytes; equal to ``content_hash`` where there is no file.
    content_hash : str
        SHA-256 of the content of columns and target, whatever the file format.
    n_rows : int
        How many rows there are.
    ignored : tuple of str
        Columns of the source that the model does not use.
    generated : bool
        Whether the data are a stand-in.
    """

    name: str
    source: str
    columns: Columns
    target: npt.NDArray[Any] | None
    dataset_hash: str
    content_hash: str
    n_rows: int
    ignored: tuple[str, ...] = ()
    generated: bool = False


def load_dataset(
    model: Model, folder: Path, *, generated: bool = False, on_progress: OnProgress = silent
) -> Dataset:
    """Read a model's data, check them, and take their fingerprints.

    Parameters
    ----------
    model : Model
        Says where the data are and which columns they have.
    folder : Path
        The app's folder, which a path in ``model.dataset`` is relative to.
    generated : bool
        Whether ``model.generated`` may stand in for a file that is not there.
    on_progress : callable
        Told what is being done.

    Raises
    ------
    DataMissing
        When the file is not there; the advice names the ways on.
    DataError
        When the file cannot be read, or its rows do not fit the columns: every problem at once.
    """
    if not isinstance(model.dataset, str):
        return _checked(model, _called(model), on_progress)
    on_progress(f"reading {model.dataset}", None)
    try:
        data = _read_bytes(model.dataset, folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        if generated and model.generated is not None:
            on_progress("generating data", None)
            return _checked(model, _generated(model), on_progress)
        raise _missing(model, folder) from error
    return _checked(model, _parsed(model, data), on_progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What was found: Arrow arrays by name, and how to speak about the rows in it."""

    name: str
    source: str
    table: Mapping[str, pa.Array | pa.ChunkedArray]
    ignored: tuple[str, ...]
    problems: tuple[str, ...] = ()
    dataset_hash: str = ""
    place: str = "row"
    first: int = 1
    generated: bool = False


def _checked(model: Model, found: _Source, on_progress: OnProgress) -> Dataset:
    """Cast every column, then either raise one error about all of them, or fingerprint."""
    problems = [*found.problems, *_absent(model, found), *_uneven(found)]
    columns: Columns = {}
    for position, column in enumerate(model.columns):
        on_progress("checking columns", position / len(model.columns))
        if column.name in found.table:
            cast = cast_column(found.table[column.name], column)
            columns[column.name] = cast.values
            problems += _described(cast.misfits, found)
    target = None
    if model.target and model.target in found.table:
        cast = _cast_target(model, found.table[model.target])
        target = cast.values
        problems += _described(cast.misfits, found) or _unusable(model, target)
    if problems:
        raise DataError(
            f"dataset {found.source} does not fit model {model.name!r}: {'; '.join(problems)}",
            advice="correct the data, or the model's columns in the app",
        )
    on_progress("fingerprinting", None)
    digest = _content(model, columns, target)
    return Dataset(
        name=found.name,
        source=found.source,
        columns=columns,
        target=target,
        dataset_hash=found.dataset_hash or digest,
        content_hash=digest,
        n_rows=len(next(iter(columns.values()))),
        ignored=found.ignored,
        generated=found.generated,
    )


def _content(model: Model, columns: Columns, target: npt.NDArray[Any] | None) -> str:
    schema: list[Column] = list(model.columns)
    if target is not None:
        kind = Column(model.target, "string" if target.dtype == object else "number")
        schema, columns = [*schema, kind], {**columns, model.target: target}
    return content_hash(columns, schema)


def _cast_target(model: Model, values: pa.Array | pa.ChunkedArray) -> Cast:
    if model.task.name in LABEL_TASKS:
        return cast_labels(values, model.target)
    return cast_column(values, Column(model.target, "number"))


def _absent(model: Model, found: _Source) -> Iterator[str]:
    wanted = _wanted(model)
    missing = [repr(name) for name in wanted if name not in found.table]
    if missing:
        there = ", ".join((*(name for name in wanted if name in found.table), *found.ignored))
        yield f"no column {', '.join(missing)} (there are: {there or 'none'})"


def _uneven(found: _Source) -> Iterator[str]:
    lengths = {len(values) for values in found.table.values()}
    if len(lengths) > 1:
        yield f"its columns differ in length: {', '.join(map(str, sorted(lengths)))} rows"
    elif lengths == {0}:
        yield "it has no rows"


def _unusable(model: Model, target: npt.NDArray[Any]) -> list[str]:
    """Say what is wrong with a target whose values are right one by one."""
    if model.task.name == "anomaly" and not np.isin(target, (0, 1)).all():
        return [f"target {model.target!r} must hold 1 for an anomaly and 0 for none"]
    if model.task.name == "classification" and len(target) and (target == target[0]).all():
        return [f"target {model.target!r} holds one class only"]
    return []


def _described(misfits: Sequence[Misfit], found: _Source) -> list[str]:
    return [
        f"column {misfit.column!r}: {len(misfit.rows)} "
        f"{'value is' if len(misfit.rows) == 1 else 'values are'} {misfit.problem} "
        f"({_places(found.place, misfit.rows, found.first)})"
        for misfit in misfits
    ]


def _places(place: str, rows: Sequence[int] | npt.NDArray[np.intp], first: int) -> str:
    shown = [str(int(row) + first) for row in rows[:_SHOWN_ROWS]]
    more = ", ..." if len(rows) > _SHOWN_ROWS else ""
    return f"{place}{'s' if len(rows) > 1 else ''} {', '.join(shown)}{more}"


def _wanted(model: Model) -> list[str]:
    return [column.name for column in model.columns] + ([model.target] if model.target else [])


def _read_bytes(source: str, folder: Path) -> bytes:
    """Read all of a file at once, so that the digest is of the bytes that are parsed."""
    try:
        if "://" not in source:
            return (folder / source).read_bytes()
        import fsspec

        with fsspec.open(source, "rb") as file:
            data: bytes = file.read()
            return data
    except (FileNotFoundError, NotADirectoryError):
        raise
    except ImportError as error:
        extra = _SCHEMES.get(source.partition("://")[0], "")
        advice = f"pip install 'greenroom[{extra}]'" if extra else str(error)
        raise DataError(f"dataset {source} needs a package to be read", advice=advice) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"dataset {source} cannot be read: {reason}") from error


def _missing(model: Model, folder: Path) -> DataMissing:
    source = str(model.dataset)
    place = source if "://" in source else str(folder / source)
    ways = [f"put the file at {place}"]
    if model.generated is not None:
        ways.append("train on generated data with --generated (GREENROOM_GENERATED=1)")
    return DataMissing(
        f"the dataset of model {model.name!r} is not there: FileNotFoundError: {source}",
        advice=", or ".join(ways),
    )


def _called(model: Model) -> _Source:
    function = model.dataset
    assert callable(function)  # noqa: S101 - for the type checker
    name = getattr(function, "__name__", type(function).__name__)
    return _from_arrays(model, function(), name, f"function {name}")


def _generated(model: Model) -> _Source:
    assert model.generated is not None  # noqa: S101 - for the type checker
    name = re.sub(r".*/", "", str(model.dataset))
    source = f"generated data (seed {model.seed})"
    return _from_arrays(model, model.generated(model.seed), name, source, generated=True)


def _from_arrays(
    model: Model, rows: Mapping[str, Any], name: str, source: str, *, generated: bool = False
) -> _Source:
    wanted = set(_wanted(model))
    table, problems = {}, []
    for column, values in rows.items():
        if column in wanted:
            try:
                table[column] = to_arrow(values)
            except (TypeError, ValueError, pa.ArrowException):
                table[column] = pa.nulls(len(values))
                problems.append(f"column {column!r} mixes types, or holds one that is not known")
    return _Source(
        name=model.dataset_name or name,
        source=source,
        table=table,
        ignored=tuple(str(column) for column in rows if column not in wanted),
        problems=tuple(problems),
        generated=generated,
    )


def _parsed(model: Model, data: bytes) -> _Source:
    source = str(model.dataset)
    name = model.dataset_name or re.sub(r".*/", "", source)
    digest = file_digest([data])
    if data[: len(_PARQUET_MAGIC)] == _PARQUET_MAGIC:
        return _from_parquet(model, data, name, source, digest)
    return _from_csv(model, data, name, source, digest)


def _from_parquet(model: Model, data: bytes, name: str, source: str, digest: str) -> _Source:
    from pyarrow import parquet

    wanted = _wanted(model)
    try:
        with parquet.ParquetFile(pa.BufferReader(data)) as file:
            names = file.schema_arrow.names
            table = file.read(columns=[column for column in wanted if column in names])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"dataset {source} cannot be read as Parquet") from error
    return _Source(
        name=name,
        source=source,
        table={column: table[column] for column in table.column_names},
        ignored=tuple(column for column in names if column not in wanted),
        dataset_hash=digest,
    )


def _from_csv(model: Model, data: bytes, name: str, source: str, digest: str) -> _Source:
    """Read the model's columns as texts; what they mean is decided by the app's columns alone."""
    header = _header(data, source)
    wanted = [column for column in _wanted(model) if column in header]
    doubled = [column for column in wanted if header.count(column) > 1]
    table, refused = _read_csv(data, wanted, source, one_column=len(header) == 1)
    problems = [f"column {column!r} is there more than once" for column in doubled]
    if refused:
        counted = "1 line has" if len(refused) == 1 else f"{len(refused)} lines have"
        problems.append(
            f"{counted} another number of fields than the header's {len(header)} "
            f"({_places('line', refused, 0)})"
        )
    n_lines = data.count(b"\n") + (not data.endswith(b"\n"))
    by_line = n_lines == table.num_rows + 1  # else values hold line breaks, or lines were refused
    return _Source(
        name=name,
        source=source,
        table={column: table[column] for column in table.column_names},
        ignored=tuple(column or "(unnamed)" for column in header if column not in wanted),
        problems=tuple(problems),
        dataset_hash=digest,
        place="line" if by_line else "row",
        first=2 if by_line else 1,
    )


def _header(data: bytes, source: str) -> list[str]:
    try:
        header = next(csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"dataset {source} is neither Parquet nor CSV in UTF-8") from error
    if not header:
        raise DataError(f"dataset {source} is empty", advice="its first line must name the columns")
    return header


def _read_csv(
    data: bytes, wanted: list[str], source: str, *, one_column: bool
) -> tuple[pa.Table, list[int]]:
    """Return the columns as texts, and the lines that have too many or too few fields."""
    from pyarrow import csv as arrow_csv

    refused: list[int | None] = []

    def refuse(row: Any) -> str:
        refused.append(row.number)  # known only when one thread reads
        return "skip"

    def read(*, use_threads: bool) -> pa.Table:
        return arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(use_threads=use_threads),
            parse_options=arrow_csv.ParseOptions(
                newlines_in_values=True,
                ignore_empty_lines=not one_column,
                invalid_row_handler=refuse,
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=wanted or None,
                column_types=dict.fromkeys(wanted, pa.string()),
            ),
        )

    try:
        table = read(use_threads=True)
        if refused:
            refused.clear()
            table = read(use_threads=False)
    except pa.ArrowInvalid as error:
        # Arrow's message may quote the line, and a line may be private.
        reason = "is not in UTF-8" if "UTF8" in str(error) else "cannot be read as CSV"
        raise DataError(f"dataset {source} {reason}") from error
    return table.select(wanted), [number for number in refused if number is not None]
