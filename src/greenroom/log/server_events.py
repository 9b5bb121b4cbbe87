"""What a server notes of itself for MLflow, on disk until MLflow has it.

A folder in the spool, with a small file for each event::

    events/1795262400000000-4711-1-transition.json
                        when it was (microseconds since 1970), who noted it, and of what kind it is

An event tells its run, its step and its tag's name by its own instant, so whoever sends one a
second time writes the same once more, and no state has to be kept. Who notes them is
:mod:`greenroom.supervision.chronicle`'s business, who sends them
:mod:`greenroom.log.mlflow_events`'s.
"""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import os
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

__all__ = ["EventBox", "EventKind", "ServerEvent"]

EVENTS_FOLDER: Final = "events"
MAX_WAITING: Final = 10_000
"""So many wait at most: a week of samples. The oldest samples go first."""

EventKind: TypeAlias = Literal["sample", "health", "served", "transition"]

_serial = itertools.count(1)


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a server notes of itself.

    Attributes
    ----------
    at_us : int
        When, in microseconds since 1970.
    kind : {"sample", "health", "served", "transition"}
        Its health as it is every minute; its health, because it has changed; a version that it
        has taken up; a version that it was told to move to another stage.
    figures : dict of str to float
        What MLflow draws.
    facts : dict
        What is to be read there; empty where the figures say it all.
    """

    at_us: int
    kind: EventKind
    figures: dict[str, float] = {}
    facts: dict[str, Any] = {}

    @property
    def at(self) -> dt.datetime:
        """When, in UTC."""
        return dt.datetime.fromtimestamp(self.at_us / 1e6, dt.UTC)

    @property
    def day(self) -> str:
        """The day (UTC), such as ``2026-11-21``."""
        return self.at.date().isoformat()

    @property
    def step(self) -> int:
        """The second of the day."""
        return self.at_us // 1_000_000 % 86_400


class EventBox:
    """The events of a spool that MLflow does not have yet.

    Parameters
    ----------
    spool : Path
        The spool's folder; nothing is made there before there is an event.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> box = EventBox(Path(folder.name))
    >>> box.note(ServerEvent(at_us=1_795_262_400_000_000, kind="sample", figures={"up": 1.0}))
    >>> [(event.day, event.step) for _, event in box.waiting(10)]
    [('2026-11-21', 43200)]
    >>> folder.cleanup()
    """

    def __init__(self, spool: Path) -> None:
        self.folder: Final = spool / EVENTS_FOLDER

    def note(self, event: ServerEvent) -> None:
        """Write an event down; a killed process loses nothing of it.

        Raises
        ------
        OSError
            When the disk takes nothing.
        """
        self.folder.mkdir(exist_ok=True, parents=True, mode=0o700)
        name = f"{event.at_us:016d}-{os.getpid()}-{next(_serial)}-{event.kind}.json"
        fresh = self.folder / f"{name}.new"
        fresh.write_bytes(msgspec.json.encode(event))
        fresh.rename(self.folder / name)
        self._bound()

    def waiting(self, most: int) -> list[tuple[Path, ServerEvent]]:
        """Return the oldest events, each with its file; one that cannot be read is removed."""
        found: list[tuple[Path, ServerEvent]] = []
        for path in self._paths():
            if len(found) == most:
                break
            try:
                found.append((path, msgspec.json.decode(path.read_bytes(), type=ServerEvent)))
            except FileNotFoundError:
                continue  # there was no more room for it
            except msgspec.DecodeError as error:  # a power cut has left it so
                logging.getLogger(__name__).warning("%s is left out: %s", path, error)
                path.unlink(missing_ok=True)
        return found

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._paths()

    def _bound(self) -> None:
        paths = self._paths()
        if len(paths) > MAX_WAITING:
            samples = [path for path in paths if path.stem.endswith("-sample")]
            for path in (samples or paths)[: len(paths) - MAX_WAITING]:
                path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.suffix == ".json")
        except FileNotFoundError:
            return []
