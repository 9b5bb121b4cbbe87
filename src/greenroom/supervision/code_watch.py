"""Hot reload, for development: what has changed of an app's code is taken up while it is served.

The files are looked at once in a while; that works on every file system, mounted ones too. When
some have changed and hold still again, the workers are renewed by a rolling restart: new ones
import the new code, and where they cannot, the old ones go on. What the supervisor itself knows
stays as it is, and is said to need a restart of the server where it has changed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from greenroom.background import in_background
from greenroom.errors import GreenroomError
from greenroom.settings import Settings

__all__ = ["TAKEN_UP", "CodeWatch", "taken_up", "watched_files"]

LOOK_EVERY_S: Final = 0.5
"""How often the files are looked at; also how long they have to hold still."""

SUFFIXES: Final = frozenset({".py", ".yaml", ".yml"})

TAKEN_UP: Final = (
    "access_log",
    "auth",
    "cors_origins",
    "development_tokens",
    "log_level",
    "max_batch_rows",
    "max_body_bytes",
    "max_header_bytes",
    "max_in_flight",
    "request_timeout_s",
    "tokens",
)
"""The settings that workers alone read."""

_MOST_NAMED: Final = 3
_State: TypeAlias = dict[Path, tuple[int, int, int]]


class CodeWatch:
    """Watches the files of one app.

    Parameters
    ----------
    folder : Path
        The app's.
    changed : callable
        Awaited when files have changed, with their names in one line.
    on_event : callable
        Told in one line what a person may want to know.
    """

    def __init__(
        self,
        folder: Path,
        changed: Callable[[str], Awaitable[None]],
        *,
        on_event: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._changed = changed
        self._on_event = on_event

    async def run(self) -> None:
        """Watch for ever."""
        known = await self._look()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            found = await self._look()
            if found == known:
                continue
            while (still := await self._later()) != found:
                found = still
            names = _names(known, found, self._folder)
            known = found
            if not names:  # changed, and changed back
                continue
            try:
                await self._changed(names)
            except GreenroomError as error:
                self._on_event(f"{names} changed, and is not taken up: {error}")

    async def _later(self) -> _State:
        await asyncio.sleep(LOOK_EVERY_S)
        return await self._look()

    async def _look(self) -> _State:
        return await in_background(lambda: dict(_states(self._folder)))


def watched_files(folder: Path) -> Iterator[Path]:
    """Give the files of an app that are code or settings.

    Those in its folder, and in the folders below that hold Python files themselves: what an app
    imports from. Data, logged models and hidden folders are none of that.

    Parameters
    ----------
    folder : Path
        The app's.
    """
    for entry in _entries(folder):
        path = Path(entry.path)
        if entry.name.startswith((".", "__pycache__")):
            continue
        if entry.is_dir():
            if any(inner.name.endswith(".py") for inner in _entries(path)):
                yield from watched_files(path)
        elif path.suffix in SUFFIXES:
            yield path


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _states(folder: Path) -> Iterator[tuple[Path, tuple[int, int, int]]]:
    for path in watched_files(folder):
        try:
            state = path.stat()
        except OSError:
            continue  # it has gone this instant
        yield path, (state.st_mtime_ns, state.st_size, state.st_ino)


def _names(known: _State, found: _State, folder: Path) -> str:
    """Name the files that are another, new or gone; cut where they are many."""
    paths = sorted(
        path for path in known.keys() | found.keys() if known.get(path) != found.get(path)
    )
    names = [str(path.relative_to(folder)) for path in paths[:_MOST_NAMED]]
    more = len(paths) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def taken_up(present: Settings, wanted: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings that a running server may go over to, and the names of what it may not.

    Examples
    --------
    >>> now, rest = taken_up(Settings(), Settings(port=9000, access_log=True))
    >>> now.port, now.access_log, rest
    (8000, True, ('port',))
    """
    changed = [
        field.name
        for field in msgspec.structs.fields(Settings)
        if getattr(present, field.name) != getattr(wanted, field.name)
    ]
    new = {name: getattr(wanted, name) for name in changed if name in TAKEN_UP}
    rest = tuple(name for name in changed if name not in TAKEN_UP)
    return msgspec.structs.replace(present, **new), rest
