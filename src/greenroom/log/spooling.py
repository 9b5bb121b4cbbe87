"""Spooling: one process appends to the log, and a thread of its own does everything that is slow.

Appending is a copy into memory that the system will write (:mod:`greenroom.log.segments`). The
thread makes what was appended survive a power cut, has the next segment ready before it is needed,
and seals those that are full or have been open for long enough.

What is appended is not known here.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from greenroom.errors import SpoolFull
from greenroom.log.outbox import Outbox
from greenroom.log.segments import HEAD_BYTES, Head, SegmentWriter, n_framed
from greenroom.log.spool import Balance, Room, Spool

__all__ = ["NOT_DESCRIBED", "Spooler"]

NOT_DESCRIBED: Final = -1
"""The number of frames that refer to no description."""

SEGMENT_BYTES: Final = 8 * 2**20
"""Two of them are mapped at a time, and count as the worker's memory."""

_LEAST_READY_BYTES: Final = 2**16
_RETRY_S: Final = 1.0


class Spooler:
    """What one process appends to a spool with; safe in threads.

    Parameters
    ----------
    spool : Spool
    fsync_s : float
        How much a power cut may lose, in seconds; 0: what :meth:`when_durable` says.
    seal_s : float
        How long a segment is open at most, when it holds anything.
    max_bytes : int
        How much of the disk the spool may take.
    segment_bytes : int
        How large a segment is.

    Raises
    ------
    OSError, SpoolCorrupt
        When the spool cannot be written.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        fsync_s: float,
        seal_s: float,
        max_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._spool: Final = spool
        self._fsync_s: Final = fsync_s
        self._seal_s: Final = seal_s
        self._max_bytes: Final = max_bytes
        self._segment_bytes: Final = segment_bytes
        self._slot, self._slot_lock = spool.free_slot()
        self._slot.seal_leftovers()
        self._sequence = self._slot.last_sequence()
        self._rows = self._slot.rows_ever()
        self._lock: Final = threading.Lock()
        self._open: SegmentWriter | None = None
        self._next: SegmentWriter | None = None
        self._full: list[SegmentWriter] = []
        self._described = {NOT_DESCRIBED}
        self._waiting: list[Callable[[], object]] = []
        self._last_bytes = 0
        self._problem = ""
        self._wake: Final = threading.Event()
        self._ending = False
        self._keeper: Final = threading.Thread(target=self._keep, name="spool", daemon=True)
        self._prepare()
        self._keeper.start()

    @property
    def slot(self) -> int:
        """Which of the spool's slots this process has."""
        return self._slot.number

    def append(
        self, payload: bytes, n_rows: int, number: int, described: Callable[[], bytes]
    ) -> None:
        """Append a frame that refers to a description, which every segment holds once.

        Parameters
        ----------
        payload : bytes
            The frame.
        n_rows : int
            How many predictions it holds.
        number : int
            The description's; :data:`NOT_DESCRIBED` for a frame that refers to none.
        described : callable
            Returns the frame of the description; called where the segment does not hold it yet.

        Raises
        ------
        SpoolFull
            When there is no room for it; nothing of it is kept.
        """
        with self._lock:
            segment = self._open
            # The usual case is all here: where requests come one by one, no code of theirs is in
            # the processor's caches, and each call costs four times what a loop would show.
            if (
                segment is None
                or number not in self._described
                or not segment.append(payload, n_rows)
            ):
                self._append_first(payload, n_rows, number, described)

    def when_durable(self, told: Callable[[], object]) -> None:
        """Have ``told`` called, in the thread, when all that is appended survives a power cut."""
        with self._lock:
            self._waiting.append(told)
        self._wake.set()

    @property
    def immediate(self) -> bool:
        """Whether replies have to wait until their records survive a power cut."""
        return not self._fsync_s

    def balance(self) -> Balance:
        """Return how many predictions all writers of the spool were given, and where they are."""
        return self._spool.balance()

    def room(self) -> Room:
        """Return how much of the disk the whole spool takes, and how much it may."""
        return Room(self._spool.n_bytes(), self._max_bytes)

    def outbox(self) -> Outbox:
        """Return where what goes on from the spool to MLflow waits."""
        return Outbox(self._spool)

    def seal(self) -> None:
        """Have what was appended so far sealed, soon."""
        with self._lock:
            self._set_aside()
        self._wake.set()

    def close(self) -> None:
        """Seal what is open, and let the slot go."""
        self._ending = True
        self._wake.set()
        self._keeper.join()
        with self._lock:
            self._set_aside()
            self._set_aside()  # the one that was ready, too
        self._settle()
        os.close(self._slot_lock)

    def _append_first(
        self, payload: bytes, n_rows: int, number: int, described: Callable[[], bytes]
    ) -> None:
        """Append a frame with its description, to a fresh segment if need be; the lock is held."""
        segment = self._open
        frames = self._frames(payload, number, described)
        if segment is None or segment.n_left < n_framed(frames):
            self._described = {NOT_DESCRIBED}
            frames = self._frames(payload, number, described)
            segment = self._roll(HEAD_BYTES + n_framed(frames))
        *description, last = frames
        for frame in description:
            segment.append(frame)
        segment.append(last, n_rows)
        self._described.add(number)

    def _frames(
        self, payload: bytes, number: int, described: Callable[[], bytes]
    ) -> tuple[bytes, ...]:
        return (payload,) if number in self._described else (described(), payload)

    def _roll(self, n_needed: int) -> SegmentWriter:
        """Go on with a fresh segment of at least so many bytes; the lock is held."""
        fresh = self._next
        if fresh is None or n_needed > self._segment_bytes:
            # A frame must not wait for the thread; the one it makes has a lower number by then.
            fresh = self._made(self._taken(), max(n_needed, self._segment_bytes))
            if self._next is not None:
                self._full.append(self._next)
        self._next = None
        self._set_aside()
        self._use(fresh)
        self._wake.set()
        return fresh

    def _use(self, segment: SegmentWriter) -> None:
        segment.begin(self._rows)
        self._open = segment

    def _set_aside(self) -> None:
        """Have the open segment sealed; the next one follows, where it is ready."""
        if self._open is not None:
            self._full.append(self._open)
            self._rows += self._open.n_rows
            self._last_bytes = self._open.n_bytes
            self._open = None
        if self._next is not None:
            self._use(self._next)
            self._next = None
        self._described = {NOT_DESCRIBED}

    def _taken(self) -> int:
        self._sequence += 1
        return self._sequence

    def _ready_bytes(self) -> int:
        """Return how much of a segment to have ready: a little more than the last held, or nothing.

        A reply that waits for the disk gains nothing from it, and would wait for this too.
        """
        return 0 if self.immediate else max(_LEAST_READY_BYTES, self._last_bytes * 5 // 4)

    def _made(self, sequence: int, n_bytes: int, n_ready: int | None = None) -> SegmentWriter:
        """Make a segment; where there is time to have some of it ready, of a spare if there is one.

        Raises
        ------
        SpoolFull
            When there is no room for it.
        """
        self._require_room(n_bytes)
        head, path = Head(self._spool.id, self._slot.number, sequence), self._slot.path(sequence)
        try:
            if n_ready is None:
                return SegmentWriter(path, head, n_bytes)
            reused = self._slot.spares.take(path)
            return SegmentWriter(path, head, n_bytes, n_ready, reused=reused)
        except OSError as error:
            raise SpoolFull(
                f"the prediction log cannot be written: {error.strerror}",
                advice="make room on the disk of the home folder",
            ) from error

    def _require_room(self, n_bytes: int) -> None:
        """Raise where so much more is more than the spool may take; spares give way before."""
        n_used = self._spool.n_bytes()
        if n_used + self._spool.n_spare_bytes() + n_bytes > self._max_bytes:
            self._spool.drop_spares()
        if n_used + n_bytes > self._max_bytes:
            raise SpoolFull(
                "the prediction log holds as much as it may",
                advice="see why it is not shipped, or raise log_max_bytes",
            )

    # What the thread does.

    def _keep(self) -> None:
        while not self._ending:
            self._wake.wait(self._fsync_s or self._seal_s)
            self._wake.clear()
            try:
                self._prepare()
                self._seal_old()
                self._settle()
            except OSError as error:
                self._say(f"the prediction log cannot be written: {error.strerror}")
                time.sleep(_RETRY_S)

    def _prepare(self) -> None:
        """Have a segment open and the next one ready, if there is room for them."""
        try:
            while self._open is None or self._next is None:
                self._prepare_one()
        except SpoolFull as error:
            self._say(f"{self._slot.folder}: {error}")
        else:
            self._problem = ""

    def _prepare_one(self) -> None:
        with self._lock:
            sequence = self._taken()
        made = self._made(sequence, self._segment_bytes, self._ready_bytes())
        with self._lock:
            if self._open is not None and self._open.head.sequence > sequence:
                self._full.append(made)  # a frame did not wait for it
            elif self._open is None:
                self._use(made)
            else:
                self._next = made

    def _seal_old(self) -> None:
        with self._lock:
            segment = self._open
            if segment is None or segment.n_bytes == HEAD_BYTES:
                return
            if time.time() - segment.head.began_at_us / 1e6 >= self._seal_s:
                self._set_aside()

    def _settle(self) -> None:
        """Make what was appended so far survive a power cut; seal what is to be sealed."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            full, self._full = self._full, []
            segment = self._open
        for ended in full:
            ended.seal()
        if segment is not None and segment.n_bytes > segment.n_synced:
            segment.sync()
        for told in waiting:
            told()

    def _say(self, problem: str) -> None:
        """Log a problem once, until it is over."""
        if problem != self._problem:
            self._problem = problem
            logging.getLogger(__name__).error("%s", problem)
