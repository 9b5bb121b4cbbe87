"""The supervisor's handle on the shipper: starts it, starts it again, and ends it last.

It runs when no worker wants its processor. Under load on all of them it would hardly run, so what
waits is watched: when it has waited for too long, or takes much of the room there is, the process
is started again with a share of its own, which it keeps until nothing waits. To start it again is
the only way, because a process may not raise its own priority.

What it does is :mod:`greenroom.log.shipper`'s business. That it is away is no reason not to serve:
predictions wait in the spool.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from greenroom import processes
from greenroom.errors import LogError
from greenroom.log.shipper import SHIPPER_VARIABLE, ShipperSetup
from greenroom.log.spool import Spool

__all__ = ["COMMAND", "ShipperProcess"]

COMMAND: Final = (sys.executable, "-P", "-m", "greenroom.log.shipper")

_PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_LASTING_S: Final = 60.0
"""A process that has lived for so long did not fail at its start."""

_LOOK_S: Final = 1.0
_ROOM: Final = 0.25
"""It may stand back as long as no more of the room for the spool is taken than this share."""


class ShipperProcess:
    """The shipper of one server.

    Parameters
    ----------
    setup : ShipperSetup
    max_bytes : int
        How much of the disk the spool may take.
    on_event : callable
        Told in one line when it ends by itself, or is started again for what waits.
    on_log : callable
        Told every line that it writes.
    command : sequence of str
        What starts it.

    Attributes
    ----------
    pid : int
        Of the process; 0 while there is none.
    """

    def __init__(
        self,
        setup: ShipperSetup,
        *,
        max_bytes: int,
        on_event: Callable[[str], None],
        on_log: Callable[[str], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._setup: Final = setup
        self._max_bytes: Final = max_bytes
        self._on_event: Final = on_event
        self._on_log: Final = on_log
        self._command: Final = command
        self._ours = -1
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._pressed = False
        self._stopping = False
        self._counters_fd = -1
        self.pid = 0

    def start(self, *, counters_fd: int = -1) -> None:
        """Start it, and have an eye on it until :meth:`stop`.

        Parameters
        ----------
        counters_fd : int
            What the workers count in; negative where they count nowhere.
        """
        self._counters_fd = counters_fd
        self._stopping = False
        self._tasks = [asyncio.create_task(self._kept())]
        if self._setup.patience_s:
            self._tasks.append(asyncio.create_task(self._watched()))

    async def stop(self, *, grace_s: float) -> None:
        """Have it ship what there is and end; kill it when that takes too long.

        Nothing is lost then: the next start goes on.
        """
        if not self._tasks:
            return
        self._stopping = True
        process = self._process
        self._close()
        if process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if process is not None and process.returncode is None:
            processes.send_to_group(process.pid, signal.SIGKILL)
            await process.wait()

    async def _kept(self) -> None:
        failures = 0
        while True:
            began_s = asyncio.get_running_loop().time()
            status = await self._once()
            if self._stopping:
                return
            if asyncio.get_running_loop().time() - began_s > _LASTING_S:
                failures = 0
            if self._pressed:
                continue
            pause_s = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
            failures += 1
            self._on_event(
                f"the process that ships predictions ended ({status}); they wait on disk, and it "
                f"is started again in {pause_s:g} s"
            )
            await asyncio.sleep(pause_s)

    async def _watched(self) -> None:
        """Have it take its share of the processors when what waits cannot wait any longer."""
        while True:
            await asyncio.sleep(_LOOK_S)
            pid = self.pid
            if pid and processes.runs_when_idle(pid):
                reason = await asyncio.to_thread(self._presses)
                if reason and pid == self.pid:
                    self._pressed = True
                    self._on_event(f"{reason}: shipping takes its share of the processors now")
                    processes.send_to_group(pid, signal.SIGKILL)

    def _presses(self) -> str:
        """Say why what waits cannot wait for an idle processor; nothing where it can."""
        try:
            spool = Spool(Path(self._setup.spool))
            since_s, share = spool.waits_since_s(), spool.n_bytes() / self._max_bytes
        except (LogError, OSError):
            return ""
        if since_s is None:
            return ""
        if share > _ROOM:
            return f"predictions that wait take {share:.0%} of their room"
        waited_s = time.time() - since_s
        return f"predictions wait for {waited_s:.0f} s" if waited_s > self._setup.patience_s else ""

    async def _once(self) -> str:
        """Run it to its end; return how it ended."""
        # The end for writing is ours: it closes with us, however we end.
        theirs, self._ours = os.pipe()
        setup = msgspec.structs.replace(
            self._setup,
            control_fd=theirs,
            counters_fd=self._counters_fd,
            pressed=self._pressed,
        )
        self._pressed = False
        inherited = [fd for fd in (theirs, self._counters_fd) if fd >= 0]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, SHIPPER_VARIABLE: msgspec.json.encode(setup).decode()},
                pass_fds=inherited,
                # Not a session of its own: the system divides processors between sessions first.
                process_group=0,
            )
        except OSError as error:
            self._close()
            return str(error.strerror)
        finally:
            os.close(theirs)
        self.pid = self._process.pid
        assert self._process.stderr is not None  # noqa: S101 - for the type checker
        async for line in self._process.stderr:
            self._on_log(line.decode(errors="replace").rstrip())
        status = await self._process.wait()
        self.pid = 0
        self._close()
        return f"exit status {status}"

    def _close(self) -> None:
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1
