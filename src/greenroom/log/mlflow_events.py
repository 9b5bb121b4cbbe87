"""Sending events: what a server noted of itself becomes metrics and tags of a run in MLflow.

One run for each day, named like ``server 2026-11-21``, in the experiment of the predictions.
Figures are metrics, whose step is the second of the day. What is to be read is a tag, whose name
begins with the kind and the instant. Both are written in one call, and writing them again changes
nothing, so an event is removed from disk when the call was answered, and not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from greenroom.errors import RegistryError, RegistryUnavailable
from greenroom.log.mlflow_runs import MAX_METRICS, MAX_TAGS, Metric, MlflowRuns
from greenroom.log.outbox import RunKey, RunState
from greenroom.log.server_events import EventBox, ServerEvent

__all__ = ["EventSending"]


class EventSending:
    """What sends the events of a spool; one at a time.

    Parameters
    ----------
    box : EventBox
    runs : MlflowRuns
    """

    def __init__(self, box: EventBox, runs: MlflowRuns) -> None:
        self._box: Final = box
        self._runs: Final = runs
        self._run = RunState(RunKey("", "", "", ""))

    def send(self) -> bool:
        """Send the oldest events of one day, in one call; return whether there were any.

        Raises
        ------
        RegistryError
            When MLflow is away or refuses: the events stay.
        OSError
            When the disk cannot be read.
        """
        waiting = self._box.waiting(MAX_TAGS)
        if not waiting:
            return False
        together = _fitting([event for _, event in waiting])
        run = self._opened(together[0])
        try:
            self._runs.log(run, _metrics(together), tags=dict(map(_tag, filter(_told, together))))
        except RegistryUnavailable:
            raise
        except RegistryError:
            if not self._runs.is_there(run):
                run.run_id = ""  # somebody has deleted it: the next try is given another one
                self._runs.forget_experiment()
            raise
        for path, _ in waiting[: len(together)]:
            path.unlink(missing_ok=True)
        return True

    def _opened(self, first: ServerEvent) -> RunState:
        """Return the run of an event's day; those of earlier days stand there as finished."""
        if self._run.key.day != first.day:
            self._run = RunState(RunKey(first.day, "", "", ""))
        if not self._run.run_id:
            self._runs.open_server(self._run, first.at_us // 1_000)
        return self._run


def _fitting(events: Sequence[ServerEvent]) -> list[ServerEvent]:
    """Return the first events, as many as are of one day and go in one call; at least one."""
    found = [events[0]]
    n_figures = len(events[0].figures)
    for event in events[1:]:
        n_figures += len(event.figures)
        if event.day != events[0].day or n_figures > MAX_METRICS:
            break
        found.append(event)
    return found


def _metrics(events: Sequence[ServerEvent]) -> list[Metric]:
    return [
        Metric(name, value, event.at_us // 1_000, event.step)
        for event in events
        for name, value in event.figures.items()
    ]


def _told(event: ServerEvent) -> bool:
    return bool(event.facts)


def _tag(event: ServerEvent) -> tuple[str, str]:
    text = msgspec.json.encode(event.facts).decode()
    return f"{event.kind}.{event.at:%Y%m%dT%H%M%S.%fZ}", text
