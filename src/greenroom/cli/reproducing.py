"""``greenroom reproduce``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from greenroom.cli.context import (
    Project,
    config_option,
    open_project,
)
from greenroom.cli.terminal import progress, say, table
from greenroom.errors import AppError, GreenroomError, NothingSelected

if TYPE_CHECKING:
    from greenroom.model import Model
    from greenroom.progress import OnProgress
    from greenroom.registry.registry import ModelVersion, Registry
    from greenroom.settings import Settings
    from greenroom.training.reproduction import Reproduction


@click.command(short_help="Prove that a version can be trained again.")
@click.argument("name")
@click.option("--app", default="", help="The app's folder or name; default: the current folder.")
@config_option
@click.pass_context
def reproduce(context: click.Context, name: str, app: str, config: Path | None) -> None:
    """Train a registered version again, and prove that the same comes out.

    NAME is a registered model, or NAME/VERSION; default: the version that is selected.
    """
    registered, _, version = name.partition("/")
    project = _project_of(registered, app, config)
    with progress() as on_progress, tempfile.TemporaryDirectory() as scratch:
        result = _reproduce(project, registered, version, Path(scratch), on_progress)
    _show_reproduction(result)
    if not result.passed:
        context.exit(1)


def _project_of(registered: str, app: str, config: Path | None) -> Project:
    """Find the app that trains ``registered``: the one named, this folder's, or one in apps/."""
    if app:
        return open_project(app, config=config)
    folders = [Path.cwd(), *sorted(path.parent for path in Path.cwd().glob("apps/*/app.py"))]
    for folder in folders:
        if not (folder / "app.py").is_file():
            continue
        try:
            project = open_project(str(folder), config=config)
        except GreenroomError:
            if folder == Path.cwd():
                raise
            continue  # another app's problem is not this command's
        if _model_of(project, registered) is not None:
            return project
    raise AppError(f"no app here trains {registered!r}", advice="name its folder with --app")


def _model_of(project: Project, registered: str) -> Model | None:
    for model in project.the_app.models:
        deployed = project.settings.models.get(model.name)
        if registered in {model.name, deployed.name if deployed else ""}:
            return model
    return None


def _reproduce(
    project: Project, registered: str, version: str, scratch: Path, on_progress: OnProgress
) -> Reproduction:
    from greenroom.training.reproduction import reproduce as reproduce_version
    from greenroom.versions.manifest import read_manifest
    from greenroom.wiring import build_registry

    model = _model_of(project, registered)
    if model is None:
        raise AppError(f"app {project.the_app.name!r} has no model {registered!r}")
    with build_registry(project.settings) as registry:
        found = (
            registry.version(registered, version)
            if version
            else _selected(registry, model, registered, project.settings)
        )
        for file in registry.files(found):
            registry.download(found, file.path, scratch)
    manifest = read_manifest(scratch)
    if manifest is None:
        raise AppError(
            f"{registered} version {found.version} was not trained by Greenroom",
            advice="only a version that carries its data hash, code and seed can be reproduced",
        )
    return reproduce_version(
        model,
        project.folder,
        manifest,
        scratch,
        version=found.version,
        settings=project.settings,
        on_progress=on_progress,
    )


def _selected(
    registry: Registry, model: Model, registered: str, settings: Settings
) -> ModelVersion:
    from greenroom.training.release import deployed

    selector = deployed(model, settings).selector
    versions = registry.resolve(registered, selector).versions
    if not versions:
        raise NothingSelected(
            f"{registered}: {selector} names no version",
            advice="name one: greenroom reproduce NAME/VERSION",
        )
    return versions[0]


def _show_reproduction(result: Reproduction) -> None:
    if result.metrics:
        table(
            f"{result.model} version {result.version}, trained again",
            ["metric on the hold-out", "recorded", "now", ""],
            [
                [name, repr(before), repr(now), "same" if before == now else "differs"]
                for name, (before, now) in result.metrics.items()
                if not name.endswith(("_low", "_high"))
            ],
        )
    for difference in result.differences:
        say(f"differs  {difference}")
    say(f"verdict  {result.model} version {result.version}: {result.verdict}")
