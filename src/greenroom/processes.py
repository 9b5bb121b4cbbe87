"""Processes and ports as the operating system sees them: who holds a port, who is still alive.

Reads ``/proc``; where there is none (macOS), asks ``ps``, and the holder of a port stays unknown.
Starting processes is left to those who watch them: :mod:`greenroom.supervision.supervisor` and
:mod:`greenroom.tracking_server`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import mmap
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")
_LISTENING: Final = "0A"
_PAUSE_S: Final = 0.05
_NICENESS: Final = 10
_LOWEST: Final = 19
_FIRST_TO_DIE: Final = "1000"
"""The highest ``oom_score_adj`` that Linux knows: where memory runs out, such a process goes."""


class Usage(NamedTuple):
    """What a process has and has used: memory in bytes, processor time in seconds."""

    resident_bytes: int
    cpu_s: float


class Process(NamedTuple):
    """A process: its id, and its command line in one line."""

    pid: int
    command: str

    def __str__(self) -> str:
        command = self.command if len(self.command) <= 60 else f"{self.command[:57]}..."
        return f"process {self.pid} ({command})" if command else f"process {self.pid}"


def identity(pid: int) -> str:
    """Return what tells a process from a later one with the same id; empty when it is dead.

    Examples
    --------
    >>> identity(os.getpid()) == identity(os.getpid()) != ""
    True
    """
    if not PROC.is_dir():
        return _ps(pid, "lstart=")
    fields = _stat(pid)
    return "" if not fields or fields[0] in "ZX" else fields[19]


def command_line(pid: int) -> str:
    """Return a process's command line, or nothing when it is dead or belongs to someone else."""
    if not PROC.is_dir():
        return _ps(pid, "command=")
    return _words(PROC / str(pid) / "cmdline")


def usage(pid: int) -> Usage | None:
    """Return what a process has used; None when it is dead, or where there is no ``/proc``.

    Examples
    --------
    >>> usage(2**22 + 1) is None
    True
    """
    fields = _stat(pid)
    if not fields or fields[0] in "ZX":
        return None
    cpu_ticks = int(fields[11]) + int(fields[12])
    return Usage(int(fields[21]) * mmap.PAGESIZE, cpu_ticks / os.sysconf("SC_CLK_TCK"))


def mentions(pid: int, text: str) -> bool:
    """Whether ``text`` occurs in a process's command line or in its environment."""
    return text in command_line(pid) or text in _words(PROC / str(pid) / "environ")


def group_members(group: int) -> tuple[int, ...]:
    """Return the ids of the living processes of a process group."""
    if not PROC.is_dir():
        return tuple(
            int(pid)
            for pid, found in (line.split() for line in _ps(0, "pid=,pgid=").splitlines())
            if int(found) == group
        )
    return tuple(
        pid
        for pid in _pids()
        if (fields := _stat(pid)) and fields[0] not in "ZX" and int(fields[2]) == group
    )


def end_group(group: int, *, grace_s: float) -> None:
    """Ask a process group to end, and after ``grace_s`` seconds make it.

    The caller reaps the members that are its own children.
    """
    for number, seconds in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        if not send_to_group(group, number):
            return
        until = time.monotonic() + seconds
        while group_members(group) and time.monotonic() < until:
            time.sleep(_PAUSE_S)


def send_to_group(group: int, number: signal.Signals) -> bool:
    """Send a signal to a process group; False when nobody living is in it."""
    if not group_members(group):
        return False
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def stand_back(pid: int) -> None:
    """Have a process let serving go first, for the processor and for memory.

    Where that is not allowed, it goes on as it is. Linux weighs the processes of a session only
    against each other, and sessions by the niceness of their autogroup (``man 7 sched``): one that
    leads a session has both lowered.
    """
    niceness = _LOWEST
    with contextlib.suppress(OSError):
        niceness = min(os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS, _LOWEST)
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    if os.getsid(0) != _session(pid):
        with contextlib.suppress(OSError):
            (PROC / str(pid) / "autogroup").write_text(str(niceness))
    with contextlib.suppress(OSError):
        (PROC / str(pid) / "oom_score_adj").write_text(_FIRST_TO_DIE)


def _session(pid: int) -> int:
    """Return the session that a process belongs to; this one's where that cannot be known."""
    try:
        return os.getsid(pid)
    except OSError:
        return os.getsid(0)


def port_holder(port: int) -> Process | None:
    """Return the process that listens on a TCP port, where that can be found out."""
    inodes = {
        fields[9]
        for table in (PROC / "net" / "tcp", PROC / "net" / "tcp6")
        for fields in _rows(table)
        if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port
    }
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in _pids():
        if any(link in wanted for link in _open_files(pid)):
            return Process(pid, command_line(pid))
    return None


def is_loopback(host: str) -> bool:
    """Whether ``host`` is an address, or a name of addresses, that only this machine can reach.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("")
    (True, True, False, False)
    """
    if not host:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(entry[4][0])).is_loopback for entry in found)


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _stat(pid: int) -> list[str]:
    """Fields of ``/proc/<pid>/stat`` after the name, which may itself hold blanks: state first."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _words(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _rows(table: Path) -> list[list[str]]:
    try:
        lines = table.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return []
    return [line.split() for line in lines]


def _open_files(pid: int) -> Iterator[str]:
    try:
        entries = list((PROC / str(pid) / "fd").iterdir())
    except OSError:
        return
    for entry in entries:
        try:
            yield str(entry.readlink())
        except OSError:
            continue


def _ps(pid: int, columns: str) -> str:
    """Ask ``ps`` about one process, or about all for ``pid`` 0."""
    which = ["-p", str(pid)] if pid else ["-A"]
    command = ["/bin/ps", "-o", columns, *which]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
