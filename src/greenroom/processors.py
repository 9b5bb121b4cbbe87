"""Processors: how much of those that this process may use nobody else wants.

A process that stands back (:func:`greenroom.processes.run_when_idle`) still gets a hundredth of a
processor that is wanted all the time, and gets it in pieces as long as the system's clock tick,
which is four milliseconds on many systems. Whoever must not cost others that has to look first.
Reads ``/proc/stat``; where there is none (macOS), or it counts nothing (some sandboxes), all are
taken to be idle.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Idleness"]

WINDOW_S: Final = 0.25
"""Shorter looks say little: the system counts in hundredths of a second."""

_STALE_S: Final = 2.0
_STAT: Final = Path("/proc/stat")
_IDLE: Final = slice(3, 5)
"""Among a processor's times: doing nothing, and doing nothing while a disk is waited for."""


class _Look(NamedTuple):
    at_s: float
    own_s: float
    idle_s: tuple[float, ...]


class Idleness:
    """Looks from time to time, and says how idle the processors were since the last look.

    What this process uses itself counts as idle: it would not run if others wanted to.

    Parameters
    ----------
    usable : callable
        Returns the numbers of the processors that this process may use.
    stat : Path
        Where the system says what each processor has done.

    Examples
    --------
    >>> 0.0 <= Idleness().share() <= 1.0
    True
    """

    def __init__(
        self, usable: Callable[[], Collection[int]] | None = None, stat: Path = _STAT
    ) -> None:
        self._usable: Final = usable or _usable
        self._stat: Final = stat
        self._last: _Look | None = None
        self._share = 1.0

    def share(self) -> float:
        """Return which share of the processors was idle, from 0 to 1.

        That is since it was asked before; what was said then, where that is less than a quarter of
        a second ago. Where it was not asked for seconds, it looks for a quarter of a second.
        """
        now_s = time.monotonic()
        if self._last is None or now_s - self._last.at_s > _STALE_S:
            self._last = self._look()
            time.sleep(WINDOW_S)
        elif now_s - self._last.at_s < WINDOW_S:
            return self._share
        before, self._last = self._last, self._look()
        self._share = _share(before, self._last)
        return self._share

    def _look(self) -> _Look:
        return _Look(time.monotonic(), time.process_time(), self._idle_s())

    def _idle_s(self) -> tuple[float, ...]:
        """Return how long each processor has been idle since some moment; nothing if unknown."""
        try:
            lines = self._stat.read_text(encoding="ascii").splitlines()
        except OSError:
            return ()
        names = {f"cpu{number}" for number in self._usable()}
        found = [line.split() for line in lines]
        ticks = [sum(map(int, words[1:][_IDLE])) for words in found if words and words[0] in names]
        return tuple(one / os.sysconf("SC_CLK_TCK") for one in ticks) if any(ticks) else ()


def _share(before: _Look, after: _Look) -> float:
    # A container may show processors under other numbers than those it may use.
    if not after.idle_s or len(after.idle_s) != len(before.idle_s):
        return 1.0
    idle_s = sum(after.idle_s) - sum(before.idle_s) + after.own_s - before.own_s
    passed_s = (after.at_s - before.at_s) * len(after.idle_s)
    return min(max(idle_s / passed_s, 0.0), 1.0)


def _usable() -> Collection[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # macOS
        return range(os.cpu_count() or 1)
