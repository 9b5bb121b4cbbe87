"""Whatever is killed under load: each id that a client got is in the log's table once.

``make test-faults`` runs this for ``FAULTS_SECONDS``; ``FAULTS_SEED`` repeats a run's choices.
"""

from __future__ import annotations

import os
import random
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from callers import Callers
from machine import Machine, machine

from greenroom.log.segments import UNSEALED, Segment, is_unused
from greenroom.log.spool import Balance, Spool
from waiting import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

SECONDS = float(os.environ.get("FAULTS_SECONDS", "120"))
SEED = int(os.environ.get("FAULTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)

VICTIMS = ("worker",) * 9 + ("shipper",) * 6 + ("mlflow",) * 2 + ("supervisor",) * 2
AFTERWARDS_S = 20.0
"""How long after a kill a connection may end for it: workers end by themselves."""


class Watch:
    """Looks at the spool's balance all the time while others write and ship."""

    def __init__(self, spool: Spool, callers: Callers) -> None:
        self.n_samples = 0
        self.problems: list[str] = []
        self._spool, self._callers = spool, callers
        self._last = Balance(0, 0, 0)

    def look(self) -> None:
        received = len(self._callers.ids)
        found = self._spool.balance()
        self.n_samples += 1
        if not found.balanced:
            self.problems.append(f"not balanced: {found}")
        if found.accepted < received:
            self.problems.append(f"clients have {received}, more than was accepted: {found}")
        if found.accepted < self._last.accepted or found.written < self._last.written:
            self.problems.append(f"goes back from {self._last} to {found}")
        self._last = found


@contextmanager
def watched(spool: Spool, callers: Callers) -> Iterator[Watch]:
    watch, over = Watch(spool, callers), threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            watch.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def kill(victim: str, on: Machine, chance: random.Random) -> bool:
    if victim == "worker":
        return on.kill_worker(chance.randrange(on.workers))
    return {
        "shipper": on.kill_shipper,
        "mlflow": on.kill_mlflow,
        "supervisor": on.kill_supervisor,
    }[victim]()


def kill_at_random(on: Machine, chance: random.Random) -> list[tuple[str, float, float]]:
    """Kill and swap for ``SECONDS``; return what was killed, and between which instants."""
    killed = []
    until = time.monotonic() + SECONDS
    # One of each first, whatever the seed says: a short run is to have had them all.
    first = ["worker", "shipper", "supervisor", "mlflow"]
    while time.monotonic() < until or first:
        time.sleep(chance.uniform(0.3, 3.0))
        on.select(chance.choice("12"))
        victim = first.pop(0) if first else chance.choice(VICTIMS)
        began_s = time.monotonic()
        if kill(victim, on, chance):
            killed.append((victim, began_s, time.monotonic()))
    return killed


@pytest.fixture(scope="module")
def on(tmp_path_factory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("faults")) as found:
        yield found


def test_every_id_that_a_client_got_is_in_the_table_once_whatever_was_killed(on):
    print(f"\nFAULTS_SEED={SEED} FAULTS_SECONDS={SECONDS:g}")
    on.start()
    with Callers(on.port, 8) as callers, watched(on.spool(), callers) as watch:
        killed = kill_at_random(on, random.Random(SEED))
        wait_for(lambda: on.select("2"), "MLflow is back", within_s=120)
        wait_for(lambda: "2" in callers.versions, "version 2 answers", within_s=60)
        seen = len(callers.ids)
        wait_for(lambda: len(callers.ids) > seen + 100, "it still answers", within_s=60)
    _shipped(on)
    on.stop()
    found = Counter(row["prediction_id"] for row in on.rows())
    received = Counter(callers.ids)
    balance = on.spool().balance()
    counts = Counter(victim for victim, _, _ in killed)
    own = counts["supervisor"] + 1
    further = sum(found.values()) - len(callers.ids)
    print(
        f"killed {dict(counts)}; {len(received)} ids received, {further} further ones in the "
        f"table, {callers.n_unanswered} unanswered; {watch.n_samples} balances; statuses "
        f"{dict(callers.statuses)}"
    )
    assert not watch.problems, watch.problems[:5]
    assert watch.n_samples > SECONDS
    assert [one for one, n_times in (found + received).items() if found[one] != 1] == []
    assert max(received.values()) == 1
    # The harness asked once at each start, and may have had to ask again until it was answered.
    assert own <= further <= callers.n_unanswered + own
    assert balance == Balance(found.total(), found.total(), 0)
    assert callers.versions == {"1", "2"}
    assert set(callers.statuses) <= {200, 503}
    assert [at for at, _ in callers.unanswered if not _explained(at, killed)] == []


def _shipped(on) -> None:
    """Wait until nothing waits: a server that stops leaves to the next what takes it too long."""
    wait_for(lambda: on.spool().balance().waiting == 0, "all is shipped", within_s=180)


def _explained(at: float, killed: list[tuple[str, float, float]]) -> bool:
    return any(
        began <= at <= ended + AFTERWARDS_S
        for victim, began, ended in killed
        if victim in {"worker", "supervisor"}
    )


def test_a_frame_that_was_cut_off_is_left_out_and_all_before_it_is_kept(on):
    before = len(on.rows())
    on.start()
    with Callers(on.port, 4) as callers:
        wait_for(lambda: len(callers.ids) > 500, "there is something to lose", within_s=60)
        on.kill_everything()
    _tear_last_frames(on.home / "spool")
    on.start()
    _shipped(on)
    on.stop()
    found = Counter(row["prediction_id"] for row in on.rows())
    assert set(callers.ids) <= set(found)
    assert set(found.values()) == {1}
    # One is the harness' own, at each of two starts.
    further = found.total() - before - len(callers.ids)
    assert 2 <= further <= callers.n_unanswered + 2
    assert on.spool().balance() == Balance(found.total(), found.total(), 0)


def _tear_last_frames(spool: Path) -> None:
    """Leave the first half of a frame behind the last whole one, as a power cut may."""
    torn = 0
    for path in spool.glob(f"*/*{UNSEALED}"):
        if is_unused(path):  # killed just when it was made
            continue
        end = Segment(path).end()
        with path.open("r+b") as file:
            file.seek(end)
            file.write(struct.pack("<II", 400, 0xDEADBEEF) + b"half of a frame")
        torn += 1
    assert torn
