"""Predictions for MLflow, spooled and shipped, and what sends them."""

from __future__ import annotations

import json
from pathlib import Path

from greenroom.log.log_records import Answers, Request, Version, encode
from greenroom.log.log_tables import LogTables
from greenroom.log.mlflow_planning import Plan, Planner
from greenroom.log.mlflow_runs import MlflowRuns
from greenroom.log.mlflow_sending import Sending
from greenroom.log.outbox import Outbox
from greenroom.log.shipping import ship_all
from greenroom.log.spool import Spool
from greenroom.log.spooling import Spooler
from greenroom.prediction_id import new_prediction_ids
from greenroom.registry.mlflow_rest import MlflowRest
from greenroom.schema import Column

NOON_US = 1_795_262_400_000_000  # 2026-11-21 12:00:00 UTC
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
RUN = "predictions v3 2026-11-21"


class Killed(BaseException):
    """Stands for the end of the process."""


class Ends:
    """Ends the process at its ``n``-th step."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, step: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed(step)


def version(number: int = 1, **changes) -> Version:
    described = {"model": "m", "name": "m", "version": "3", "to_mlflow": True}
    return Version(
        number=number,
        columns=(Column("x"),),
        outputs=("prediction", "probability"),
        classes=(0, 1),
        task="classification",
        **{**described, **changes},
    )


def predicted(values, *, at_us=NOON_US, every_us=SECOND_US, of=None):
    """Predictions, each asked for alone: a frame for each value."""
    of = of or version()
    found = []
    for place, value in enumerate(values):
        body = json.dumps({"x": value}).encode()
        (one,) = new_prediction_ids(1)
        asked = Request([one], 0, True, 2_000, "me", "/predict", "", "body", body)
        at = at_us + place * every_us
        found.append((of, Answers(of.number, 1, 1, at, [asked], [[1], [value]])))
    return found


def spooled(folder: Path, noted) -> Spool:
    """Append predictions to one segment and seal it."""
    spool = Spool(folder / "spool")
    writer = Spooler(spool, fsync_s=0.01, seal_s=60.0, max_bytes=2**30)
    for of, record in noted:
        writer.append(encode(record), 1, of.number, lambda of=of: encode(of))
    writer.close()
    return spool


def shipped(folder: Path, *segments) -> Outbox:
    """Ship segments of predictions; return the outbox that they are in."""
    spool = Spool(folder / "spool")
    for noted in segments:
        spooled(folder, noted)
        ship_all(spool, LogTables(str(folder / "log")))
    return Outbox(spool)


def moved(folder: Path, *segments) -> Outbox:
    """As :func:`shipped`, without the tables, which take their time."""
    spool = Spool(folder / "spool")
    outbox = Outbox(spool)
    for noted in segments:
        spooled(folder, noted)
        for slot in spool.slots():
            for segment in slot.segments():
                outbox.take(segment, len(noted))
    return outbox


def sending(outbox, uri, mode="each", *, on_step=lambda _: None, rate=lambda *_: None, **plan):
    """What sends an outbox, begun anew as after a start of the process."""
    plan = {"batch_size": 10, "max_waiting": 100_000, **plan}
    planner = Planner(outbox, Plan({"m": mode}, **plan), rate)
    runs = MlflowRuns(MlflowRest(uri, environment={}), "e", outbox.spool_id)
    return Sending(outbox, planner, runs, on_step=on_step)


def send_all(one: Sending, now_us: int = NOON_US + 60 * MINUTE_US) -> None:
    """Send until nothing is left to send now."""
    one.condense(now_us)
    while one.send(now_us):
        one.condense(now_us)
