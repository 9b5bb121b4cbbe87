import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from greenroom import processes

STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print(child.pid, flush=True)
signal.pause()
"""


def test_a_dead_process_has_no_identity() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]) as child:
        assert processes.identity(child.pid)
        assert processes.identity(child.pid) != processes.identity(os.getpid())
        child.kill()
    assert processes.identity(child.pid) == ""
    assert processes.command_line(child.pid) == ""


def test_a_process_is_found_by_what_is_in_its_command_line_or_environment() -> None:
    code = "print(flush=True); import time; time.sleep(300)"
    environment = {**os.environ, "WHERE": "sqlite:///a-database"}
    command = [sys.executable, "-c", code, "an argument"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert processes.mentions(child.pid, "an argument")
        assert processes.mentions(child.pid, "sqlite:///a-database")
        assert not processes.mentions(child.pid, "sqlite:///another")
        child.kill()


def test_a_group_ends_whole_even_where_its_leader_ignores_being_asked() -> None:
    command = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        grandchild = int(leader.stdout.readline())
        assert set(processes.group_members(leader.pid)) == {leader.pid, grandchild}
        processes.end_group(leader.pid, grace_s=0.5)
        assert leader.wait(10) == -signal.SIGKILL
    assert processes.group_members(leader.pid) == ()
    assert not processes.send_to_group(leader.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_the_holder_of_a_port_is_found(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = listener.getsockname()[1]
        assert processes.port_holder(port) is None, "it does not listen yet"
        listener.listen()
        holder = processes.port_holder(port)
    assert holder is not None
    assert holder.pid == os.getpid()
    assert str(holder).startswith(f"process {os.getpid()} (")
    assert len(str(holder)) < 90


@pytest.mark.skipif(not processes.PROC.is_dir(), reason="there is no /proc")
@pytest.mark.parametrize("own_session", [False, True])
def test_a_process_that_stands_back_has_the_niceness_of_its_session_lowered_too(own_session):
    child = subprocess.Popen(["sleep", "30"], start_new_session=own_session)
    try:
        group = Path(f"/proc/{child.pid}/autogroup")
        before = group.read_text() if group.exists() else ""
        processes.stand_back(child.pid)
        niceness = min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == niceness
        if "nice" in before:
            after = group.read_text()
            assert after.endswith(f"nice {niceness}\n") if own_session else after == before
    finally:
        child.kill()
        child.wait()


def test_a_process_that_is_gone_needs_not_stand_back():
    child = subprocess.Popen(["true"])
    child.wait()
    processes.stand_back(child.pid)
