"""Shipping: sealed segments of the spool go into the log's tables, in order, each exactly once.

For every segment: its rows into the tables, then the ledger, then its file is emptied and left to
its writer, or moved to the outbox when it holds predictions for MLflow. A crash anywhere between
two of these repeats what has been done, and the tables refuse what they have.
Which process ships, and when, is :mod:`greenroom.log.shipper`'s business.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import pyarrow as pa

from greenroom.log.log_records import Answers, Observations, Version, n_rows, read_record
from greenroom.log.log_rows import observation_rows, prediction_rows
from greenroom.log.log_tables import LogTables, Writer, fits
from greenroom.log.outbox import Outbox, n_for_mlflow
from greenroom.log.segments import SEALED, Segment
from greenroom.log.spool import Ledger, Slot, Spool

__all__ = ["Shipment", "ship", "ship_all"]


@dataclass(frozen=True, slots=True)
class Shipment:
    """What one round has shipped.

    Attributes
    ----------
    n_segments, n_rows : int
        How many segments, and how many predictions.
    n_again : int
        How many of the segments the tables had already.
    """

    n_segments: int = 0
    n_rows: int = 0
    n_again: int = 0

    def __add__(self, other: Shipment) -> Shipment:
        return Shipment(
            self.n_segments + other.n_segments,
            self.n_rows + other.n_rows,
            self.n_again + other.n_again,
        )


@dataclass(slots=True)
class _Parts:
    """The records of a segment, by where they go."""

    answers: dict[int, list[Answers]] = field(default_factory=dict)
    versions: dict[int, Version] = field(default_factory=dict)
    observations: list[Observations] = field(default_factory=list)
    n_rows: int = 0
    n_for_mlflow: int = 0


Step: TypeAlias = Callable[[str], None]
"""Told of each step of a shipment before it is taken; tests end the process there."""


def ship_all(
    spool: Spool,
    tables: LogTables,
    *,
    on_step: Step = lambda _: None,
    goes_on: Callable[[], bool] = lambda: True,
) -> Shipment:
    """Ship every segment that is sealed, or that its dead writer has left.

    Parameters
    ----------
    spool : Spool
    tables : LogTables
    on_step : callable
        Told of each step before it is taken.
    goes_on : callable
        Asked before each segment; where it says no, those that are left wait for the next call.

    Raises
    ------
    LogUnavailable
        When the tables cannot be written; what was shipped before is noted.
    """
    spool.seal_leftovers()
    outbox = Outbox(spool)
    shipped = Shipment()
    with _uncollected():
        for slot in spool.slots():
            for segment in slot.segments():
                if not segment.sealed or not goes_on():
                    break  # those after it wait: a table takes a writer's segments in order
                shipped += ship(slot, segment, tables, outbox, on_step=on_step)
            _hand_over(slot, outbox)
    return shipped


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no circles of garbage inside the block: records make none, and there are many."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def ship(
    slot: Slot,
    segment: Segment,
    tables: LogTables,
    outbox: Outbox,
    *,
    on_step: Step = lambda _: None,
) -> Shipment:
    """Ship one segment.

    Raises
    ------
    LogUnavailable
        When the tables cannot be written.
    """
    head = segment.head
    transaction = Writer(head.spool.hex, head.slot).transaction(head.sequence)
    parts = _read(segment)
    fresh = False
    for model, rows in _tables(parts):
        on_step(f"write {model}")
        fresh |= tables.write_predictions(model, rows, transaction)
    if parts.observations:
        on_step("write feedback")
        fresh |= tables.write_feedback(observation_rows(parts.observations), transaction)
    on_step("note")
    slot.shipped(Ledger(head.sequence, slot.ledger().rows + parts.n_rows))
    on_step("hand over")
    _let_go(slot, segment, parts, outbox)
    return Shipment(1, parts.n_rows, 0 if fresh else 1)


def _read(segment: Segment) -> _Parts:
    parts = _Parts()
    records = [read_record(payload) for payload in segment.frames()]
    parts.n_rows = sum(map(n_rows, records))
    parts.n_for_mlflow = n_for_mlflow(records)
    for record in records:
        if isinstance(record, Version):
            parts.versions[record.number] = record
        elif isinstance(record, Answers):
            parts.answers.setdefault(record.version, []).append(record)
        else:
            parts.observations.append(record)
    return parts


def _tables(parts: _Parts) -> Iterator[tuple[str, pa.Table]]:
    """Return what is to be written, by model: versions whose columns agree go together.

    A segment is one transaction of a table, so what goes into one table is written in one piece.
    """
    by_model: dict[str, list[pa.Table]] = {}
    for number, answers in parts.answers.items():
        version = parts.versions[number]
        rows = prediction_rows(version, answers)
        groups = by_model.setdefault(version.name, [])
        for place, group in enumerate(groups):
            if fits(rows.schema, group.schema):
                groups[place] = pa.concat_tables([group, rows], promote_options="default")
                break
        else:
            groups.append(rows)
    for model, groups in by_model.items():
        for group in groups:
            yield model, group


def _hand_over(slot: Slot, outbox: Outbox) -> None:
    """Let go of segments that were shipped by a process that ended before it could."""
    done = slot.ledger().sequence
    for path in slot.folder.glob(f"*{SEALED}"):
        if path.stem.isdigit() and int(path.stem) <= done:
            segment = Segment(path)
            _let_go(slot, segment, _read(segment), outbox)


def _let_go(slot: Slot, segment: Segment, parts: _Parts, outbox: Outbox) -> None:
    if parts.n_for_mlflow:
        outbox.take(segment, parts.n_for_mlflow)
    else:
        slot.let_go(segment)
