import json
import logging
import os
import signal
import socket
import subprocess
import sys

import pytest

from greenroom.errors import VersionUnloadable
from greenroom.worker import JsonLines


def line_for(error: Exception) -> dict:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        fail()
    record = logging.LogRecord(
        "greenroom.x",
        logging.ERROR,
        __file__,
        1,
        "%s failed",
        ("it",),
        (caught.type, caught.value, caught.tb),
    )
    text = JsonLines(2).format(record)
    assert "\n" not in text
    return json.loads(text)


def test_a_log_line_is_one_json_object() -> None:
    line = line_for(VersionUnloadable("version 3 does not load", advice="promote another"))
    assert (line["level"], line["worker"], line["logger"]) == ("ERROR", 2, "greenroom.x")
    assert line["message"] == "it failed"
    assert line["error"] == "VersionUnloadable"
    assert line["problem"] == "version 3 does not load; promote another"
    assert line["frames"][-1].startswith(f"{__file__}:")
    assert line["frames"][-1].endswith(" fail")
    assert line["at"].endswith("Z")


def test_a_log_line_never_holds_what_a_library_quotes_of_a_request() -> None:
    line = line_for(ValueError("could not convert string to float: 'private'"))
    assert "private" not in json.dumps(line)


def test_a_worker_without_a_supervisor_says_who_starts_workers() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GREENROOM_WORKER"}
    command = [sys.executable, "-P", "-m", "greenroom.worker"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "workers are started by `greenroom serve`" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "module", ["supervision.supervisor", "wiring", "tracking_server", "worker"]
)
def test_a_serving_process_imports_nothing_that_only_training_needs(module: str) -> None:
    heavy = ["mlflow", "pandas", "sklearn", "matplotlib"]
    code = f"import sys, greenroom.{module}; print([n for n in {heavy} if n in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stdout == "[]\n", ended.stderr


def test_a_worker_ends_when_the_supervisor_is_gone_even_while_it_is_busy() -> None:
    code = """
import os, socket, sys
from greenroom.control import WorkerSetup
from greenroom.settings import Settings
from greenroom.worker import _end_with_the_supervisor
fd = int(sys.argv[1])
setup = WorkerSetup(
    slot=1,
    seat=1,
    listener_fd=-1,
    control_fd=fd,
    committed_fd=-1,
    counters_fd=-1,
    settings=Settings(drain_timeout_s=0.1),
)
_end_with_the_supervisor(setup)
print("busy", flush=True)
while True:
    pass
"""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", code, str(theirs.fileno())]
    with subprocess.Popen(
        command, pass_fds=(theirs.fileno(),), stdout=subprocess.PIPE, text=True
    ) as worker:
        theirs.close()
        assert worker.stdout is not None
        assert worker.stdout.readline() == "busy\n"
        ours.close()
        assert worker.wait(30) == -signal.SIGTERM
