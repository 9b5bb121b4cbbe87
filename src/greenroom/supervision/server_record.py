"""Which servers run from a home folder: a small file for each, by port.

It names the supervisor's process, so that ``greenroom restart`` finds whom to ask, and says how the
last restart went. A file that a killed server left behind is told from a living one by the time at
which the process began. What the server serves is not here: ``/health`` says that.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Final

import msgspec

from greenroom import processes
from greenroom.errors import ProcessError
from greenroom.status import RestartStatus

FOLDER: Final = "servers"


class _Record(msgspec.Struct, frozen=True):
    """``identity`` tells the process from a later one with the same id."""

    pid: int
    identity: str
    restart: RestartStatus | None = None


class ServerRecord:
    """The file of one server.

    Parameters
    ----------
    home : Path
        The home folder.
    port : int
        Where it listens.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> record = ServerRecord(Path(folder.name), 8000)
    >>> record.write()
    >>> record.running, ServerRecord(Path(folder.name), 8001).running
    (True, False)
    >>> record.remove()
    >>> record.running
    False
    >>> folder.cleanup()
    """

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.port = port
        self._path = home / FOLDER / f"{port}.json"

    @property
    def running(self) -> bool:
        """Whether the server is alive."""
        return self._living() is not None

    @property
    def restart(self) -> RestartStatus | None:
        """How the last restart of the server that runs is or went; None without one.

        Raises
        ------
        ProcessError
            When no server runs here.
        """
        return self._found().restart

    def write(self, restart: RestartStatus | None = None) -> None:
        """Say that this process is the server, and how its last restart went.

        Raises
        ------
        ProcessError
            When the file cannot be written.
        """
        pid = os.getpid()
        content = msgspec.json.encode(_Record(pid, processes.identity(pid), restart))
        beside = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(content)
            beside.replace(self._path)
        except OSError as error:
            raise ProcessError(
                f"{self._path} cannot be written: {error.strerror}",
                advice="make the folder writable, or set GREENROOM_HOME",
            ) from error

    def remove(self) -> None:
        """Say that the server does not run any more."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def ask_to_restart(self) -> None:
        """Ask the server for a rolling restart of its workers.

        Raises
        ------
        ProcessError
            When no server runs here, or it belongs to somebody else.
        """
        pid = self._found().pid
        try:
            os.kill(pid, signal.SIGUSR1)
        except OSError as error:
            raise ProcessError(
                f"the server on port {self.port} (process {pid}) cannot be asked: {error.strerror}",
                advice="call it as the user who runs the server",
            ) from error

    def _living(self) -> _Record | None:
        try:
            record = msgspec.json.decode(self._path.read_bytes(), type=_Record)
        except (OSError, msgspec.DecodeError):
            return None
        alive = record.identity and processes.identity(record.pid) == record.identity
        return record if alive else None

    def _found(self) -> _Record:
        record = self._living()
        if record is None:
            others = running_ports(self.home)
            raise ProcessError(
                f"no server of {self.home} runs on port {self.port}",
                advice=f"one runs on port {' and '.join(map(str, others))}: give --port"
                if others
                else "call it in the folder where the server was started, or set GREENROOM_HOME",
            )
        return record


def running_ports(home: Path) -> list[int]:
    """Return the ports of the servers that run from a home folder."""
    found = [path.stem for path in (home / FOLDER).glob("*.json")]
    ports = sorted(int(name) for name in found if name.isdigit())
    return [port for port in ports if ServerRecord(home, port).running]
