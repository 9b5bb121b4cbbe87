"""Delivery: notices to a webhook, one after the other until each is taken; alerts to Alertmanager.

A webhook is told of changes, so they wait in the book until it has taken them, in their order, and
each may come twice: what was taken while the answer got lost is sent again, with the same id.
Alertmanager is told what is the case, again and again, as its clients do: nothing needs to wait for
it. Nothing here decides what is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import httpx
import msgspec

from greenroom.alerts import AlertRecord, Notice
from greenroom.errors import MonitoringError
from greenroom.monitoring.alert_book import AlertBook
from greenroom.monitoring.notice_forms import alertmanager_alerts, signed_headers, webhook_body

__all__ = ["Alertmanager", "Courier", "Webhook"]

TIMEOUT_S: Final = 10.0
"""How long a receiver may take to answer."""

LONGEST_PAUSE_S: Final = 300.0
"""The longest pause between two tries; they double from one second."""

RESEND_S: Final = 60.0
"""How often Alertmanager is told again what fires, as Prometheus does."""

_LASTING_S: Final = 4 * RESEND_S
_API: Final = "/api/v2/alerts"


class Webhook:
    """A receiver that notices are posted to.

    Parameters
    ----------
    url : str
    key : bytes
        What posts are signed with; empty where they are not.
    link : str
        The server's own address, for whoever reads a notice.
    clock_s : callable
        The Unix time.
    """

    def __init__(
        self, url: str, key: bytes, *, link: str, clock_s: Callable[[], float] = time.time
    ) -> None:
        self.name: Final = _shown(url)
        self._url: Final = url
        self._key: Final = key
        self._link: Final = link
        self._clock_s: Final = clock_s

    def send(self, notice: Notice) -> None:
        """Post a notice once.

        Raises
        ------
        MonitoringError
            When it was not taken: no answer in time, or one that is not 2xx.
        """
        body = webhook_body(notice, link=self._link)
        headers = signed_headers(notice.id, body, self._key, self._clock_s())
        _post(self._url, body, dict(headers))


class Courier:
    """Brings what waits in a book to a webhook.

    Parameters
    ----------
    book : AlertBook
    webhook : Webhook
    on_event : callable
        Told in one line when notices begin to wait, and when they are taken again.
    clock_s : callable
        Seconds that only go up.
    """

    def __init__(
        self,
        book: AlertBook,
        webhook: Webhook,
        *,
        on_event: Callable[[str], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book: Final = book
        self._webhook: Final = webhook
        self._on_event: Final = on_event
        self._clock_s: Final = clock_s
        self._failures = 0
        self._next_at_s = 0.0

    def round(self) -> None:
        """Send what waits, the oldest first, until one is not taken; where that is due again."""
        if self._failures and self._clock_s() < self._next_at_s:
            return
        # What comes meanwhile goes in the next round: this one ends.
        for notice in self._book.record.waiting:
            try:
                self._webhook.send(notice)
            except MonitoringError as error:
                self._note_failure(str(error))
                return
            self._book.delivered(notice)
            if self._failures:
                self._on_event(f"{self._webhook.name} takes notices of alerts again")
                self._failures = 0

    def _note_failure(self, problem: str) -> None:
        self._book.failed(problem)
        if not self._failures:
            self._on_event(f"notices of alerts wait on disk: {problem}")
        self._next_at_s = self._clock_s() + min(2.0**self._failures, LONGEST_PAUSE_S)
        self._failures = min(self._failures + 1, 16)


class Alertmanager:
    """An Alertmanager that is told what fires.

    Parameters
    ----------
    url : str
        Its address, without the path of its API.
    link : str
        The server's own address.
    on_event : callable
        Told in one line when it does not answer, and when it does again.
    clock_s : callable
        The Unix time.
    """

    def __init__(
        self,
        url: str,
        *,
        link: str,
        on_event: Callable[[str], None],
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self.name: Final = _shown(url)
        self._url: Final = url.rstrip("/") + _API
        self._link: Final = link
        self._on_event: Final = on_event
        self._clock_s: Final = clock_s
        self._told: tuple[Any, ...] = ()
        self._told_at_s = 0.0
        self._away = False

    def round(self, record: AlertRecord) -> None:
        """Tell what fires and what is over, where that is news or was told a minute ago."""
        now_s = self._clock_s()
        state = tuple((alert.key, alert.state) for alert in record.alerts if alert.fired_at_s)
        due = now_s - self._told_at_s >= RESEND_S or now_s < self._told_at_s
        if not state or (state == self._told and not due):
            return
        try:
            self.tell(record)
        except MonitoringError as error:
            if not self._away:
                self._on_event(f"Alertmanager is not told what fires: {error}")
            self._away = True
            # Asked again in the next round: there is nothing that could pile up.
            self._told = ()
            return
        if self._away:
            self._on_event(f"Alertmanager at {self.name} is told what fires again")
        self._told, self._told_at_s, self._away = state, now_s, False

    def tell(self, record: AlertRecord) -> None:
        """Tell it now.

        Raises
        ------
        MonitoringError
            When it does not take it.
        """
        ends_at_s = self._clock_s() + _LASTING_S
        told = alertmanager_alerts(record.alerts, link=self._link, ends_at_s=ends_at_s)
        _post(self._url, msgspec.json.encode(told), {"content-type": "application/json"})


def _post(url: str, body: bytes, headers: dict[str, str]) -> None:
    try:
        # A proxy may lead elsewhere, but never to this very machine.
        with (
            httpx.Client(timeout=TIMEOUT_S, trust_env=not _loopback(url)) as client,
            # What it answers beside the status is not read: it could be without an end.
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            taken, status = response.is_success, response.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MonitoringError(f"{_shown(url)} was not reached: {reason}") from error
    if not taken:
        raise MonitoringError(f"{_shown(url)} answered HTTP {status}")


def _shown(url: str) -> str:
    """Return what may be shown of an address: receivers' addresses may hold a token.

    Examples
    --------
    >>> _shown("https://user:word@hooks.example/services/T0/secret?key=1")
    'https://hooks.example'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
