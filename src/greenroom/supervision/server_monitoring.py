"""What a running server does to be watched: it looks for what is to be alerted, and begins runs.

Tasks beside the supervisor's event loop, with their work in threads, and a process of its own for
what is heavy (:mod:`greenroom.supervision.monitor_runs`):
``docs/decisions/0033-alerts-in-the-supervisor.md``. Whatever goes wrong here is told, and the
server goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from greenroom.alerts import alerts_file
from greenroom.background import in_background
from greenroom.file_cache import CachedFile
from greenroom.findings import findings_file, read_findings
from greenroom.instruments import ANSWERS, SupervisorInstruments, read_totals
from greenroom.monitoring.alert_book import AlertBook
from greenroom.monitoring.alert_tags import MlflowTags, Tagged
from greenroom.monitoring.alerting import Alerting, Sources
from greenroom.monitoring.delivery import Alertmanager, Courier, Webhook
from greenroom.settings import Settings
from greenroom.status import Status
from greenroom.supervision.monitor_runs import MonitorRuns

__all__ = ["ServerMonitoring", "Watched"]

log = logging.getLogger(__name__)

ROUND_S: Final = 1.0
"""How often it is seen whether there is something to be delivered."""


_Result = TypeVar("_Result")


class Watched(NamedTuple):
    """The server, as far as it is watched.

    Parameters
    ----------
    port : int
        Where it listens.
    instruments : SupervisorInstruments
    status : callable
        Returns its status.
    show : callable
        Told what fires, a line each, for the pages.
    """

    port: int
    instruments: SupervisorInstruments
    status: Callable[[], Status]
    show: Callable[[tuple[str, ...]], None]


class ServerMonitoring:
    """Watches one server.

    Parameters
    ----------
    settings : Settings
    webhook, alertmanager : callable
        Port -> the receiver of notices, and the Alertmanager; None where there is none.
    oldest_us : callable
        Returns since when the oldest prediction has waited for the log.
    registry : Tagged, optional
        Where tags are written; None where none are.
    runs : MonitorRuns, optional
        What begins monitoring runs; None where none are.
    app_folder : Path, optional
        The app that is monitored; None where registered models are served without one.
    on_event : callable
        Told in one line what a person may want to know.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        webhook: Callable[[int], Webhook | None] = lambda _: None,
        alertmanager: Callable[[int], Alertmanager | None] = lambda _: None,
        oldest_us: Callable[[], int | None] = lambda: None,
        registry: Tagged | None = None,
        runs: MonitorRuns | None = None,
        app_folder: Path | None = None,
        on_event: Callable[[str], None],
    ) -> None:
        self._settings: Final = settings
        self._webhook: Final = webhook
        self._alertmanager: Final = alertmanager
        self._oldest_us: Final = oldest_us
        self._registry: Final = registry
        self._runs: Final = runs
        self._app_folder: Final = app_folder
        self._on_event: Final = on_event

    async def run(self, watched: Watched) -> None:
        """Watch a server until this is cancelled."""
        settings = self._settings
        home = Path(settings.home)
        book = AlertBook(
            alerts_file(home, watched.port),
            queues=bool(settings.alert_webhook_url),
            repeat_s=settings.alert_repeat_s,
            on_problem=self._on_event,
        )
        sources = Sources(
            totals=lambda: read_totals(watched.instruments.memory),
            status=watched.status,
            findings=CachedFile(findings_file(home), read_findings),
            oldest_us=self._oldest_us,
        )
        alerting = Alerting(settings, sources, book, on_event=self._on_event)
        tasks = [self._look(alerting, watched), self._deliver(book, watched.port)]
        if self._runs is not None:
            tasks.append(self._monitor(self._runs, watched))
        # A group, which waits for each to end: a gather is over with the first that is cancelled,
        # and the server with it, before the process of a run has been ended.
        async with asyncio.TaskGroup() as group:
            for one in tasks:
                group.create_task(one)

    async def _monitor(self, runs: MonitorRuns, watched: Watched) -> None:
        try:
            await runs.run(partial(self._subjects, watched), watched.instruments.monitored)
        except Exception as error:
            log.exception("monitoring")
            self._on_event(f"monitoring is over: {type(error).__name__}: {error}")

    def _subjects(self, watched: Watched) -> list[str]:
        """Return what is monitored: the app, or each version that answers and was asked."""
        if self._app_folder is not None:
            return [str(self._app_folder)]
        answered = read_totals(watched.instruments.memory).named(ANSWERS)
        asked = {labels[1] for labels, cells in answered if any(cells)}
        return [
            f"{one.name}/{one.serving.version}"
            for one in watched.status().models
            if one.serving is not None and one.name in asked
        ]

    async def _look(self, alerting: Alerting, watched: Watched) -> None:
        shown: tuple[str, ...] = ()
        while True:
            firing = await self._attempt(alerting.look)
            if firing is not None:
                watched.instruments.evaluated(time.time())
                if firing != shown:
                    shown = firing
                    watched.show(firing)
            await asyncio.sleep(self._settings.alert_interval_s)

    async def _deliver(self, book: AlertBook, port: int) -> None:
        rounds: list[Callable[[], None]] = []
        webhook, manager = self._webhook(port), self._alertmanager(port)
        if webhook is not None:
            rounds.append(Courier(book, webhook, on_event=self._on_event).round)
        if manager is not None:
            rounds.append(lambda: manager.round(book.record))
        if self._registry is not None:
            rounds.append(MlflowTags(book, self._registry, on_event=self._on_event).round)
        # One that waits for its receiver does not hold up the others.
        await asyncio.gather(*(self._again(one, book) for one in rounds))

    async def _again(self, deliver: Callable[[], None], book: AlertBook) -> None:
        while True:
            # A thread is begun only where there is, or was, something to tell.
            if book.record.alerts or book.record.waiting or book.record.tags:
                await self._attempt(deliver)
            await asyncio.sleep(ROUND_S)

    async def _attempt(self, act: Callable[[], _Result]) -> _Result | None:
        try:
            return await in_background(act)
        except Exception as error:
            log.exception("monitoring")
            self._on_event(f"monitoring: {type(error).__name__}: {error}")
            return None
