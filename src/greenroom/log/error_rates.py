"""Error rates: which share of a version's answers were errors of the server's, minute by minute.

Taken from what the workers count in shared memory, so of the minutes in which this process lived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from greenroom.instruments import ANSWERS, Totals
from greenroom.log.minute_summary import MINUTE_US
from greenroom.log.outbox import RunKey

__all__ = ["AnswerCount", "AnswerCounts", "ErrorRates", "count_answers"]

_KEPT_MINUTES: Final = 60
_SHARP_US: Final = 5_000_000
"""Counts that were read later than this after a minute's beginning are not of that minute."""


class AnswerCount(NamedTuple):
    """How many answers a version has given, and how many of them were errors of the server's."""

    answers: int
    errors: int


AnswerCounts: TypeAlias = dict[tuple[str, str], AnswerCount]


class ErrorRates:
    """What is known of the last hour.

    Parameters
    ----------
    totals : callable
        Returns what all workers have counted.
    """

    def __init__(self, totals: Callable[[], Totals]) -> None:
        self._totals: Final = totals
        self._minutes: dict[int, AnswerCounts] = {}
        self._last = 0

    def watch(self, now_us: int) -> None:
        """Read the counts, when a minute has begun; to be called every second or so."""
        minute_us = now_us // MINUTE_US * MINUTE_US
        if minute_us == self._last:
            return
        self._last = minute_us
        if now_us - minute_us <= _SHARP_US:
            self._minutes[minute_us] = count_answers(self._totals())
            while len(self._minutes) > _KEPT_MINUTES:
                del self._minutes[next(iter(self._minutes))]

    def rate(self, key: RunKey, minute_us: int) -> float | None:
        """Return the share of a minute's answers with a status of 500 or above.

        None where the counts of its beginning or end were not read, or nothing was answered.
        """
        before, after = self._minutes.get(minute_us), self._minutes.get(minute_us + MINUTE_US)
        if before is None or after is None:
            return None
        of = (key.name, key.version)
        nothing = AnswerCount(0, 0)
        first, last = before.get(of, nothing), after.get(of, nothing)
        n_answers = last.answers - first.answers
        return (last.errors - first.errors) / n_answers if n_answers > 0 else None


def count_answers(totals: Totals) -> AnswerCounts:
    """Count answers, by registered model and version; pages are those of no model."""
    found: AnswerCounts = {}
    for (_, model, version, status), cells in totals.named(ANSWERS):
        # The first cell is the sum of what was observed, the others count.
        number = int(sum(cells[1:]))
        before = found.get((model, version), AnswerCount(0, 0))
        n_errors = number if status >= "500" else 0
        found[model, version] = AnswerCount(before.answers + number, before.errors + n_errors)
    return found
