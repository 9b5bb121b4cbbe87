"""Planning: which predictions of the outbox go to MLflow next, and which are summarised.

Each model has a mode. ``each``: every prediction, as it comes. ``batch``: so many at a time.
``summary``: the figures of a minute. What is more than may wait is summarised too, whatever the
mode, and counted. Nothing is sent here, and nothing is noted on disk:
:mod:`greenroom.log.mlflow_sending` does both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np

from greenroom.log.minute_summary import MINUTE_US, Summary, summary_of
from greenroom.log.mlflow_parts import Part, read_parts
from greenroom.log.mlflow_runs import MAX_METRICS
from greenroom.log.outbox import Kind, Outbox, Parcel, Piece, RunKey, State

__all__ = ["ErrorRate", "Plan", "Planner"]

PATIENCE_US: Final = MINUTE_US
"""A batch that is not full goes when its first prediction is as old as this."""

LATE_US: Final = 5_000_000
"""A minute is summarised so long after the last shipment that could hold predictions of it."""

_MOST_BATCHES: Final = 20
"""Where more wait, they are made larger: MLflow takes about four a second, however small."""

_LARGEST_BATCH: Final = 10_000

ErrorRate: TypeAlias = Callable[[RunKey, int], float | None]
"""The share of errors among a version's answers in the minute that begins there, if known."""


class Plan(NamedTuple):
    """What settings say of sending.

    Parameters
    ----------
    modes : mapping of str to str
        By model; those that are not there are sent one by one.
    batch_size : int
        How many predictions a batch holds.
    max_waiting : int
        How many predictions may wait.
    interval_us : int
        How long a prediction waits at most before it is shipped.
    """

    modes: Mapping[str, Kind]
    batch_size: int
    max_waiting: int
    interval_us: int = 0

    def mode(self, key: RunKey) -> Kind:
        """Return how a key's predictions are sent."""
        return self.modes.get(key.model, "each")


@dataclass(slots=True)
class _Pending:
    """The predictions of a key that are not dealt with, by segment."""

    oldest_us: int
    pieces: list[Piece] = field(default_factory=list)
    n_rows: int = 0

    def first(self, n_rows: int) -> tuple[Piece, ...]:
        """Return pieces with the first ``n_rows`` of them, or with all where there are fewer."""
        found = []
        for piece in self.pieces:
            end = min(piece.end, piece.start + n_rows)
            found.append(Piece(piece.item, piece.start, end))
            n_rows -= end - piece.start
            if not n_rows:
                break
        return tuple(found)


class Planner:
    """What decides on an outbox, by what is in it alone.

    Parameters
    ----------
    outbox : Outbox
    plan : Plan
    error_rate : callable
        Asked for each minute that is summarised.
    """

    def __init__(self, outbox: Outbox, plan: Plan, error_rate: ErrorRate = lambda *_: None) -> None:
        self._outbox: Final = outbox
        self._plan: Final = plan
        self._error_rate: Final = error_rate
        self._parts: dict[str, dict[RunKey, Part]] = {}

    def rows(self, key: RunKey, pieces: Sequence[Piece]) -> Part:
        """Return the predictions of pieces."""
        return Part.joined(
            [self._part(one.item, key).between(one.start, one.end) for one in pieces]
        )

    def error_rates(self, key: RunKey, rows: Part) -> Iterator[tuple[int, float]]:
        """Give the share of errors in the minutes that some predictions follow, where it is known.

        A minute's is known when it is over; so it goes with the predictions of the next one.
        """
        first_us, last_us = _minute(int(rows.at_us.min())), _minute(int(rows.at_us.max()))
        for minute_us in range(first_us - MINUTE_US, last_us, MINUTE_US):
            rate = self._error_rate(key, minute_us)
            if rate is not None:
                yield minute_us, rate

    def parcel(self, state: State, now_us: int) -> Parcel | None:
        """Return what is to be sent next; None where everything has to wait."""
        if state.summaries:
            return self._summaries(state)
        waiting = self._waiting(state)
        for key, pending in sorted(waiting.items(), key=lambda one: one[1].oldest_us):
            mode = self._plan.mode(key)
            if mode == "each":
                return self._each(state, key, pending)
            if mode == "batch" and (found := self._batch(state, key, pending, now_us)):
                return found
        return None

    def condense(self, state: State, now_us: int) -> bool:
        """Turn predictions into summaries that wait; return whether the state has changed."""
        changed = False
        while True:
            waiting = self._waiting(state)
            key = self._next_summarised(waiting, now_us)
            if key is None:
                return changed
            self._summarise(state, key, waiting[key])
            changed = True

    def _each(self, state: State, key: RunKey, pending: _Pending) -> Parcel:
        n_outputs = len(self._part(pending.pieces[0].item, key).outputs)
        pieces = pending.first(MAX_METRICS // max(1, n_outputs))
        return Parcel(key, "each", state.run(key).each, pieces)

    def _batch(self, state: State, key: RunKey, pending: _Pending, now_us: int) -> Parcel | None:
        size = self._plan.batch_size
        if pending.n_rows < size and now_us - pending.oldest_us < PATIENCE_US:
            return None
        size = max(size, min(pending.n_rows // _MOST_BATCHES, _LARGEST_BATCH))
        return Parcel(key, "batch", state.run(key).batch, pending.first(size))

    def _summaries(self, state: State) -> Parcel:
        """Return the summaries of the first key, as many as go at a time; they wait no more."""
        key = state.summaries[0][0]
        taken: list[Summary] = []
        n_figures = 0
        for of, summary in state.summaries:
            n_figures += len(summary.figures)
            if of != key or n_figures > MAX_METRICS:
                break
            taken.append(summary)
        del state.summaries[: len(taken)]
        return Parcel(key, "summary", state.run(key).summary, summaries=tuple(taken))

    def _next_summarised(self, waiting: Mapping[RunKey, _Pending], now_us: int) -> RunKey | None:
        """Return whose oldest minute is to be summarised now.

        That of a model whose mode it is, when the minute is over; of any other when too many wait.
        """
        over_us = now_us - LATE_US - self._plan.interval_us
        others = []
        for key, pending in waiting.items():
            if self._plan.mode(key) != "summary":
                others.append(key)
            elif _minute(pending.oldest_us) + MINUTE_US <= over_us:
                return key
        if sum(waiting[key].n_rows for key in others) > self._plan.max_waiting:
            return min(others, key=lambda key: waiting[key].oldest_us)
        return None

    def _summarise(self, state: State, key: RunKey, pending: _Pending) -> None:
        """Summarise the oldest minute of what is pending."""
        minute_us = _minute(pending.oldest_us)
        pieces = []
        for piece in pending.pieces:
            at_us = self._part(piece.item, key).at_us[: piece.end]
            end = int(np.searchsorted(at_us, minute_us + MINUTE_US))
            if end > piece.start:
                pieces.append(Piece(piece.item, piece.start, end))
        rows = self.rows(key, pieces)
        summary = summary_of(minute_us // 1_000, rows.latency_ms, rows.outputs)
        rate = self._error_rate(key, minute_us)
        if rate is not None:
            figures = {**summary.figures, "error_rate": rate}
            summary = msgspec.structs.replace(summary, figures=figures)
        state.summaries.append((key, summary))
        n_rows = state.finish(key, pieces)
        if self._plan.mode(key) == "summary":
            state.n_summarised += n_rows
        else:
            state.n_overflowed += n_rows

    def _waiting(self, state: State) -> dict[RunKey, _Pending]:
        """Return what is pending, by key; the segments in their order."""
        found: dict[RunKey, _Pending] = {}
        items = self._outbox.items()
        names = {item.name for item in items}
        self._parts = {name: parts for name, parts in self._parts.items() if name in names}
        for item in items:
            for key, part in self._read(item.name).items():
                start = state.done_of(item.name, key)
                if start < part.n_rows:
                    at_us = int(part.at_us[start])
                    pending = found.setdefault(key, _Pending(at_us))
                    pending.oldest_us = min(pending.oldest_us, at_us)
                    pending.pieces.append(Piece(item.name, start, part.n_rows))
                    pending.n_rows += part.n_rows - start
        return found

    def _part(self, item: str, key: RunKey) -> Part:
        return self._read(item)[key]

    def _read(self, item: str) -> dict[RunKey, Part]:
        """Read a segment's figures once: three numbers or so for each prediction that waits."""
        found = self._parts.get(item)
        if found is None:
            found = self._parts[item] = read_parts(self._outbox.folder / item)
        return found


def _minute(at_us: int) -> int:
    return at_us // MINUTE_US * MINUTE_US
