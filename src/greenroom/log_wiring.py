"""Builds what reads the prediction log: for the commands, and for the look-up of a page.

As :mod:`greenroom.wiring`, of which it is the part that imports what tables are read with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from greenroom.log.log_reading import PredictionLogReader
from greenroom.log_opening import build_log_tables, build_redactions, find_spool
from greenroom.registry.registry import Registry
from greenroom.settings import Settings
from greenroom.tracing.lineage import Lineage
from greenroom.tracing.tracing import Tracer
from greenroom.wiring import build_store

if TYPE_CHECKING:
    from greenroom.app import App
    from greenroom.model import Model
    from greenroom.monitoring.comparing import FileComparison, LogComparison, Span
    from greenroom.monitoring.monitor import Monitor
    from greenroom.monitoring.tracked import MonitoringRuns

__all__ = ["build_lineage", "build_log_reader", "build_monitor", "build_tracer"]

_MLFLOW_TIMEOUT_S: Final = 30.0
"""How long MLflow may take for an answer: hundreds of metrics take a second or more."""


def build_log_reader(settings: Settings) -> PredictionLogReader:
    """Open the prediction log: its tables, and the spool where this machine has it.

    Raises
    ------
    LogError
        When the spool is of a later format.
    """
    return PredictionLogReader(build_log_tables(settings), find_spool(settings))


def build_lineage(settings: Settings, registry: Registry) -> Lineage:
    """Return what finds what versions are made of."""
    return Lineage(registry, build_store(settings))


def build_tracer(settings: Settings, registry: Registry) -> Tracer:
    """Return what traces the predictions of this server.

    Raises
    ------
    LogError
        As :func:`build_log_reader`.
    """
    return Tracer(build_log_reader(settings), registry, build_lineage(settings, registry))


def build_monitor(
    settings: Settings,
    registry: Registry,
    app: App | None,
    folder: Path,
    *,
    span: Span,
    current: str = "",
    tracked: bool = True,
) -> Monitor:
    """Return what makes monitoring runs.

    Parameters
    ----------
    settings : Settings
    registry : Registry
    app : App, optional
        Whose models are looked at; None where they are registered ones.
    folder : Path
        The app's folder.
    span : Span
        How much of the log is looked at.
    current : str
        A data file that is looked at instead of the log.
    tracked : bool
        Whether runs are written to MLflow too.

    Raises
    ------
    LogError
        As :func:`build_log_reader`.
    """
    from greenroom.monitoring.comparing import FileComparison
    from greenroom.monitoring.monitor import LOG, Monitor
    from greenroom.monitoring.served import served_version
    from greenroom.monitoring.verdict import DriftThresholds
    from greenroom.training.release import deployed

    reader = build_log_reader(settings)
    models = {deployed(one, settings).name: one for one in app.models} if app else {}
    compare: LogComparison | FileComparison
    if current:
        store, thresholds = build_store(settings), DriftThresholds.of(settings)
        compare = FileComparison(
            current, folder, models, registry, store, thresholds, trust=settings.trust
        )
    else:
        compare = _log_comparison(settings, registry, app, models, reader, span)
    asked = registry if settings.mlflow_enabled else None
    return Monitor(
        Path(settings.home),
        lambda subject: served_version(asked, reader, subject.name, subject.selector),
        compare,
        source=current or LOG,
        runs=_monitoring_runs(settings, app) if tracked and settings.mlflow_enabled else None,
    )


def _log_comparison(
    settings: Settings,
    registry: Registry,
    app: App | None,
    models: Mapping[str, Model],
    reader: PredictionLogReader,
    span: Span,
) -> LogComparison:
    from greenroom.log.log_windows import LogWindows
    from greenroom.monitoring.comparing import LogComparison
    from greenroom.monitoring.verdict import DriftThresholds

    rules = build_redactions(app, settings)
    return LogComparison(
        reader,
        LogWindows(build_log_tables(settings), find_spool(settings)),
        build_lineage(settings, registry),
        span,
        DriftThresholds.of(settings),
        tasks={name: model.task for name, model in models.items()},
        privacy={name: rules.rules(model.name) for name, model in models.items()},
    )


def _monitoring_runs(settings: Settings, app: App | None) -> MonitoringRuns:
    from greenroom.monitoring.tracked import SUFFIX, MonitoringRuns
    from greenroom.registry.mlflow_rest import MlflowRest

    experiment = (app.experiment if app else settings.mlflow_log_experiment) or "greenroom"
    rest = MlflowRest(settings.tracking_uri, timeout_s=_MLFLOW_TIMEOUT_S)
    return MonitoringRuns(rest, f"{experiment}{SUFFIX}")
