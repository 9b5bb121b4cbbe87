"""The spool: the segments of a prediction log on local disk, between its writers and its shipper.

A folder with one sub-folder for each writer slot::

    spool.json           the spool's id, by which whatever is shipped of it is known
    01/writer.lock       held by the process that writes here
    01/000000000007.open the segment that is being written, and the one that is ready to follow
    01/000000000006.sealed
    01/000000000005.spare the file of a shipped segment, emptied, to be used again
    01/ledger.json       up to which segment all is shipped, and how many predictions that were
    01/reserve           room for the next ledger on a disk that is full

A process takes the first slot whose lock is free, so that a slot never has two writers, and its
segments follow one another. What a dead writer has left open is sealed by the next one, or by
whoever ships. Writing is :mod:`greenroom.log.spooling`'s business, shipping
:mod:`greenroom.log.shipping`'s.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import msgspec

from greenroom.errors import SpoolCorrupt
from greenroom.log.log_records import n_rows, read_record
from greenroom.log.segments import SEALED, UNSEALED, Segment, is_unused, seal, sync_folder
from greenroom.log.spares import Spares

__all__ = ["Balance", "Ledger", "Room", "Slot", "Spool", "rows_in"]

FORMAT: Final = 1
MAX_SLOTS: Final = 4_096
_FILE: Final = "spool.json"
_LEDGER: Final = "ledger.json"
_LOCK: Final = "writer.lock"
_RESERVE: Final = "reserve"
_RESERVE_BYTES: Final = 16_384
_DAMAGED: Final = ".damaged"


class _Identity(msgspec.Struct, frozen=True):
    """What ``spool.json`` holds."""

    id: UUID
    format: int = FORMAT


class Ledger(msgspec.Struct, frozen=True):
    """Up to which segment a slot is shipped, and how many predictions its segments so far held."""

    sequence: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """How many predictions were accepted, and where they are.

    Each of the three is counted by itself: ``accepted`` by the writers, ``written`` by the shipper,
    ``waiting`` by what lies in between.
    """

    accepted: int
    written: int
    waiting: int

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing and nothing is there twice."""
        return self.accepted == self.written + self.waiting


class Room(NamedTuple):
    """How much of the disk the segments take, and how much they may (``log_max_bytes``)."""

    used_bytes: int
    limit_bytes: int


class Slot:
    """One writer's part of a spool.

    Parameters
    ----------
    folder : Path
        Its sub-folder; made where it is not there.

    Attributes
    ----------
    spares : Spares
        What its writer may use again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self.number: Final = int(folder.name)
        self.spares: Final = Spares(folder)

    def path(self, sequence: int) -> Path:
        """Return where a segment is while it is written."""
        return self.folder / f"{sequence:012d}{UNSEALED}"

    def ledger(self) -> Ledger:
        """Return what is shipped of it."""
        try:
            return msgspec.json.decode((self.folder / _LEDGER).read_bytes(), type=Ledger)
        except FileNotFoundError:
            return Ledger()
        except msgspec.DecodeError as error:
            raise SpoolCorrupt(f"{self.folder / _LEDGER} cannot be read: {error}") from error

    def shipped(self, ledger: Ledger) -> None:
        """Note what is shipped, for good; segments up to there may be removed afterwards.

        A full disk must not keep shipping from making room on it, so some is kept for this.
        """
        reserve, data = self.folder / _RESERVE, msgspec.json.encode(ledger)
        try:
            _write(self.folder / _LEDGER, data)
        except OSError:
            reserve.unlink(missing_ok=True)
            _write(self.folder / _LEDGER, data)
            return
        if not reserve.exists():
            with suppress(OSError):
                reserve.write_bytes(bytes(_RESERVE_BYTES))

    def segments(self) -> list[Segment]:
        """Return the segments that are not shipped yet, in their order.

        What they say of themselves is of one moment although they may be written to: the latest is
        read first, and once it is in use, those before it do not change any more. What is no
        segment is set aside under another name; see :meth:`damaged`.
        """
        done = self.ledger().sequence
        latest_first = [self._segment(path) for path in reversed(self._files())]
        return [one for one in reversed(latest_first) if one and one.head.sequence > done]

    def _segment(self, path: Path) -> Segment | None:
        """Open a segment, also where it was sealed since it was listed; None where it is gone."""
        for there in dict.fromkeys((path, path.with_suffix(SEALED))):
            try:
                found = Segment(there)
                # Another one, if its file was let go of, and used again, at this moment.
                return found if found.head.sequence == int(path.stem) else None
            except FileNotFoundError:
                continue
            except SpoolCorrupt:
                if there.suffix == SEALED:
                    with suppress(FileNotFoundError):  # let go of, and emptied, at this moment
                        there.rename(there.with_suffix(_DAMAGED))
                return None
        return None

    def let_go(self, segment: Segment) -> None:
        """Remove a shipped segment; its file stays as a spare where somebody may use it."""
        with self.locked() as is_free:
            has_writer = not is_free
        if has_writer:
            self.spares.add(segment.path)
        else:
            segment.path.unlink(missing_ok=True)

    def damaged(self) -> list[Path]:
        """Return what was set aside because it cannot be read."""
        return sorted(self.folder.glob(f"*{_DAMAGED}"))

    def last_sequence(self) -> int:
        """Return the highest number that a segment of this slot has had, as far as is known."""
        numbers = [int(path.stem) for path in self._files() if path.stem.isdigit()]
        return max([self.ledger().sequence, *numbers])

    def rows_ever(self) -> int:
        """Return how many predictions this slot was ever given."""
        return self.balance().accepted

    def balance(self) -> Balance:
        """Return how many predictions this slot was given, and where they are, at one moment.

        Others may write and ship meanwhile: where something was shipped, all is read again.
        """
        while True:
            ledger = self.ledger()
            counts = [(one.head.rows_before, one.n_rows) for one in self.segments()]
            if self.ledger() == ledger:
                accepted = max([ledger.rows, *(before + n_rows for before, n_rows in counts)])
                return Balance(accepted, ledger.rows, sum(n_rows for _, n_rows in counts))

    def oldest_us(self) -> int | None:
        """Return when the first segment with waiting predictions was last written; None without.

        Not when it was begun: one that was not used for hours is begun since then.
        """
        done = self.ledger().sequence
        for path in self._files():
            segment = self._segment(path) if int(path.stem) > done else None
            if segment is not None and segment.n_rows:
                with suppress(FileNotFoundError):  # sealed or shipped at this moment
                    return segment.path.stat().st_mtime_ns // 1_000
        return None

    def seal_leftovers(self) -> None:
        """Seal what a writer left open; its lock must be held."""
        for path in self._files():
            if path.suffix != UNSEALED:
                continue
            if is_unused(path):
                path.unlink(missing_ok=True)
            elif (segment := self._segment(path)) is not None:  # else a later Greenroom's
                seal(path, _rows_left(segment))

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the writer's lock inside the block, where it is free; say whether it was."""
        fd = self.take_lock()
        try:
            yield fd is not None
        finally:
            if fd is not None:
                os.close(fd)

    def take_lock(self) -> int | None:
        """Take the writer's lock; it lasts until the returned file, or the process, is closed."""
        fd = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return None
        return fd

    def _files(self) -> list[Path]:
        """List the segments, none left out: one that is renamed meanwhile may be, so look twice."""
        paths: list[Path] = []
        while paths != (paths := sorted(self.folder.iterdir())):
            pass
        return [path for path in paths if path.suffix in {SEALED, UNSEALED}]


class Spool:
    """A spool's folder.

    Parameters
    ----------
    folder : Path
        Made where it is not there.

    Raises
    ------
    OSError
        When it cannot be written.
    SpoolCorrupt
        When it is of a later format, or its id cannot be read.

    Attributes
    ----------
    id : UUID
        By which whatever is shipped of it is known; another one where the folder is made anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.id: Final = self._identity()

    def slots(self) -> list[Slot]:
        """Return the slots there are, by number."""
        names = [path for path in self.folder.iterdir() if path.name.isdigit()]
        return [Slot(path) for path in sorted(names, key=lambda path: int(path.name))]

    def free_slot(self) -> tuple[Slot, int]:
        """Return a slot that no process writes to, and its lock.

        Raises
        ------
        SpoolCorrupt
            When all are taken, which means that locks do not work on this file system.
        """
        for number in range(1, MAX_SLOTS):
            folder = self.folder / f"{number:02d}"
            folder.mkdir(exist_ok=True, mode=0o700)
            slot = Slot(folder)
            lock = slot.take_lock()
            if lock is not None:
                return slot, lock
        raise SpoolCorrupt(f"{self.folder} has no free slot", advice="does it lock files?")

    def seal_leftovers(self) -> None:
        """Seal the open segments of every writer that is gone, and remove its spares."""
        for slot in self.slots():
            with slot.locked() as is_free:
                if is_free:
                    slot.seal_leftovers()
                    slot.spares.drop()

    def balance(self) -> Balance:
        """Return how many predictions were accepted, written and wait.

        Balanced at any time: each slot's numbers are of one moment, and a prediction stays in its
        slot.
        """
        found = [slot.balance() for slot in self.slots()]
        return Balance(
            sum(one.accepted for one in found),
            sum(one.written for one in found),
            sum(one.waiting for one in found),
        )

    def oldest_us(self) -> int | None:
        """Return since when, in microseconds since 1970, predictions wait to be shipped."""
        found = [slot.oldest_us() for slot in self.slots()]
        return min((one for one in found if one is not None), default=None)

    def n_bytes(self) -> int:
        """Return how much of the disk its segments take."""
        total = 0
        for slot in self.slots():
            for path in slot._files():
                with suppress(FileNotFoundError):
                    total += path.stat().st_size
        return total

    def n_spare_bytes(self) -> int:
        """Return how much of the disk the spares take, beside the segments."""
        return sum(slot.spares.n_bytes() for slot in self.slots())

    def drop_spares(self) -> None:
        """Remove the spares, of all writers."""
        for slot in self.slots():
            slot.spares.drop()

    def waits_since_s(self) -> float | None:
        """Return since when the oldest sealed segment waits, in seconds since 1970, if one does."""
        sealed: list[float] = []
        for slot in self.slots():
            for path in slot.folder.glob(f"*{SEALED}"):
                with suppress(FileNotFoundError):
                    sealed.append(path.stat().st_mtime)
        return min(sealed, default=None)

    def _identity(self) -> UUID:
        path = self.folder / _FILE
        with suppress(FileExistsError):
            fresh = path.with_name(f"{_FILE}.{os.getpid()}")
            if not path.exists():
                _write(fresh, msgspec.json.encode(_Identity(uuid4())))
                try:
                    os.link(fresh, path)  # of several that come at a time, one wins
                finally:
                    fresh.unlink(missing_ok=True)
        try:
            found = msgspec.json.decode(path.read_bytes(), type=_Identity)
        except msgspec.DecodeError as error:
            raise SpoolCorrupt(f"{path} cannot be read: {error}") from error
        if found.format > FORMAT:
            raise SpoolCorrupt(
                f"{self.folder} has format {found.format}, this Greenroom knows {FORMAT}",
                advice="upgrade greenroom",
            )
        return found.id


def rows_in(segment: Segment) -> int:
    """Count the predictions in a segment's whole frames."""
    return sum(n_rows(read_record(payload)) for payload in segment.frames())


def _rows_left(segment: Segment) -> int:
    """Count the predictions that a killed writer left; its own number, where they are no records.

    Those are put aside by who ships, and not thrown away.
    """
    try:
        return rows_in(segment)
    except msgspec.DecodeError:
        return segment.n_rows


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is there in full or as it was, also after a power cut."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    sync_folder(path.parent)
