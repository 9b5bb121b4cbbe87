"""What ``/metrics`` says about the prediction log: how much was accepted, and where it is.

Three numbers that are counted independently of each other (:class:`greenroom.log.spool.Balance`),
and what was not noted, counted apart. The other metrics are :mod:`greenroom.http.exposition`'s
business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from greenroom.instruments import UNLOGGED, Totals
from greenroom.log.outbox import OutboxBalance
from greenroom.log.spool import Balance, Room

__all__ = ["log_metrics", "outbox_metrics", "room_metrics"]

_PREFIX: Final = "greenroom"


def log_metrics(balance: Balance, totals: Totals, prefix: str) -> Iterator[Metric]:
    """Return the metrics of the log.

    Parameters
    ----------
    balance : Balance
    totals : Totals
        What all processes have counted.
    prefix : str
        What the names of the app's documented metrics begin with.
    """
    yield CounterMetricFamily(
        f"{prefix}_predictions_logged",
        "Predictions that were noted in the log before they were given.",
        value=balance.accepted,
    )
    yield CounterMetricFamily(
        f"{_PREFIX}_log_written_predictions",
        "Noted predictions that are in the log's tables.",
        value=balance.written,
    )
    yield GaugeMetricFamily(
        f"{_PREFIX}_log_waiting_predictions",
        "Noted predictions that wait on disk to be shipped.",
        value=balance.waiting,
    )
    unlogged = CounterMetricFamily(
        f"{_PREFIX}_log_unlogged_predictions",
        "Predictions that the log had no room for: answered all the same (served), or refused.",
        labels=("verdict",),
    )
    for labels, cells in totals.named(UNLOGGED):
        unlogged.add_metric(labels, cells[0])
    yield unlogged


def room_metrics(room: Room) -> Iterator[Metric]:
    """Return how much of the disk the log takes before it is shipped, and how much it may."""
    yield GaugeMetricFamily(
        f"{_PREFIX}_log_spool_bytes",
        "Disk that predictions take which are not shipped yet.",
        value=room.used_bytes,
    )
    yield GaugeMetricFamily(
        f"{_PREFIX}_log_spool_limit_bytes",
        "Disk that they may take (log_max_bytes); beyond it there is no room for predictions.",
        value=room.limit_bytes,
    )


def outbox_metrics(balance: OutboxBalance, prefix: str) -> Iterator[Metric]:
    """Return the metrics of what goes to MLflow.

    Parameters
    ----------
    balance : OutboxBalance
    prefix : str
        What the names of the app's documented metrics begin with.
    """
    yield CounterMetricFamily(
        f"{prefix}_mlflow_batch_logs",
        "How often MLflow was given predictions: batches, or single ones that went together.",
        value=balance.n_parcels,
    )
    yield CounterMetricFamily(
        f"{_PREFIX}_mlflow_sent_predictions",
        "Predictions that MLflow has, as metrics or in a batch.",
        value=balance.n_sent,
    )
    yield GaugeMetricFamily(
        f"{_PREFIX}_mlflow_waiting_predictions",
        "Shipped predictions that wait on disk for MLflow.",
        value=balance.n_waiting,
    )
    summarised = CounterMetricFamily(
        f"{_PREFIX}_mlflow_summarised_predictions",
        "Predictions that go to MLflow as the figures of a minute: because the app says so (asked),"
        " or because they were more than MLflow could take (overflow).",
        labels=("reason",),
    )
    summarised.add_metric(("asked",), balance.n_summarised)
    summarised.add_metric(("overflow",), balance.n_overflowed)
    yield summarised
