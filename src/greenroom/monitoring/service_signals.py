"""How a server's models answer at present, out of what its workers count.

The counters only rise; the difference between two looks is what was answered in between. Kept is a
window of looks, so that response times and errors are those of the last minutes. What is too slow
or too many is :mod:`greenroom.monitoring.alert_rules`' business.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from greenroom.instruments import ANSWERS, LATENCY_BOUNDS, UNLOGGED, Totals
from greenroom.vitals import quantile

__all__ = ["ModelTraffic", "Traffic", "TrafficWindow", "share_above", "unasked"]

_Cells: TypeAlias = tuple[float, ...]
_NOTHING: Final[_Cells] = (0.0,) * (len(LATENCY_BOUNDS) + 2)


class ModelTraffic(NamedTuple):
    """What one registered model was asked within the window.

    Parameters
    ----------
    model : str
    n_answers, n_errors : int
        Answers with any status, and those with one of 500 or above.
    cells : tuple of float
        How long they took: a count for each of :data:`greenroom.instruments.LATENCY_BOUNDS`, and
        one for what is above.
    silent_s : float or None
        Since when it was asked nothing; None where nobody has asked it anything since the server
        was started.
    """

    model: str
    n_answers: int
    n_errors: int
    cells: _Cells
    silent_s: float | None

    @property
    def error_percent(self) -> float:
        """The share of errors; 0 where nothing was answered."""
        return 100 * self.n_errors / self.n_answers if self.n_answers else 0.0

    @property
    def p95_s(self) -> float:
        """Their 95th percentile in seconds, as exact as the histogram; NaN for no answers."""
        return quantile(self.cells, 0.95)


class Traffic(NamedTuple):
    """What a server was asked within the window.

    Parameters
    ----------
    models : tuple of ModelTraffic
        Every model that anything is counted of.
    n_unlogged : int
        Predictions that the log had no room for.
    """

    models: tuple[ModelTraffic, ...] = ()
    n_unlogged: int = 0


def unasked(model: str) -> ModelTraffic:
    """Return what there is to say of a model that nobody has asked since the server's start."""
    return ModelTraffic(model, 0, 0, _NOTHING[:-1], None)


def share_above(cells: Sequence[float], seconds: float) -> float:
    """Return which share of a histogram is above a value; linear within a bucket.

    Examples
    --------
    >>> cells = [0.0] * (len(LATENCY_BOUNDS) + 1)
    >>> cells[-2], cells[-1] = 3.0, 1.0  # three up to ten seconds, and one that took longer
    >>> share_above(cells, 10.0), share_above(cells, 7.5), share_above([0.0], 1.0)
    (0.25, 0.625, 0.0)
    """
    total = sum(cells)
    if not total:
        return 0.0
    at = bisect_left(LATENCY_BOUNDS, seconds)
    above = sum(cells[at + 1 :])
    if at < len(LATENCY_BOUNDS):
        low = LATENCY_BOUNDS[at - 1] if at else 0.0
        above += cells[at] * (LATENCY_BOUNDS[at] - seconds) / (LATENCY_BOUNDS[at] - low)
    return above / total


class _Count(NamedTuple):
    """What was counted of a model until a look; ``cells`` is a histogram and its sum."""

    cells: _Cells = _NOTHING
    n_errors: float = 0.0


class _Look(NamedTuple):
    at_s: float
    models: dict[str, _Count]
    n_unlogged: float


class TrafficWindow:
    """The looks of the last minutes.

    Parameters
    ----------
    totals : callable
        Returns what all processes have counted.
    window_s : float
        How far back answers count.
    clock_s : callable
        Seconds that only go up.
    """

    def __init__(
        self, totals: Callable[[], Totals], window_s: float, clock_s: Callable[[], float]
    ) -> None:
        self._totals: Final = totals
        self._window_s: Final = window_s
        self._clock_s: Final = clock_s
        self._looks: deque[_Look] = deque([_Look(clock_s(), {}, 0.0)])
        self._asked_at_s: dict[str, float] = {}

    def look(self) -> Traffic:
        """Take the counts, and return what the window holds."""
        now = _look(self._clock_s(), self._totals())
        self._note_asked(now)
        self._looks.append(now)
        while len(self._looks) > 2 and self._looks[1].at_s <= now.at_s - self._window_s:
            self._looks.popleft()
        before = self._looks[0]
        return Traffic(
            tuple(self._between(model, before, now) for model in now.models),
            round(max(0.0, now.n_unlogged - before.n_unlogged)),
        )

    def _note_asked(self, now: _Look) -> None:
        last = self._looks[-1].models
        for model, count in now.models.items():
            # The sum of the seconds is left out: versions that are forgotten take theirs along.
            if sum(count.cells[:-1]) > sum(last.get(model, _Count()).cells[:-1]):
                self._asked_at_s[model] = now.at_s

    def _between(self, model: str, before: _Look, now: _Look) -> ModelTraffic:
        first, last = before.models.get(model, _Count()), now.models[model]
        # Versions that have not been served for long are counted no more.
        cells = tuple(max(0.0, b - a) for a, b in zip(first.cells, last.cells, strict=True))[:-1]
        asked_at_s = self._asked_at_s.get(model)
        return ModelTraffic(
            model,
            round(sum(cells)),
            round(max(0.0, last.n_errors - first.n_errors)),
            cells,
            None if asked_at_s is None else now.at_s - asked_at_s,
        )


def _look(at_s: float, totals: Totals) -> _Look:
    models: dict[str, _Count] = {}
    for (_, model, _, status), cells in totals.named(ANSWERS):
        if not model:
            continue  # a page
        before = models.get(model, _Count())
        n_errors = sum(cells[:-1]) if status >= "500" else 0.0
        models[model] = _Count(_sum(before.cells, cells), before.n_errors + n_errors)
    return _Look(at_s, models, sum(cells[0] for _, cells in totals.named(UNLOGGED)))


def _sum(one: Iterable[float], other: Iterable[float]) -> _Cells:
    return tuple(a + b for a, b in zip(one, other, strict=True))
