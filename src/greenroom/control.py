"""What the supervisor and its workers share: one committed number, and a channel of messages.

The number of the committed generation lies in memory that the supervisor writes and every worker
maps: a request reads it once, so that all workers change versions at one instant. Everything else
(prepare this, I have, my status, please reload) goes as length-prefixed MessagePack over a pair of
sockets; the end of that stream is how each side learns that the other is gone.

Who sends what when is :mod:`greenroom.supervision.supervisor`'s and
:mod:`greenroom.http.membership`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import socket
import struct
import tempfile
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from greenroom.errands import Done, Errand
from greenroom.errors import ProcessError
from greenroom.inference.generation import Generation
from greenroom.settings import Settings
from greenroom.status import Status

WORKER_VARIABLE: Final = "GREENROOM_WORKER"
"""The environment variable that holds a worker's :class:`WorkerSetup`, as JSON."""

_MAGIC: Final = int.from_bytes(b"GREENRM1", "little")
_SIZE: Final = mmap.PAGESIZE
_LENGTH: Final = struct.Struct("!I")
_LARGEST_MESSAGE: Final = 64 * 1024 * 1024


class CommittedGeneration:
    """The number of the generation that all workers answer from, in shared memory.

    An aligned 64-bit cell of a mapped file that has no name: it is passed to workers as an open
    file, and nothing is left on disk however the processes end. Loads and stores of such a cell
    are indivisible on the machines that Greenroom runs on. Calling the object reads the number,
    in well under a microsecond.

    Examples
    --------
    >>> committed = CommittedGeneration.create()
    >>> view = CommittedGeneration.attach(os.dup(committed.fd))
    >>> committed.commit(7)
    >>> view()
    7
    >>> view.close(); committed.close()
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, _SIZE)
        self._cells = memoryview(self._memory).cast("Q")

    @classmethod
    def create(cls) -> CommittedGeneration:
        """Make the shared memory, with number 0 committed."""
        with tempfile.TemporaryFile(prefix="greenroom-") as file:
            file.truncate(_SIZE)
            made = cls(os.dup(file.fileno()))
        made._cells[0] = _MAGIC
        return made

    @classmethod
    def attach(cls, fd: int) -> CommittedGeneration:
        """Map the memory behind a file that was inherited.

        Raises
        ------
        ProcessError
            When the file is something else.
        """
        try:
            found = cls(fd)
        except (OSError, ValueError) as error:
            raise ProcessError(f"file {fd} holds no committed generation: {error}") from error
        if found._cells[0] != _MAGIC:
            found.close()
            raise ProcessError(f"file {fd} holds no committed generation, or one of another format")
        return found

    def __call__(self) -> int:
        """Return the committed number."""
        return self._cells[1]

    def commit(self, number: int) -> None:
        """Make ``number`` what every worker answers from; numbers only rise.

        Raises
        ------
        ValueError
            When ``number`` is not above the committed one.
        """
        if number <= self._cells[1]:
            raise ValueError(f"generation {number} is not above {self._cells[1]}")
        self._cells[1] = number

    def close(self) -> None:
        """Unmap the memory and close the file."""
        self._cells.release()
        self._memory.close()
        os.close(self.fd)


class WorkerSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is started with: its inherited files, its app and the settings.

    ``seat`` says which part of the memory for counting is the worker's own.
    """

    slot: int
    listener_fd: int
    control_fd: int
    committed_fd: int
    counters_fd: int
    seat: int
    app_folder: str = ""
    settings: Settings

    def dump(self) -> str:
        """Return the value of ``GREENROOM_WORKER``."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def load(cls, text: str) -> WorkerSetup:
        """Read the value of ``GREENROOM_WORKER``.

        Raises
        ------
        ProcessError
            When it cannot be understood, as when the worker was not started by a supervisor.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            raise ProcessError(
                f"{WORKER_VARIABLE} cannot be read: {error}",
                advice="workers are started by `greenroom serve`",
            ) from error


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """To a worker: load and warm this generation, and say how it went."""

    generation: Generation


class Join(msgspec.Struct, frozen=True, tag=True):
    """To a worker: begin to accept connections; ``number`` is committed and prepared."""

    number: int


class Discard(msgspec.Struct, frozen=True, tag=True):
    """To a worker: drop every generation but ``keep``."""

    keep: int


class Update(msgspec.Struct, frozen=True, tag=True):
    """To a worker: this is the server's status from now on."""

    status: Status


class Answer(msgspec.Struct, frozen=True, tag=True):
    """To a worker: what became of its :class:`Ask`.

    ``error`` is the name of one of the classes in :mod:`greenroom.errors`, empty for success.
    """

    ask_id: int
    outcome: Done | None = None
    error: str = ""
    message: str = ""
    advice: str = ""


class Started(msgspec.Struct, frozen=True, tag=True):
    """From a worker: imported and listening to the channel."""


class Prepared(msgspec.Struct, frozen=True, tag=True):
    """From a worker: the generation is loaded and warm.

    ``runtimes`` says by model which runtime answers; one that is not loaded is not there.
    """

    number: int
    seconds: float
    runtimes: dict[str, str] = {}


class Failed(msgspec.Struct, frozen=True, tag=True):
    """From a worker: one model of the generation does not load; nothing of it is kept."""

    number: int
    model: str
    problem: str


class Joined(msgspec.Struct, frozen=True, tag=True):
    """From a worker: it accepts connections."""


class Updated(msgspec.Struct, frozen=True, tag=True):
    """From a worker: it shows the status of this generation."""

    generation: int


class Beat(msgspec.Struct, frozen=True, tag=True):
    """From a worker, once a second: its event loop runs."""


class Trouble(msgspec.Struct, frozen=True, tag=True):
    """From a worker: a version does not load on its first use; or, with no problem, it does now."""

    model: str
    digest: str
    problem: str


class Ask(msgspec.Struct, frozen=True, tag=True):
    """From a worker: do something for a caller, and send the :class:`Answer`."""

    ask_id: int
    errand: Errand


ToWorker: TypeAlias = Prepare | Join | Discard | Update | Answer
FromWorker: TypeAlias = Started | Prepared | Failed | Joined | Updated | Beat | Trouble | Ask
Received = TypeVar("Received")


class Channel(Generic[Received]):
    """One end of the stream of messages between the supervisor and a worker.

    Parameters
    ----------
    reader, writer
        The stream; :func:`open_to_worker` and :func:`open_to_supervisor` make it.
    incoming : type
        The union of messages that this end receives.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, incoming: Any
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Received] = msgspec.msgpack.Decoder(incoming)

    def send(self, message: ToWorker | FromWorker) -> None:
        """Send a message without waiting; one to a peer that is gone is dropped."""
        if self._writer.is_closing():
            return
        body = self._encoder.encode(message)
        self._writer.write(_LENGTH.pack(len(body)) + body)

    async def receive(self) -> Received | None:
        """Return the next message, or None when the peer is gone.

        Raises
        ------
        ProcessError
            When the peer sends what is no message: it runs another version of Greenroom.
        """
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if length > _LARGEST_MESSAGE:
                raise ProcessError(f"a control message of {length} bytes is no message")
            return self._decoder.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None
        except msgspec.DecodeError as error:
            raise ProcessError(f"a control message cannot be read: {error}") from error

    async def close(self) -> None:
        """Send what is waiting, and end the stream."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def open_to_worker(end: socket.socket) -> Channel[FromWorker]:
    """Make the supervisor's end of a channel from its end of a socket pair."""
    reader, writer = await asyncio.open_unix_connection(sock=end)
    return Channel(reader, writer, FromWorker)


async def open_to_supervisor(end: socket.socket) -> Channel[ToWorker]:
    """Make a worker's end of a channel from its end of a socket pair."""
    reader, writer = await asyncio.open_unix_connection(sock=end)
    return Channel(reader, writer, ToWorker)
