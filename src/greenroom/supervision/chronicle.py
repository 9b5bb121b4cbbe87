"""The chronicle: what a server notes of itself for MLflow, and when.

Versions that it has taken up and stages that it was told to move, its health when that changes,
and every minute its health in numbers. The supervisor writes it; no request waits for it, and that
it cannot be written is no reason not to serve. How the notes get to MLflow is
:mod:`greenroom.log.mlflow_events`'s business; what is shown at present, :mod:`greenroom.status`'s.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from greenroom.errands import MoveVersion, VersionMoved
from greenroom.instruments import Totals
from greenroom.log.error_rates import AnswerCounts, count_answers
from greenroom.log.server_events import EventBox, EventKind, ServerEvent
from greenroom.status import ModelStatus, Status
from greenroom.vitals import Vitals

__all__ = ["Chronicle"]

SAMPLE_S: Final = 60.0
"""How often the health is noted in numbers, whether it has changed or not."""

_SERVED: Final = ("version", "stage", "source", "run_id", "digest")
_MOST_PROBLEMS: Final = 8
_LONGEST_PROBLEM: Final = 400
"""MLflow takes tags of 8,000 characters."""


class Chronicle:
    """What one server notes.

    Parameters
    ----------
    box : EventBox
        Where it is noted.
    models : collection of str
        The registered models whose versions are noted; those that log to MLflow.
    on_problem : callable
        Told in one line, once, that nothing can be noted.
    clock_s : callable
        Seconds that only go up.
    now_us : callable
        Microseconds since 1970.
    """

    def __init__(
        self,
        box: EventBox,
        models: Collection[str],
        *,
        on_problem: Callable[[str], None],
        clock_s: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self._box: Final = box
        self._models: Final = frozenset(models)
        self._on_problem: Final = on_problem
        self._clock_s: Final = clock_s
        self._now_us: Final = now_us
        self._began_s: Final = clock_s()
        self._sampled_s = self._began_s
        self._served: dict[str, dict[str, str]] = {}
        self._health: dict[str, str] = {}
        self._counted: AnswerCounts = {}
        self._failed = False

    def show(self, status: Status) -> None:
        """Note what is new in the server's status."""
        for model in status.models:
            if model.name in self._models:
                self._show_model(model)
        health = _health(status)
        if health != self._health:
            self._health = health
            problems = [*status.problems, *(one for m in status.models for one in m.problems)]
            if status.registry.problem:
                problems.insert(0, status.registry.problem)
            short = [one[:_LONGEST_PROBLEM] for one in problems[:_MOST_PROBLEMS]]
            self._note("health", self._states(status), {**health, "problems": short})

    def moved(self, asked: MoveVersion, done: VersionMoved) -> None:
        """Note that a version was moved to another stage because a caller asked for it."""
        if done.changed and done.name in self._models:
            facts = {
                "model": done.name,
                "version": done.version,
                "from_stage": done.from_stage,
                "stage": done.stage,
                "archived": done.archived,
                "who": asked.who,
            }
            self._note("transition", {}, facts)

    def sampled(self, status: Status, vitals: Vitals, totals: Callable[[], Totals]) -> None:
        """Note the health in numbers, where a minute is over since the last time."""
        now_s = self._clock_s()
        if now_s - self._sampled_s < SAMPLE_S:
            return
        self._sampled_s = now_s
        figures = {
            **self._states(status),
            **self._answered(totals()),
            "health/response_time_ms_mean": 1_000 * vitals.mean_s,
            "health/response_time_ms_p50": 1_000 * vitals.p50_s,
            "health/response_time_ms_p99": 1_000 * vitals.p99_s,
        }
        self._note("sample", figures, {})

    def _show_model(self, model: ModelStatus) -> None:
        serving = model.serving
        now = {name: str(getattr(serving, name)) for name in _SERVED} if serving else {}
        before = self._served.get(model.name, {})
        if now == before:
            return
        self._served[model.name] = now
        version = now.get("version", "")
        number = float(version) if version.isascii() and version.isdigit() else 0.0
        facts = {"model": model.name, "selector": model.selector, **now}
        facts["from_version"] = before.get("version", "")
        self._note("served", {f"served_version/{model.name}": number}, facts)

    def _states(self, status: Status) -> dict[str, float]:
        return {
            "health/healthy": float(status.health == "healthy"),
            "health/serving": float(status.health != "unhealthy"),
            "health/mlflow_connection": float(status.registry.connection == "healthy"),
            "health/registry_access": float(status.registry.state == "healthy"),
            "health/uptime_seconds": round(self._clock_s() - self._began_s, 3),
        }

    def _answered(self, totals: Totals) -> dict[str, float]:
        """Return how many predictions were answered since the last sample, and errors of those."""
        before, self._counted = self._counted, count_answers(totals)
        n_answers = n_errors = 0
        for of, count in self._counted.items():
            if of[0]:  # a page is of no model
                then = before.get(of)
                n_answers += count.answers - (then.answers if then else 0)
                n_errors += count.errors - (then.errors if then else 0)
        rate = n_errors / n_answers if n_answers > 0 else math.nan
        return {"health/answers": float(max(0, n_answers)), "health/error_rate": rate}

    def _note(self, kind: EventKind, figures: dict[str, float], facts: dict[str, Any]) -> None:
        known = {name: value for name, value in figures.items() if math.isfinite(value)}
        event = ServerEvent(at_us=self._now_us(), kind=kind, figures=known, facts=facts)
        try:
            self._box.note(event)
        except OSError as error:
            if not self._failed:
                self._on_problem(f"what happens here is not noted for MLflow: {error}")
            self._failed = True
        else:
            self._failed = False


def _health(status: Status) -> dict[str, str]:
    """Return the states whose change is noted, as ``/health`` calls them."""
    return {
        "status": status.health,
        "mlflow_connection": status.registry.connection,
        "registry_access": status.registry.state,
    }
