"""The trend: what the monitoring runs of a version found one after the other, kept as a small file.

A line of JSON a run and model, with the numbers of :mod:`greenroom.monitoring.measures`. It is what
figures over time are drawn from, also where MLflow is away; what MLflow has is a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from greenroom.errors import MonitoringError
from greenroom.findings import Findings
from greenroom.monitoring.measures import measures

__all__ = ["TREND_FILE", "Point", "Trend", "point_of"]

TREND_FILE: Final = "trend.jsonl"
KEPT: Final = 500
"""How many runs of a model are kept: three weeks of hourly ones."""

_SLACK: Final = 100


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One run's numbers; ``at`` is ISO 8601, in UTC."""

    at: str
    model: str
    version: str
    source: str
    measures: dict[str, float]


def point_of(findings: Findings) -> Point:
    """Return the numbers of a run, without distributions and words."""
    return Point(
        at=findings.at,
        model=findings.model,
        version=findings.version,
        source=findings.source,
        measures=measures(findings),
    )


class Trend:
    """The runs of the models of one home folder, the earliest first.

    Parameters
    ----------
    path : Path
        The file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path: Final = path

    def of(self, findings: Findings) -> tuple[Point, ...]:
        """Return the runs of a version on the same source: those that can be put side by side."""
        key = (findings.model, findings.version, findings.source)
        return tuple(
            point for point in self.points() if (point.model, point.version, point.source) == key
        )

    def points(self) -> list[Point]:
        """Return all there are; a line that a killed process left unfinished is left out."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(msgspec.json.decode(line, type=Point))
            except msgspec.DecodeError:
                continue
        return found

    def add(self, points: Sequence[Point]) -> None:
        """Add runs at the end; of each model the last :data:`KEPT` stay.

        Raises
        ------
        MonitoringError
            When the file cannot be written.
        """
        text = b"".join(b"\n" + msgspec.json.encode(point) for point in points)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                # A line begins with its end, so that an unfinished one harms none but itself.
                file.write(text + b"\n")
            self._shorten()
        except OSError as error:
            raise MonitoringError(f"{self._path} cannot be written: {error.strerror}") from error

    def _shorten(self) -> None:
        points = self.points()
        kept: list[Point] = []
        count: dict[str, int] = {}
        for point in reversed(points):
            count[point.model] = count.get(point.model, 0) + 1
            if count[point.model] <= KEPT:
                kept.append(point)
        if len(points) - len(kept) < _SLACK:
            return
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in reversed(kept)))
        fresh.replace(self._path)
