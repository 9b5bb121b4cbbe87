"""A version's files on disk: their digests, and folders that appear and go as a whole.

Where they lie is :mod:`greenroom.versions.model_store`'s business.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

from greenroom.data.fingerprint import CHUNK_BYTES, combined_digest, file_digest

LEFT_OUT: Final = frozenset({"registered_model_meta"})
"""Files that MLflow writes when it downloads a version: no part of what was registered."""


def directory_digest(directory: Path) -> str:
    """Return one SHA-256 for a version's files, by their paths and contents, in hexadecimal.

    The same before it is logged, and after it was registered and downloaded: files that MLflow
    writes on the way (:data:`LEFT_OUT`) do not count.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "model.pkl").write_bytes(b"...")
    ...     before = directory_digest(Path(folder))
    ...     _ = Path(folder, "registered_model_meta").write_bytes(b"version: 1")
    ...     directory_digest(Path(folder)) == before
    True
    """
    return combined_digest(file_digests(directory))


def file_digests(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each of a version's files, by path relative to ``directory``."""
    return {
        path.relative_to(directory).as_posix(): file_digest(chunks(path))
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.relative_to(directory).as_posix() not in LEFT_OUT
    }


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or as it was before, also after a power cut."""
    new = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    _sync(path.parent)


def move_folder(directory: Path, target: Path) -> None:
    """Rename a folder to ``target``; where the same files are already, it is left as it is."""
    try:
        directory.rename(target)
    except OSError as error:
        # Another process was first, with the same files: digests say so.
        if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
            raise
    _sync(target.parent)


def sync_tree(directory: Path) -> None:
    """Bring a folder and all that is in it to the disk."""
    for path in (*directory.rglob("*"), directory):
        _sync(path)


def remove_folder(folder: Path, staging: Path) -> bool:
    """Remove a folder, out of the way by a rename first, so that nobody sees half of it.

    Returns
    -------
    bool
        Whether it was there.
    """
    away = staging / uuid4().hex
    try:
        folder.rename(away)
    except FileNotFoundError:
        return False
    shutil.rmtree(away, ignore_errors=True)
    return True


def modified_at(path: Path) -> float:
    """Return when a file or folder was changed, in seconds since 1970; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def chunks(path: Path) -> Iterator[bytes]:
    """Read a file in parts, whatever its size."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
