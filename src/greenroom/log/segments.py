"""Segments: files of checksummed frames, which a process that is killed leaves whole.

A segment is laid out on disk in full before it is used, and mapped into memory: appending is
copying, which no full disk can interrupt, and what has been copied is the system's to write,
whatever becomes of the process. A frame is its length, its CRC-32 and its payload; the length is
written last, so a frame that was cut off is told by its checksum, or is not there at all.

What the payloads mean is :mod:`greenroom.log.log_records`' business; which segments there are, and
when one is sealed, :mod:`greenroom.log.spool`'s.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID
from zlib import crc32

from greenroom.errors import SpoolCorrupt

__all__ = [
    "FORMAT",
    "SEALED",
    "UNSEALED",
    "ZEROS",
    "Head",
    "Segment",
    "SegmentWriter",
    "is_unused",
    "n_framed",
    "replace_frames",
    "seal",
]

FORMAT: Final = 1
UNSEALED: Final = ".open"
SEALED: Final = ".sealed"

_MAGIC: Final = b"GREENLOG"
_HEAD: Final = struct.Struct("<8sII16sQQQ")
_COUNTS: Final = struct.Struct("<QQ")
_COUNTS_AT: Final = 64
_COUNTS_END: Final = _COUNTS_AT + _COUNTS.size
_FRAME: Final = struct.Struct("<II")
HEAD_BYTES: Final = 128
ZEROS: Final = memoryview(bytes(2**16))
"""In one piece, because the system may keep that in one piece."""

_BREATH_S: Final = 0.000_2
"""Between two such pieces whoever answers on the same processor gets its turn: all of a segment at
once would make it wait for several milliseconds."""


class Head(NamedTuple):
    """What a segment says about itself.

    Attributes
    ----------
    spool : UUID
        Which spool it belongs to.
    slot : int
        Which of the spool's writers wrote it.
    sequence : int
        Its place among that writer's segments; later ones have higher numbers.
    rows_before : int
        How many predictions that writer's segments before it hold, ever since the spool was made;
        0, like the next one, before it is used.
    began_at_us : int
        When its use began, in microseconds since 1970.
    """

    spool: UUID
    slot: int
    sequence: int
    rows_before: int = 0
    began_at_us: int = 0


class SegmentWriter:
    """A segment that is being written, by one process alone; not for several threads at a time.

    Parameters
    ----------
    path : Path
        Where it is made; nothing may be there.
    head : Head
    n_bytes : int
        How large it is at most, its head included.
    n_ready : int
        How much of it is brought into memory, and onto the disk, before it is used: that takes
        milliseconds here, and from whoever appends most of what appending costs.
    reused : bool
        Whether a file full of zeros is there after all.

    Raises
    ------
    OSError
        When there is no room for all of it, or the folder cannot be written.

    Attributes
    ----------
    n_rows : int
        How many predictions it holds.
    n_synced : int
        How much of it survives a power cut, for sure.
    """

    __slots__ = ("_counts", "_memory", "_size", "_used", "fd", "head", "n_rows", "n_synced", "path")

    def __init__(
        self, path: Path, head: Head, n_bytes: int, n_ready: int = 0, *, reused: bool = False
    ) -> None:
        self.path: Final = path
        self.head = head
        self.n_rows = 0
        self.n_synced = HEAD_BYTES
        self._used = HEAD_BYTES
        self._size: Final = n_bytes
        how = os.O_RDWR | os.O_CLOEXEC | (0 if reused else os.O_CREAT | os.O_EXCL)
        self.fd: Final = os.open(path, how, 0o600)
        try:
            _lay_out(self.fd, n_bytes, n_ready)
            self._memory: Final = mmap.mmap(self.fd, n_bytes)
        except OSError:
            os.close(self.fd)
            path.unlink(missing_ok=True)
            raise
        self._write_head()
        # Others read them meanwhile: a cell is stored at once, where `struct` writes zeros first.
        self._counts: Final = memoryview(self._memory)[_COUNTS_AT:_COUNTS_END].cast("Q")
        self._counts[1] = self._used

    @property
    def n_bytes(self) -> int:
        """How much of it is used."""
        return self._used

    @property
    def n_left(self) -> int:
        """How much room is left in it."""
        return self._size - self._used

    def begin(self, rows_before: int) -> None:
        """Begin to use a segment that was made beforehand."""
        began_at_us = time.time_ns() // 1_000
        self.head = self.head._replace(rows_before=rows_before, began_at_us=began_at_us)
        self._write_head()

    def append(self, payload: bytes, n_rows: int = 0) -> bool:
        """Append a frame with ``n_rows`` predictions; return False when it does not fit any more.

        When this has returned, a kill of the process loses nothing of it.
        """
        at = self._used
        n_payload = len(payload)
        end = at + _FRAME.size + n_payload
        if end > self._size:
            return False
        memory = self._memory
        memory[at + _FRAME.size : end] = payload
        _FRAME.pack_into(memory, at, n_payload, crc32(payload))
        self._used = end
        self.n_rows += n_rows
        counts = self._counts
        counts[1], counts[0] = end, self.n_rows
        return True

    def sync(self) -> None:
        """Have what is appended survive a power cut; takes milliseconds."""
        n_bytes = self._used
        os.fdatasync(self.fd)
        self.n_synced = n_bytes

    def seal(self) -> Path:
        """End the segment and return where it is from now on; an empty one is removed."""
        self._counts.release()
        self._memory.close()
        if self._used == HEAD_BYTES:
            os.close(self.fd)
            self.path.unlink(missing_ok=True)
            return self.path
        os.ftruncate(self.fd, self._used)
        os.fsync(self.fd)
        os.close(self.fd)
        return _sealed(self.path)

    def _write_head(self) -> None:
        spool, *numbers = self.head
        slot, *rest = numbers
        _HEAD.pack_into(self._memory, 0, _MAGIC, FORMAT, slot, spool.bytes, *rest)


class Segment:
    """A segment as it is read; also while it is being written, up to its last whole frame.

    Parameters
    ----------
    path : Path

    Raises
    ------
    SpoolCorrupt
        When the file is no segment, or of a later format.
    OSError
        When it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        start = _start(path)
        if len(start) < HEAD_BYTES or not start.startswith(_MAGIC):
            raise SpoolCorrupt(f"{path} is no segment of a log", advice="move it elsewhere")
        _, found, slot, spool, *numbers = _HEAD.unpack_from(start)
        if found > FORMAT:
            raise SpoolCorrupt(
                f"{path} has format {found}, this Greenroom reads up to {FORMAT}",
                advice="upgrade greenroom where the log is shipped",
            )
        self.head: Final = Head(UUID(bytes=spool), slot, *numbers)
        self.n_rows_noted: Final = int(_COUNTS.unpack_from(start, _COUNTS_AT)[0])

    @property
    def sealed(self) -> bool:
        """Whether nothing will be added to it."""
        return self.path.suffix == SEALED

    @property
    def n_rows(self) -> int:
        """How many predictions it holds, as its writer has noted it after each frame."""
        return self.n_rows_noted

    def frames(self) -> Iterator[bytes]:
        """Go through the payloads in their order; a frame that is not whole ends it."""
        for start, end in self._places():
            yield self._bytes[start:end]

    def end(self) -> int:
        """Return where the last whole frame ends, in bytes from the beginning."""
        return max((end for _, end in self._places()), default=HEAD_BYTES)

    def _places(self) -> Iterator[tuple[int, int]]:
        data = self._bytes = self._read()
        at, view = HEAD_BYTES, memoryview(data)
        while at + _FRAME.size <= len(data):
            n_payload, checksum = _FRAME.unpack_from(data, at)
            start = at + _FRAME.size
            at = start + n_payload
            if not n_payload or at > len(data) or crc32(view[start:at]) != checksum:
                return
            yield start, at

    def _read(self) -> bytes:
        """Return all that is there, under the one name or the other."""
        for there in (self.path, self.path.with_suffix(SEALED)):
            with suppress(FileNotFoundError):
                data = there.read_bytes()
                there.stat()  # else it was let go of meanwhile, and holds something else
                return data
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))


def is_unused(path: Path) -> bool:
    """Return whether a segment was made, and its writer killed before it had a head."""
    return not _start(path).startswith(_MAGIC)


def seal(path: Path, n_rows: int) -> Path | None:
    """End a segment whose writer is gone; return where it is, or None where it held nothing.

    Parameters
    ----------
    path : Path
        The segment; nobody may be writing to it.
    n_rows : int
        How many predictions its frames hold: the writer may have been killed between writing the
        last one and noting it.

    Raises
    ------
    SpoolCorrupt
        When the file is no segment.
    """
    end = Segment(path).end()
    if end == HEAD_BYTES:
        path.unlink(missing_ok=True)
        return None
    with path.open("r+b") as file:
        file.seek(_COUNTS_AT)
        file.write(_COUNTS.pack(n_rows, end))
        file.truncate(end)
        file.flush()
        os.fsync(file.fileno())
    return _sealed(path)


def replace_frames(path: Path, payloads: Iterable[bytes]) -> None:
    """Put other frames in the place of a sealed segment's own; all of them, or none.

    How many predictions they hold has to stay the same.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    with path.open("rb") as file:
        data = bytearray(file.read(HEAD_BYTES))
    for payload in payloads:
        data += _FRAME.pack(len(payload), crc32(payload)) + payload
    n_rows = _COUNTS.unpack_from(data, _COUNTS_AT)[0]
    _COUNTS.pack_into(data, _COUNTS_AT, n_rows, len(data))
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    sync_folder(path.parent)


def n_framed(payloads: Iterable[bytes]) -> int:
    """Return how much room frames with these payloads take."""
    return sum(_FRAME.size + len(payload) for payload in payloads)


def _lay_out(fd: int, n_bytes: int, n_ready: int) -> None:
    """Give a file its size on the disk, and bring so much into memory of what it did not have."""
    there = os.fstat(fd).st_size
    if there > n_bytes:
        os.ftruncate(fd, n_bytes)
    # A hole would be filled only when it is written to, and a full disk kill the process.
    os.posix_fallocate(fd, 0, n_bytes)
    end = min(n_ready, n_bytes)
    for at in range(there, end, len(ZEROS)):
        os.pwrite(fd, ZEROS[: end - at], at)
        time.sleep(_BREATH_S)
    if there < end:
        os.fdatasync(fd)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _sealed(path: Path) -> Path:
    found = path.with_suffix(SEALED)
    path.rename(found)
    sync_folder(path.parent)
    return found


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
