"""The shipper process: ``python -m greenroom.log.shipper``, started by the supervisor.

A process of its own, so that neither a table's library nor a slow store is ever in the way of what
serves: it runs when nothing else wants its processor, and begins nothing while the processors are
wanted all the time, until predictions have waited for too long
(:mod:`greenroom.log.shipper_process`). It may be killed at any time, and goes on where it was. One
at a time ships a spool: it holds the spool's lock. It ends when its supervisor does, after a last
round for what the workers have left.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from greenroom import processes
from greenroom.counters import CounterMemory
from greenroom.errors import GreenroomError, LogError, ProcessError
from greenroom.instruments import read_totals
from greenroom.log.mlflow_sender import MlflowSender
from greenroom.log.mlflow_setup import MlflowSetup
from greenroom.log.outbox import Outbox
from greenroom.log.server_events import EventBox
from greenroom.log.spool import Spool
from greenroom.processors import Idleness

if TYPE_CHECKING:
    from greenroom.log.log_tables import LogTables
    from greenroom.log.log_upkeep import Step

__all__ = ["SHIPPER_VARIABLE", "Shipper", "ShipperSetup", "main"]

SHIPPER_VARIABLE: Final = "GREENROOM_SHIPPER"
_LOCK: Final = "shipper.lock"
_LONGEST_PAUSE_S: Final = 60.0
_SEND_GRACE_S: Final = 3.0
"""How long the server's end may wait for MLflow; what it does not take goes at the next start."""

_LEAST_IDLE: Final = 0.1
"""Which share of the processors has to be idle: where less is, shipping makes replies late."""

_LOOK_AGAIN_S: Final = 1.0

UPKEEP_S: Final = 3_600.0
"""How often the tables are looked after."""

_FIRST_UPKEEP_S: Final = 60.0


class ShipperSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is started with.

    Parameters
    ----------
    spool : str
        The spool's folder.
    uri : str
        Where the tables are.
    interval_s : float
        How long it pauses between two rounds.
    keep_days : int
        How many days rows are kept; 0: for ever.
    patience_s : float
        How long predictions may wait for a processor that nothing else wants; 0: they do not.
    pressed : bool
        Whether they have waited for so long: then it takes its share until nothing waits.
    mlflow : MlflowSetup, optional
        Where predictions that their app has for MLflow go; without it they wait.
    control_fd : int
        An inherited file that is closed when the supervisor ends.
    counters_fd : int
        An inherited file with what the workers count; negative where there is none.
    log_level : {"DEBUG", "INFO", "WARNING", "ERROR"}
        What it tells; with ``DEBUG`` each call to MLflow too.
    """

    spool: str
    uri: str
    interval_s: float
    keep_days: int = 0
    patience_s: float = 0.0
    pressed: bool = False
    mlflow: MlflowSetup | None = None
    control_fd: int = -1
    counters_fd: int = -1
    log_level: str = "INFO"


class Shipper:
    """What ships, round by round.

    Parameters
    ----------
    setup : ShipperSetup
    """

    def __init__(self, setup: ShipperSetup) -> None:
        self._setup: Final = setup
        self._spool: Final = Spool(Path(setup.spool))
        self._tables: LogTables | None = None
        self._lock: Final = self._locked()
        self._ending = False
        self._failures = 0
        self._sender: Final = self._built_sender()
        self._steps: Iterator[Step] = iter(())
        self._upkeep_at_s = time.monotonic() + _FIRST_UPKEEP_S
        self._idleness: Final = Idleness()
        self._deferred = False
        self._pressed = setup.pressed or not setup.patience_s
        if not self._pressed:
            processes.run_when_idle()

    def run(self) -> None:
        """Ship until the supervisor is gone."""
        if self._sender is not None:
            self._sender.start()
        while not self._ending:
            self._pause()
            if self.round() and not self._ending:
                self.keep()
        if self._sender is not None:
            self._sender.stop(grace_s=_SEND_GRACE_S)

    def close(self) -> None:
        """Let others ship this spool."""
        os.close(self._lock)

    def stop(self) -> None:
        """Ship once more and end."""
        self._ending = True

    def round(self) -> bool:
        """Ship what is there; return whether that went well, and nothing is put off."""
        log = logging.getLogger(__name__)
        try:
            self._ship()
        except (LogError, OSError) as error:
            self._failures += 1
            if self._failures == 1:
                log.warning("predictions wait on disk: %s", error)
            return False
        if self._deferred:
            return False
        if self._failures:
            log.warning("predictions are shipped again, after %d rounds", self._failures)
            self._failures = 0
        if self._pressed and self._setup.patience_s:
            self._pressed = False
            processes.run_when_idle()
        return True

    def keep(self) -> bool:
        """Take one step of the tables' upkeep, where it is time; return whether one was taken.

        That it fails is no reason not to ship: it is said, and left to the next turn.
        """
        try:
            step = next(self._steps, None)
            if step is None and time.monotonic() >= self._upkeep_at_s:
                self._upkeep_at_s = time.monotonic() + UPKEEP_S
                if "://" not in self._setup.uri and not Path(self._setup.uri).is_dir():
                    return False  # nothing was ever shipped
                self._steps = self._turn()
                step = next(self._steps, None)
            if step is None:
                return False
            with self._opened().changing() as alone:
                if alone:
                    step.do()
        except (LogError, OSError) as error:
            self._steps = iter(())
            logging.getLogger(__name__).warning("the log's tables are kept later: %s", error)
            return False
        return True

    def _turn(self) -> Iterator[Step]:
        from greenroom.log.log_upkeep import upkeep

        today = dt.datetime.now(dt.UTC).date()
        return upkeep(self._opened(), keep_days=self._setup.keep_days, today=today)

    def _ship(self) -> None:
        self._spool.seal_leftovers()
        self._deferred = False
        if any(segment.sealed for slot in self._spool.slots() for segment in slot.segments()):
            if not self._may_ship():
                return
            from greenroom.log.shipping import ship_all

            with self._opened().changing() as alone:
                if alone:
                    ship_all(self._spool, self._opened(), goes_on=self._may_ship)

    def _may_ship(self) -> bool:
        """Whether there is time to ship in, or what waits cannot wait for it."""
        if self._pressed or self._ending:
            return True
        self._deferred = self._idleness.share() < _LEAST_IDLE
        return not self._deferred

    def _opened(self) -> LogTables:
        # What writes tables is imported when there is something to write: 80 MB.
        from greenroom.log.log_tables import LogTables

        self._tables = self._tables or LogTables(self._setup.uri)
        return self._tables

    def _pause(self) -> None:
        """Wait for the next round; longer while nothing can be shipped."""
        pause_s = min(self._setup.interval_s * 2 ** min(self._failures, 6), _LONGEST_PAUSE_S)
        pause_s = max(pause_s, self._setup.interval_s)
        if self._deferred:
            pause_s = min(pause_s, _LOOK_AGAIN_S)
        if self._setup.control_fd < 0:
            time.sleep(pause_s)
            return
        watched = select.poll()
        watched.register(self._setup.control_fd, select.POLLHUP)
        if watched.poll(pause_s * 1_000):
            self.stop()

    def _built_sender(self) -> MlflowSender | None:
        setup = self._setup
        if setup.mlflow is None:
            return None
        totals = None
        if setup.counters_fd >= 0:
            totals = partial(read_totals, CounterMemory.attach(setup.counters_fd))
        return MlflowSender(
            setup.mlflow,
            Outbox(self._spool),
            events=EventBox(self._spool.folder),
            ship_interval_s=setup.interval_s,
            totals=totals,
        )

    def _locked(self) -> int:
        fd = os.open(self._spool.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise ProcessError(
                f"{self._spool.folder} is shipped by another process",
                advice="another server has the same home",
            ) from error
        return fd


def main() -> None:
    """Ship as ``GREENROOM_SHIPPER`` says."""
    logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stderr)
    try:
        setup = msgspec.json.decode(os.environ.get(SHIPPER_VARIABLE, ""), type=ShipperSetup)
        _tell(setup.log_level)
        shipper = Shipper(setup)
        signal.signal(signal.SIGTERM, lambda *_: shipper.stop())
        # The terminal sends it to all: what the workers leave is shipped when they have ended.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        shipper.run()
    except (GreenroomError, msgspec.DecodeError) as error:
        logging.getLogger(__name__).critical("%s", error)
        sys.exit(1)


def _tell(level: str) -> None:
    """Tell of ours what is at least so bad, and of libraries what is a warning."""
    # httpx would tell of every call to MLflow.
    logging.getLogger().setLevel("WARNING")
    for name in ("greenroom", __name__):
        logging.getLogger(name).setLevel(level)


if __name__ == "__main__":
    main()
