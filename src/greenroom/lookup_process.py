"""The handle on a look-up: a short-lived process finds one prediction in the log, for a page.

Reading the log takes libraries of 80 MB, and a table may take its time to answer. A worker has no
room for the one and no time for the other, so whoever asks for a prediction waits for a process of
its own, which ends with the answer. What it does is :mod:`greenroom.lookup`'s business.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from greenroom.errors import LogError, LogUnavailable, ProcessError, TooBusy, TookTooLong
from greenroom.settings import Settings

__all__ = ["COMMAND", "LookupOrder", "LookupOutcome", "LookupProcess", "NotInLog"]

COMMAND: Final = (sys.executable, "-P", "-m", "greenroom.lookup")

TIMEOUT_S: Final = 30.0
MOST_WAITING: Final = 8
"""How many look-ups a worker lets wait for the one that it has done at a time."""


class NotInLog(LogError):
    """The log has no prediction of an id."""


class LookupOrder(msgspec.Struct, frozen=True):
    """What the process is to find, on its standard input: an id, among which models."""

    prediction_id: str
    models: tuple[str, ...]
    settings: Settings


class LookupOutcome(msgspec.Struct, frozen=True):
    """What it has found, on its standard output; or what is in the way."""

    found: dict[str, Any] | None = None
    missing: bool = False
    problem: str = ""
    advice: str = ""


class LookupProcess:
    """What looks predictions up for one worker, one at a time.

    Parameters
    ----------
    settings : Settings
    command : sequence of str
        What starts the process.
    timeout_s : float
        After so long it is killed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        command: Sequence[str] = COMMAND,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._settings: Final = settings
        self._command: Final = command
        self._timeout_s: Final = timeout_s
        self._turn: Final = asyncio.Lock()
        self._n_waiting = 0

    async def look_up(self, prediction_id: str, models: Sequence[str]) -> dict[str, Any]:
        """Return what is known of a prediction.

        As :meth:`greenroom.tracing.tracing.Tracer.trace` has it.

        Raises
        ------
        NotInLog
            When the log has none of that id.
        LogUnavailable
            When the log cannot be read.
        TooBusy, TookTooLong
            When too many wait already, or the process took too long.
        ProcessError
            When it cannot be started or ended otherwise.
        """
        if self._n_waiting >= MOST_WAITING:
            raise TooBusy("as many predictions as may be are being looked up", advice="wait a bit")
        order = LookupOrder(prediction_id, tuple(models), self._settings)
        self._n_waiting += 1
        try:
            async with self._turn:
                outcome = await asyncio.to_thread(self._run, msgspec.json.encode(order))
        finally:
            self._n_waiting -= 1
        if outcome.missing:
            raise NotInLog(outcome.problem, advice=outcome.advice)
        if outcome.found is None:
            raise LogUnavailable(outcome.problem, advice=outcome.advice)
        return outcome.found

    def _run(self, order: bytes) -> LookupOutcome:
        try:
            ended = subprocess.run(
                self._command, input=order, capture_output=True, timeout=self._timeout_s, check=True
            )
            return msgspec.json.decode(ended.stdout, type=LookupOutcome)
        except subprocess.TimeoutExpired as error:
            raise TookTooLong(
                f"the prediction was not found within {self._timeout_s:g} s",
                advice="ask `greenroom trace`, which waits for as long as it takes",
            ) from error
        except (OSError, subprocess.CalledProcessError, msgspec.DecodeError) as error:
            raise ProcessError(
                f"the process that looks predictions up failed: {type(error).__name__}",
                advice="call `greenroom trace`, which shows why",
            ) from error
