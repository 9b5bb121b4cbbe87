"""``greenroom status`` and ``restart``: looking at a server that runs, and renewing its workers."""

from __future__ import annotations

import re
import ssl
import time
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from greenroom.access.tls import trusting
from greenroom.cli.context import Project, config_option, open_here, open_project
from greenroom.cli.terminal import note, say, table
from greenroom.errors import ProcessError
from greenroom.processes import is_loopback
from greenroom.status import RestartStatus
from greenroom.supervision.server_record import ServerRecord, running_ports

ANSWER_TIMEOUT_S: Final = 5.0

BEGIN_TIMEOUT_S: Final = 10.0
"""How long a server that was asked to restart its workers may take to begin."""

_PAUSE_S: Final = 0.1
UNLOGGED_LINE: Final = re.compile(
    r'^greenroom_log_unlogged_predictions_total\{[^}]*verdict="(\w+)"[^}]*\} (\S+)', re.MULTILINE
)

app_argument = click.argument("app", default="")
port_option = click.option("--port", type=int, default=None, help="The port that it listens on.")


class _Model(msgspec.Struct):
    name: str
    selector: str
    route: str
    version: str | None = None
    runtime: str | None = None


class _Health(msgspec.Struct):
    """What of ``/health`` is shown here."""

    status: str
    service: str
    models: list[_Model]
    problems: list[str] = []
    alerts: list[str] = []


class _Ready(msgspec.Struct):
    """``/ready``, which no app puts another page in the place of."""

    ready: bool
    serving: list[str]
    missing: list[dict[str, Any]]


@click.command(short_help="Show what the running server serves.")
@app_argument
@port_option
@click.option("--url", default="", help="Where it answers, instead of app and port.")
@config_option
def status(app: str, port: int | None, url: str, config: Path | None) -> None:
    """Show what the running server serves and how it is.

    APP is an app's folder, or its name under apps/; default: the current folder, also where there
    is no app in it. The server is asked at the address that the settings name.
    """
    others: list[int] = []
    verify: ssl.SSLContext | bool = True
    home: Path | None = None
    if not url:
        project = _project(app, config, port)
        settings = project.settings
        home = Path(settings.home) if settings.log else None
        url = f"{settings.scheme}://{_reachable(settings.host)}:{settings.port}"
        verify = trusting(settings) if settings.ssl_certfile else True
        others = [one for one in running_ports(Path(settings.home)) if one != settings.port]
    _show(url.rstrip("/"), others, verify)
    _show_log(home, url, verify)


@click.command(short_help="Restart the workers without a gap.")
@app_argument
@port_option
@config_option
def restart(app: str, port: int | None, config: Path | None) -> None:
    """Put new processes in place of the running server's workers, one after the other.

    No request is lost. APP is an app's folder, or its name under apps/; default: the current
    folder, also where there is no app in it. The server has to run on this machine, from the same
    home folder. Returns when all workers have been renewed.
    """
    settings = _project(app, config, port).settings
    record = ServerRecord(Path(settings.home), settings.port)
    before = record.restart
    if before is not None and before.state == "running":
        raise ProcessError(
            f"the workers of the server on port {record.port} are being restarted already",
            advice="`greenroom status` shows when that is over",
        )
    record.ask_to_restart()
    note("restarting the workers")
    ended = _wait(record, before)
    if ended.problem:
        raise ProcessError(ended.problem)
    say("all workers have been restarted")


def _wait(record: ServerRecord, before: RestartStatus | None) -> RestartStatus:
    """Wait until a restart has begun and is over."""
    until = time.monotonic() + BEGIN_TIMEOUT_S
    while True:
        now = record.restart
        if now is not None and now != before:
            if now.state != "running":
                return now
        elif time.monotonic() > until:
            raise ProcessError(
                f"the server on port {record.port} did not begin to restart its workers",
                advice="see its log",
            )
        time.sleep(_PAUSE_S)


def _project(app: str, config: Path | None, port: int | None) -> Project:
    if app:
        return open_project(app, config=config, port=port)
    return open_here(config=config, port=port)


def _reachable(host: str) -> str:
    """Return an address to ask a server at that listens on ``host``."""
    if host in {"", "0.0.0.0"}:  # noqa: S104 - asked, not bound
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def _show(url: str, others: list[int], verify: ssl.SSLContext | bool) -> None:
    import httpx

    try:
        # A proxy may lead elsewhere, but never to this very machine.
        proxied = not is_loopback(httpx.URL(url).host)
        with httpx.Client(
            base_url=url, timeout=ANSWER_TIMEOUT_S, trust_env=proxied, verify=verify
        ) as client:
            pages = {path: client.get(path).content for path in ("/health", "/ready")}
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ProcessError(f"no server answers at {url}", advice=_advice(others)) from error
    try:
        ready = msgspec.json.decode(pages["/ready"], type=_Ready)
    except msgspec.DecodeError as error:
        raise ProcessError(
            f"what answers at {url} is no server of Greenroom's", advice=_advice(others)
        ) from error
    try:
        _print_health(msgspec.json.decode(pages["/health"], type=_Health))
    except msgspec.DecodeError:
        _print_ready(url, ready)


def _show_log(home: Path | None, url: str, verify: ssl.SSLContext | bool) -> None:
    """Print how many predictions are in the log, and how many wait or are not in it."""
    from greenroom.log.spool import Spool
    from greenroom.log_opening import SPOOL_FOLDER

    if home is None or not (home / SPOOL_FOLDER).is_dir():
        return
    balance = Spool(home / SPOOL_FOLDER).balance()
    unlogged = _unlogged(url.rstrip("/"), verify)
    say(
        f"log: {balance.accepted} predictions noted, {balance.written} written, "
        f"{balance.waiting} waiting"
        + "".join(f", {count:g} {verdict} unlogged" for verdict, count in unlogged if count)
    )


def _unlogged(url: str, verify: ssl.SSLContext | bool) -> list[tuple[str, float]]:
    """Return how many predictions the log had no room for, as far as the server lets us ask."""
    import httpx

    try:
        page = httpx.get(
            f"{url}/metrics",
            timeout=ANSWER_TIMEOUT_S,
            trust_env=not is_loopback(httpx.URL(url).host),
            verify=verify,
        )
    except httpx.HTTPError:
        return []
    return [
        (verdict, float(count))
        for verdict, count in UNLOGGED_LINE.findall(page.text if page.status_code == 200 else "")
    ]


def _advice(others: list[int]) -> str:
    if others:
        return f"one runs on port {' and '.join(map(str, others))}: give --port"
    return "`greenroom serve` starts one; --port or --url says where another one is"


def _print_health(health: _Health) -> None:
    say(f"{health.service}: {health.status}")
    rows = [
        [one.name, one.version or "-", one.selector, one.runtime or "-", one.route]
        for one in health.models
    ]
    table("", ["model", "version", "selector", "runtime", "route"], rows)
    for problem in health.problems:
        say(f"problem: {problem}")
    for alert in health.alerts:
        say(f"alert: {alert}")


def _print_ready(url: str, ready: _Ready) -> None:
    """Print what can be known where an app answers at ``/health`` itself."""
    say(f"{url}: {'ready' if ready.ready else 'not ready'}; /health is the app's own page")
    for name in ready.serving:
        say(f"serving: {name}")
    for model in ready.missing:
        say(f"problem: {model.get('name')}: {'; '.join(model.get('problems', []))}")
