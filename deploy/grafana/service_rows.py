"""The rows of the dashboard about the service: how callers are answered, and by what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from panels import Panel, distribution, figure, lines, listing
from queries import EVERY, OF, ON, RATE, VERSION, quantile

DURATION: Final = "greenroom_request_duration_seconds"


def overview() -> Iterator[Panel]:
    """Return what is looked at first."""
    yield figure(
        "Servers that answer",
        "Targets of the scrape that are up.",
        f'sum(up{{job="greenroom",{ON}}})',
        limits=(1.0, 0.5),
    )
    yield figure(
        "Requests",
        "Answered a second, for predictions.",
        f"sum(rate(greenroom_requests_total{{{OF}}}{RATE}))",
        unit="reqps",
    )
    failed = f'sum(rate(greenroom_requests_total{{{OF},status=~"5.."}}{RATE}))'
    answered = f"sum(rate(greenroom_requests_total{{{OF}}}{RATE}))"
    yield figure(
        "Errors",
        "Share of the answers that are errors of the server's (5xx).",
        f"({failed} or vector(0)) / ({answered} > 0)",
        unit="percentunit",
        limits=(0.01, 0.05),
    )
    yield figure(
        "95th percentile",
        "One answer in twenty takes longer.",
        f"histogram_quantile(0.95, sum by (le) (rate({DURATION}_bucket{{{OF}}}{RATE})))",
        unit="s",
        limits=(0.5, 1.0),
    )
    yield figure(
        "Problems",
        "What /health names: of models, and of the server itself.",
        f"sum(greenroom_model_problems{{{OF}}}) + sum(greenroom_server_problems{{{ON}}})",
        limits=(1.0, 2.0),
    )
    yield figure(
        "Alerts that fire",
        "Prometheus' own, by the rules of deploy/prometheus/rules.",
        'count(ALERTS{alertname=~"Greenroom.*",alertstate="firing"}) or vector(0)',
        limits=(1.0, 3.0),
    )


def traffic() -> Iterator[Panel]:
    """Return how callers are answered."""
    yield lines(
        "Requests by route",
        "Answers a second, with any status. A page belongs to no model.",
        {EVERY: f"sum by (route, model) (rate(greenroom_requests_total{{{OF}}}{RATE}))"},
        unit="reqps",
    )
    yield lines(
        "Requests by status",
        "4xx are the callers', 5xx the server's.",
        {"{{status}}": f"sum by (status) (rate(greenroom_requests_total{{{OF}}}{RATE}))"},
        unit="reqps",
        stacked=True,
    )
    yield lines(
        "Latency",
        "From a request's arrival to its answer, as exact as the buckets are.",
        {
            f"p{100 * q:.0f} {EVERY}": quantile(q, DURATION, "route, model")
            for q in (0.5, 0.95, 0.99)
        },
        unit="s",
        limits=(0.5, 1.0),
    )
    yield distribution(
        "Latency by bucket",
        "How many answers a second took how long.",
        f"sum by (le) (rate({DURATION}_bucket{{{OF}}}{RATE}))",
        unit="s",
    )
    errors = f"sum by (route, status, error) (rate(greenroom_request_errors_total{{{ON}}}{RATE}))"
    yield lines(
        "Errors by kind",
        "RequestInvalid: a caller sends what the model does not take.",
        {"{{route}} {{status}} {{error}}": errors},
        unit="reqps",
    )
    yield lines(
        "In flight",
        "Requests that have arrived and are not answered yet.",
        {"{{instance}}": f"greenroom_requests_in_flight{{{ON}}}"},
        width=6,
    )
    rows = "greenroom_batch_rows"
    mean = " / ".join(
        f"sum by (model) (rate({rows}_{part}{{{OF}}}{RATE}))" for part in ("sum", "count")
    )
    yield lines(
        "Rows in a call",
        "How many rows a model answers in one call.",
        {"mean {{model}}": mean, "p95 {{model}}": quantile(0.95, rows)},
        width=6,
    )


def models() -> Iterator[Panel]:
    """Return what is served, and how it came there."""
    yield listing(
        "What answers",
        "The version of each model that answers, and what computes its answers.",
        f"greenroom_model_info{{{OF}}}",
        columns={
            "instance": "server",
            "model": "model",
            "route": "route",
            "version": "version",
            "stage": "stage",
            "runtime": "runtime",
        },
    )
    yield lines(
        "Version over time",
        "The number of the version that answers, as the app's document names it.",
        {"{{name}} {{stage}}": f'{{__name__=~".+_model_version",{ON},name=~"$model"}}'},
    )
    yield lines(
        "Problems by model",
        "How many problems /health names; 0 is well.",
        {EVERY: f"greenroom_model_problems{{{OF}}}"},
        width=8,
        limits=(1.0, 2.0),
    )
    yield lines(
        "Answers since",
        "For how long the version that answers has done so.",
        {VERSION: f"time() - greenroom_model_loaded_timestamp_seconds{{{OF}}}"},
        unit="s",
        width=8,
    )
    swaps = f"sum by (verdict) (increase(greenroom_swap_seconds_count{{{ON}}}{RATE}))"
    yield lines(
        "Swaps",
        "commit: served. refuse: a version did not load. lost: workers ended first.",
        {"{{verdict}}": swaps},
        width=8,
        stacked=True,
    )
    yield lines(
        "Load time",
        "That a worker took to load and warm a version.",
        {"p95 {{model}}": quantile(0.95, "greenroom_model_load_seconds")},
        unit="s",
    )
    yield lines(
        "Swap time",
        "That all workers took to prepare and commit what is served.",
        {"p95 {{verdict}}": quantile(0.95, "greenroom_swap_seconds", "verdict", ON)},
        unit="s",
    )


def processes() -> Iterator[Panel]:
    """Return what the server is made of."""
    yield lines(
        "Memory",
        "Resident; pages that processes share count for each.",
        {"{{process}}": f"greenroom_process_resident_memory_bytes{{{ON}}}"},
        unit="bytes",
        width=8,
    )
    yield lines(
        "Processor",
        "Processors in use by each process.",
        {"{{process}}": f"rate(greenroom_process_cpu_seconds_total{{{ON}}}{RATE})"},
        width=8,
    )
    yield lines(
        "Workers",
        "Those that accept connections, and those that had to be started again.",
        {
            "workers {{instance}}": f"greenroom_workers{{{ON}}}",
            "restarts {{instance}}": f"increase(greenroom_worker_restarts_total{{{ON}}}{RATE})",
        },
        width=8,
    )
    yield figure(
        "Up since",
        "When the server was started.",
        f"min(greenroom_start_time_seconds{{{ON}}}) * 1000",
        unit="dateTimeFromNow",
        width=8,
    )
    yield figure(
        "Greenroom",
        "Its version.",
        f"greenroom_build_info{{{ON}}}",
        legend="{{version}}",
        width=8,
    )
    yield figure(
        "Lost series",
        "Series that are not shown because there was no room for them.",
        f"sum(greenroom_lost_series{{{ON}}})",
        width=8,
        limits=(1.0, 100.0),
    )
