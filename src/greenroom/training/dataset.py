"""Datasets: a model's rows, read from where the app says and checked against its columns.

CSV and Parquet, from the app's folder or an object store, or rows that a function of the app's
returns. Everything that does not fit is reported at once, by column and line, never with a value.
Data are generated only when that was asked for and the file is not there, and are marked as such.

Fetching files is :mod:`greenroom.data.data_files`' business, parsing them
:mod:`greenroom.data.table_files`', casting values :mod:`greenroom.data.casting`'s, and dividing the
rows :mod:`greenroom.split`'s.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from greenroom.data.casting import Cast, Misfit, cast_column, cast_labels, to_arrow
from greenroom.data.data_files import DataFile, data_file_exists, read_data_file, ways_to_have
from greenroom.data.derivation import as_context, context_hash, derive
from greenroom.data.fingerprint import content_hash, file_digest
from greenroom.data.object_stores import shown
from greenroom.data.table_files import Places, read_table
from greenroom.errors import DataError, DataMissing
from greenroom.model import Model
from greenroom.progress import OnProgress, silent
from greenroom.schema import Column, Columns, take

LABEL_TASKS: Final = frozenset({"classification", "anomaly"})
"""Tasks whose target is a class; others' is a number."""


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
        SHA-256 of the content of columns, target and context, whatever the file format.
    n_rows : int
        How many rows there are.
    ignored : tuple of str
        Columns of the source that the model does not use.
    generated : bool
        Whether the data are a stand-in.
    context : Columns
        What ``model.context`` made of the data; empty without one.
    n_available : int
        How many rows the source has, where only some were drawn; else 0.
    dvc_pointer, dvc_md5 : str
        The DVC pointer to the file, and the MD5 in it; empty where there is none.
    dvc_differs : bool
        Whether the file is another one than its DVC pointer points to.
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
    context: Columns = field(default_factory=dict)
    n_available: int = 0
    dvc_pointer: str = ""
    dvc_md5: str = ""
    dvc_differs: bool = False

    @property
    def tags(self) -> dict[str, str]:
        """What runs and versions are labelled with beside the hashes."""
        tags = {"greenroom.data": "generated data"} if self.generated else {}
        if self.dvc_md5:
            tags["greenroom.dvc_md5"] = self.dvc_md5
        if self.dvc_differs:
            tags["greenroom.dvc"] = "the file is not the one that its DVC pointer points to"
        return tags


def load_dataset(
    model: Model,
    folder: Path,
    *,
    rows: int = 0,
    generated: bool = False,
    pulls: bool = True,
    to_train: bool = True,
    on_progress: OnProgress = silent,
) -> Dataset:
    """Read a model's data, check them, and take their fingerprints.

    Parameters
    ----------
    model : Model
        Says where the data are and which columns they have.
    folder : Path
        The app's folder, which a path in ``model.dataset`` is relative to.
    rows : int
        How many rows are drawn, by the model's seed and in the order of the source; 0: all.
    generated : bool
        Whether ``model.generated`` may stand in for a file that is not there.
    pulls : bool
        Whether DVC may bring such a file, where a pointer stands in its place and no stand-in is
        asked for.
    to_train : bool
        Whether a model is to be trained on them. Rows that are only looked at may be without the
        target, of one class, or none at all.
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
        return _checked(model, _called(model), rows, to_train, on_progress)
    on_progress(f"reading {model.dataset}", None)
    stands_in = generated and model.generated is not None
    try:
        file = read_data_file(
            model.dataset, folder, pulls=pulls and not stands_in, on_progress=on_progress
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        if stands_in:
            on_progress("generating data", None)
            return _checked(model, _generated(model), rows, to_train, on_progress)
        raise _missing(model, folder, to_train=to_train) from error
    return _checked(model, _parsed(model, file), rows, to_train, on_progress)


def require_dataset(model: Model, folder: Path, *, generated: bool = False) -> None:
    """Say whether a model's data are to be had, without reading them.

    Parameters
    ----------
    model, folder, generated
        As for :func:`load_dataset`.

    Raises
    ------
    DataMissing
        When :func:`load_dataset` would, too. An address that cannot be asked counts as there.
    """
    if not isinstance(model.dataset, str) or (generated and model.generated is not None):
        return
    if not data_file_exists(model.dataset, folder):
        raise _missing(model, folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What was found: Arrow arrays by name, and how to speak about the rows in it."""

    name: str
    source: str
    table: Mapping[str, pa.Array | pa.ChunkedArray]
    ignored: tuple[str, ...]
    problems: tuple[str, ...] = ()
    dataset_hash: str = ""
    file: DataFile | None = None
    places: Places = field(default_factory=Places)
    generated: bool = False


def _checked(
    model: Model, found: _Source, rows: int, to_train: bool, on_progress: OnProgress
) -> Dataset:
    """Cast every column, then either raise one error about all of them, or fingerprint."""
    context = _context(model, found)
    if model.rows is not None:
        on_progress("making rows", None)
        found = _derived(model, found)
    problems = [*found.problems, *_absent(model, found, to_train), *_uneven(found, to_train)]
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
        problems += _described(cast.misfits, found) or _unusable(model, target, to_train)
    if problems:
        raise DataError(
            f"dataset {found.source} does not fit model {model.name!r}: {'; '.join(problems)}",
            advice="correct the data, or the model's columns in the app",
        )
    n_available = len(next(iter(columns.values())))
    if 0 < rows < n_available:
        drawn = np.sort(np.random.default_rng(model.seed).choice(n_available, rows, replace=False))
        columns, target = take(columns, drawn), None if target is None else target[drawn]
    on_progress("fingerprinting", None)
    digest = _content(model, columns, target, context)
    n_rows = len(next(iter(columns.values())))
    pointer = found.file.pointer if found.file else None
    return Dataset(
        name=found.name,
        source=found.source,
        columns=columns,
        target=target,
        dataset_hash=found.dataset_hash or digest,
        content_hash=digest,
        n_rows=n_rows,
        ignored=found.ignored,
        generated=found.generated,
        context=context,
        n_available=n_available if n_available != n_rows else 0,
        dvc_pointer=pointer.shown if pointer else "",
        dvc_md5=pointer.md5 if pointer else "",
        dvc_differs=found.file is not None and found.file.differs,
    )


def _context(model: Model, found: _Source) -> Columns:
    if model.context is None:
        return {}
    return as_context(derive(model.context, found.table, found.source), found.source)


def _derived(model: Model, found: _Source) -> _Source:
    """Return the rows that the app makes of what was found."""
    assert model.rows is not None  # noqa: S101 - for the type checker
    made = derive(model.rows, found.table, found.source)
    table, ignored, problems = _arrays(made, _wanted(model))
    return replace(
        found,
        table=table,
        ignored=ignored,
        problems=(*found.problems, *problems),
        places=Places("made row"),
    )


def _content(
    model: Model, columns: Columns, target: npt.NDArray[Any] | None, context: Columns
) -> str:
    schema: list[Column] = list(model.columns)
    if target is not None:
        kind = Column(model.target, "string" if target.dtype == object else "number")
        schema, columns = [*schema, kind], {**columns, model.target: target}
    digest = content_hash(columns, schema)
    return file_digest([f"{digest} {context_hash(context)}".encode()]) if context else digest


def _cast_target(model: Model, values: pa.Array | pa.ChunkedArray) -> Cast:
    if model.task.name in LABEL_TASKS:
        return cast_labels(values, model.target)
    return cast_column(values, Column(model.target, "number"))


def _absent(model: Model, found: _Source, to_train: bool) -> Iterator[str]:
    wanted = _wanted(model)
    needed = wanted if to_train else [column.name for column in model.columns]
    missing = [repr(name) for name in needed if name not in found.table]
    if missing:
        there = ", ".join((*(name for name in wanted if name in found.table), *found.ignored))
        yield f"no column {', '.join(missing)} (there are: {there or 'none'})"


def _uneven(found: _Source, to_train: bool) -> Iterator[str]:
    lengths = {len(values) for values in found.table.values()}
    if len(lengths) > 1:
        yield f"its columns differ in length: {', '.join(map(str, sorted(lengths)))} rows"
    elif lengths == {0} and to_train:
        yield "it has no rows"


def _unusable(model: Model, target: npt.NDArray[Any], to_train: bool) -> list[str]:
    """Say what is wrong with a target whose values are right one by one."""
    if model.task.name == "anomaly" and not np.isin(target, (0, 1)).all():
        return [f"target {model.target!r} must hold 1 for an anomaly and 0 for none"]
    one_class = bool(len(target)) and bool((target == target[0]).all())
    if to_train and model.task.name == "classification" and one_class:
        return [f"target {model.target!r} holds one class only"]
    return []


def _described(misfits: Sequence[Misfit], found: _Source) -> list[str]:
    return [
        f"column {misfit.column!r}: {len(misfit.rows)} "
        f"{'value is' if len(misfit.rows) == 1 else 'values are'} {misfit.problem} "
        f"({found.places.of(misfit.rows)})"
        for misfit in misfits
    ]


def _wanted(model: Model) -> list[str]:
    return [column.name for column in model.columns] + ([model.target] if model.target else [])


def _missing(model: Model, folder: Path, *, to_train: bool = True) -> DataMissing:
    source = str(model.dataset)
    ways = ways_to_have(source, folder)
    if not to_train:
        return DataMissing(f"there is no data file {shown(source)}", advice=", or ".join(ways))
    if model.generated is not None:
        ways.append("train on generated data with --generated (GREENROOM_GENERATED=1)")
    return DataMissing(
        f"the dataset of model {model.name!r} is not there: FileNotFoundError: {shown(source)}",
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
    table, ignored, problems = _arrays(rows, _asked(model))
    return _Source(
        name=model.dataset_name or name,
        source=source,
        table=table,
        ignored=ignored,
        problems=problems,
        generated=generated,
    )


def _arrays(
    rows: Mapping[str, Any], asked: Collection[str] | None
) -> tuple[dict[str, pa.Array], tuple[str, ...], tuple[str, ...]]:
    """Return the columns that are asked for (None: all), the names of the others, and problems."""
    table, ignored, problems = {}, [], []
    for column, values in rows.items():
        if asked is not None and column not in asked:
            ignored.append(str(column))
            continue
        try:
            table[column] = to_arrow(values)
        except (TypeError, ValueError, pa.ArrowException):
            table[column] = pa.nulls(len(values))
            problems.append(f"column {column!r} mixes types, or holds one that is not known")
    return table, tuple(ignored), tuple(problems)


def _asked(model: Model) -> list[str] | None:
    """Return the columns to read: all, where the app makes its rows of them."""
    return None if model.rows is not None or model.context is not None else _wanted(model)


def _parsed(model: Model, file: DataFile) -> _Source:
    source = shown(str(model.dataset))
    found = read_table(file.data, _asked(model), source)
    return _Source(
        name=model.dataset_name or re.sub(r".*/", "", source),
        source=source,
        table=found.columns,
        ignored=found.ignored,
        problems=found.problems,
        dataset_hash=file_digest([file.data]),
        file=file,
        places=found.places,
    )
