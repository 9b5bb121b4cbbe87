"""Spares: files of shipped segments, emptied, that a writer uses again.

A file that was used before has its blocks on the disk and its pages in memory, and a fresh one gets
both while requests are answered: where a machine takes free memory back from its guest, that is a
third of what the log takes from a worker under load. So whoever ships fills a segment with zeros,
when there is time for it, and the slot's writer gives it a new name. A spare holds nothing of what
it held, and differs from a fresh file in nothing that a reader could see.

When a segment is made, and of which size, is :mod:`greenroom.log.spooling`'s business.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from greenroom.log.segments import ZEROS, sync_folder

__all__ = ["MAX_SPARES", "Spares"]

MAX_SPARES: Final = 16
"""A few seconds of full load, for one writer; 128 MB where segments have their usual size."""

_SPARE: Final = ".spare"
_EMPTYING: Final = ".emptying"


class Spares:
    """The spares of one slot.

    Parameters
    ----------
    folder : Path
        The slot's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder

    def add(self, segment: Path) -> None:
        """Let go of a shipped segment, and keep its file where there are not many yet.

        Raises
        ------
        OSError
            When the folder cannot be written.
        """
        self._remove(_EMPTYING)
        if sum(1 for _ in self._paths(_SPARE)) < MAX_SPARES:
            # Where files are copied when they are written to, a full disk has no room for zeros:
            # then it is room that is wanted, and no spare.
            with suppress(OSError):
                self._keep(segment)
                return
            self._remove(_EMPTYING)
        segment.unlink(missing_ok=True)

    def take(self, path: Path) -> bool:
        """Give a spare that name, for good; return False where there is none.

        Raises
        ------
        OSError
            When the folder cannot be written.
        """
        for spare in self._paths(_SPARE):
            with suppress(FileNotFoundError):  # somebody else needed the room
                spare.rename(path)
                # Else what is noted in it might after a power cut be in a spare.
                sync_folder(self._folder)
                return True
        return False

    def n_bytes(self) -> int:
        """Return how much of the disk they take."""
        total = 0
        for path in (*self._paths(_SPARE), *self._paths(_EMPTYING)):
            with suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def drop(self) -> None:
        """Remove them all."""
        self._remove(_SPARE)
        self._remove(_EMPTYING)

    def _keep(self, segment: Path) -> None:
        """Make a spare of a segment.

        It is gone under its old name before anything in it changes, for good: whoever reads it
        meanwhile can tell.
        """
        emptying = segment.with_suffix(_EMPTYING)
        segment.rename(emptying)
        sync_folder(self._folder)
        _empty(emptying)
        emptying.rename(emptying.with_suffix(_SPARE))

    def _remove(self, suffix: str) -> None:
        for path in self._paths(suffix):
            path.unlink(missing_ok=True)

    def _paths(self, suffix: str) -> Iterator[Path]:
        return self._folder.glob(f"*{suffix}")


def _empty(path: Path) -> None:
    """Fill a file with zeros, also on the disk: frames that came back would be shipped again."""
    with path.open("r+b", buffering=0) as file:
        n_bytes = os.fstat(file.fileno()).st_size
        for at in range(0, n_bytes, len(ZEROS)):
            os.pwrite(file.fileno(), ZEROS[: n_bytes - at], at)
        os.fdatasync(file.fileno())
