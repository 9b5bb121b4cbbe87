"""All of ``/metrics`` of a server that has something of everything to show."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from found import FINDINGS, SLOW
from greenroom.alerts import AlertRecord
from greenroom.http.exposition import Exposition
from greenroom.http.monitoring_exposition import MonitoringExposition
from greenroom.instruments import SupervisorInstruments, WorkerInstruments, read_totals
from greenroom.log.outbox import OutboxBalance
from greenroom.log.spool import Balance, Room
from greenroom.status import ModelStatus, RegistryStatus, Status, VersionStatus
from greenroom.vitals import Vitals

_STATUS = Status(
    app="credit",
    greenroom_version="0.1.0",
    started_at="2026-11-21T06:00:00.000Z",
    registry=RegistryStatus(uri="http://mlflow", state="healthy"),
    models=(
        ModelStatus(
            name="credit",
            selector="Production",
            route="/predict",
            serving=VersionStatus(
                version="3", stage="Production", loaded_at="2026-11-21T06:00:10.000Z"
            ),
        ),
    ),
)


def exposed_series(prefix: str) -> dict[str, set[frozenset[str]]]:
    """Return the series' names, each with the sets of labels that its series have.

    Parameters
    ----------
    prefix : str
        The app's (``App.metrics_prefix``).
    """
    supervisor = SupervisorInstruments(1)
    try:
        _count(supervisor)
        exposition = Exposition(
            lambda: read_totals(supervisor.memory),
            lambda: _STATUS,
            prefix=prefix,
            balance=lambda: Balance(5, 3, 2),
            room=lambda: Room(4096, 8192),
            outbox=lambda: OutboxBalance(1, 10, 2, 3, 4),
            monitoring=MonitoringExposition(
                lambda: (FINDINGS,), lambda: AlertRecord(alerts=(SLOW,), n_delivered=1)
            ),
        )
        text, _ = exposition.write()
    finally:
        supervisor.memory.close()
    found: dict[str, set[frozenset[str]]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).add(frozenset(sample.labels))
    return found


def _count(supervisor: SupervisorInstruments) -> None:
    worker = WorkerInstruments(supervisor.memory, seat=supervisor.take_seat())
    worker.predictions("/predict", "credit", "3").answered(0.001)
    worker.failed("/predict", 422, "RequestInvalid")
    worker.batched("credit", 4)
    worker.loaded("credit", 0.2)
    supervisor.swapped("commit", 0.3)
    supervisor.sampled(Vitals(10, 0.1, 0.1, 0.2, 1e8, 5.0, 2e9, 8e9))
