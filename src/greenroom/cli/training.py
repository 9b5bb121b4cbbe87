"""``greenroom train`` and ``greenroom reproduce``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from greenroom.cli.context import Project, app_argument, config_option, open_project, who_is_asking
from greenroom.cli.terminal import note, progress, say, table
from greenroom.errors import AppError, GreenroomError, NothingSelected, SettingsError
from greenroom.training_route import TrainingPlan

if TYPE_CHECKING:
    from greenroom.app import App
    from greenroom.model import Model
    from greenroom.progress import OnProgress
    from greenroom.registry import ModelVersion, Registry
    from greenroom.release import Release
    from greenroom.reproduction import Reproduction
    from greenroom.scorecard import Scorecards
    from greenroom.settings import Settings
    from greenroom.training_report import ReportFile


@click.command(short_help="Train, register the best, go through the gate.")
@app_argument
@click.option("--model", "only", default="", help="Train this model alone.")
@click.option("--candidates", default="", help="Try these of its candidates alone: A,B.")
@click.option(
    "--dataset", default="", help="Train on these data: a path inside the app, or an address."
)
@click.option(
    "--rows", type=click.IntRange(min=0), default=0, help="Train on so many rows: a trial."
)
@click.option("--trial", is_flag=True, help="Never replace a version that was trained in full.")
@click.option(
    "--generated",
    is_flag=True,
    default=None,
    help="Where the dataset is absent, train on generated data, and say so everywhere.",
)
@click.option(
    "--promote/--no-promote",
    "promotes",
    default=None,
    help="Go on to the gate, or only register; default: as the app says.",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the figures into this Markdown file of the app's folder.",
)
@click.option(
    "--progress-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write how it is going, and in the end how it went, into this file (JSON).",
)
@config_option
def train(
    app: str,
    only: str,
    candidates: str,
    dataset: str,
    rows: int,
    trial: bool,
    generated: bool | None,
    promotes: bool | None,
    figures: Path | None,
    progress_file: Path | None,
    config: Path | None,
) -> None:
    """Train an app's models, register the best and take it through the gate.

    APP is an app's folder, or its name under apps/; default: the current folder.
    """
    from greenroom.training_report import ReportFile

    # Read when OpenMP is first loaded: threads that wait leave the cores to the others, MLflow's
    # server among them; spinning, a training takes several times as long on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if figures and (candidates or dataset or rows or trial):
        raise SettingsError(
            "--figures is for a training in full",
            advice="leave out --candidates, --dataset, --rows and --trial",
        )
    file = ReportFile(progress_file) if progress_file else None
    with file.kept() if file else nullcontext():
        project = open_project(app, config=config, generated=generated)
        names = tuple(candidates.replace(",", " ").split())
        plans = [
            TrainingPlan(model=name, candidates=names, dataset=dataset, rows=rows, trial=trial)
            for name in _to_train(project.the_app, only, one=bool(names or dataset))
        ]
        # Opened first: a training is long, and a file without a place for its figures ends it.
        cards = _scorecards(project, plans, figures) if figures else None
        _train(project, plans, promotes, file, cards)


def _scorecards(project: Project, plans: Sequence[TrainingPlan], figures: Path) -> Scorecards:
    from greenroom.scorecard import Scorecards

    return Scorecards(project.folder / figures, [plan.model for plan in plans])


def _to_train(app: App, only: str, *, one: bool) -> list[str]:
    """Return the names of the models to train; an error where there may be one and are several."""
    if only or one:
        return [app.model(only).name]
    return [model.name for model in app.models]


def _train(
    project: Project,
    plans: Sequence[TrainingPlan],
    promotes: bool | None,
    file: ReportFile | None,
    cards: Scorecards | None,
) -> None:
    from greenroom.release import report_of, train_and_release
    from greenroom.wiring import build_registry

    if not project.settings.mlflow_enabled:
        raise SettingsError(
            "a training is logged to MLflow and registered there, and mlflow_enabled is false",
            advice="set mlflow_enabled to true for it",
        )
    with build_registry(project.settings) as registry:
        registry.ping()
        for plan in plans:
            model = project.the_app.model(plan.model)
            with progress() as shown:
                release = train_and_release(
                    project.the_app,
                    model,
                    project.folder,
                    settings=project.settings,
                    registry=registry,
                    who=who_is_asking(project.settings),
                    promotes=model.promote == "after training" if promotes is None else promotes,
                    plan=plan,
                    on_progress=_both(shown, file.on_progress) if file else shown,
                )
            if file:
                file.trained(report_of(release))
            _show(release)
            if cards is not None:
                _write_figures(cards, release)


def _write_figures(cards: Scorecards, release: Release) -> None:
    name, file = release.trained.model.name, cards.path.name
    if release.trained.fitted is None:
        note(f"{name}: nothing was trained, so {file} stays as it was")
    else:
        cards.write(release.trained)
        say(f"figures  {name}: written into {file}")


def _both(one: OnProgress, other: OnProgress) -> OnProgress:
    def on_progress(text: str, share: float | None) -> None:
        one(text, share)
        other(text, share)

    return on_progress


def _show(release: Release) -> None:
    trained, model = release.trained, release.trained.model
    if trained.dataset.generated:
        note(f"{model.name}: trained on generated data, not on {model.dataset}")
    if trained.dataset.n_available:
        of = f"{trained.dataset.n_rows:,} of {trained.dataset.n_available:,} rows"
        note(f"{model.name}: a trial, on {of}")
    if release.outcome == "unchanged":
        say(
            f"{model.name}: already registered as version {release.version} "
            "(same data, code and settings)"
        )
    if trained.fitted is not None:
        _show_scores(release)
        say(f"run      {trained.run_url}")
    words = {
        "promoted": f"version {release.version} is selected",
        "registered": f"registered as version {release.version}, not selected",
        "refused": f"version {release.version} registered and refused by the gate"
        if release.version
        else "refused by the gate and not registered",
        "unchanged": "",
    }
    if words[release.outcome]:
        say(f"outcome  {model.name}: {words[release.outcome]}")
    for reason in release.reasons:
        say(f"gate     {reason}")
    if release.fallback_path:
        say(f"fallback {release.fallback_path} holds version {release.version}")


def _show_scores(release: Release) -> None:
    trained, model = release.trained, release.trained.model
    if trained.fitted is None or trained.manifest is None:
        return
    chosen, metrics = trained.fitted.candidate, trained.fitted.metrics
    names = [metric.name for metric in model.task.metrics if metric.name in metrics]
    first = [model.gate.metric, *(name for name in names if name != model.gate.metric)][:3]
    table(
        f"{model.name}: {model.folds} folds of {trained.manifest.n_train:,} training rows, "
        "mean ± standard deviation",
        ["candidate", *first, ""],
        [
            [
                score.name,
                *(
                    f"{score.means[name]:.4f} ± {score.deviations[name]:.4f}"
                    if name in score.means
                    else "-"
                    for name in first
                ),
                mark,
            ]
            for score, mark in [
                *((line.scores, "baseline") for line in trained.baselines),
                *((score, "best" if score.name == chosen else "") for score in trained.scores),
            ]
        ],
    )
    table(
        f"{chosen} on {trained.manifest.n_holdout:,} held-out rows",
        ["metric", "value", "95 % interval"],
        [
            [
                name,
                f"{metrics[name]:.6g}",
                f"{metrics[f'{name}_low']:.6g} to {metrics[f'{name}_high']:.6g}"
                if f"{name}_low" in metrics
                else "",
            ]
            for name in names
        ],
    )


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
    from greenroom.manifest import read_manifest
    from greenroom.reproduction import reproduce as reproduce_version
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
    from greenroom.release import deployed

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
