"""The rows of the dashboard about what watches: MLflow, the log, monitoring's findings, alerts."""

from __future__ import annotations

from collections.abc import Iterator

from panels import GOOD_IS_0, GOOD_IS_1, Panel, lines, listing, states
from queries import OF, ON, RATE, VERSION


def registry() -> Iterator[Panel]:
    """Return whether MLflow is there, and what it is told."""
    yield states(
        "MLflow and its registry",
        "MLflow may answer while its registry does not.",
        {
            "MLflow {{instance}}": f'{{__name__=~".+_mlflow_connection_status",{ON}}}',
            "registry {{instance}}": f"greenroom_registry_up{{{ON}}}",
        },
        words=GOOD_IS_1,
    )
    since = f"(greenroom_registry_last_success_timestamp_seconds{{{ON}}} > 0)"
    yield lines(
        "Since the registry answered",
        "What is promoted meanwhile is not served.",
        {"{{instance}}": f"time() - {since}"},
        unit="s",
        limits=(600.0, 3600.0),
    )
    summarised = "greenroom_mlflow_summarised_predictions_total"
    yield lines(
        "Predictions to MLflow",
        "Sent one by one or in batches, or as the figures of a minute.",
        {
            "sent": f"sum(rate(greenroom_mlflow_sent_predictions_total{{{ON}}}{RATE}))",
            "summarised ({{reason}})": f"sum by (reason) (rate({summarised}{{{ON}}}{RATE}))",
            "calls": f'sum(rate({{__name__=~".+_mlflow_batch_logs_total",{ON}}}{RATE}))',
        },
        unit="cps",
        width=8,
    )
    yield lines(
        "Waiting for MLflow",
        "Shipped predictions that wait on disk.",
        {"{{instance}}": f"greenroom_mlflow_waiting_predictions{{{ON}}}"},
        width=8,
    )
    jobs = f"sum by (state) (increase(greenroom_training_jobs_total{{{ON}}}{RATE}))"
    yield lines(
        "Trainings over HTTP",
        "By how they ended.",
        {"{{state}}": jobs},
        width=8,
        stacked=True,
    )


def prediction_log() -> Iterator[Panel]:
    """Return where the predictions are: accepted = written + waiting."""
    accepted = f'sum(rate({{__name__=~".+_predictions_logged_total",{ON}}}{RATE}))'
    yield lines(
        "Accepted and written",
        "Noted before the answer, and shipped into the log's tables.",
        {
            "accepted": accepted,
            "written": f"sum(rate(greenroom_log_written_predictions_total{{{ON}}}{RATE}))",
        },
        unit="cps",
    )
    yield lines(
        "Waiting",
        "On disk, not in the tables yet. It rises and falls with log_ship_interval_s.",
        {"{{instance}}": f"greenroom_log_waiting_predictions{{{ON}}}"},
    )
    yield lines(
        "Spool",
        "How much of log_max_bytes is taken; full, predictions are refused or not logged.",
        {
            "{{instance}}": f"greenroom_log_spool_bytes{{{ON}}}"
            f" / greenroom_log_spool_limit_bytes{{{ON}}}"
        },
        unit="percentunit",
        width=8,
        limits=(0.5, 0.8),
    )
    lost = f"sum by (verdict) (increase(greenroom_log_unlogged_predictions_total{{{ON}}}{RATE}))"
    yield lines(
        "Without a record",
        "No room in the log: answered all the same (served), or refused.",
        {"{{verdict}}": lost},
        width=8,
        stacked=True,
        limits=(0.5, 1.0),
    )
    yield lines(
        "Free disk",
        "Of the disk that the state is on.",
        {
            "{{instance}}": f"greenroom_state_disk_free_bytes{{{ON}}}"
            f" / greenroom_state_disk_size_bytes{{{ON}}}"
        },
        unit="percentunit",
        width=8,
        limits=(0.2, 0.1),
    )


def drift() -> Iterator[Panel]:
    """Return how far what is asked and answered has moved from the reference."""
    yield states(
        "Drift by kind",
        "The verdict of the last monitoring run. Concept drift needs feedback.",
        {f"{VERSION}: {{{{kind}}}}": f"greenroom_drift_detected{{{OF}}}"},
        words=GOOD_IS_0,
    )
    yield states(
        "Drift by column",
        "Which features and predictions have moved.",
        {f"{VERSION}: {{{{column}}}}": f"greenroom_drift_column_detected{{{OF}}}"},
        words=GOOD_IS_0,
    )
    column = "{{model}} version {{version}}: {{column}} {{statistic}}"
    yield lines(
        "Statistic by column",
        "How far each column has moved; the statistic is chosen above.",
        {column: f'greenroom_drift_statistic{{{OF},statistic=~"$statistic"}}'},
        width=16,
    )
    yield lines(
        "Rows compared",
        "Below a minimum nothing is said.",
        {f"{VERSION}: {{{{sample}}}}": f"greenroom_drift_rows{{{OF}}}"},
        width=8,
    )


def performance() -> Iterator[Panel]:
    """Return how good the answers are."""
    of = f'{OF},metric=~"$metric"'
    about = f"{VERSION} {{{{metric}}}} {{{{basis}}}}"
    yield lines(
        "Live metric",
        "In the window, with its 95 % interval, beside the training's figure.",
        {
            about: f"greenroom_live_metric{{{of}}}",
            f"{about}, low": f"greenroom_live_metric_low{{{of}}}",
            f"{about}, high": f"greenroom_live_metric_high{{{of}}}",
            f"{about}, in training": f"greenroom_live_metric_training{{{of}}}",
        },
        width=16,
        at_least=None,
    )
    yield states(
        "Worse than in training",
        "Beyond chance and the tolerance; estimated where there is no feedback.",
        {f"{VERSION} {{{{basis}}}}": f"greenroom_performance_degraded{{{OF}}}"},
        words=GOOD_IS_0,
        width=8,
    )
    yield lines(
        "Predictions scored",
        "Of how many the truth is known, or the metric was estimated.",
        {f"{VERSION} {{{{basis}}}}": f"greenroom_live_scored_predictions{{{OF}}}"},
    )
    yield lines(
        "Monitoring runs",
        "How old the figures are, and how runs have ended.",
        {
            f"age {VERSION}": f"time() - greenroom_monitoring_last_run_timestamp_seconds{{{OF}}}",
        },
        unit="s",
        width=6,
        limits=(7200.0, 93600.0),
    )
    ended = f"sum by (outcome) (increase(greenroom_monitoring_runs_total{{{ON}}}[1h]))"
    yield lines(
        "Monitoring runs by outcome",
        "Of the hour before; and the predictions in their window.",
        {"{{outcome}}": ended, f"rows {VERSION}": f"greenroom_monitoring_rows{{{OF}}}"},
        width=6,
    )


def alerts() -> Iterator[Panel]:
    """Return what fires: by Prometheus' rules, and by the server's own settings."""
    yield listing(
        "Prometheus' alerts",
        "What to do is in docs/monitoring.md, under the alert's name.",
        'ALERTS{alertname=~"Greenroom.*"}',
        columns={
            "alertname": "alert",
            "alertstate": "state",
            "severity": "severity",
            "instance": "server",
            "model": "model",
            "version": "version",
            "route": "route",
        },
    )
    yield listing(
        "The server's own alerts",
        "By its settings (alert_...), as its webhook is told.",
        f"greenroom_alerts_firing{{{ON}}} == 1",
        columns={
            "alert": "alert",
            "severity": "severity",
            "instance": "server",
            "model": "model",
            "version": "version",
        },
    )
    yield lines(
        "Own alerts by state",
        "Pending: the condition holds, not for long enough yet.",
        {"{{state}}": f"sum by (state) (greenroom_alerts{{{ON}}})"},
        width=8,
        stacked=True,
    )
    notices = f"sum by (outcome) (increase(greenroom_alert_notices_total{{{ON}}}{RATE}))"
    yield lines(
        "Notices",
        "To the webhook. Those that wait are on disk, and are tried again.",
        {
            "{{outcome}}": notices,
            "waiting {{instance}}": f"greenroom_alert_notices_waiting{{{ON}}}",
        },
        width=8,
    )
    looked = f"(greenroom_alerts_last_evaluation_timestamp_seconds{{{ON}}} > 0)"
    yield lines(
        "Since own alerts were looked at",
        "Every alert_interval_s.",
        {"{{instance}}": f"time() - {looked}"},
        unit="s",
        width=8,
        limits=(60.0, 300.0),
    )
