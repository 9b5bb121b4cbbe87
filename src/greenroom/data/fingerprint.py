"""Fingerprints: which bytes, which content, which rows and which sources something was made from.

All are SHA-256, and all cover everything: MLflow's own dataset digest reads the first rows only.
A content hash is taken over *canonical cells*, so that the same rows have the same hash whatever
file format they came in: numbers as little-endian float64 with one NaN and without the negative
zero, texts as UTF-8, instants as microseconds since 1970, and one missing value of each.

Pure but for :func:`tree_digests`, which reads files. How cells are cast to their kind in the
first place is :mod:`greenroom.data.casting`'s business.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from greenroom.errors import DataError
from greenroom.schema import TEXT_KINDS, TIME_KINDS, Column, Columns

CHUNK_BYTES: Final = 1 << 20
SKIPPED_FOLDERS: Final = ("__pycache__", "data", "mlruns*", "mlartifacts*", "mlflow*", ".*")
"""Folders without sources: caches, data, what MLflow keeps, and hidden ones (``.greenroom``)."""

MODEL_FILE: Final = "MLmodel"
"""What tells a folder with a model of MLflow's."""

_TEXT_BYTES: Final = 16
_CONTENT_DOMAIN: Final = b"greenroom content 1\0"
_MISSING_TEXT: Final = hashlib.sha256(b"missing").digest()[:_TEXT_BYTES]


def file_digest(chunks: Iterable[bytes]) -> str:
    """Return the SHA-256 of a file's bytes, given piece by piece, in hexadecimal.

    Examples
    --------
    >>> file_digest([b"green", b"room"])[:16]
    '0400f17f3b65dc82'
    """
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def content_hash(columns: Columns, schema_columns: Sequence[Column]) -> str:
    """Return the SHA-256 of a table's content, in hexadecimal.

    Parameters
    ----------
    columns : Columns
        The rows; further columns than ``schema_columns`` names are left out.
    schema_columns : sequence of Column
        Which columns count, in this order: their names, kinds and values, and the order of the
        rows. Ranges, units and descriptions do not count.

    Raises
    ------
    DataError
        When a column is not there.

    Examples
    --------
    >>> rows = {"a": np.array([0.0, np.nan])}
    >>> content_hash(rows, [Column("a")]) == content_hash({"a": -rows["a"]}, [Column("a")])
    True
    """
    digest = hashlib.sha256(_CONTENT_DOMAIN)
    for column in schema_columns:
        values = _values(columns, column)
        for text in (column.name, column.kind):
            digest.update(_framed(text.encode()))
        digest.update(len(values).to_bytes(8, "little"))
        for part in _column_bytes(values, column):
            digest.update(part)
    return digest.hexdigest()


def row_keys(columns: Columns, schema_columns: Sequence[Column]) -> npt.NDArray[np.uint64]:
    """Return a key for each row: 64 bits of the SHA-256 of its canonical cells.

    Equal rows have equal keys, wherever they stand and whatever stands beside them. The names of
    the columns do not count, their order does.

    Returns
    -------
    ndarray of uint64, shape (n_samples,)

    Raises
    ------
    DataError
        When a column is not there.

    Examples
    --------
    >>> keys = row_keys({"a": np.array([1.0, 2.0, 1.0])}, [Column("a")])
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    cells = [_fixed_width(_values(columns, column), column) for column in schema_columns]
    if not cells or not len(cells[0]):
        return np.empty(0, dtype=np.uint64)
    rows = np.concatenate(cells, axis=1).data.cast("B")
    width = sum(cell.shape[1] for cell in cells)
    sha256 = hashlib.sha256
    first = b"".join(
        sha256(rows[start : start + width]).digest()[:8] for start in range(0, len(rows), width)
    )
    return np.frombuffer(first, dtype="<u8").astype(np.uint64)


def tree_digests(folder: Path, patterns: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of each source file below a folder.

    Parameters
    ----------
    folder : Path
        Where to look; folders of data, caches and hidden ones are passed over, and so are
        models that MLflow stored: their sources are of the version, not of what trains it.
    patterns : sequence of str
        Which files count, by name: ``("*.py", "*.yaml")``.

    Returns
    -------
    dict of str to str
        Path relative to ``folder``, with ``/``, to digest; sorted by path.
    """
    digests = {}
    for directory, subfolders, names in os.walk(folder):
        if MODEL_FILE in names:
            subfolders.clear()
            continue
        subfolders[:] = [name for name in subfolders if not _matches(name, SKIPPED_FOLDERS)]
        for name in names:
            path = Path(directory, name)
            if _matches(name, patterns) and path.is_file():
                digests[path.relative_to(folder).as_posix()] = file_digest(_chunks(path))
    return dict(sorted(digests.items()))


def combined_digest(files: Mapping[str, str]) -> str:
    """Return one digest for a set of files, from their paths and digests; order does not count.

    Examples
    --------
    >>> combined_digest({"a": "1", "b": "2"}) == combined_digest({"b": "2", "a": "1"})
    True
    """
    return file_digest(f"{path}\0{digest}\0".encode() for path, digest in sorted(files.items()))


def _values(columns: Columns, column: Column) -> npt.NDArray[Any]:
    if column.name not in columns:
        raise DataError(f"column {column.name!r} is not among the rows that are fingerprinted")
    return columns[column.name]


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data


def _column_bytes(values: npt.NDArray[Any], column: Column) -> Iterator[bytes]:
    """Yield a column's cells so that no two columns yield the same bytes."""
    if column.kind not in TEXT_KINDS:
        yield _canonical_numbers(values, column).tobytes()
        return
    texts = [None if value is None else _encoded(value) for value in values.tolist()]
    lengths = [-1 if text is None else len(text) for text in texts]
    yield np.array(lengths, dtype="<i8").tobytes()
    yield b"".join(text for text in texts if text)


def _canonical_numbers(values: npt.NDArray[Any], column: Column) -> npt.NDArray[Any]:
    if column.kind in TIME_KINDS:
        # NaT is the least int64, one value whatever the unit was.
        return values.astype("datetime64[us]").astype("<i8")
    numbers = values.astype("<f8") + 0.0  # a sum with +0.0 has no negative zero
    numbers[np.isnan(numbers)] = np.nan
    return numbers


def _fixed_width(values: npt.NDArray[Any], column: Column) -> npt.NDArray[np.uint8]:
    """Return a column's cells as bytes of equal width, shape (n_samples, width).

    A text is represented by a digest of its own, taken once for each distinct text.
    """
    if column.kind not in TEXT_KINDS:
        numbers = _canonical_numbers(values, column)
        return numbers.view(np.uint8).reshape(len(values), numbers.itemsize)
    digests: dict[str | None, bytes] = {None: _MISSING_TEXT}
    texts = values.tolist()
    for text in set(texts) - {None}:
        digests[text] = hashlib.sha256(b"text" + _encoded(text)).digest()[:_TEXT_BYTES]
    joined = b"".join([digests[text] for text in texts])
    return np.frombuffer(joined, dtype=np.uint8).reshape(len(texts), _TEXT_BYTES)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
