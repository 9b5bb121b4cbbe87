"""``greenroom compile``: a compiled runtime for a version that is registered already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from greenroom.cli.context import Project, config_option, open_here, open_project
from greenroom.cli.registered import read_schema, split_name
from greenroom.cli.terminal import note, progress, say
from greenroom.errors import NothingSelected
from greenroom.schema import Schema
from greenroom.selector import Selector

if TYPE_CHECKING:
    from greenroom.compilation import Compilation
    from greenroom.registry.registry import ModelVersion, Registry


@click.command("compile", short_help="Make and prove a compiled runtime for a version.")
@click.argument("name", metavar="NAME[/VERSION | @ALIAS | :STAGE]")
@click.option(
    "--schema",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A list of columns (YAML or JSON), for a model whose signature names none.",
)
@click.option(
    "--app", default="", help="The app's folder or name; default: this folder's, where it has one."
)
@config_option
def compile_(name: str, schema: Path | None, app: str, config: Path | None) -> None:
    """Make a compiled runtime for a registered version, and prove it equal to the estimator.

    It is kept in the model store beside the version, whoever trained that, and serves it from the
    next load on. The version's pickle is opened for this, once. Exit status 3 when the estimator
    does not compile or the graph is not proved; nothing is kept then.
    """
    from greenroom.compilation import compile_registered
    from greenroom.wiring import build_registry, build_store

    project = open_project(app, config=config) if app else open_here(config=config)
    registered, selector = split_name(name)
    declared = Schema(read_schema(schema)) if schema is not None else None
    with build_registry(project.settings) as registry:
        version = _version(registry, registered, _selector(project, registered, selector))
        with progress() as on_progress:
            compilation = compile_registered(
                registry,
                build_store(project.settings),
                version,
                declared=declared,
                on_progress=on_progress,
            )
    _show(compilation)


def _selector(project: Project, name: str, given: str) -> Selector:
    """Return what an argument selects; of a name alone, what would be served."""
    from greenroom.training.release import deployed

    if given:
        return Selector.parse(given)
    for model in project.app.models if project.app else ():
        where = deployed(model, project.settings)
        if name == where.name:
            return where.selector
    set_ = project.settings.models.get(name)
    return Selector.parse((set_.serve if set_ is not None else "") or "Production")


def _version(registry: Registry, name: str, selector: Selector) -> ModelVersion:
    found = registry.resolve(name, selector).versions
    if not found:
        raise NothingSelected(
            f"{name} has no version that {selector} selects", advice="name one, as NAME/VERSION"
        )
    return found[0]


def _show(compilation: Compilation) -> None:
    version, report = compilation.version, compilation.report
    called = f"{version.name} version {version.version}"
    if compilation.by_training:
        say(f"{called}: was compiled and proved when it was trained; nothing is left to do")
        return
    rows = sum(report.rows.values())
    say(f"{called}: compiled, and proved equal to its estimator on {rows:,} rows")
    for kind, count in report.rows.items():
        say(f"rows        {kind}: {count:,}")
    if report.thresholds:
        say(
            f"thresholds  {report.thresholds_proved:,} of {report.thresholds:,}, on and beside each"
        )
    say(f"difference  {report.largest_difference:.2g} at most; {report.bound:g} is allowed")
    say(f"kept in     {compilation.directory}")
    note(
        "a server with this model store takes it up within half a minute, or at once on"
        " `POST /model/reload`; a server that is started serves it from the beginning"
    )
