"""What a server counts about itself, and the handles that those who know a number write it with.

A worker's :class:`WorkerInstruments` and the supervisor's :class:`SupervisorInstruments` count
into their own seats of the shared memory; :func:`read_totals` reads all seats and adds up. The
handles of the hot path are made once for a generation, and each is one call of a fifth of a
microsecond (``docs/decisions/0015-counters-in-shared-memory.md``).

What a metric is called and how it is written down is :mod:`greenroom.http.exposition`'s business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from greenroom.counters import CounterMemory, Series, adder, histogram_cells, observer

__all__ = [
    "BATCH_BOUNDS",
    "LATENCY_BOUNDS",
    "LOAD_BOUNDS",
    "UNMATCHED",
    "Answers",
    "SupervisorInstruments",
    "Totals",
    "WorkerInstruments",
    "read_totals",
]

LATENCY_BOUNDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
)  # fmt: skip
"""Seconds: a compiled model answers in a tenth of a millisecond, a busy native one in tenths."""

BATCH_BOUNDS: Final = (
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0,
)  # fmt: skip
"""Rows."""

LOAD_BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Seconds, for what is done once for a version."""

UNMATCHED: Final = "unmatched"
"""The route of requests that no route takes: their paths are the callers' to choose."""

SHOWN_VERSIONS: Final = 8
"""So many versions of a model are shown for a route, those that were served last."""

KEPT_VERSIONS: Final = 2 * SHOWN_VERSIONS
"""So many keep their counts. More than are shown: workers need not forget at the same moment."""

FORGET_FROM: Final = 256
"""With fewer series than these nothing is forgotten."""

ANSWERS: Final = "answers"
ERRORS: Final = "errors"
IN_FLIGHT: Final = "in flight"
BATCHES: Final = "batches"
LOADS: Final = "loads"
UNLOGGED: Final = "unlogged"
SWAPS: Final = "swaps"
RESTARTS: Final = "restarts"
TRAININGS: Final = "trainings"
WORKERS: Final = "workers"
REGISTRY: Final = "registry"
MONITORING_RUNS: Final = "monitoring runs"
EVALUATED: Final = "evaluated"
VITALS: Final = "vitals"

_OK: Final = "200"


class Answers:
    """Counts the answers of one route, by one version.

    Attributes
    ----------
    answered : callable
        Counts a prediction and the seconds that it took: what the hot path calls.
    """

    __slots__ = ("_declare", "_others", "answered")

    def __init__(self, declare: Callable[[str], Callable[[float], None]]) -> None:
        self._declare = declare
        self._others: dict[int, Callable[[float], None]] = {}
        self.answered: Final = declare(_OK)

    def refused(self, status: int, seconds: float) -> None:
        """Count an answer with any HTTP status."""
        count = self._others.get(status)
        if count is None:
            count = self._others[status] = self._declare(str(status))
        count(seconds)


class WorkerInstruments:
    """What one worker counts.

    All but :meth:`loaded` is for the event loop alone, :meth:`loaded` for the one thread that
    loads.

    Parameters
    ----------
    memory : CounterMemory
        The server's; None where there is no supervisor, and this process counts by itself.
    seat : int
        Which part of it is this process's own.
    slot : int
        What the worker is called.

    Attributes
    ----------
    in_flight : memoryview of float
        One cell: how many requests are in flight.
    unlogged : dict of str to callable
        By what became of them (``served``, ``refused``), counts predictions that the log had no
        room for; one thread at a time.
    """

    def __init__(
        self, memory: CounterMemory | None = None, *, seat: int = 0, slot: int = 1
    ) -> None:
        self.memory: Final = memory or CounterMemory.create(1)
        self._seat = self.memory.seats[seat]
        self._seat.occupy(slot)
        self._pages: dict[str, Answers] = {}
        self._errors: dict[tuple[str, ...], Callable[[float], None]] = {}
        self._batches: dict[str, Callable[[float], None]] = {}
        self._forget_from = FORGET_FROM
        self.in_flight: Final = self._seat.series(IN_FLIGHT, (), 1)
        self.unlogged: Final = {
            verdict: adder(self._seat.series(UNLOGGED, (verdict,), 1))
            for verdict in ("served", "refused")
        }
        # Whoever sat here before has no requests any more.
        self.in_flight[0] = 0.0

    def predictions(
        self, route: str, model: str, version: str = "", *, generation: int = 1
    ) -> Answers:
        """Return what counts the answers of a model's version under a route.

        Parameters
        ----------
        route : str
            The path, or the template of paths.
        model, version : str
            Empty where no model, or no version, answers.
        generation : int
            The first in which the version is served, for the last time that it has come.
        """

        def declare(status: str) -> Callable[[float], None]:
            labels = (route, model, version, status)
            n_cells = histogram_cells(LATENCY_BOUNDS)
            cells = self._seat.series(ANSWERS, labels, n_cells, stamp=generation)
            return observer(cells, LATENCY_BOUNDS)

        return Answers(declare)

    def page(self, route: str, status: int, seconds: float) -> None:
        """Count an answer that is no prediction; ``route`` is empty where no route takes it."""
        answers = self._pages.get(route)
        if answers is None:
            answers = self._pages[route] = self.predictions(route or UNMATCHED, "")
        answers.refused(status, seconds)

    def failed(self, route: str, status: int, error: str) -> None:
        """Count an error by its kind."""
        labels = (route or UNMATCHED, str(status), error)
        count = self._errors.get(labels)
        if count is None:
            count = self._errors[labels] = adder(self._seat.series(ERRORS, labels, 1))
        count(1.0)

    def batched(self, model: str, n_rows: int) -> None:
        """Count a call of a model, and the rows that it answered."""
        count = self._batches.get(model)
        if count is None:
            cells = self._seat.series(BATCHES, (model,), histogram_cells(BATCH_BOUNDS))
            count = self._batches[model] = observer(cells, BATCH_BOUNDS)
        count(n_rows)

    def loaded(self, model: str, seconds: float) -> None:
        """Count that a version was loaded and warmed."""
        cells = self._seat.series(LOADS, (model,), histogram_cells(LOAD_BOUNDS))
        observer(cells, LOAD_BOUNDS)(seconds)

    def forget(self) -> None:
        """Forget versions that have not been served for long; to be called now and then.

        Does nothing before there are twice as many series as the last time left.
        """
        if self._seat.n_series >= self._forget_from:
            self._seat.retire(lambda found: _faded(found, KEPT_VERSIONS))
            self._forget_from = max(FORGET_FROM, 2 * self._seat.n_series)


class SupervisorInstruments:
    """What the supervisor counts, and which seat each worker gets.

    Parameters
    ----------
    n_workers : int
        How many there are; during a restart there may be twice as many.
    """

    def __init__(self, n_workers: int) -> None:
        self.memory: Final = CounterMemory.create(1 + 2 * n_workers)
        self._own = self.memory.seats[0]
        self._own.occupy(0)
        self._taken: set[int] = set()
        self._workers = self._own.series(WORKERS, (), 1)
        self._restarted = adder(self._own.series(RESTARTS, (), 1))
        self._trainings = {
            state: adder(self._own.series(TRAININGS, (state,), 1)) for state in ("done", "failed")
        }
        self._registry = self._own.series(REGISTRY, (), 1)
        self._monitored = {
            outcome: adder(self._own.series(MONITORING_RUNS, (outcome,), 1))
            for outcome in ("done", "nothing", "failed")
        }
        self._evaluated = self._own.series(EVALUATED, (), 1)

    def take_seat(self) -> int:
        """Return the lowest seat that no living worker has.

        A worker that takes over a dead one's seat takes over its counts.
        """
        free = (n for n in range(1, len(self.memory.seats)) if n not in self._taken)
        # Never so, as long as a slot has at most two processes: then two would count in one place,
        # which is no reason to serve nothing.
        seat = next(free, len(self.memory.seats) - 1)
        self._taken.add(seat)
        return seat

    def left(self, seat: int) -> None:
        """Note that the worker of a seat has ended, and that nobody has it."""
        self.memory.seats[seat].vacate()
        self._taken.discard(seat)

    def restarted(self) -> None:
        """Count a worker that is started in the place of one that failed."""
        self._restarted(1.0)

    def training_ended(self, state: str) -> None:
        """Count a training that was asked for over HTTP, by how it ended."""
        self._trainings[state](1.0)

    def monitored(self, outcome: str) -> None:
        """Count a monitoring run that the server has started, by how it ended."""
        self._monitored[outcome](1.0)

    def evaluated(self, at_s: float) -> None:
        """Note when (Unix time) it was last looked whether there is something to alert."""
        self._evaluated[0] = at_s

    def working(self, n_workers: int) -> None:
        """Note how many workers accept connections."""
        self._workers[0] = n_workers

    def swapped(self, verdict: str, seconds: float) -> None:
        """Count a swap and how long it took, by how it ended."""
        cells = self._own.series(SWAPS, (verdict,), histogram_cells(LOAD_BOUNDS))
        observer(cells, LOAD_BOUNDS)(seconds)

    def sampled(self, vitals: Sequence[float]) -> None:
        """Leave the numbers of :mod:`greenroom.vitals` where workers read them."""
        cells = self._own.series(VITALS, (), len(vitals))
        for at, number in enumerate(vitals):
            cells[at] = number

    def registry_answered(self, at_s: float) -> None:
        """Note when (Unix time) the registry has answered."""
        self._registry[0] = at_s


class Process(NamedTuple):
    """A process of the server: ``label`` is a worker's slot, 0 for the supervisor."""

    label: int
    pid: int


class Totals(NamedTuple):
    """What all processes have counted together.

    Parameters
    ----------
    series : dict
        By name and labels, the numbers of all seats added up, cell by cell.
    processes : tuple of Process
    n_lost : int
        How many series found no room.
    """

    series: dict[tuple[str, tuple[str, ...]], tuple[float, ...]]
    processes: tuple[Process, ...]
    n_lost: int

    def named(self, name: str) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
        """Return the labels and numbers of every series of a name, sorted by the labels."""
        return sorted((labels, cells) for (of, labels), cells in self.series.items() if of == name)

    def number(self, name: str) -> float:
        """Return the one number that a name has, 0 where nobody has written it."""
        return self.series.get((name, ()), (0.0,))[0]


def read_totals(memory: CounterMemory) -> Totals:
    """Return what all processes of a server have counted until now.

    Examples
    --------
    >>> supervisor = SupervisorInstruments(1)
    >>> worker = WorkerInstruments(supervisor.memory, seat=1, slot=1)
    >>> worker.predictions("/predict", "credit", "3").answered(0.000_2)
    >>> ((labels, cells),) = read_totals(supervisor.memory).named(ANSWERS)
    >>> labels, cells[:3]
    (('/predict', 'credit', '3', '200'), (0.0, 1.0, 0.0))
    """
    found: list[Series] = []
    processes = []
    for seat in memory.seats:
        series = seat.read()
        if seat.pid:
            processes.append(Process(seat.label, seat.pid))
        else:
            series = [one for one in series if one.name != IN_FLIGHT]
        found += series
    n_lost = sum(seat.n_lost for seat in memory.seats)
    return Totals(_added_up(found), tuple(processes), n_lost)


def _added_up(found: Sequence[Series]) -> dict[tuple[str, tuple[str, ...]], tuple[float, ...]]:
    faded = {(series.name, series.labels) for series in _faded(found, SHOWN_VERSIONS)}
    total: dict[tuple[str, tuple[str, ...]], tuple[float, ...]] = {}
    for series in found:
        key = (series.name, series.labels)
        if key not in faded:
            before = total.get(key)
            total[key] = series.cells if before is None else _sum(before, series.cells)
    return total


def _sum(one: tuple[float, ...], other: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _faded(found: Iterable[Series], n_kept: int) -> list[Series]:
    """Return the series of all but the ``n_kept`` versions that came last, by route and model.

    A route answers with one version of a model at a time, so the one that came last is the one
    that is served.
    """
    last: dict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
    by_version = [series for series in found if series.name == ANSWERS and series.labels[2]]
    for series in by_version:
        route, model, version, _ = series.labels
        came = last[route, model]
        came[version] = max(series.stamp, came.get(version, 0))
    kept = {
        of: set(sorted(came, key=lambda version: (came[version], version))[-n_kept:])
        for of, came in last.items()
    }
    return [series for series in by_version if series.labels[2] not in kept[series.labels[:2]]]
