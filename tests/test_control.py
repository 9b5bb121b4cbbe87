import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import timeit

import pytest

from greenroom.control import (
    Ask,
    CommittedGeneration,
    Prepare,
    Prepared,
    Started,
    Update,
    WorkerSetup,
    open_to_supervisor,
    open_to_worker,
)
from greenroom.errands import Reload
from greenroom.errors import ProcessError
from greenroom.inference.generation import Deployment, Generation
from greenroom.settings import ModelSettings, Settings
from greenroom.status import RegistryStatus, Status

READER = """
import sys
from greenroom.control import CommittedGeneration
committed = CommittedGeneration.attach(int(sys.argv[1]))
for line in sys.stdin:
    print(committed(), flush=True)
"""


def test_another_process_sees_a_commit_at_once() -> None:
    committed = CommittedGeneration.create()
    command = [sys.executable, "-c", READER, str(committed.fd)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, pass_fds=(committed.fd,), **pipes) as reader:
        seen = []
        for number in (0, 1, 2, 2**40):
            if number:
                committed.commit(number)
            reader.stdin.write("read\n")
            reader.stdin.flush()
            seen.append(int(reader.stdout.readline()))
        reader.stdin.close()
    assert seen == [0, 1, 2, 2**40]
    committed.close()


@pytest.mark.parametrize("number", [0, 4, 5])
def test_a_committed_number_never_falls_or_stays(number: int) -> None:
    committed = CommittedGeneration.create()
    committed.commit(5)
    with pytest.raises(ValueError, match="is not above 5"):
        committed.commit(number)
    assert committed() == 5
    committed.close()


def test_reading_the_number_takes_well_under_a_microsecond() -> None:
    committed = CommittedGeneration.create()
    best = min(timeit.repeat(committed, number=10_000, repeat=5)) / 10_000
    committed.close()
    assert best < 1e-6


@pytest.mark.parametrize("size", [0, 4096])
def test_a_file_of_something_else_is_refused(size: int) -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        fd = os.dup(file.fileno())
    with pytest.raises(ProcessError, match="holds no committed generation"):
        CommittedGeneration.attach(fd)


def test_messages_arrive_whole_and_in_order_and_then_the_end() -> None:
    status = Status(
        app="a", greenroom_version="0", started_at="", registry=RegistryStatus(uri="http://r")
    )
    deployments = tuple(
        Deployment(model=f"m{i}", name="n", selector="Production", route=f"/{i}", reason="é" * 9000)
        for i in range(40)
    )
    messages = [Update(status), Prepare(Generation(number=3, deployments=deployments))] * 3

    async def talk() -> list[object]:
        ours, theirs = socket.socketpair()
        supervisor, worker = await open_to_worker(ours), await open_to_supervisor(theirs)
        for message in messages:
            supervisor.send(message)
        received = [await worker.receive() for _ in messages]
        worker.send(Started())
        worker.send(Prepared(3, 0.5))
        worker.send(Ask(1, Reload()))
        back = [await supervisor.receive() for _ in range(3)]
        assert back == [Started(), Prepared(3, 0.5), Ask(1, Reload())]
        await supervisor.close()
        assert await worker.receive() is None
        worker.send(Started())
        await worker.close()
        return received

    assert asyncio.run(talk()) == messages


def test_a_peer_that_speaks_something_else_is_an_error() -> None:
    async def listen(sent: bytes) -> None:
        ours, theirs = socket.socketpair()
        channel = await open_to_worker(ours)
        theirs.sendall(sent)
        try:
            await channel.receive()
        finally:
            theirs.close()
            await channel.close()

    with pytest.raises(ProcessError, match="cannot be read"):
        asyncio.run(listen(b"\0\0\0\2{}"))
    with pytest.raises(ProcessError, match="is no message"):
        asyncio.run(listen(b"HTTP/1.1"))


def test_a_workers_setup_survives_the_environment() -> None:
    settings = Settings(port=8123, models={"m": ModelSettings(serve="@champion")})
    setup = WorkerSetup(
        slot=1,
        listener_fd=3,
        control_fd=4,
        committed_fd=5,
        counters_fd=6,
        seat=1,
        app_folder="/a b/ü",
        settings=settings,
    )
    assert WorkerSetup.load(setup.dump()) == setup


def test_a_worker_that_no_supervisor_started_is_told_so() -> None:
    with pytest.raises(ProcessError, match="workers are started by `greenroom serve`"):
        WorkerSetup.load("")
