"""One look, from signals to notices: what a running server does every few seconds.

A look is quick and reads only what is in memory or in small files; what goes over the network is
done apart, in rounds that may be slow. When both happen is
:mod:`greenroom.supervision.server_monitoring`'s business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from greenroom.alerts import Alert, Notice
from greenroom.errors import GreenroomError
from greenroom.findings import Findings
from greenroom.instruments import REGISTRY, Totals
from greenroom.monitoring.alert_book import AlertBook
from greenroom.monitoring.alert_rules import Signals, conditions
from greenroom.monitoring.service_signals import TrafficWindow
from greenroom.settings import Settings
from greenroom.status import Status

__all__ = ["Alerting", "Sources"]


class Sources(NamedTuple):
    """Where a look gets what it looks at; each is a call that takes milliseconds.

    Parameters
    ----------
    totals : callable
        Returns what all processes of the server have counted.
    status : callable
        Returns the server's status.
    findings : callable
        Returns those of the last monitoring run.
    oldest_us : callable
        Returns since when predictions wait to be shipped, in microseconds since 1970; None where
        none does.
    """

    totals: Callable[[], Totals]
    status: Callable[[], Status]
    findings: Callable[[], tuple[Findings, ...]] = tuple
    oldest_us: Callable[[], int | None] = lambda: None


class Alerting:
    """Looks, and notes what is to be alerted.

    Parameters
    ----------
    settings : Settings
    sources : Sources
    book : AlertBook
    on_event : callable
        Told every notice in one line.
    clock_s : callable
        The Unix time.
    monotonic_s : callable
        Seconds that only go up.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Sources,
        book: AlertBook,
        *,
        on_event: Callable[[str], None],
        clock_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings: Final = settings
        self._sources: Final = sources
        self._book: Final = book
        self._on_event: Final = on_event
        self._clock_s: Final = clock_s
        self._window: Final = TrafficWindow(sources.totals, settings.alert_window_s, monotonic_s)
        self._unread = ""

    def look(self) -> tuple[str, ...]:
        """Look once; return in one line each what fires."""
        now_s = self._clock_s()
        status = self._sources.status()
        if not status.generation:
            # It is starting: what is not served yet is not gone.
            return shown(self._book.record.firing)
        signals = Signals(
            traffic=self._window.look(),
            served={one.name: one.serving.version for one in status.models if one.serving},
            log_waiting_s=self._log_waiting_s(now_s),
            registry_away_s=self._registry_away_s(status, now_s),
            findings=self._findings(),
        )
        for notice in self._book.take(list(conditions(signals, self._settings))):
            self._on_event(_line(notice))
        return shown(self._book.record.firing)

    def _findings(self) -> tuple[Findings, ...]:
        try:
            found = self._sources.findings()
        except GreenroomError as error:
            if self._unread != str(error):
                self._on_event(str(error))
            self._unread = str(error)
            return ()
        self._unread = ""
        return found

    def _log_waiting_s(self, now_s: float) -> float | None:
        try:
            oldest_us = self._sources.oldest_us()
        except (GreenroomError, OSError):
            return None  # whoever ships says what is wrong
        if oldest_us is None:
            return None
        # What is sealed waits for the next round.
        return now_s - oldest_us / 1e6 - self._settings.log_ship_interval_s

    def _registry_away_s(self, status: Status, now_s: float) -> float | None:
        registry = status.registry
        if registry.state == "disabled":
            return None
        if registry.state != "healthy":
            return now_s - _unix_s(registry.since or status.started_at)
        polled_at_s = self._sources.totals().number(REGISTRY)
        late_s = now_s - polled_at_s - 2 * self._settings.poll_interval_s
        return late_s if polled_at_s and late_s > 0 else None


def shown(alerts: Sequence[Alert]) -> tuple[str, ...]:
    """Return alerts in one line each."""
    return tuple(f"{alert.title}: {alert.summary}" for alert in alerts)


def _line(notice: Notice) -> str:
    alert = notice.alert
    if notice.kind == "resolved":
        return f"alert over: {alert.title}"
    again = " (still)" if notice.kind == "repeated" else ""
    return f"alert{again}: {alert.title}: {alert.summary}"


def _unix_s(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()
