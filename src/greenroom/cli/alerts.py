"""``greenroom alerts``: what fires, what was told to whom, and a test of the way there."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import click

from greenroom.cli.context import Project, config_option, open_here, open_project
from greenroom.cli.terminal import note, say, table
from greenroom.errors import MonitoringError
from greenroom.wording import counted

if TYPE_CHECKING:
    from greenroom.alerts import Alert, AlertRecord, Notice
    from greenroom.settings import Settings


@click.command(short_help="Show what is alerted, or test the way there.")
@click.argument("app", default="")
@click.option("--port", type=int, default=None, help="The port that the server listens on.")
@click.option("--test", is_flag=True, help="Send a test notice to every receiver.")
@config_option
def alerts(app: str, port: int | None, test: bool, config: Path | None) -> None:
    """Show the alerts of a server: what fires, the last notices, and what waits for its receiver.

    APP is an app's folder, or its name under apps/; default: the current folder, also where there
    is no app in it. The server need not run: its home folder is read.
    """
    from greenroom.alerts import alerts_file, read_alerts

    settings = _project(app, config, port).settings
    if test:
        _send_test(settings)
        return
    path = alerts_file(Path(settings.home), settings.port)
    if not path.exists():
        others = sorted(one.stem for one in path.parent.glob("*.json"))
        say(f"nothing was ever alerted by a server on port {settings.port}")
        if others:
            note(f"there are alerts of a server on port {' and '.join(others)}: give --port")
        return
    _show(read_alerts(path), settings)


def _project(app: str, config: Path | None, port: int | None) -> Project:
    if app:
        return open_project(app, config=config, port=port)
    return open_here(config=config, port=port)


def _show(record: AlertRecord, settings: Settings) -> None:
    present = [one for one in record.alerts if one.state != "resolved"]
    rows = [
        [one.state, one.title, one.severity, _time(_since_s(one)), one.summary] for one in present
    ]
    if rows:
        table("", ["state", "alert", "severity", "since", "what"], rows)
    else:
        say("nothing fires")
    if record.recent:
        told = [
            [_time(one.at_s), one.kind, one.alert.title, one.alert.summary]
            for one in record.recent[-10:]
        ]
        table("last notices", ["at", "kind", "alert", "what"], told)
    if settings.alert_webhook_url or record.waiting:
        say(
            f"webhook: {counted(record.n_delivered, 'notice')} delivered, "
            f"{len(record.waiting)} waiting, "
            f"{record.n_dropped} dropped" + (f"; {record.problem}" if record.problem else "")
        )


def _send_test(settings: Settings) -> None:
    """Send a test notice to every receiver that settings name; fail where one does not take it."""
    from greenroom.alerts import AlertRecord
    from greenroom.monitoring_wiring import build_alertmanager, build_webhook

    webhook = build_webhook(settings, settings.port)
    manager = build_alertmanager(settings, settings.port, on_event=note)
    if webhook is None and manager is None:
        raise MonitoringError(
            "there is no receiver to send a test notice to",
            advice="set alert_webhook_url or alertmanager_url",
        )
    notice = _test_notice(time.time())
    problems = []
    if webhook is not None:
        try:
            webhook.send(notice)
            say(f"{webhook.name} has taken a test notice")
        except MonitoringError as error:
            problems.append(str(error))
    if manager is not None:
        try:
            manager.tell(AlertRecord(alerts=(notice.alert,)))
            say(f"Alertmanager at {manager.name} has taken a test alert; it is over in 4 minutes")
        except MonitoringError as error:
            problems.append(str(error))
    if problems:
        raise MonitoringError(
            "; ".join(problems), advice="see that the address is right and reachable from here"
        )


def _test_notice(now_s: float) -> Notice:
    from greenroom.alerts import Alert, Notice

    alert = Alert(
        name="GreenroomTest",
        severity="warning",
        summary="this is a test: nothing is wrong",
        description="sent by `greenroom alerts --test`",
        state="firing",
        began_at_s=now_s,
        fired_at_s=now_s,
    )
    return Notice(id=uuid4().hex, at_s=now_s, kind="test", alert=alert)


def _since_s(alert: Alert) -> float:
    return alert.began_at_s if alert.fired_at_s is None else alert.fired_at_s


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
