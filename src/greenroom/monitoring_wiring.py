"""Builds what watches a server, and what a test notice is sent with, as settings say.

As :mod:`greenroom.wiring`, of which it is the part that is about monitoring.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from greenroom.errors import SettingsError
from greenroom.log_opening import SPOOL_FOLDER
from greenroom.monitoring.delivery import Alertmanager, Webhook
from greenroom.monitoring.notice_forms import signing_key
from greenroom.settings import Settings

if TYPE_CHECKING:
    from greenroom.supervision.monitor_runs import MonitorRuns
    from greenroom.supervision.server_monitoring import ServerMonitoring

__all__ = ["build_alertmanager", "build_monitoring", "build_webhook"]

MIN_SECRET_BYTES: Final = 16

_EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound


def build_monitoring(
    settings: Settings,
    folder: Path | None,
    *,
    config: Path | None,
    on_event: Callable[[str], None],
) -> ServerMonitoring:
    """Return what watches a server; nothing runs yet.

    Parameters
    ----------
    settings : Settings
    folder : Path, optional
        The app's; None where registered models are served without one.
    config : Path, optional
        The settings file that was named instead of the app's own.
    on_event : callable
        Told in one line what a person may want to know.

    Raises
    ------
    SettingsError
        When the secret cannot be used.
    """
    from greenroom.registry.registry import Registry
    from greenroom.supervision.server_monitoring import ServerMonitoring

    tags = settings.alert_mlflow_tags and settings.mlflow_enabled
    return ServerMonitoring(
        settings,
        webhook=lambda port: build_webhook(settings, port),
        alertmanager=lambda port: build_alertmanager(settings, port, on_event=on_event),
        oldest_us=_oldest_us(settings),
        registry=Registry(settings.tracking_uri, timeout_s=settings.registry_timeout_s)
        if tags
        else None,
        runs=_runs(settings, config, on_event),
        app_folder=folder,
        on_event=on_event,
    )


def build_webhook(settings: Settings, port: int) -> Webhook | None:
    """Return the receiver of notices; None where there is none.

    Raises
    ------
    SettingsError
        When the secret cannot be used.
    """
    key = _key(settings)
    if not settings.alert_webhook_url:
        return None
    return Webhook(settings.alert_webhook_url, key, link=_link(settings, port))


def build_alertmanager(
    settings: Settings, port: int, *, on_event: Callable[[str], None]
) -> Alertmanager | None:
    """Return the Alertmanager that is told what fires; None where there is none."""
    if not settings.alertmanager_url:
        return None
    return Alertmanager(settings.alertmanager_url, link=_link(settings, port), on_event=on_event)


def _runs(
    settings: Settings, config: Path | None, on_event: Callable[[str], None]
) -> MonitorRuns | None:
    from greenroom.findings import findings_file
    from greenroom.supervision.monitor_runs import MonitorRuns, monitor_command

    wanted = settings.track_drift and settings.monitor_interval_s
    # The log is what is looked at, and MLflow has what it is held against.
    if not (wanted and settings.log and settings.mlflow_enabled):
        return None
    return MonitorRuns(
        monitor_command(settings.monitor_window, config=config),
        findings_file(Path(settings.home)).parent,
        settings.monitor_interval_s,
        on_event=on_event,
    )


def _oldest_us(settings: Settings) -> Callable[[], int | None]:
    if not settings.log:
        return lambda: None

    def oldest_us() -> int | None:
        from greenroom.log.spool import Spool

        folder = Path(settings.home) / SPOOL_FOLDER
        return Spool(folder).oldest_us() if folder.is_dir() else None

    return oldest_us


def _link(settings: Settings, port: int) -> str:
    """Return the server's address, as whoever reads a notice may reach it."""
    if settings.alert_link:
        return settings.alert_link.rstrip("/")
    host = socket.gethostname() if settings.host in _EVERYWHERE else settings.host
    return f"{settings.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _key(settings: Settings) -> bytes:
    """Return what notices are signed with; empty where settings name nothing."""
    secret, file = settings.alert_webhook_secret, settings.alert_webhook_secret_file
    if secret and file:
        raise SettingsError(
            "alert_webhook_secret and alert_webhook_secret_file are both set",
            advice="leave one of them out",
        )
    where = "alert_webhook_secret"
    if file:
        where = str(Path(settings.home) / file)
        try:
            secret = Path(where).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SettingsError(
                f"alert_webhook_secret_file: {where} cannot be read: {reason}"
            ) from error
    if not secret and not file:
        return b""
    try:
        key = signing_key(secret)
    except ValueError as error:
        raise SettingsError(f"{where}: what follows whsec_ is no base64") from error
    if len(key) < MIN_SECRET_BYTES:
        raise SettingsError(
            f"{where} holds {len(key)} bytes, and a secret has at least {MIN_SECRET_BYTES}",
            advice="make one with `openssl rand -hex 32`",
        )
    return key
