"""``/metrics``: what the server counts, under the names that are promised, as Prometheus reads it.

Any worker writes the whole server's numbers: those that all processes have counted
(:mod:`greenroom.instruments`), the status that every worker has, and what the operating system
says about the processes. The text itself is written by Prometheus' own library, in its text format
or in OpenMetrics, whichever is asked for.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

from greenroom import processes
from greenroom.http.log_exposition import log_metrics, outbox_metrics, room_metrics
from greenroom.http.monitoring_exposition import MonitoringExposition
from greenroom.instruments import (
    ANSWERS,
    BATCH_BOUNDS,
    BATCHES,
    ERRORS,
    IN_FLIGHT,
    LATENCY_BOUNDS,
    LOAD_BOUNDS,
    LOADS,
    REGISTRY,
    RESTARTS,
    SWAPS,
    TRAININGS,
    WORKERS,
    Process,
    Totals,
)
from greenroom.log.outbox import OutboxBalance
from greenroom.log.spool import Balance, Room
from greenroom.status import ModelStatus, Status, VersionStatus
from greenroom.vitals import vitals_in

__all__ = ["CONTENT_TYPE", "OWN_PREFIX", "Exposition"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What a client gets that does not ask for anything else."""

OWN_PREFIX: Final = "greenroom"
"""What the metrics' names begin with that every server has, whatever its app is called."""

Labels: TypeAlias = tuple[str, ...]


class Exposition:
    """Writes the metrics of a server.

    Parameters
    ----------
    totals : callable
        Returns what all processes have counted.
    status : callable
        Returns the server's status.
    prefix : str
        What the names of the app's documented metrics begin with (``App.metrics_prefix``).
    balance : callable, optional
        Returns where the predictions are that were noted; None where none are.
    room : callable, optional
        Returns how much of the disk they take until they are shipped, and may.
    outbox : callable
        Returns where those are that are for MLflow; None where none are.
    monitoring : MonitoringExposition, optional
        What is shown of drift and alerts.
    """

    def __init__(
        self,
        totals: Callable[[], Totals],
        status: Callable[[], Status],
        *,
        prefix: str = OWN_PREFIX,
        balance: Callable[[], Balance] | None = None,
        room: Callable[[], Room] | None = None,
        outbox: Callable[[], OutboxBalance | None] = lambda: None,
        monitoring: MonitoringExposition | None = None,
    ) -> None:
        self._totals = totals
        self._status = status
        self._prefix = prefix
        self._balance = balance
        self._room = room
        self._outbox = outbox
        self._monitoring = monitoring or MonitoringExposition()

    def write(self, accept: str = "") -> tuple[bytes, str]:
        """Return the text and its content type; takes milliseconds, so it is for a thread.

        Parameters
        ----------
        accept : str
            The request's ``Accept``: OpenMetrics is written for whom asks for it.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def collect(self) -> Iterator[Metric]:
        """Return the metrics, as Prometheus' library wants to be given them."""
        totals = self._totals()
        status = self._status()
        yield from _requests(totals)
        yield from _work(totals)
        yield from _models(status.models)
        yield from _server(totals, status)
        yield from _disk(totals)
        yield from _processes(totals.processes)
        yield from self._documented(status)
        yield from self._monitoring.collect(totals)
        if self._balance is not None:
            yield from log_metrics(self._balance(), totals, self._prefix)
        if self._room is not None:
            yield from room_metrics(self._room())
        for_mlflow = self._outbox()
        if for_mlflow is not None:
            yield from outbox_metrics(for_mlflow, self._prefix)

    def _documented(self, status: Status) -> Iterator[Metric]:
        """Return what applications' own documents name."""
        version = _gauge(
            f"{self._prefix}_model_version",
            "The version of a registered model that answers.",
            ("name", "stage"),
        )
        # Two routes may serve one registered model.
        numbers = {
            (model.name, serving.stage): float(serving.version)
            for model, serving in _served(status.models)
            if serving.version.isdigit()
        }
        for labels, number in numbers.items():
            version.add_metric(labels, number)
        yield version
        yield _single(
            f"{self._prefix}_mlflow_connection_status",
            "Whether the MLflow server answers: 1, or 0.",
            float(status.registry.connection == "healthy"),
        )


def _requests(totals: Totals) -> Iterator[Metric]:
    answered = totals.named(ANSWERS)
    requests = CounterMetricFamily(
        f"{OWN_PREFIX}_requests",
        "Requests that were answered, with any status.",
        labels=("route", "model", "version", "status"),
    )
    by_status: dict[Labels, list[tuple[float, ...]]] = defaultdict(list)
    for labels, cells in answered:
        requests.add_metric(labels, sum(cells[:-1]))
        # 18 lines for a route that nobody has asked would tell nothing.
        if any(cells):
            by_status[labels[:3]].append(cells)
    yield requests
    durations = [
        (labels, tuple(map(sum, zip(*found, strict=True)))) for labels, found in by_status.items()
    ]
    yield _histogram(
        f"{OWN_PREFIX}_request_duration_seconds",
        "Seconds from a request's arrival to its answer.",
        ("route", "model", "version"),
        LATENCY_BOUNDS,
        durations,
    )
    yield _counter(
        f"{OWN_PREFIX}_request_errors",
        "Requests that were answered with an error, by its kind.",
        ("route", "status", "error"),
        totals.named(ERRORS),
    )
    yield _single(
        f"{OWN_PREFIX}_requests_in_flight",
        "Requests that have arrived and are not answered yet.",
        totals.number(IN_FLIGHT),
    )


def _work(totals: Totals) -> Iterator[Metric]:
    yield _histogram(
        f"{OWN_PREFIX}_batch_rows",
        "Rows that a model answered in one call.",
        ("model",),
        BATCH_BOUNDS,
        totals.named(BATCHES),
    )
    yield _histogram(
        f"{OWN_PREFIX}_model_load_seconds",
        "Seconds that a worker took to load and warm a version.",
        ("model",),
        LOAD_BOUNDS,
        totals.named(LOADS),
    )
    yield _histogram(
        f"{OWN_PREFIX}_swap_seconds",
        "Seconds that all workers took to prepare and commit what is served, by how it ended.",
        ("verdict",),
        LOAD_BOUNDS,
        totals.named(SWAPS),
    )


def _models(models: Sequence[ModelStatus]) -> Iterator[Metric]:
    info = _gauge(
        f"{OWN_PREFIX}_model_info",
        "1 for the version of each model that answers.",
        ("model", "route", "version", "stage", "runtime"),
    )
    loaded = _gauge(
        f"{OWN_PREFIX}_model_loaded_timestamp_seconds",
        "Since when the version that answers has done so.",
        ("model", "route", "version"),
    )
    problems = _gauge(
        f"{OWN_PREFIX}_model_problems",
        "How many problems /health names for a model.",
        ("model", "route"),
    )
    for model, serving in _served(models):
        about = [model.name, model.route, serving.version, serving.stage, serving.runtime]
        info.add_metric(about, 1.0)
        if serving.loaded_at:
            loaded.add_metric(about[:3], _unix_s(serving.loaded_at))
    for model in models:
        problems.add_metric([model.name, model.route], float(len(model.problems)))
    yield from (info, loaded, problems)


def _server(totals: Totals, status: Status) -> Iterator[Metric]:
    build = _gauge(f"{OWN_PREFIX}_build_info", "1 for the version of Greenroom.", ("version",))
    build.add_metric([status.greenroom_version], 1.0)
    yield build
    # One that nobody asks is not away.
    if status.registry.state != "disabled":
        yield _single(
            f"{OWN_PREFIX}_registry_up",
            "Whether the model registry answers: 1, or 0.",
            float(status.registry.state == "healthy"),
        )
    for name, text, value in (
        (
            "registry_last_success_timestamp_seconds",
            "When the model registry last answered; 0 before it has.",
            totals.number(REGISTRY),
        ),
        ("generation", "The number of what all workers serve.", float(status.generation)),
        ("start_time_seconds", "When the server was started.", _unix_s(status.started_at)),
        ("workers", "Workers that accept connections.", totals.number(WORKERS)),
        (
            "server_problems",
            "How many problems /health names that are no model's and not the registry's.",
            float(_n_problems(status)),
        ),
        (
            "lost_series",
            "Series that are not shown because there was no room for them.",
            float(totals.n_lost),
        ),
    ):
        yield _single(f"{OWN_PREFIX}_{name}", text, value)
    yield _counter(
        f"{OWN_PREFIX}_worker_restarts",
        "Workers that ended by themselves and were started again.",
        (),
        [((), (totals.number(RESTARTS),))],
    )
    yield _counter(
        f"{OWN_PREFIX}_training_jobs",
        "Trainings that were asked for over HTTP and are over, by how they ended.",
        ("state",),
        totals.named(TRAININGS),
    )


def _disk(totals: Totals) -> Iterator[Metric]:
    """Tell of the disk that the state is on, once the supervisor has looked."""
    found = vitals_in(totals)
    if found is not None and not math.isnan(found.disk_total_bytes):
        for name, text, value in (
            ("free", "Free space of the disk that the state is on.", found.disk_free_bytes),
            ("size", "Size of the disk that the state is on.", found.disk_total_bytes),
        ):
            yield _single(f"{OWN_PREFIX}_state_disk_{name}_bytes", text, value)


def _processes(present: Sequence[Process]) -> Iterator[Metric]:
    memory = _gauge(
        f"{OWN_PREFIX}_process_resident_memory_bytes",
        "Memory that a process has.",
        ("process",),
    )
    seconds = CounterMetricFamily(
        f"{OWN_PREFIX}_process_cpu_seconds",
        "Processor time that a process has used.",
        labels=("process",),
    )
    usage: dict[str, tuple[float, float]] = {}
    for process in present:
        used = processes.usage(process.pid)
        if used is not None:
            # While a worker is being replaced, its slot has two processes.
            before = usage.get(_called(process), (0.0, 0.0))
            resident, cpu_s = before[0] + used.resident_bytes, before[1] + used.cpu_s
            usage[_called(process)] = (resident, cpu_s)
    for name, (resident, cpu_s) in usage.items():
        memory.add_metric([name], resident)
        seconds.add_metric([name], cpu_s)
    yield from (memory, seconds)


def _called(process: Process) -> str:
    return f"worker-{process.label}" if process.label else "supervisor"


def _served(models: Sequence[ModelStatus]) -> Iterator[tuple[ModelStatus, VersionStatus]]:
    for model in models:
        if model.serving is not None:
            yield model, model.serving


def _n_problems(status: Status) -> int:
    failed = status.restart is not None and status.restart.state == "failed"
    return len(status.problems) + failed


def _unix_s(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


def _gauge(name: str, text: str, labels: Labels) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _counter(
    name: str, text: str, labels: Labels, found: Sequence[tuple[Labels, tuple[float, ...]]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, cells in found:
        family.add_metric(values, cells[0])
    return family


def _histogram(
    name: str,
    text: str,
    labels: Labels,
    bounds: Sequence[float],
    found: Sequence[tuple[Labels, tuple[float, ...]]],
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=labels)
    names = [*map(floatToGoString, bounds), "+Inf"]
    for values, cells in found:
        buckets = list(zip(names, accumulate(cells[:-1]), strict=True))
        family.add_metric(values, buckets, sum_value=cells[-1])
    return family
