"""Evidence that travels with a version: its held-out rows and a sample of its training rows.

The hold-out is kept as keys, truths and predictions, so that the gate can compare two versions on
rows that neither was trained on, without data or model at hand. The reference sample is kept as
whole rows, so that a version can be proved: the same rows give the same predictions again. Beside
them may stand a context: what ``expand`` is given besides a request.

All are Parquet files, read back exactly as written, bit for bit. Judging is
:mod:`greenroom.promotion.promotion`'s business. pyarrow is imported when a file is written or read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from greenroom.errors import VersionCorrupt
from greenroom.evaluation.metrics import Predictions
from greenroom.schema import TEXT_KINDS, TIME_KINDS, Column, Columns, Schema

if TYPE_CHECKING:
    import pyarrow as pa

KEY: Final = "key"
TRUTH: Final = "truth"
INPUT: Final = "input."
OUTPUT: Final = "output."

_NAT: Final = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class HoldOut:
    """What a version said about the rows that were held out from its training.

    Parameters
    ----------
    keys : ndarray of uint64, shape (n_samples,)
        Which row each is, whatever the file it came from
        (:func:`greenroom.data.fingerprint.row_keys`).
    y : ndarray, shape (n_samples,), optional
        The truth; None for a model without a target.
    predictions : Predictions
        What the version said.
    """

    keys: npt.NDArray[np.uint64]
    y: npt.NDArray[Any] | None
    predictions: Predictions

    def __post_init__(self) -> None:
        lengths = {len(self.keys), len(self.predictions)}
        if self.y is not None:
            lengths.add(len(self.y))
        if len(lengths) > 1:
            raise ValueError(f"keys, y and predictions have different lengths: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: npt.NDArray[Any]) -> HoldOut:
        """Return ``rows``, given as positions or as a boolean mask."""
        y = None if self.y is None else self.y[rows]
        return HoldOut(self.keys[rows], y, self.predictions.take(rows))


def write_holdout(path: Path, holdout: HoldOut) -> None:
    """Write the held-out rows as Parquet."""
    import pyarrow as pa

    table = {KEY: pa.array(holdout.keys.astype(np.uint64))}
    table |= _truth_and_outputs(holdout.y, holdout.predictions)
    _write(path, table)


def read_holdout(path: Path, classes: tuple[Any, ...] = ()) -> HoldOut:
    """Read what :func:`write_holdout` wrote; ``classes`` are the manifest's.

    Raises
    ------
    VersionCorrupt
        When the file is missing or cannot be read.
    """
    table = _read(path, (KEY,))
    keys = to_array(table[KEY])
    return HoldOut(keys, _truth(table), _predictions(table, classes))


def write_reference(
    path: Path, columns: Columns, y: npt.NDArray[Any] | None, predictions: Predictions
) -> None:
    """Write a sample of the training rows, with truth and predictions, as Parquet.

    Parameters
    ----------
    columns : Columns
        The rows as they are in the data, before ``features``.
    y : ndarray, shape (n_samples,), optional
        The truth.
    predictions : Predictions
        What the version said about the same rows.
    """
    table = {INPUT + name: _to_arrow(values) for name, values in columns.items()}
    _write(path, table | _truth_and_outputs(y, predictions))


def read_reference(
    path: Path, schema: Schema, classes: tuple[Any, ...] = ()
) -> tuple[Columns, npt.NDArray[Any] | None, Predictions]:
    """Read what :func:`write_reference` wrote: the rows in the schema's order, truth, predictions.

    Raises
    ------
    VersionCorrupt
        When the file is missing, cannot be read, or lacks a column of the schema.
    """
    table = _read(path, tuple(INPUT + name for name in schema.names))
    columns = {
        column.name: _of_kind(to_array(table[INPUT + column.name]), column) for column in schema
    }
    return columns, _truth(table), _predictions(table, classes)


def write_context(path: Path, context: Columns) -> None:
    """Write as Parquet what ``expand`` is given besides a request."""
    _write(path, {name: _to_arrow(values) for name, values in context.items()})


def read_context(path: Path) -> Columns:
    """Read what :func:`write_context` wrote.

    Raises
    ------
    VersionCorrupt
        When the file is missing or cannot be read.
    """
    return {name: to_array(values) for name, values in _read(path, (), outputs=()).items()}


def reference_sample(
    y: npt.NDArray[Any] | None,
    n_rows: int,
    seed: int,
    stratify: bool,
    *,
    n_samples: int | None = None,
) -> npt.NDArray[np.intp]:
    """Choose the rows of the reference sample.

    Parameters
    ----------
    y : ndarray, shape (n_samples,), optional
        The truth of the training rows.
    n_rows : int
        How many rows to choose; all, when there are no more.
    seed : int
        The same seed chooses the same rows.
    stratify : bool
        Whether each class has its share of the sample, and at least one row.
    n_samples : int, optional
        How many training rows there are; needed where ``y`` is None.

    Returns
    -------
    ndarray of int
        Positions, ascending.

    Examples
    --------
    >>> rare = np.array([0] * 98 + [1] * 2)
    >>> chosen = reference_sample(rare, 10, 0, True)
    >>> len(chosen), int(rare[chosen].sum())
    (10, 1)
    """
    total = len(y) if y is not None else n_samples
    if total is None:
        raise ValueError("n_samples is needed where there is no y")
    if total <= n_rows:
        return np.arange(total)
    shuffled = np.random.default_rng(seed).permutation(total)
    if y is None or not stratify:
        return np.sort(shuffled[:n_rows])
    _, class_of_row = np.unique(y, return_inverse=True)
    in_class = class_of_row[shuffled]
    # Each row's place within its class, as a share of it: the n_rows least of these take the same
    # share of every class, and the first of each class (share 0) comes before all others.
    order = np.argsort(in_class, kind="stable")
    counts = np.bincount(in_class)
    rank = np.empty(total, dtype=np.int64)
    rank[order] = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.argsort(rank / counts[in_class], kind="stable")[:n_rows]
    return np.sort(shuffled[chosen])


def common(a: HoldOut, b: HoldOut) -> tuple[HoldOut, HoldOut]:
    """Return the rows that both hold, each side's in the same order.

    Rows are matched by key. Of a row that occurs several times, as many are kept as both hold.
    Where the truths differ (a label was corrected), those of ``a`` judge both.

    Parameters
    ----------
    a, b : HoldOut
        The challenger's and the champion's, for instance.

    Examples
    --------
    >>> def hold(*keys): return HoldOut(np.array(keys, dtype=np.uint64), np.array(keys),
    ...                                 Predictions({"prediction": np.array(keys)}))
    >>> left, right = common(hold(1, 2, 3), hold(4, 3, 2))
    >>> left.keys.tolist() == right.keys.tolist() == [2, 3]
    True
    """
    in_a, in_b = _occurrences(a), _occurrences(b)
    shared = [pair for pair in in_a if pair in in_b]
    left = a.take(np.array([in_a[pair] for pair in shared], dtype=np.intp))
    right = b.take(np.array([in_b[pair] for pair in shared], dtype=np.intp))
    return left, HoldOut(right.keys, left.y, right.predictions)


def _occurrences(holdout: HoldOut) -> dict[tuple[int, int], int]:
    """Return the position of each (key, how often it came before), in ascending order.

    Rows of one key are taken in the order of their truths: their order in the file may differ.
    """
    keys = holdout.keys
    if holdout.y is None:
        order = np.argsort(keys, kind="stable")
    else:
        order = np.lexsort((np.unique(holdout.y, return_inverse=True)[1], keys))
    positions, previous, seen = {}, None, 0
    for position, key in zip(order.tolist(), keys[order].tolist(), strict=True):
        seen = seen + 1 if key == previous else 0
        positions[key, seen] = position
        previous = key
    return positions


def _truth_and_outputs(y: npt.NDArray[Any] | None, predictions: Predictions) -> dict[str, pa.Array]:
    truth = {} if y is None else {TRUTH: _to_arrow(y)}
    outputs = {OUTPUT + name: _to_arrow(values) for name, values in predictions.outputs.items()}
    return truth | outputs


def _truth(table: dict[str, pa.Array]) -> npt.NDArray[Any] | None:
    return to_array(table[TRUTH]) if TRUTH in table else None


def _predictions(table: dict[str, pa.Array], classes: tuple[Any, ...]) -> Predictions:
    outputs = {
        name.removeprefix(OUTPUT): to_array(values)
        for name, values in table.items()
        if name.startswith(OUTPUT)
    }
    return Predictions(outputs, tuple(classes))


def _to_arrow(values: npt.NDArray[Any]) -> pa.Array:
    """Make an array that :func:`to_array` turns back: floats keep their NaNs as they are."""
    import pyarrow as pa

    if values.ndim == 2:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    if values.dtype.kind in "OUT":
        plain = values.tolist()
        lists = any(isinstance(value, list | tuple) for value in plain)
        return pa.array(plain, type=pa.list_(pa.string()) if lists else pa.string())
    return pa.array(values)


def to_array(values: pa.Array) -> npt.NDArray[Any]:
    """Return Arrow's values as an array, bit for bit; without pandas, unlike Arrow's own way."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(values.type):
        return to_array(values.flatten()).reshape(len(values), values.type.list_size)
    if pa.types.is_string(values.type) or pa.types.is_list(values.type):
        plain = np.empty(len(values), dtype=object)
        plain[:] = values.to_pylist()
        return plain
    # Not Array.to_numpy: it imports pandas, which serving does without.
    if pa.types.is_timestamp(values.type):
        integers = values.cast(pa.int64()).fill_null(_NAT)
        return np.from_dlpack(integers).astype(f"datetime64[{values.type.unit}]")
    if pa.types.is_boolean(values.type):
        return np.from_dlpack(values.cast(pa.uint8())).astype(np.bool_)
    return np.from_dlpack(values).copy()  # Arrow's memory is read-only


def _of_kind(values: npt.NDArray[Any], column: Column) -> npt.NDArray[Any]:
    """Return ``values`` with the dtype of the column's kind, which an empty file may not say."""
    if column.kind in TEXT_KINDS:
        return values.astype(object)
    return values.astype("datetime64[us]" if column.kind in TIME_KINDS else np.float64)


def _write(path: Path, table: dict[str, pa.Array]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    # Without dictionaries: they hold one value for all NaNs, which would change their bits.
    parquet.write_table(pa.table(table), path, use_dictionary=False, compression="zstd")


def _read(
    path: Path, required: tuple[str, ...], outputs: tuple[str, ...] = (f"{OUTPUT}prediction",)
) -> dict[str, pa.Array]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise VersionCorrupt(f"the version's {path.name} is missing or cannot be read") from error
    names = (*required, *outputs)
    missing = [name for name in names if name not in table.schema.names]
    if missing:
        raise VersionCorrupt(f"the version's {path.name} lacks {', '.join(missing)}")
    return {name: table[name].combine_chunks() for name in table.schema.names}
