"""``greenroom monitor``: what is asked and answered now, held against what was trained on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from greenroom.app_loading import find_app
from greenroom.cli.context import Project, config_option, open_project, open_settings
from greenroom.cli.durations import read_duration
from greenroom.cli.registered import require_registered, split_name
from greenroom.cli.terminal import note, print_error, progress, say, table
from greenroom.errors import AppError, GreenroomError, NothingToCompare, SettingsError
from greenroom.findings import NOTHING_TO_COMPARE

if TYPE_CHECKING:
    from greenroom.findings import ColumnDrift, Findings, LivePerformance
    from greenroom.monitoring.comparing import Span
    from greenroom.monitoring.conclusions import Conclusion
    from greenroom.monitoring.measured import Subject
    from greenroom.monitoring.monitor import MonitoringRun

FOUND: Final = 3
"""The exit status with ``--fail-on-drift`` when there is drift, or a worse performance."""

WINDOW: Final = "24h"

_VERDICTS: Final = ("drift", "stable", "too few rows", "not compared")


@click.command(short_help="Compare what is asked and answered now with the training.")
@click.argument("name", metavar="[APP | NAME]", default="")
@click.option("--window", default="", help=f"How much of the log: 24h, 7d; default: {WINDOW}.")
@click.option("--rows", type=click.IntRange(min=1), help="The last so many rows instead.")
@click.option("--every", default="", help="Again and again: 1h, 30m.")
@click.option("--model", "only", default="", help="This model of the app alone.")
@click.option("--current", default="", help="A data file, or its name in the app, not the log.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the report is written to; default: into the home folder.",
)
@click.option("--no-mlflow", is_flag=True, help="Write no run to MLflow.")
@click.option("--fail-on-drift", is_flag=True, help="End with status 3 if something is found.")
@config_option
@click.pass_context
def monitor(
    context: click.Context,
    name: str,
    window: str,
    rows: int | None,
    every: str,
    only: str,
    current: str,
    as_json: bool,
    report: Path | None,
    no_mlflow: bool,
    fail_on_drift: bool,
    config: Path | None,
) -> None:
    """Look for drift and for worse performance of what is served.

    APP is an app's folder, or its name under apps/; default: the current folder. Where there is no
    such app, NAME is a registered model. What the log has of the served version in the window is
    compared with the version's own reference and hold-out; what is found is printed, written into
    a report, and into MLflow. No server has to run.
    """
    from greenroom.monitoring.comparing import Span

    _require_one(("--window", window), ("--rows", rows))
    for option, value in (("--window", window), ("--rows", rows)):
        _require_one(("--current", current), (option, value))
    _require_one(("--every", every), ("--fail-on-drift", fail_on_drift))
    span = Span(n_rows=rows) if rows else Span(read_duration(window or WINDOW, "--window"))
    every_s = read_duration(every, "--every").total_seconds() if every else 0.0
    project, subjects = _subjects(name, only, config)
    source = _source(project, current)

    def once() -> MonitoringRun:
        return _once(project, subjects, span, source, report, tracked=not no_mlflow)

    if every_s:
        _repeat(every_s, lambda: _show(once(), as_json=as_json, lines=True))
        return
    try:
        run = once()
    except NothingToCompare as error:
        print_error(str(error))
        context.exit(NOTHING_TO_COMPARE)
    _show(run, as_json=as_json)
    if fail_on_drift and run.found:
        context.exit(FOUND)


def _require_one(*options: tuple[str, object]) -> None:
    """Refuse options of which one would do nothing beside the other."""
    given = [name for name, value in options if value]
    if len(given) > 1:
        raise SettingsError(f"{' and '.join(given)} are both given", advice="give one of them")


def _once(
    project: Project,
    subjects: list[Subject],
    span: Span,
    source: str,
    report: Path | None,
    *,
    tracked: bool,
) -> MonitoringRun:
    from greenroom.log_wiring import build_monitor
    from greenroom.wiring import build_registry

    with build_registry(project.settings) as registry, progress() as on_progress:
        made = build_monitor(
            project.settings,
            registry,
            project.app,
            project.folder,
            span=span,
            current=source,
            tracked=tracked,
        )
        return made.run(subjects, report=report, on_progress=on_progress)


def _subjects(name: str, only: str, config: Path | None) -> tuple[Project, list[Subject]]:
    """Return what is looked at: an app's models, or a registered one.

    Raises
    ------
    AppError
        When there is neither an argument nor an app here.
    SettingsError
        When the app has no such model.
    """
    from greenroom.log_opening import build_log_tables
    from greenroom.monitoring.measured import Subject
    from greenroom.selector import Selector
    from greenroom.training.release import deployed

    try:
        find_app(name)
    except AppError as no_app:
        if not name:
            raise
        project = open_settings(config=config)
        registered, selector = split_name(name)
        if only:
            raise SettingsError(
                "--model needs an app", advice=f"{name} names the model itself"
            ) from no_app
        if registered not in build_log_tables(project.settings).models():
            require_registered([registered], project.settings, no_app)
        named = project.settings.models.get(registered)
        if named is not None:
            registered, selector = named.name or registered, selector or named.serve
        return project, [Subject("", registered, Selector.parse(selector or "Production"))]
    project = open_project(name, config=config)
    app, found = project.the_app, []
    for model in app.models:
        where = deployed(model, project.settings)
        if only in {"", model.name, where.name}:
            found.append(Subject(app.name, where.name, where.selector))
    if not found:
        known = ", ".join(model.name for model in app.models)
        raise SettingsError(f"there is no model {only!r}", advice=f"there are {known}")
    return project, found


def _source(project: Project, current: str) -> str:
    """Return the data file that is compared instead of the log: as the app calls it, or a path."""
    if not current:
        return ""
    if project.app is None:
        raise SettingsError("--current needs an app", advice="its columns say how data are read")
    named = project.app.data_sources.get(current)
    if named is not None:
        return named
    here = Path.cwd() / current
    return str(here) if "://" not in current and here.is_file() else current


class _Stopped(BaseException):
    """Somebody wants the command to end; no ``Exception``, so that nothing holds it back."""


def _repeat(every_s: float, run: Callable[[], None]) -> None:
    """Run again and again until the process is told to stop; a run that fails is told of.

    A run begins ``every_s`` after the one before, or at once when that took longer.
    """
    with _stopped_by_signals():
        while True:
            began_s = time.monotonic()
            try:
                run()
            except GreenroomError as error:
                print_error(str(error))
            except Exception as error:  # noqa: BLE001 - the next run may do better
                reason = " ".join(str(error).split())[:300]
                print_error(f"{type(error).__name__}: {reason}")
            time.sleep(max(0.0, began_s + every_s - time.monotonic()))


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Leave the block when SIGTERM or SIGINT comes, wherever it is; what is half done is undone."""

    def stop(_: int, __: FrameType | None) -> None:
        # Once: what is done on the way out is not interrupted by a second one.
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, signal.SIG_IGN)
        raise _Stopped

    before = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except _Stopped:
        note("stopped")
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _show(run: MonitoringRun, *, as_json: bool, lines: bool = False) -> None:
    for name, problem in run.problems.items():
        print_error(f"{name} was not looked at: {problem}")
    for text in run.notes:
        note(text)
    if as_json:
        encoded = msgspec.json.encode(_document(run))
        say((encoded if lines else msgspec.json.format(encoded, indent=2)).decode())
        return
    for findings, conclusion in zip(run.findings, run.conclusions, strict=True):
        _print(findings, conclusion)
        if findings.model in run.addresses:
            say(f"in MLflow: {run.addresses[findings.model]}")
    say(f"report: {run.report}")


def _document(run: MonitoringRun) -> Mapping[str, Any]:
    return {
        "found": run.found,
        "findings": run.findings,
        "headlines": {
            one.model: conclusion.headline
            for one, conclusion in zip(run.findings, run.conclusions, strict=True)
        },
        "problems": {name: str(problem) for name, problem in run.problems.items()},
        "report": str(run.report),
        "mlflow": run.addresses,
    }


def _print(findings: Findings, conclusion: Conclusion) -> None:
    drift = findings.drift
    title = f"{findings.model}, version {findings.version}"
    if drift is not None:
        columns = ["column", "verdict", "psi", "rows", "why"]
        ordered = sorted(
            (*drift.features, *drift.predictions),
            key=lambda one: (one.role, _VERDICTS.index(one.verdict)),
        )
        table(f"{title}: drift", columns, [_column(one) for one in ordered])
    columns = ["metric", "now", "95 %", "in training", ""]
    for found, what in (
        (findings.performance, "performance"),
        (findings.estimate, "estimated performance: nothing of it was observed"),
    ):
        if found is not None and found.metrics:
            table(f"{title}: {what}", columns, _metrics(found))
    for topic in conclusion.topics:
        say(f"{topic.name}: {topic.text}")
    for text in (*findings.notes, *(drift.notes if drift else ())):
        note(f"{findings.model}: {text}")
    say(f"{findings.model}: {conclusion.headline}")


def _column(found: ColumnDrift) -> list[str]:
    from greenroom.monitoring.conclusions import figure

    psi = found.statistics.get("psi")
    name = found.column if found.role == "feature" else f"{found.column} (answer)"
    return [
        name,
        found.verdict,
        "-" if psi is None else figure(psi),
        f"{found.n_current:,}",
        "; ".join(found.reasons) or "-",
    ]


def _metrics(found: LivePerformance) -> list[list[str]]:
    from greenroom.monitoring.conclusions import figure

    return [
        [
            one.name,
            figure(one.value),
            "-"
            if one.low is None or one.high is None
            else f"{figure(one.low)} to {figure(one.high)}",
            "-" if one.training is None else figure(one.training),
            "not judged" if one.worse is None else "worse" if one.worse else "",
        ]
        for one in found.metrics
    ]
