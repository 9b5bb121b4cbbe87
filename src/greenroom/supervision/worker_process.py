"""The supervisor's handle on one worker: its process, its channel, and what it has prepared.

What it is asked to prepare and when it may join is :mod:`greenroom.supervision.supervisor`'s
business.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from greenroom import processes
from greenroom.control import (
    WORKER_VARIABLE,
    Channel,
    Discard,
    FromWorker,
    Join,
    Prepare,
    ToWorker,
    WorkerSetup,
    open_to_worker,
)
from greenroom.errors import ProcessError
from greenroom.inference.generation import Generation

COMMAND: Final = (sys.executable, "-P", "-m", "greenroom.worker")
"""``-P``: what lies in the current folder must not shadow what a worker imports."""

_OUTPUT_GRACE_S: Final = 1.0
_LONGEST_LINE: Final = 1024 * 1024
_RETIRING: Final = -1
_serial = itertools.count(1)


class WorkerProcess:
    """A worker that was started; :meth:`start` makes one.

    ``id`` is never used again, unlike the slot, which the worker's replacement takes over.

    Attributes
    ----------
    started, joined, accepts : bool
        Whether it has been imported, was let in, and accepts connections.
    on_trial : bool
        Whether it is a successor that has not proved itself yet.
    retiring : bool
        Whether it was asked to leave, because another one has taken its place.
    killed_because : str
        Why the supervisor killed it, for the log; empty when it did not.
    failure : str
        What did not load when it was last asked to prepare something that failed.
    runtimes : mapping
        By generation and model, which runtime it answers with.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        process: asyncio.subprocess.Process,
        channel: Channel[FromWorker],
        on_line: Callable[[str], None],
    ) -> None:
        self.id = next(_serial)
        self.slot = setup.slot
        self.seat = setup.seat
        self.pid = process.pid
        self.started = False
        self.joined = False
        self.accepts = False
        self.on_trial = False
        self.retiring = False
        self.killed_because = ""
        self.failure = ""
        self.prepared: set[int] = set()
        self.runtimes: dict[int, Mapping[str, str]] = {}
        self.silent_turns = 0
        self.shown = 0
        self.troubles: dict[tuple[str, str], str] = {}
        self.last_line = ""
        self._born_at = time.monotonic()
        self._process = process
        self._channel = channel
        self._on_line = on_line
        self._timeout_s = setup.settings.load_timeout_s
        self._deadlines: dict[int, asyncio.TimerHandle] = {}
        self._output = asyncio.create_task(self._forward())
        self._expect(0)

    @classmethod
    async def start(
        cls,
        setup: WorkerSetup,
        on_line: Callable[[str], None],
        *,
        command: Sequence[str] = COMMAND,
        environment: Mapping[str, str] = os.environ,
    ) -> WorkerProcess:
        """Start a worker in a group of its own, so that Ctrl-C reaches only the supervisor.

        It is in the supervisor's session all the same: the system divides processors between
        sessions first, and the shipper could not stand back behind a worker of another one.

        Raises
        ------
        ProcessError
            When the operating system cannot start it.
        """
        ours, theirs = socket.socketpair()
        setup = msgspec.structs.replace(setup, control_fd=theirs.fileno())
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(
                    setup.listener_fd,
                    setup.control_fd,
                    setup.committed_fd,
                    setup.counters_fd,
                ),
                env={**environment, WORKER_VARIABLE: setup.dump()},
                process_group=0,
                limit=_LONGEST_LINE,
            )
        except OSError as error:
            ours.close()
            raise ProcessError(f"worker {setup.slot} cannot be started: {error}") from error
        finally:
            theirs.close()
        return cls(setup, process, await open_to_worker(ours), on_line)

    @property
    def age_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._born_at

    @property
    def hung(self) -> bool:
        """Whether it had to be killed."""
        return bool(self.killed_because)

    @property
    def loading(self) -> bool:
        """Whether it is starting or preparing a generation, for which it has a time of its own."""
        return any(number != _RETIRING for number in self._deadlines)

    def send(self, message: ToWorker) -> None:
        """Send a message; one to a worker that has ended is dropped."""
        self._channel.send(message)

    def prepare(self, generation: Generation) -> None:
        """Ask for a generation, once; a worker that does not answer in time is killed."""
        if generation.number not in self._deadlines and generation.number not in self.prepared:
            self._expect(generation.number)
            self.send(Prepare(generation))

    def answered(self, number: int) -> None:
        """Note that the worker has answered for a generation, or for 0: that it has started."""
        deadline = self._deadlines.pop(number, None)
        if deadline is not None:
            deadline.cancel()

    def has_prepared(self, number: int, runtimes: Mapping[str, str]) -> None:
        """Note that a generation is loaded, and what answers in it."""
        self.answered(number)
        self.prepared.add(number)
        self.runtimes[number] = runtimes

    def discard(self, keep: int) -> None:
        """Have every generation dropped but one."""
        self.prepared &= {keep}
        self.runtimes = {number: kept for number, kept in self.runtimes.items() if number == keep}
        if self.started:
            self.send(Discard(keep))

    def join(self, number: int) -> None:
        """Let the worker accept connections."""
        self.joined = True
        self.send(Join(number))

    async def attend(self, on_message: Callable[[FromWorker], None]) -> int:
        """Hand on the worker's messages until it has ended; return its exit status.

        A worker that closes its channel, or sends what is no message, is killed.
        """
        try:
            with contextlib.suppress(ProcessError):
                while (message := await self._channel.receive()) is not None:
                    self.silent_turns = 0
                    on_message(message)
            await self._gone()
        finally:
            self.kill()
            for deadline in self._deadlines.values():
                deadline.cancel()
        status = await self._process.wait()
        await self._channel.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._output, _OUTPUT_GRACE_S)
        return status

    def terminate(self) -> None:
        """Ask the worker to finish its requests and end."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    def retire(self, grace_s: float) -> None:
        """Ask the worker to accept no more, and to end when its clients have gone elsewhere.

        One that serves nobody yet ends at once, one that takes longer than ``grace_s`` then.
        """
        self.retiring = True
        if not self.accepts:
            self.kill()
        elif self._process.returncode is None:
            self._process.send_signal(signal.SIGUSR1)
            self._expect(_RETIRING, grace_s, "did not finish its requests in time")

    def give_up(self, because: str) -> None:
        """Kill the worker, and remember why."""
        self.killed_because = because
        self.kill()

    def kill(self) -> None:
        """End the worker, and whatever it has started, at once."""
        processes.send_to_group(self.pid, signal.SIGKILL)

    async def _gone(self) -> None:
        """Give a worker that leaves in order, its channel first, a moment to end by itself."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _OUTPUT_GRACE_S)

    def _expect(
        self, number: int, timeout_s: float | None = None, because: str = "did not answer in time"
    ) -> None:
        loop = asyncio.get_running_loop()
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        self._deadlines[number] = loop.call_later(wait_s, self.give_up, because)

    async def _forward(self) -> None:
        output = self._process.stdout
        if output is None:
            return
        while True:
            try:
                line = await output.readline()
            except ValueError:  # longer than the limit: nothing that anyone would read
                continue
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self.last_line = text
                with contextlib.suppress(OSError):  # nobody reads our output any more
                    self._on_line(text)


def plain(line: str) -> str:
    """Return what a worker's log line says, without the JSON around it.

    Examples
    --------
    >>> plain('{"level": "ERROR", "message": "no such app"}'), plain("ImportError: x")
    ('no such app', 'ImportError: x')
    """
    try:
        return msgspec.json.decode(line, type=_Line).message
    except msgspec.DecodeError:
        return line


def ending(status: int) -> str:
    """Say how a process ended.

    Examples
    --------
    >>> ending(1), ending(-9)
    ('exit status 1', 'SIGKILL')
    """
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


class _Line(msgspec.Struct):
    message: str
