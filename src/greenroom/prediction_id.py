"""Prediction ids: one for every row that is answered, by which it can be found again.

An id is a UUID of version 7 (RFC 9562): its first 48 bits are the time in milliseconds, so that
ids sort by when they were made and a log partitioned by time knows where to look. What an id
refers to is not known here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from struct import pack, unpack
from typing import Final

__all__ = ["PredictionIds", "new_prediction_id", "new_prediction_ids"]

_TAIL_BITS: Final = 74
"""What is left beside time, version and variant: RFC 9562's ``rand_a`` (12) and ``rand_b`` (62)."""

_LOW_BITS: Final = 62
_VARIANT: Final = 0b10 << _LOW_BITS

_TAIL_WORDS: Final = 3
"""How many random words of 32 bits a tail takes."""

_NODE_BITS: Final = 48
"""What stands behind the last hyphen."""

_DRAWN: Final = 256
"""How many random words are drawn at a time: asking the system for each id would double its cost.
"""


class PredictionIds:
    """A source of ids, each greater than the one before it.

    The 74 bits after the time are random in every new millisecond and go up by a random step
    within one ("monotonic random", RFC 9562, section 6.2, method 2), also when the clock is set
    back.

    Parameters
    ----------
    clock_ns : callable
        Nanoseconds since 1970.
    entropy : callable
        ``n -> n`` random bytes.
    """

    def __init__(
        self,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._clock_ns = clock_ns
        self._entropy = entropy
        self.restart()

    def restart(self) -> None:
        """Forget everything, as a process does that was forked off and shares our past."""
        self._lock = threading.Lock()
        self._words: list[int] = []
        self._begin(0, 0)

    def take(self, n_ids: int) -> list[str]:
        """Return ``n_ids`` ids, in ascending order."""
        with self._lock:
            now_ms = self._clock_ns() // 1_000_000
            if len(self._words) < n_ids + _TAIL_WORDS:
                self._draw(n_ids + _TAIL_WORDS)
            pop = self._words.pop
            if now_ms > self._time_ms:
                self._begin(now_ms, (pop() << 64 | pop() << 32 | pop()) >> 96 - _TAIL_BITS)
            if n_ids == 1:
                return [self._next(1 + pop())]
            steps = [1 + word for word in self._words[: -n_ids - 1 : -1]]
            del self._words[len(self._words) - n_ids :]
            if (self._low + sum(steps)) >> _LOW_BITS:
                self._go_up()
            return self._written(steps)

    def _draw(self, n_words: int) -> None:
        while len(self._words) < n_words:
            self._words += unpack(f"{_DRAWN}I", self._entropy(4 * _DRAWN))

    def _begin(self, time_ms: int, tail: int) -> None:
        self._time_ms = time_ms
        self._high, self._low = tail >> _LOW_BITS, tail & (1 << _LOW_BITS) - 1
        digits = f"{time_ms:012x}"
        self._head = f"{digits[:8]}-{digits[8:]}-7{self._high:03x}-"

    def _go_up(self) -> None:
        """Go on where ``rand_b`` begins anew: with the next ``rand_a``, or millisecond."""
        tail = self._high + 1 << _LOW_BITS
        later = tail >> _TAIL_BITS
        self._begin(self._time_ms + later, 0 if later else tail)

    def _next(self, step: int) -> str:
        """Return one id: what most requests take, so it is written without lists."""
        if (self._low + step) >> _LOW_BITS:
            self._go_up()
        self._low += step
        low = _VARIANT | self._low
        return f"{self._head}{low >> _NODE_BITS:04x}-{low & (1 << _NODE_BITS) - 1:012x}"

    def _written(self, steps: Sequence[int]) -> list[str]:
        """Lay out RFC 9562, figure 11: time 48, version 4, rand_a 12, variant 2, rand_b 62 bits."""
        lows = list(accumulate(steps, initial=_VARIANT | self._low))
        self._low = lows[-1] ^ _VARIANT
        # All in one piece, as formatting each by itself takes twice as long.
        digits = pack(f">{len(steps)}Q", *lows[1:]).hex()
        head, places = self._head, range(0, len(digits), 16)
        return [f"{head}{digits[at : at + 4]}-{digits[at + 4 : at + 16]}" for at in places]


_ids: Final = PredictionIds()
os.register_at_fork(after_in_child=_ids.restart)


def new_prediction_id() -> str:
    """Return a new id: unique, and greater than every one this process has made before.

    Safe in threads, and in a process that was forked.

    Examples
    --------
    >>> first, second = new_prediction_id(), new_prediction_id()
    >>> len(first), first[14], first < second
    (36, '7', True)
    """
    return _ids.take(1)[0]


def new_prediction_ids(n_ids: int) -> list[str]:
    """Return ``n_ids`` new ids in ascending order, as :func:`new_prediction_id` makes them."""
    return _ids.take(n_ids)
