"""Where the prediction log of a server is, and what of requests it does not keep, as settings say.

Also what a server's supervisor ships predictions with, and notes for MLflow what happens. What a
worker notes predictions with is built in :mod:`greenroom.wiring`; what reads them in
:mod:`greenroom.log_wiring`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from greenroom.app import App
from greenroom.errors import SettingsError
from greenroom.redaction import Redactions, redactions_of
from greenroom.settings import Settings

if TYPE_CHECKING:
    from greenroom.log.log_tables import LogTables
    from greenroom.log.shipper_process import ShipperProcess
    from greenroom.log.spool import Spool
    from greenroom.supervision.chronicle import Chronicle

__all__ = [
    "build_chronicle",
    "build_log_tables",
    "build_redactions",
    "build_shipper",
    "find_spool",
    "log_address",
    "registered_names",
]

SPOOL_FOLDER: Final = "spool"
LOG_FOLDER: Final = "log"


def log_address(settings: Settings) -> str:
    """Return where the tables of the prediction log are."""
    return settings.log_uri or str(Path(settings.home) / LOG_FOLDER)


def build_log_tables(settings: Settings) -> LogTables:
    """Return the tables of the log; nothing is asked of them yet."""
    from greenroom.log.log_tables import LogTables

    return LogTables(log_address(settings))


def find_spool(settings: Settings) -> Spool | None:
    """Return the spool in the home folder; None where no server has made one."""
    from greenroom.log.spool import Spool

    folder = Path(settings.home) / SPOOL_FOLDER
    return Spool(folder) if folder.is_dir() else None


def build_redactions(app: App | None, settings: Settings) -> Redactions:
    """Return what of requests is not kept: what the app's models say, and what settings add.

    Raises
    ------
    SettingsError
        When settings name columns that a model of the app does not have, or there is no key.
    """
    models = app.models if app else ()
    redactions = redactions_of(settings, {model.name: model.privacy for model in models})
    problems = [
        f"models.{model.name}: {problem}"
        for model in models
        for problem in redactions.problems(model.name, model.request_schema.columns)
    ]
    if problems:
        raise SettingsError(
            f"the log's rules on columns: {'; '.join(problems)}",
            advice="correct log_leave_out, log_hash and log_round",
        )
    return redactions


def build_shipper(
    settings: Settings,
    on_event: Callable[[str], None],
    on_log: Callable[[str], None],
    app: App | None = None,
) -> ShipperProcess:
    """Return what ships the predictions that the workers note; nothing runs yet."""
    from greenroom.log.mlflow_setup import mlflow_setup
    from greenroom.log.shipper import ShipperSetup
    from greenroom.log.shipper_process import ShipperProcess

    setup = ShipperSetup(
        spool=str(Path(settings.home) / SPOOL_FOLDER),
        uri=log_address(settings),
        interval_s=settings.log_ship_interval_s,
        keep_days=settings.log_keep_days,
        patience_s=settings.log_ship_patience_s,
        mlflow=mlflow_setup(settings, app),
        log_level=settings.log_level,
    )
    return ShipperProcess(setup, max_bytes=settings.log_max_bytes, on_event=on_event, on_log=on_log)


def build_chronicle(
    settings: Settings, on_event: Callable[[str], None], app: App | None
) -> Chronicle | None:
    """Return where a server notes what happens to it; None where no model logs to MLflow."""
    from greenroom.log.mlflow_setup import models_for_mlflow
    from greenroom.log.server_events import EventBox
    from greenroom.supervision.chronicle import Chronicle

    logged = models_for_mlflow(settings, app)
    if app is None or not logged:
        return None
    box = EventBox(Path(settings.home) / SPOOL_FOLDER)
    names = zip((model.name for model in app.models), registered_names(app, settings), strict=True)
    return Chronicle(box, [name for model, name in names if model in logged], on_problem=on_event)


def registered_names(app: App | None, settings: Settings) -> list[str]:
    """Return the registered names that an app's models, or settings, deploy."""
    named = [model.name for model in app.models] if app else list(settings.models)
    return [
        settings.models[name].name or name if name in settings.models else name for name in named
    ]
