"""Alerts as values: what fires, which notices wait for their receiver, and the file of both.

The server that raises them writes the file; its workers show it in ``/metrics``, ``greenroom
alerts`` on the terminal. When an alert is raised, and where notices go, is
:mod:`greenroom.monitoring`'s business.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

import msgspec

from greenroom.errors import MonitoringError

__all__ = [
    "Alert",
    "AlertRecord",
    "Notice",
    "Severity",
    "alerts_file",
    "read_alerts",
    "write_alerts",
]

FORMAT: Final = 1

Severity = Literal["critical", "warning"]
State = Literal["pending", "firing", "resolved"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One condition that holds, or did a moment ago. Instants are Unix times in seconds.

    Parameters
    ----------
    name : str
        Such as ``GreenroomErrorRate``.
    severity : {"critical", "warning"}
    labels : dict of str to str
        What it is about: ``model``, ``version``; empty for the whole server.
    summary, description : str
        In words: what is the case, and what to look at.
    state : {"pending", "firing", "resolved"}
    for_s : float
        How long the condition has to hold before it fires, and not to hold before it is over.
    began_at_s : float
        Since when it holds.
    fired_at_s, notified_at_s, gone_at_s, resolved_at_s : float, optional
        When it fired; when the last notice was made; since when the condition of an alert that
        fires has not held; when it was over.
    evidence : str
        What was last looked at, where the same may be seen several times: a monitoring run.
    n_seen : int
        In how many of those, one after the other, it was there.
    """

    name: str
    severity: Severity
    labels: dict[str, str] = {}
    summary: str
    description: str = ""
    state: State = "pending"
    for_s: float = 0.0
    began_at_s: float
    fired_at_s: float | None = None
    notified_at_s: float | None = None
    gone_at_s: float | None = None
    resolved_at_s: float | None = None
    evidence: str = ""
    n_seen: int = 1

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What tells it from every other alert."""
        return self.name, tuple(sorted(self.labels.items()))

    @property
    def title(self) -> str:
        """Its name and labels in one line.

        Examples
        --------
        >>> labels = {"model": "credit"}
        >>> Alert(name="A", severity="warning", labels=labels, summary="", began_at_s=0).title
        'A (model credit)'
        """
        about = ", ".join(f"{name} {value}" for name, value in self.labels.items())
        return f"{self.name} ({about})" if about else self.name


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver is told once: that an alert fires, still fires, or is over.

    ``id`` stays the same however often it is sent. ``kind`` is ``test`` for one that
    ``greenroom alerts --test`` sends.
    """

    id: str
    at_s: float
    kind: Literal["firing", "repeated", "resolved", "test"]
    alert: Alert


class AlertRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one server knows of its alerts, as a whole.

    Parameters
    ----------
    alerts : tuple of Alert
    waiting : tuple of Notice
        Those that the webhook has not taken, in their order.
    recent : tuple of Notice
        The last ones, delivered or not, in their order.
    n_delivered, n_failed, n_dropped : int
        Notices that the webhook took; tries that it did not; notices that there was no room for.
    problem : str
        Why the last try failed; empty where it did not.
    tags : dict of str to str
        What MLflow's tags say, as far as they were written: by ``model`` or ``model/version``.
    """

    format: int = FORMAT
    alerts: tuple[Alert, ...] = ()
    waiting: tuple[Notice, ...] = ()
    recent: tuple[Notice, ...] = ()
    n_delivered: int = 0
    n_failed: int = 0
    n_dropped: int = 0
    problem: str = ""
    tags: dict[str, str] = {}

    @property
    def firing(self) -> tuple[Alert, ...]:
        """The alerts that fire."""
        return tuple(one for one in self.alerts if one.state == "firing")


def alerts_file(home: Path, port: int) -> Path:
    """Return where the server that listens on a port keeps its alerts."""
    return home / "alerts" / f"{port}.json"


def write_alerts(path: Path, record: AlertRecord) -> None:
    """Replace the record, for good; a reader sees the old one or the new one.

    Raises
    ------
    MonitoringError
        When it cannot be written.
    """
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(record))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise MonitoringError(
            f"{path} cannot be written: {error.strerror}; a restart would forget its alerts",
            advice="make room, or make the folder writable",
        ) from error


def read_alerts(path: Path) -> AlertRecord:
    """Read what :func:`write_alerts` wrote; an empty record where there is no file.

    Raises
    ------
    MonitoringError
        When the file cannot be understood.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return AlertRecord()
    except OSError as error:
        raise MonitoringError(f"{path} cannot be read: {error.strerror}") from error
    try:
        record = msgspec.json.decode(content, type=AlertRecord)
    except msgspec.DecodeError as error:
        raise MonitoringError(
            f"{path} cannot be read: {error}", advice="remove it; what fires is found again"
        ) from error
    if record.format > FORMAT:
        raise MonitoringError(
            f"{path} has format {record.format}, this Greenroom knows {FORMAT}",
            advice="upgrade greenroom",
        )
    return record
