"""Sending: the outbox goes to MLflow, parcel by parcel, in order and without a duplicate.

Before a parcel is sent, the state says what is in it; afterwards, that it is done. Whoever is
killed in between sends the same once more, with the same steps and times, which MLflow takes for
what it has (:mod:`greenroom.log.mlflow_runs`). What a parcel holds is decided by
:mod:`greenroom.log.mlflow_planning`; when it is tried is :mod:`greenroom.log.mlflow_sender`'s
business.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from greenroom.errors import RegistryError, RegistryUnavailable
from greenroom.log.minute_summary import MINUTE_US, Summary, summary_of
from greenroom.log.mlflow_parts import read_table
from greenroom.log.mlflow_planning import Planner
from greenroom.log.mlflow_runs import Metric, MlflowRuns
from greenroom.log.outbox import Outbox, Parcel, RunKey, RunState, State

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Sending"]

_FOLDER: Final = "predictions"

Step: TypeAlias = Callable[[str], None]
"""Told of each step before it is taken; tests end the process there."""


class Sending:
    """What sends an outbox; one at a time.

    Parameters
    ----------
    outbox : Outbox
    planner : Planner
        Of the same outbox.
    runs : MlflowRuns
    on_step : callable

    Raises
    ------
    SpoolCorrupt
        When the outbox's state cannot be read.
    """

    def __init__(
        self, outbox: Outbox, planner: Planner, runs: MlflowRuns, *, on_step: Step = lambda _: None
    ) -> None:
        self._outbox: Final = outbox
        self._planner: Final = planner
        self._runs: Final = runs
        self._on_step: Final = on_step
        self._state: Final = outbox.state()
        self._read: tuple[tuple[str, int], RunKey, pa.Table] | None = None
        outbox.remove_done(self._state)

    def condense(self, now_us: int) -> None:
        """Summarise what is to be summarised; needs no MLflow.

        Raises
        ------
        OSError, SpoolCorrupt
            When the outbox cannot be read or written.
        """
        if self._planner.condense(self._state, now_us):
            self._on_step("note summaries")
            self._save()

    def send(self, now_us: int) -> bool:
        """Send one parcel; return whether there was one.

        Raises
        ------
        RegistryError
            When MLflow is away or refuses: the parcel stays, and is the next one.
        OSError, SpoolCorrupt
            When the outbox cannot be read or written.
        """
        with self._outbox.alone():
            return self._send(now_us)

    def _send(self, now_us: int) -> bool:
        state = self._state
        if state.parcel is None:
            parcel = self._planner.parcel(state, now_us)
            if parcel is None:
                return False
            state.parcel = parcel
            self._on_step("plan")
            self._outbox.save(state)
        parcel = state.parcel
        run = state.run(parcel.key)
        self._open(state, run, parcel, now_us)
        try:
            self._deliver(run, parcel)
        except RegistryUnavailable:
            raise
        except RegistryError:
            if not self._runs.is_there(run):
                run.run_id = ""  # somebody has deleted it: the next try is given another one
                self._runs.forget_experiment()
            raise
        self._finish(state, run, parcel)
        return True

    def _open(self, state: State, run: RunState, parcel: Parcel, now_us: int) -> None:
        if run.run_id:
            return
        self._on_step("open run")
        self._runs.open(run, self._began_ms(parcel))
        for other in state.runs.values():
            if _is_over(other, run):
                self._runs.end(other, now_us // 1_000)
                other.ended = True
        self._on_step("note run")
        self._outbox.save(state)

    def _began_ms(self, parcel: Parcel) -> int:
        if parcel.summaries:
            return parcel.summaries[0].at_ms
        return int(self._planner.rows(parcel.key, parcel.pieces).at_us[0]) // 1_000

    def _deliver(self, run: RunState, parcel: Parcel) -> None:
        if parcel.kind == "summary":
            metrics = _summarised(parcel.summaries, "minute", parcel.first)
        elif parcel.kind == "batch":
            self._on_step("write file")
            self._runs.put(run, f"{_FOLDER}/batch-{parcel.first:06d}.parquet", self._file(parcel))
            rows = self._planner.rows(parcel.key, parcel.pieces)
            summary = summary_of(int(rows.at_us.max()) // 1_000, rows.latency_ms, rows.outputs)
            metrics = _summarised((summary,), "batch", parcel.first)
            metrics += [
                Metric("minute/error_rate", rate, minute_us // 1_000, _minute_of_day(minute_us))
                for minute_us, rate in self._planner.error_rates(parcel.key, rows)
            ]
        else:
            metrics = list(self._singly(parcel))
        self._on_step("log")
        self._runs.log(run, metrics)

    def _singly(self, parcel: Parcel) -> Iterator[Metric]:
        rows = self._planner.rows(parcel.key, parcel.pieces)
        at_ms = (rows.at_us // 1_000).tolist()
        for name, values in rows.outputs.items():
            # What is no number has no place in JSON; its step is left out.
            for place in np.flatnonzero(np.isfinite(values)).tolist():
                yield Metric(name, float(values[place]), at_ms[place], parcel.first + place)

    def _file(self, parcel: Parcel) -> bytes:
        """Return the rows of a batch, as the log's tables have them, as a Parquet file."""
        import pyarrow as pa
        from pyarrow import compute as pc
        from pyarrow import parquet

        from greenroom.log.log_rows import joined_rows

        tables = [
            self._table(piece.item, parcel.key).slice(piece.start, piece.end - piece.start)
            for piece in parcel.pieces
        ]
        rows = joined_rows(tables)
        # What was forgotten while it waited has kept its place alone.
        forgotten = pa.array([one == "" for one in rows["prediction_id"].to_pylist()], pa.bool_())
        file = io.BytesIO()
        parquet.write_table(rows.filter(pc.invert(forgotten)), file)
        return file.getvalue()

    def _table(self, item: str, key: RunKey) -> pa.Table:
        """Return the rows of a segment; the last one is kept, for the batch that goes on there."""
        path = self._outbox.folder / item
        file = (item, path.stat().st_ino)  # it is another one when rows in it were forgotten
        if self._read is None or self._read[:2] != (file, key):
            self._read = (file, key, read_table(path, key))
        return self._read[2]

    def _finish(self, state: State, run: RunState, parcel: Parcel) -> None:
        n_rows = state.finish(parcel.key, parcel.pieces)
        state.parcel = None
        state.n_parcels += 1
        state.n_sent += n_rows
        if parcel.kind == "each":
            run.each += n_rows
        elif parcel.kind == "batch":
            run.batch += 1
        else:
            run.summary += len(parcel.summaries)
        self._on_step("note")
        self._save()

    def _save(self) -> None:
        self._outbox.save(self._state)
        self._on_step("remove")
        self._outbox.remove_done(self._state)


def _summarised(summaries: tuple[Summary, ...], prefix: str, first: int) -> list[Metric]:
    return [
        Metric(f"{prefix}/{name}", value, summary.at_ms, step)
        for step, summary in enumerate(summaries, start=first)
        for name, value in summary.figures.items()
    ]


def _minute_of_day(at_us: int) -> int:
    """Return the step of a minute in a run, which is of one day."""
    return at_us // MINUTE_US % (24 * 60)


def _is_over(other: RunState, run: RunState) -> bool:
    """Whether a run is that of an earlier day, and stands there as if it were going on."""
    same = (other.key.model, other.key.name) == (run.key.model, run.key.name)
    return same and bool(other.run_id) and not other.ended and other.key.day < run.key.day
