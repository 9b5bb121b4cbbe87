"""The access log: a line of JSON for each request, and nothing of what the request holds.

No query, no body, no header but the request's id; of the path only the route that took it, because
a path that nobody foresaw may hold anything. Lines go where the worker's log goes, to standard
error, and are written once a turn of the event loop for all requests that were answered in it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from greenroom.http.visits import Visit

__all__ = ["AccessLog"]

_STANDARD_ERROR: Final = 2


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """A request: what it asked for, what it got, whose it was."""

    at: str
    level: str = "INFO"
    worker: int
    logger: str = "greenroom.access"
    message: str
    method: str
    route: str
    status: int
    latency_ms: float
    bytes: int
    model: str
    version: str
    caller: str
    request_id: str


class AccessLog:
    """Writes lines about requests.

    Parameters
    ----------
    worker : int
        The worker's slot, which stands in every line.
    soon : callable
        Has a function called at the end of the event loop's turn: ``loop.call_soon``.
    write : callable, optional
        Takes the lines as bytes; default: standard error, whole.
    now_s : callable, optional
        The time.

    Examples
    --------
    >>> written = []
    >>> log = AccessLog(0, soon=lambda write: write(), write=written.append, now_s=lambda: 0.0)
    >>> log.note(Visit(method="GET", route="/health", status=200, n_bytes=17))
    >>> print(written[0].decode())
    {"at":"1970-01-01T00:00:00.000Z",...,"message":"GET /health 200",...,"bytes":17,...}
    """

    def __init__(
        self,
        worker: int,
        *,
        soon: Callable[[Callable[[], None]], object],
        write: Callable[[bytes], object] | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._worker = worker
        self._soon = soon
        self._write = write or _write_to_standard_error
        self._now_s = now_s
        self._encode: Final = msgspec.json.Encoder().encode
        self._waiting: list[bytes] = []
        self._second = (-1, "")

    def note(self, visit: Visit) -> None:
        """Have a line written about a request that was answered just now."""
        line = _Line(
            at=self._written(),
            worker=self._worker,
            message=f"{visit.method} {visit.route or '-'} {visit.status}",
            method=visit.method,
            route=visit.route,
            status=visit.status,
            latency_ms=round(visit.age_ms, 3),
            bytes=visit.n_bytes,
            model=visit.model,
            version=visit.version,
            caller=visit.caller,
            request_id=visit.request_id,
        )
        self._waiting.append(self._encode(line))
        if len(self._waiting) == 1:
            self._soon(self.flush)

    def _written(self) -> str:
        """Return the time as text, with its second written once and not for each line."""
        now_s = self._now_s()
        second = int(now_s)
        if second != self._second[0]:
            at = datetime.fromtimestamp(second, UTC)
            self._second = (second, at.strftime("%Y-%m-%dT%H:%M:%S"))
        return f"{self._second[1]}.{int((now_s - second) * 1_000):03d}Z"

    def flush(self) -> None:
        """Write what is waiting."""
        if self._waiting:
            lines, self._waiting = self._waiting, []
            self._write(b"\n".join([*lines, b""]))


def _write_to_standard_error(lines: bytes) -> None:
    """Write to the descriptor itself, whole lines at a time; nobody may be reading any more."""
    with contextlib.suppress(OSError):
        while lines:
            lines = lines[os.write(_STANDARD_ERROR, lines) :]
