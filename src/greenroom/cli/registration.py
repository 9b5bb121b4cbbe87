"""``greenroom register``: trained models out of a folder, into MLflow's registry."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from greenroom.cli.context import Project, config_option, open_here, open_project, who_is_asking
from greenroom.cli.terminal import progress, say
from greenroom.cli.training import train_into_folder
from greenroom.errors import (
    DataMissing,
    GreenroomError,
    RegistrationError,
    RegistryUnavailable,
    SettingsError,
)
from greenroom.training_route import TrainingPlan

if TYPE_CHECKING:
    from greenroom.registry.registry import Registry
    from greenroom.training.model_folder import ModelEntry
    from greenroom.training.registration import Registered
    from greenroom.training.release import Deployed
    from greenroom.training.tracking import Tracking


@click.command(short_help="Register trained models from a folder, and select them.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--train-missing", is_flag=True, help="First train the app's models that are not there."
)
@click.option("--app", default="", help="The app's folder or name; default: this folder's.")
@click.option(
    "--generated",
    is_flag=True,
    default=None,
    help="With --train-missing: where the dataset is absent, train on generated data.",
)
@config_option
def register(
    folder: Path, train_missing: bool, app: str, generated: bool | None, config: Path | None
) -> None:
    """Register the models in FOLDER, each in a folder of its own, and select them, without a gate.

    Waits for MLflow. What was registered from the same files before is left alone, so it may be
    called again at any time.
    """
    from greenroom.training.registration import wait_for_registry
    from greenroom.wiring import build_registry

    options = {"generated": generated}
    project = (
        open_project(app, config=config, **options) if app else open_here(config=config, **options)
    )
    if not project.settings.mlflow_enabled:
        raise SettingsError(
            "models are registered in MLflow, and mlflow_enabled is false",
            advice="set mlflow_enabled to true for it",
        )
    if train_missing:
        _train_missing(project, folder)
    entries, problems = _entries(project, folder)
    with build_registry(project.settings) as registry:
        with progress() as on_progress:
            wait_for_registry(
                registry, project.settings.mlflow_start_timeout_s, on_progress=on_progress
            )
        for entry in entries:
            try:
                _register(project, registry, entry)
            except RegistryUnavailable:
                raise
            except GreenroomError as error:
                problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise RegistrationError(
            f"{len(problems)} models could not be registered from {folder}", problems
        )


def _train_missing(project: Project, folder: Path) -> None:
    from greenroom.training.model_folder import find_models

    there = {entry.name for entry in find_models(folder)[0]} if folder.is_dir() else set()
    for model in project.the_app.models:
        if model.name not in there:
            train_into_folder(project, TrainingPlan(model=model.name), folder)


def _entries(project: Project, folder: Path) -> tuple[list[ModelEntry], list[GreenroomError]]:
    """Return what is to be registered, and what is wrong with the folder besides."""
    from greenroom.training.model_folder import find_models

    entries, problems = find_models(folder)
    if project.app is None:
        if not entries and not problems:
            problems.append(DataMissing(f"{folder} holds no model"))
        return entries, problems
    names = [model.name for model in project.app.models]
    for name in names:
        if name not in {entry.name for entry in entries}:
            problems.append(
                DataMissing(f"{name} is not in {folder}", advice="train it: --train-missing")
            )
    for entry in entries:
        if entry.name not in names:
            problems.append(
                DataMissing(
                    f"{entry.directory} is no model of {project.app.name}",
                    advice=f"call its folder as the app calls the model: {', '.join(names)}",
                )
            )
    return [entry for entry in entries if entry.name in names], problems


def _register(project: Project, registry: Registry, entry: ModelEntry) -> None:
    from greenroom.training.registration import register_entry

    where = _destination(project, entry)
    with progress() as on_progress:
        done = register_entry(
            registry,
            _tracking(project, entry),
            entry,
            where,
            who=who_is_asking(project.settings),
            on_progress=on_progress,
        )
    say(f"{done.name}: {_sentence(done, where)}")


def _destination(project: Project, entry: ModelEntry) -> Deployed:
    """Say under which name a model is registered, and what is to name it."""
    from greenroom.selector import Selector
    from greenroom.settings import ModelSettings
    from greenroom.training.release import Deployed, deployed

    if project.app is not None:
        return deployed(project.app.model(entry.name), project.settings)
    given = project.settings.models.get(entry.name, ModelSettings())
    return Deployed(given.name or entry.name, Selector.parse(given.serve or "Production"))


def _tracking(project: Project, entry: ModelEntry) -> Callable[[], Tracking]:
    experiment = project.app.experiment if project.app else entry.name

    @cache
    def connect() -> Tracking:
        from greenroom.training.tracking import Tracking

        return Tracking(project.settings.tracking_uri, experiment)

    return connect


def _sentence(done: Registered, where: Deployed) -> str:
    others = [version for version in done.selected if version != done.version]
    selected = f"{where.selector} names version {' and '.join(done.selected)}" if others else ""
    if done.outcome == "unchanged":
        return f"unchanged: version {done.version}" + (f" ({selected})" if selected else "")
    if done.outcome == "selected":
        return f"version {done.version} has these files; {where.selector} names it now"
    reason = f"{done.reason}: " if done.reason else ""
    outcome = selected or f"{where.selector} names it now"
    return f"{reason}registered as version {done.version}; {outcome}"
