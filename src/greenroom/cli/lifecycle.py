"""``greenroom promote``, ``rollback`` and ``history``: what is selected, and how it came about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from greenroom.cli.context import Project, config_option, open_here, open_project, who_is_asking
from greenroom.cli.terminal import note, progress, say, table
from greenroom.selector import Selector
from greenroom.task import TASKS, Task

if TYPE_CHECKING:
    from greenroom.gate import Gate
    from greenroom.promotion.history import Record
    from greenroom.promotion.promotion import Promotion
    from greenroom.registry.registry import Registry

app_option = click.option(
    "--app", default="", help="The app's folder or name; default: this folder's, where it has one."
)
selector_option = click.option(
    "--to",
    "target",
    default="",
    help="What to move: a stage or @alias; default: what the app serves, else Production.",
)


@dataclass(frozen=True)
class _Aim:
    """A registered model, what to move for it, and the rule that stands in front."""

    name: str
    selector: Selector
    gate: Gate | None = None
    task: Task | None = None


@click.command(short_help="Judge a version, and select it if it passes.")
@click.argument("name")
@click.option("--version", default=None, help="Which version; default: the newest not selected.")
@selector_option
@click.option("--without-gate", is_flag=True, help="Do not judge; the history will say so.")
@app_option
@config_option
def promote(
    name: str, version: str | None, target: str, without_gate: bool, app: str, config: Path | None
) -> None:
    """Judge a version of the registered model NAME, and select it if the gate lets it pass."""
    from greenroom.promotion.promotion import promote as promote_version
    from greenroom.wiring import build_registry

    project = _project(app, config)
    with build_registry(project.settings) as registry, progress() as on_progress:
        selector = _selector(project, name, target)
        aim = _Aim(name, selector)
        if not without_gate:
            aim = _aim(project, registry, name, target, version)
        result = promote_version(
            registry,
            aim.name,
            version,
            selector=aim.selector,
            gate=None if without_gate else aim.gate,
            task=aim.task or TASKS["classification"],
            who=who_is_asking(project.settings),
            on_progress=on_progress,
        )
    _show(result)


@click.command(short_help="Select the version that was selected before.")
@click.argument("name")
@click.option("--version", default=None, help="Which version; default: the one selected before.")
@selector_option
@app_option
@config_option
def rollback(name: str, version: str | None, target: str, app: str, config: Path | None) -> None:
    """Select the version of the registered model NAME that was selected before."""
    from greenroom.promotion.promotion import rollback as roll_back
    from greenroom.wiring import build_registry

    project = _project(app, config)
    with build_registry(project.settings) as registry, progress() as on_progress:
        result = roll_back(
            registry,
            name,
            selector=_selector(project, name, target),
            who=who_is_asking(project.settings),
            to=version,
            on_progress=on_progress,
        )
    _show(result)


@click.command(short_help="Show what was promoted, refused or moved.")
@click.argument("name")
@app_option
@config_option
def history(name: str, app: str, config: Path | None) -> None:
    """Show what happened to the registered model NAME, oldest first.

    Promotions, refusals, rollbacks, transitions, and what somebody moved elsewhere.
    """
    from greenroom.promotion.promotion import history as history_of
    from greenroom.wiring import build_registry

    project = _project(app, config)
    with build_registry(project.settings) as registry:
        records = history_of(registry, name)
    if not records:
        say(f"{name}: nothing was promoted or refused yet")
        return
    columns = ["at", "who", "what", "from", "to", "gate", "data"]
    table(f"{name}: history", columns, [_row(record) for record in records])


def _project(app: str, config: Path | None) -> Project:
    return open_project(app, config=config) if app else open_here(config=config)


def _selector(project: Project, name: str, target: str) -> Selector:
    from greenroom.training.release import deployed

    if target:
        return Selector.parse(target)
    for model in project.app.models if project.app else ():
        where = deployed(model, project.settings)
        if name in {model.name, where.name}:
            return where.selector
    return Selector("stage", "Production")


def _aim(project: Project, registry: Registry, name: str, target: str, version: str | None) -> _Aim:
    """Take gate and task from this folder's app, else from what the version says of itself."""
    from greenroom.promotion.judging import gate_of

    selector = _selector(project, name, target)
    for model in project.app.models if project.app else ():
        if model.name == name:
            return _Aim(name, selector, model.gate, model.task)
    gate, task = gate_of(registry, name, version)
    return _Aim(name, selector, gate, TASKS.get(task))


def _show(result: Promotion) -> None:
    if not result.changed:
        say(f"{result.name}: {result.selector} names version {result.version} already")
        return
    before = f" instead of {result.from_version}" if result.from_version else ""
    say(f"{result.name}: {result.selector} names version {result.version} now{before}")
    judgement = result.judgement
    if judgement is None:
        note("outside the gate: nothing was judged, and the history says so")
        return
    for reason in judgement.decision.reasons:
        say(f"gate: {reason}, on {judgement.n_rows:,} rows ({judgement.independence})")


def _row(record: Record) -> list[str]:
    what = record.action if record.outcome == "done" else f"{record.action}, {record.outcome}"
    verdict = "; ".join(record.reasons) or ("outside the gate" if record.outside_gate else "")
    if record.n_rows:
        verdict += f" ({record.n_rows:,} rows, {record.independence})"
    moved = f"{record.to_version or '-'} ({record.selector})"
    return [
        record.at or "unknown",
        record.who,
        what,
        record.from_version or "-",
        moved,
        verdict,
        record.content_hash[:12],
    ]
