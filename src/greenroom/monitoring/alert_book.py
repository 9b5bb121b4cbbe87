"""The book of a server's alerts: what fires and what waits, in memory and on disk.

What an alert becomes and the notice of it are written in one step, so a process that is killed
neither loses a notice nor makes it twice. One server writes a book; its threads take turns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from greenroom.alerts import AlertRecord, Notice, read_alerts, write_alerts
from greenroom.errors import MonitoringError
from greenroom.monitoring.alert_states import Condition, Step, resumed, step

__all__ = ["MOST_WAITING", "AlertBook"]

MOST_WAITING: Final = 1_000
"""So many notices wait for a receiver; where there are more, the oldest are dropped and counted."""

_RECENT: Final = 100
_BROKEN: Final = ".broken"


class AlertBook:
    """What one server knows of its alerts.

    Parameters
    ----------
    path : Path
        Where it is kept.
    queues : bool
        Whether there is a webhook that notices wait for; those of before are dropped where there
        is none any more.
    repeat_s : float
        After how long the notice of an alert that still fires is made again; 0: never.
    on_problem : callable
        Told in one line what is wrong with the file; once for each kind of trouble.
    clock_s : callable
        The Unix time.
    """

    def __init__(
        self,
        path: Path,
        *,
        queues: bool,
        repeat_s: float,
        on_problem: Callable[[str], None],
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._path: Final = path
        self._queues: Final = queues
        self._repeat_s: Final = repeat_s
        self._on_problem: Final = on_problem
        self._clock_s: Final = clock_s
        self._changing: Final = threading.Lock()
        self._told = ""
        self._record = self._opened()

    @property
    def record(self) -> AlertRecord:
        """What is known now."""
        return self._record

    def take(self, conditions: Iterable[Condition]) -> tuple[Notice, ...]:
        """Note what holds now; return the notices that are due."""
        with self._changing:
            record = self._record
            found: Step = step(record.alerts, conditions, self._clock_s(), repeat_s=self._repeat_s)
            waiting = (*record.waiting, *found.notices) if self._queues else ()
            self._change(
                alerts=found.alerts,
                waiting=waiting[-MOST_WAITING:],
                recent=(*record.recent, *found.notices)[-_RECENT:],
                n_dropped=record.n_dropped + max(0, len(waiting) - MOST_WAITING),
            )
        return found.notices

    def delivered(self, notice: Notice) -> None:
        """Note that the webhook has taken a notice."""
        with self._changing:
            waiting = tuple(one for one in self._record.waiting if one.id != notice.id)
            n_delivered = self._record.n_delivered + 1
            self._change(waiting=waiting, n_delivered=n_delivered, problem="")

    def failed(self, problem: str) -> None:
        """Note that the webhook has not taken what it was sent."""
        with self._changing:
            self._change(n_failed=self._record.n_failed + 1, problem=problem)

    def tagged(self, tags: dict[str, str]) -> None:
        """Note what MLflow's tags say."""
        with self._changing:
            self._change(tags=tags)

    def _change(self, **changes: Any) -> None:
        changed = msgspec.structs.replace(self._record, **changes)
        if changed == self._record:
            return
        self._record = changed
        try:
            write_alerts(self._path, changed)
        except MonitoringError as error:
            if self._told != str(error):
                self._on_problem(str(error))
            self._told = str(error)
        else:
            self._told = ""

    def _opened(self) -> AlertRecord:
        try:
            found = read_alerts(self._path)
        except MonitoringError as error:
            # What fires is found again; nobody should have to mend this by hand.
            self._on_problem(f"{error.message}; it is set aside")
            with suppress(OSError):
                self._path.replace(self._path.with_suffix(_BROKEN))
            return AlertRecord()
        return msgspec.structs.replace(
            found,
            alerts=resumed(found.alerts, self._clock_s()),
            waiting=found.waiting if self._queues else (),
        )
