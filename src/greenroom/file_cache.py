"""A file that another process replaces now and then: read again only when it is another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from greenroom.errors import GreenroomError

__all__ = ["CachedFile"]

_Value = TypeVar("_Value")
_Identity = tuple[int, int, int]


class CachedFile(Generic[_Value]):
    """What a file holds, as of the last time that it could be read.

    Parameters
    ----------
    path : Path
    read : callable
        Reads it; also where there is none.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "word"
    >>> file = CachedFile(path, lambda path: path.read_text() if path.exists() else "nothing")
    >>> file()
    'nothing'
    >>> _ = path.write_text("more")
    >>> file()
    'more'
    >>> folder.cleanup()
    """

    def __init__(self, path: Path, read: Callable[[Path], _Value]) -> None:
        self._path: Final = path
        self._read: Final = read
        self._kept: tuple[_Identity | None, _Value] | None = None

    def __call__(self) -> _Value:
        """Return what it holds.

        Raises
        ------
        GreenroomError
            When it could never be read; later, what it held before is returned.
        """
        identity = self._identity()
        if self._kept is None or self._kept[0] != identity:
            try:
                self._kept = (identity, self._read(self._path))
            except GreenroomError:
                if self._kept is None:
                    raise
                self._kept = (identity, self._kept[1])
        return self._kept[1]

    def _identity(self) -> _Identity | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
