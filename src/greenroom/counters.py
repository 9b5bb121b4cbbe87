"""Numbers that several processes count, in memory that all of them map.

A server's memory is divided into seats. Each process that counts has one to itself and is the only
one that writes there, so that no count takes a lock; whoever wants the totals reads all seats. A
process that takes the seat of one that has ended goes on from the numbers it finds: nothing is
lost when a worker is replaced, and no count ever falls.

A seat describes itself: for each series its name, its labels and its cells, which are doubles
(whole numbers are exact up to 2^53). What is counted, and what it means, is
:mod:`greenroom.instruments`' business.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import msgspec

from greenroom.errors import ProcessError

__all__ = ["CounterMemory", "Seat", "Series", "adder", "histogram_cells", "observer"]

Cells: TypeAlias = "memoryview[float]"

SEAT_BYTES: Final = 4 * 1024 * 1024
"""How large a seat may grow: some 10,000 series. What nobody has written to takes no memory."""

_MAGIC: Final = int.from_bytes(b"GREENRM2", "little")
_HEADER_BYTES: Final = 64
# Cells of the header, and of a record's head.
_FORMAT, _PID, _LABEL, _CHANGES, _USED, _LOST = range(6)
_SIZE, _STAMP, _N_CELLS, _KEY_BYTES = range(4)
_HEAD_BYTES: Final = 32
_KEY_STEP: Final = 32
_ATTEMPTS: Final = 200
_PAUSE_S: Final = 0.000_5

_encode: Final = msgspec.msgpack.encode
_decode: Final = msgspec.msgpack.Decoder(tuple[str, tuple[str, ...]]).decode


class Series(NamedTuple):
    """What a reader finds: a name, the values of its labels, and its numbers.

    Parameters
    ----------
    name : str
    labels : tuple of str
    stamp : int
        When it was last declared; what a stamp counts is the writer's business.
    cells : tuple of float
    """

    name: str
    labels: tuple[str, ...]
    stamp: int
    cells: tuple[float, ...]


def adder(cells: Cells, at: int = 0) -> Callable[[float], None]:
    """Return a function that adds to one cell, in a tenth of a microsecond.

    Examples
    --------
    >>> cells = memoryview(bytearray(8)).cast("d")
    >>> add = adder(cells)
    >>> add(2.0), add(1.0), cells[0]
    (None, None, 3.0)
    """

    def add(amount: float) -> None:
        cells[at] += amount

    return add


def observer(cells: Cells, bounds: Sequence[float]) -> Callable[[float], None]:
    """Return a function that counts a value into a histogram, in a fifth of a microsecond.

    Parameters
    ----------
    cells : memoryview of float
        A cell for each bound, one for what is above them all, and one for the sum.
    bounds : sequence of float
        Ascending; a value belongs to the first one that is not below it.

    Examples
    --------
    >>> cells = memoryview(bytearray(8 * histogram_cells((1.0, 2.0)))).cast("d")
    >>> observe = observer(cells, (1.0, 2.0))
    >>> observe(1.0), observe(1.5), observe(9.0)
    (None, None, None)
    >>> cells.tolist()
    [1.0, 1.0, 1.0, 11.5]
    """
    at_sum = len(bounds) + 1

    def observe(value: float) -> None:
        cells[bisect_left(bounds, value)] += 1.0
        cells[at_sum] += value

    return observe


def histogram_cells(bounds: Sequence[float]) -> int:
    """Return how many cells a histogram takes."""
    return len(bounds) + 2


@dataclass(slots=True)
class _Record:
    """Where a series lies in its seat, in bytes from the beginning."""

    at: int
    size: int
    n_cells: int
    stamp: int

    @property
    def cells_at(self) -> int:
        return self.at + self.size - 8 * self.n_cells


class Seat:
    """One process's part of the memory.

    :meth:`occupy` makes this process its writer. :meth:`series` and :meth:`retire` may be called
    from several threads; a cell should be written to by one thread alone.
    """

    def __init__(self, memory: memoryview[int]) -> None:
        self._bytes = memory
        self._numbers = memory.cast("Q")
        self._cells = memory.cast("d")
        self._records: dict[bytes, _Record] = {}
        self._free: list[_Record] = []
        self._changing = threading.Lock()

    @property
    def pid(self) -> int:
        """The process that sits here; 0 when nobody does."""
        return self._numbers[_PID]

    @property
    def label(self) -> int:
        """What the process that sits here is called: a worker's slot, 0 for the supervisor."""
        return self._numbers[_LABEL]

    @property
    def n_lost(self) -> int:
        """How many series found no room."""
        return self._numbers[_LOST]

    @property
    def n_series(self) -> int:
        """How many series the process that sits here has."""
        return len(self._records)

    def occupy(self, label: int) -> None:
        """Take the seat, and go on from what is counted there.

        Raises
        ------
        ProcessError
            When the memory is of another format.
        """
        if self._numbers[_FORMAT] != _MAGIC:
            raise ProcessError("the memory for counting has another format")
        with self._changing:
            # Whoever sat here may have been killed in the middle of a change.
            self._numbers[_CHANGES] += self._numbers[_CHANGES] % 2
            self._records, self._free = {}, []
            for record, key in _records(self._bytes[: self._numbers[_USED]]):
                if record.stamp:
                    self._records[key] = record
                else:
                    self._free.append(record)
            self._numbers[_LABEL] = label
            self._numbers[_PID] = os.getpid()

    def vacate(self) -> None:
        """Note that the process that sat here has ended; its numbers stay."""
        self._numbers[_PID] = 0

    def series(self, name: str, labels: tuple[str, ...], n_cells: int, *, stamp: int = 1) -> Cells:
        """Return the cells of a series, which is made if there is none.

        Where there is no room any more the cells are this process's own, and :attr:`n_lost` says
        how often that was so: what is served does not depend on what is counted.

        Parameters
        ----------
        name : str
        labels : tuple of str
        n_cells : int
        stamp : int
            Above 0; a series keeps the highest that it was ever given.

        Raises
        ------
        ValueError
            When there is such a series with another number of cells.
        """
        key = _encode((name, labels))
        with self._changing:
            record = self._records.get(key)
            if record is None:
                record = self._made(key, n_cells, stamp)
                if record is None:
                    self._numbers[_LOST] += 1
                    return memoryview(bytearray(8 * n_cells)).cast("d")
                self._records[key] = record
            elif stamp > record.stamp:
                record.stamp = self._numbers[record.at // 8 + _STAMP] = stamp
            if record.n_cells != n_cells:
                raise ValueError(f"series {name!r} has {record.n_cells} cells, not {n_cells}")
            begin = record.cells_at // 8
            return self._cells[begin : begin + n_cells]

    def retire(self, choose: Callable[[Sequence[Series]], Sequence[Series]]) -> None:
        """Forget the series that ``choose`` takes from those that there are; their room is free."""
        with self._changing:
            present = {key: self._read_record(key, one) for key, one in self._records.items()}
            chosen = {(series.name, series.labels) for series in choose(list(present.values()))}
            for key, series in present.items():
                if (series.name, series.labels) in chosen:
                    record = self._records.pop(key)
                    record.stamp = self._numbers[record.at // 8 + _STAMP] = 0
                    self._free.append(record)

    def read(self) -> list[Series]:
        """Return every series as it is now; may be called by any process."""
        for _ in range(_ATTEMPTS):
            before = self._numbers[_CHANGES]
            copy = memoryview(bytes(self._bytes[: self._numbers[_USED]]))
            if before % 2 == 0 and self._numbers[_CHANGES] == before:
                break
            # A change takes microseconds, unless its process was killed in the middle of it. Then
            # the series that it was about has no stamp, and is passed over.
            time.sleep(_PAUSE_S)
        cells = copy[: len(copy) // 8 * 8].cast("d")
        found = []
        for record, key in _records(copy):
            if record.stamp:
                begin = record.cells_at // 8
                name, labels = _decode(key)
                numbers = tuple(cells[begin : begin + record.n_cells])
                found.append(Series(name, labels, record.stamp, numbers))
        return found

    def _read_record(self, key: bytes, record: _Record) -> Series:
        name, labels = _decode(key)
        begin = record.cells_at // 8
        return Series(
            name, labels, record.stamp, tuple(self._cells[begin : begin + record.n_cells])
        )

    def _made(self, key: bytes, n_cells: int, stamp: int) -> _Record | None:
        """Write a record, over a free one of the same size or behind the last."""
        room = -(-len(key) // _KEY_STEP) * _KEY_STEP
        size = _HEAD_BYTES + room + 8 * n_cells
        fitting = (one for one in self._free if (one.size, one.n_cells) == (size, n_cells))
        record = next(fitting, None)
        used = self._numbers[_USED]
        if record is not None:
            self._free.remove(record)
            record.stamp = stamp
        elif used + size <= len(self._bytes):
            record = _Record(used, size, n_cells, stamp)
        else:
            return None
        head = record.at // 8
        self._numbers[_CHANGES] += 1
        self._numbers[head + _STAMP] = 0
        self._numbers[head + _SIZE] = size
        self._numbers[head + _N_CELLS] = n_cells
        self._numbers[head + _KEY_BYTES] = len(key)
        self._bytes[record.at + _HEAD_BYTES : record.at + _HEAD_BYTES + len(key)] = key
        self._bytes[record.cells_at : record.at + size] = bytes(8 * n_cells)
        self._numbers[head + _STAMP] = stamp
        self._numbers[_USED] = max(used, record.at + size)
        self._numbers[_CHANGES] += 1
        return record


class CounterMemory:
    """The memory that the processes of one server count in.

    It has no name on disk: workers inherit the open file, and nothing is left however they end.

    Parameters
    ----------
    fd : int
        The file, which this object closes.

    Examples
    --------
    >>> memory = CounterMemory.create(2)
    >>> for number in (0, 1):
    ...     memory.seats[number].occupy(number)
    ...     adder(memory.seats[number].series("answers", ("200",), 1))(1.0)
    >>> view = CounterMemory.attach(os.dup(memory.fd))
    >>> [series.cells for seat in view.seats for series in seat.read()]
    [(1.0,), (1.0,)]
    >>> view.close(); memory.close()
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        size = os.fstat(fd).st_size
        if size < SEAT_BYTES or size % SEAT_BYTES:
            raise ValueError(f"{size} bytes are not a number of seats")
        memory = memoryview(mmap.mmap(fd, size))
        self.seats: Final = tuple(
            Seat(memory[at : at + SEAT_BYTES]) for at in range(0, size, SEAT_BYTES)
        )

    @classmethod
    def create(cls, n_seats: int) -> CounterMemory:
        """Make the memory, with nobody in its seats and nothing counted."""
        fd = _nameless_file()
        os.ftruncate(fd, n_seats * SEAT_BYTES)
        made = cls(fd)
        for seat in made.seats:
            seat._numbers[_USED] = _HEADER_BYTES
            seat._numbers[_FORMAT] = _MAGIC
        return made

    @classmethod
    def attach(cls, fd: int) -> CounterMemory:
        """Map the memory behind a file that was inherited.

        Raises
        ------
        ProcessError
            When the file is something else.
        """
        try:
            found = cls(fd)
        except (OSError, ValueError) as error:
            raise ProcessError(f"file {fd} holds no counters: {error}") from error
        if any(seat._numbers[_FORMAT] != _MAGIC for seat in found.seats):
            raise ProcessError(f"file {fd} holds no counters, or some of another format")
        return found

    def close(self) -> None:
        """Close the file; what is mapped goes with the last one that refers to it."""
        os.close(self.fd)


def _nameless_file() -> int:
    """Open a file without a name, in memory where the system has such.

    The pages of one on a disk are written back every few seconds, and a count may have to wait.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may know of no such thing
            return os.memfd_create("greenroom-counters")
    with tempfile.TemporaryFile(prefix="greenroom-") as file:
        return os.dup(file.fileno())


def _records(memory: memoryview[int]) -> Iterator[tuple[_Record, bytes]]:
    """Go through the records of a seat."""
    numbers = memory[: len(memory) // 8 * 8].cast("Q")
    at = _HEADER_BYTES
    while at < len(memory):
        size, stamp, n_cells, key_bytes = numbers[at // 8 : at // 8 + 4]
        key = bytes(memory[at + _HEAD_BYTES : at + _HEAD_BYTES + key_bytes])
        yield _Record(at, size, n_cells, stamp), key
        at += size
