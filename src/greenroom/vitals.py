"""Vitals: how long answers take at present, what the server uses, and whether it can write.

The supervisor takes them every few seconds and leaves the numbers in the shared memory, so that a
worker's ``/health`` costs a look. Answers are those to predictions, with any status, of the last
minutes, out of the counters that ``/metrics`` shows too; what an answer held is not known here.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from greenroom import processes
from greenroom.background import in_background
from greenroom.counters import CounterMemory
from greenroom.instruments import ANSWERS, LATENCY_BOUNDS, VITALS, Totals

INTERVAL_S: Final = 5.0
"""How often they are taken."""

WINDOW_S: Final = 300.0
"""How far back answers count."""

_PROBE: Final = bytes(65_536)
_NOTHING: Final = (0.0,) * (len(LATENCY_BOUNDS) + 2)

_Histogram: TypeAlias = tuple[float, ...]


class Vitals(NamedTuple):
    """The numbers; one that is not known is NaN.

    Parameters
    ----------
    n_answers : float
        Predictions that were answered within the last :data:`WINDOW_S`.
    mean_s, p50_s, p99_s : float
        How long they took. The quantiles are as exact as the histogram's buckets.
    memory_bytes : float
        What all processes of the server have resident; pages that they share count for each.
    cpu_percent : float
        Of one processor, since the sample before; several processes may have more than 100.
    disk_free_bytes, disk_total_bytes : float
        Of the file system that the state is on.
    """

    n_answers: float
    mean_s: float
    p50_s: float
    p99_s: float
    memory_bytes: float
    cpu_percent: float
    disk_free_bytes: float
    disk_total_bytes: float


def read_vitals(memory: CounterMemory) -> Vitals | None:
    """Return the numbers that the supervisor took last; None before it has taken any."""
    for series in memory.seats[0].read():
        if series.name == VITALS and len(series.cells) == len(Vitals._fields):
            return Vitals(*series.cells)
    return None


def vitals_in(totals: Totals) -> Vitals | None:
    """Return the numbers that the supervisor took last, out of what all processes counted."""
    cells = totals.series.get((VITALS, ()))
    return Vitals(*cells) if cells and len(cells) == len(Vitals._fields) else None


def quantile(cells: Sequence[float], share: float) -> float:
    """Estimate a quantile of a histogram over :data:`greenroom.instruments.LATENCY_BOUNDS`.

    As Prometheus' ``histogram_quantile`` does: linear within a bucket, and the highest bound for
    what is above all of them.

    Parameters
    ----------
    cells : sequence of float
        A count for each bound, and one for what is above.
    share : float
        From 0 to 1.

    Examples
    --------
    >>> cells = [0.0] * (len(LATENCY_BOUNDS) + 1)
    >>> cells[4] = 10.0  # all between one millisecond and two and a half
    >>> quantile(cells, 0.5), quantile([0.0], 0.5)
    (0.00175, nan)
    """
    total = sum(cells)
    if not total:
        return math.nan
    rank = share * total
    for at, reached in enumerate(accumulate(cells[: len(LATENCY_BOUNDS)])):
        if reached >= rank and cells[at]:
            low = LATENCY_BOUNDS[at - 1] if at else 0.0
            within = (rank - (reached - cells[at])) / cells[at]
            return low + (LATENCY_BOUNDS[at] - low) * within
    return LATENCY_BOUNDS[-1]


def folder_problem(folder: Path, needs_bytes: int = 0) -> str:
    """Say why too little can be written into a folder; empty when enough can. Leaves nothing.

    Parameters
    ----------
    folder : Path
    needs_bytes : int
        How much the prediction log lays out at a time.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(_PROBE)
            probe.flush()
        short = shutil.disk_usage(folder).free < needs_bytes
    except OSError as error:
        return (
            f"the state folder {folder} cannot be written: {error.strerror or error}; no new"
            " version can be brought there, and a restart may not find what is selected now"
        )
    if short:
        return (
            f"the disk of the state folder {folder} has not the {needs_bytes // 2**20} MB that the"
            " prediction log lays out at a time; predictions are refused soon, or not noted"
        )
    return ""


class Sampler:
    """Takes the vitals of one server; blocks for some milliseconds.

    Parameters
    ----------
    totals : callable
        Returns what all processes have counted.
    folder : Path
        Where the state is.
    clock_s : callable
        Seconds that only go up.
    """

    def __init__(
        self,
        totals: Callable[[], Totals],
        folder: Path,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._totals = totals
        self._folder = folder
        self._clock_s = clock_s
        self._before: deque[tuple[float, _Histogram]] = deque([(clock_s(), _NOTHING)])
        self._used: dict[int, float] = {}
        self._used_at_s: float | None = None

    def sample(self) -> Vitals:
        """Take them."""
        now_s = self._clock_s()
        totals = self._totals()
        answered = self._answered(now_s, totals)
        n_answers = sum(answered[:-1])
        memory_bytes, cpu_percent = self._usage(now_s, totals)
        free, whole = self._disk()
        return Vitals(
            n_answers=n_answers,
            mean_s=answered[-1] / n_answers if n_answers else math.nan,
            p50_s=quantile(answered[:-1], 0.5),
            p99_s=quantile(answered[:-1], 0.99),
            memory_bytes=memory_bytes,
            cpu_percent=cpu_percent,
            disk_free_bytes=free,
            disk_total_bytes=whole,
        )

    def _answered(self, now_s: float, totals: Totals) -> _Histogram:
        """Return the histogram of the predictions that were answered within the window."""
        found = [cells for (_, model, *_), cells in totals.named(ANSWERS) if model]
        present = tuple(map(sum, zip(*found, strict=True))) if found else _NOTHING
        self._before.append((now_s, present))
        while len(self._before) > 2 and self._before[1][0] <= now_s - WINDOW_S:
            self._before.popleft()
        before = self._before[0][1]
        # Versions that have not been served for long are counted no more.
        return tuple(max(0.0, now - then) for now, then in zip(present, before, strict=True))

    def _usage(self, now_s: float, totals: Totals) -> tuple[float, float]:
        found = {one.pid: processes.usage(one.pid) for one in totals.processes}
        used = {pid: usage for pid, usage in found.items() if usage is not None}
        if not used:
            return math.nan, math.nan
        memory_bytes = float(sum(usage.resident_bytes for usage in used.values()))
        # A process that is new has used all that it has since then.
        seconds = sum(usage.cpu_s - self._used.get(pid, 0.0) for pid, usage in used.items())
        before_s, self._used_at_s = self._used_at_s, now_s
        self._used = {pid: usage.cpu_s for pid, usage in used.items()}
        if before_s is None or now_s <= before_s:
            return memory_bytes, math.nan
        return memory_bytes, 100 * seconds / (now_s - before_s)

    def _disk(self) -> tuple[float, float]:
        try:
            found = shutil.disk_usage(self._folder)
        except OSError:
            return math.nan, math.nan
        return float(found.free), float(found.total)


async def watch(
    sampler: Sampler,
    folder: Path | None,
    on_sample: Callable[[Vitals], None],
    on_problem: Callable[[str], None],
    *,
    needs_bytes: int = 0,
    interval_s: float = INTERVAL_S,
) -> None:
    """Take the vitals for ever, and see whether the state folder can be written to.

    Parameters
    ----------
    sampler : Sampler
    folder : Path, optional
        The state folder; None where there is none to write to.
    on_sample : callable
        Told the numbers.
    on_problem : callable
        Told what is wrong with the folder; an empty text where nothing is.
    needs_bytes : int
        How much room the folder needs at least.
    interval_s : float
        How long to wait in between.
    """
    while True:
        on_sample(await in_background(sampler.sample))
        if folder is not None:
            on_problem(await in_background(partial(folder_problem, folder, needs_bytes)))
        await asyncio.sleep(interval_s)
