"""Data files: the bytes of a dataset, from where the app says that they are.

A path inside the app's folder, which DVC brings where a pointer stands in the file's place, or an
address in an object store. What the bytes hold is :mod:`greenroom.data.table_files`' business.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from greenroom.data.data_pointers import Pointer, find_pointer, hindrance, pull
from greenroom.data.object_stores import opened_store, shown
from greenroom.errors import DataError
from greenroom.progress import OnProgress, silent


@dataclass(frozen=True, slots=True)
class DataFile:
    """All of a file at once, so that a digest is of the bytes that are parsed.

    ``pointer`` is the DVC pointer beside it, where there is one, and ``differs`` whether the file
    is another one than that points to.
    """

    data: bytes
    pointer: Pointer | None = None
    differs: bool = False


def read_data_file(
    source: str, folder: Path, *, pulls: bool = True, on_progress: OnProgress = silent
) -> DataFile:
    """Read a file whole, and compare it with its DVC pointer.

    Parameters
    ----------
    source : str
        A path in ``folder``, or an address.
    folder : Path
        The app's folder.
    pulls : bool
        Whether DVC may bring a file that is not there.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        When it is not there, and DVC does not bring it.
    DataError
        When it cannot be read or pulled, or its pointer cannot be understood.
    """
    try:
        if "://" in source:
            return DataFile(_from_store(source))
        pointer = find_pointer(folder, source)
        path = folder / source
        if pointer and pulls and not path.exists() and not hindrance(pointer):
            pull(pointer, on_progress)
        data = path.read_bytes()
        return DataFile(data, pointer, pointer is not None and not pointer.fits(data))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"dataset {shown(source)} cannot be read: {reason}") from error


def data_file_exists(source: str, folder: Path) -> bool:
    """Whether a file is to be had, without reading it; what cannot be asked counts as there.

    Raises
    ------
    DataError
        When the file's DVC pointer cannot be understood.
    """
    if "://" not in source:
        if (folder / source).exists():
            return True
        pointer = find_pointer(folder, source)
        return pointer is not None and not hindrance(pointer)
    try:
        with opened_store(source, DataError) as (store, path):
            return bool(store.exists(path))
    except (DataError, OSError):
        return True  # reading it says what is wrong


def ways_to_have(source: str, folder: Path) -> list[str]:
    """Say what can be done where a file is not there."""
    if "://" in source:
        return [f"put the file at {shown(source)}"]
    pointer = find_pointer(folder, source)
    if pointer is None:
        return [f"put the file at {folder / source}"]
    return [way for way in (pointer.command, hindrance(pointer)) if way]


def _from_store(address: str) -> bytes:
    with opened_store(address, DataError) as (store, path), store.open(path, "rb") as file:
        data: bytes = file.read()
        return data
