"""Deadlines: requests that take too long to arrive or to be answered are given up.

One clock for a worker looks around ten times within a time-out, and compares what it sees with what
it saw before. No request pays for a timer of its own, which would cost more than answering some of
them; the price is that a time-out is kept to within a fifth of itself.

What is late is told so: by its connection where the client does not send what it began (status
408), by the batching thread's queue where no answer comes (504).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

from greenroom.errors import TookTooLong

__all__ = ["Awaiting", "Deadlines"]

_LOG: Final = logging.getLogger(__name__)
_LOOKS: Final = 10


class Awaiting(Protocol):
    """What waits for a client: :class:`greenroom.http.connection.Connection`.

    Attributes
    ----------
    awaited : object or None
        What the client is to send, the same object until it has; None while it owes nothing.
    """

    @property
    def awaited(self) -> object | None:
        """Return what is waited for."""

    def took_too_long(self, timeout_s: float) -> None:
        """Give up waiting for it."""


class Deadlines:
    """The clock of one worker.

    Parameters
    ----------
    timeout_s : float
        How long a request may take to arrive, and then to be answered.
    give_up : callable
        Has requests that came before a time of the loop's clock answered with an error, which its
        second argument makes: :meth:`greenroom.inference.batching.Batcher.give_up`.
    """

    def __init__(
        self, timeout_s: float, give_up: Callable[[float, Callable[[], Exception]], None]
    ) -> None:
        self._timeout_s: Final = timeout_s
        self._give_up = give_up
        self._watched: set[Awaiting] = set()
        self._since: dict[Awaiting, tuple[object, float]] = {}

    def watch(self, connection: Awaiting) -> None:
        """Look at a connection too, from now on."""
        self._watched.add(connection)

    def forget(self, connection: Awaiting) -> None:
        """Look at a connection no more."""
        self._watched.discard(connection)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the deadlines for as long as the block runs."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._timeout_s / _LOOKS)
            try:
                self.look(loop.time())
            except Exception:  # noqa: BLE001 - whatever it is, the clock goes on
                _LOG.exception("a request that was late could not be given up")

    def look(self, now_s: float) -> None:
        """Give up whatever is late.

        Parameters
        ----------
        now_s : float
            The loop's time.
        """
        self._give_up(now_s - self._timeout_s, self._late)
        since: dict[Awaiting, tuple[object, float]] = {}
        for connection in tuple(self._watched):
            awaited = connection.awaited
            if awaited is None:
                continue
            before = self._since.get(connection)
            if before is None or before[0] is not awaited:
                since[connection] = (awaited, now_s)
            elif now_s - before[1] < self._timeout_s:
                since[connection] = before
            else:
                connection.took_too_long(self._timeout_s)
        self._since = since

    def _late(self) -> TookTooLong:
        return TookTooLong(
            f"there was no answer within {self._timeout_s:g} s",
            advice="send fewer rows or fewer requests, or raise the setting request_timeout_s",
        )
