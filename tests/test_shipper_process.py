"""The supervisor's handle on the shipper: it stands back behind what answers, and not for ever."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import pytest

from fake_mlflow import fake_mlflow
from greenroom import processes
from greenroom.log.mlflow_setup import MlflowSetup
from greenroom.log.server_events import EventBox, ServerEvent
from greenroom.log.shipper import SHIPPER_VARIABLE, ShipperSetup
from greenroom.log.shipper_process import COMMAND, ShipperProcess
from test_shipping import ROW, answers, request, spooled, version
from waiting import wait_for

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="the system has no such rank")

IDLE = """
import os, pathlib, sys, time
from greenroom import processes
said = os.environ["GREENROOM_SHIPPER"]
if '"pressed":true' not in said:
    processes.run_when_idle()
with pathlib.Path(sys.argv[1]).open("a") as file:
    file.write(said + "\\n")
time.sleep(60)
"""
"""A shipper that never gets to ship."""


def waiting_spool(folder: Path):
    return spooled(folder, (version(), answers(request(ROW, ["a"]))))


@asynccontextmanager
async def started(setup: ShipperSetup, **changes) -> AsyncIterator[tuple[ShipperProcess, list]]:
    events: list[str] = []
    options = {"max_bytes": 2**30, "on_event": events.append, "on_log": events.append, **changes}
    shipper = ShipperProcess(setup, **options)
    shipper.start()
    try:
        yield shipper, events
    finally:
        await shipper.stop(grace_s=0.0)


async def until(condition, *, within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


def setup_of(folder: Path, **changes) -> ShipperSetup:
    given = {"spool": str(folder / "spool"), "uri": str(folder / "log"), "interval_s": 60.0}
    return ShipperSetup(**{**given, "patience_s": 60.0, **changes})


def test_it_stands_back_in_the_same_session_because_processors_are_divided_between_sessions(
    tmp_path,
):
    async def check() -> None:
        async with started(setup_of(tmp_path)) as (shipper, _):
            await until(lambda: shipper.pid and processes.runs_when_idle(shipper.pid))
            assert os.getsid(shipper.pid) == os.getsid(0)
            assert os.getpgid(shipper.pid) == shipper.pid

    asyncio.run(check())


def test_without_patience_it_has_its_share_from_the_start(tmp_path):
    waiting_spool(tmp_path)

    async def check() -> None:
        async with started(setup_of(tmp_path, patience_s=0.0, interval_s=0.01)) as (shipper, _):
            log = tmp_path / "log"
            await until(log.exists)
            assert not processes.runs_when_idle(shipper.pid)

    asyncio.run(check())


@pytest.mark.parametrize(
    ("age_s", "max_bytes", "said"),
    [(61, 2**30, "predictions wait for 6"), (0, 1_000, "predictions that wait take")],
)
def test_what_has_waited_for_too_long_or_takes_much_room_makes_it_start_again_with_a_share(
    tmp_path, age_s, max_bytes, said
):
    (segment,) = waiting_spool(tmp_path).slots()[0].segments()
    at_s = segment.path.stat().st_mtime - age_s
    os.utime(segment.path, (at_s, at_s))
    told = tmp_path / "told"
    command = (sys.executable, "-c", IDLE, str(told))

    async def check() -> None:
        options = {"max_bytes": max_bytes, "command": command}
        async with started(setup_of(tmp_path), **options) as (shipper, events):
            await until(lambda: told.exists() and told.read_text().count("\n") == 2)
            assert not processes.runs_when_idle(shipper.pid)
            (event,) = events
            assert event.startswith(said)

    asyncio.run(check())
    first, second = map(msgspec.json.decode, told.read_text().splitlines())
    assert (first["pressed"], second["pressed"]) == (False, True)


def test_what_waits_for_less_time_lets_it_stand_back(tmp_path):
    waiting_spool(tmp_path)
    shipper = ShipperProcess(setup_of(tmp_path), max_bytes=2**30, on_event=print, on_log=print)
    assert shipper._presses() == ""


def test_one_that_was_pressed_stands_back_again_when_nothing_waits(tmp_path):
    spool = waiting_spool(tmp_path)
    setup = setup_of(tmp_path, interval_s=0.05, pressed=True)
    with running(setup) as process:
        wait_for(lambda: processes.runs_when_idle(process.pid), "it stands back", within_s=20)
        assert spool.waits_since_s() is None


def test_that_it_ends_with_the_server_is_no_event(tmp_path):
    async def check() -> None:
        async with started(setup_of(tmp_path, patience_s=0.0, interval_s=0.01)) as (
            shipper,
            events,
        ):
            await until((tmp_path / "spool" / "shipper.lock").exists)
            await shipper.stop(grace_s=20.0)
            assert events == []

    asyncio.run(check())


@pytest.mark.parametrize(("level", "told"), [("INFO", False), ("DEBUG", True)])
def test_calls_to_mlflow_are_told_with_debug_alone(tmp_path, level, told):
    setup = setup_of(tmp_path, interval_s=0.05, patience_s=0.0, log_level=level)
    event = ServerEvent(at_us=1, kind="sample", figures={"health/healthy": 1.0})

    async def check(mlflow) -> None:
        EventBox(tmp_path / "spool").note(event)
        to = MlflowSetup(
            tracking_uri=mlflow.uri, experiment="e", modes={}, batch_size=1, max_waiting=1
        )
        async with started(msgspec.structs.replace(setup, mlflow=to)) as (_, events):
            await until(lambda: mlflow.n_batches)
        assert any("/runs/log-batch" in line for line in events) is told

    with fake_mlflow() as mlflow:
        asyncio.run(check(mlflow))


@contextmanager
def running(setup: ShipperSetup):
    environment = {**os.environ, SHIPPER_VARIABLE: msgspec.json.encode(setup).decode()}
    with subprocess.Popen(COMMAND, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()
