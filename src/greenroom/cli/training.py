"""``greenroom train``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from greenroom.cli.context import (
    Project,
    app_argument,
    config_option,
    note_credentials,
    open_project,
    who_is_asking,
)
from greenroom.cli.terminal import note, progress, say, table
from greenroom.errors import SettingsError
from greenroom.training_route import TrainingPlan

if TYPE_CHECKING:
    from greenroom.app import App
    from greenroom.progress import OnProgress
    from greenroom.training.release import Release
    from greenroom.training.scorecard import Scorecards
    from greenroom.training.training import Trained
    from greenroom.training.training_report import ReportFile


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
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep what is trained in this folder, for `greenroom register`; needs no MLflow server.",
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
    into: Path | None,
    config: Path | None,
) -> None:
    """Train an app's models, register the best and take it through the gate.

    APP is an app's folder, or its name under apps/; default: the current folder.
    """
    from greenroom.training.training_report import ReportFile

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
        if into is None:
            _train(project, plans, promotes, file, cards)
            return
        if promotes or rows or trial or file or cards:
            raise SettingsError(
                "--into excludes --promote, --rows, --trial, --figures and --progress-file",
                advice="what is in the folder is registered whole, without a gate",
            )
        for plan in plans:
            train_into_folder(project, plan, into)


def _scorecards(project: Project, plans: Sequence[TrainingPlan], figures: Path) -> Scorecards:
    from greenroom.training.scorecard import Scorecards

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
    from greenroom.training.release import report_of, train_and_release
    from greenroom.wiring import build_registry

    if not project.settings.mlflow_enabled:
        raise SettingsError(
            "a training is logged to MLflow and registered there, and mlflow_enabled is false",
            advice="set mlflow_enabled to true for it",
        )
    note_credentials()
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


def train_into_folder(project: Project, plan: TrainingPlan, into: Path) -> None:
    """Train one model into its folder below ``into``, and show what came of it."""
    from greenroom.training.pretraining import train_into

    model = project.the_app.model(plan.model)
    with progress() as on_progress:
        made = train_into(
            project.the_app,
            model,
            project.folder,
            into,
            settings=project.settings,
            plan=plan,
            on_progress=on_progress,
        )
    if made.trained.unchanged:
        say(f"{model.name}: {made.folder} is up to date (same data, code and settings)")
        return
    _show_data(made.trained)
    _show_scores(made.trained)
    say(f"kept     {model.name}: {made.folder}")


def _show(release: Release) -> None:
    trained, model = release.trained, release.trained.model
    _show_data(trained)
    if release.outcome == "unchanged":
        say(
            f"{model.name}: already registered as version {release.version} "
            "(same data, code and settings)"
        )
    if trained.fitted is not None:
        _show_scores(trained)
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


def _show_data(trained: Trained) -> None:
    if trained.dataset.generated:
        model = trained.model
        note(f"{model.name}: trained on generated data, not on {model.dataset}")
    if trained.dataset.n_available:
        of = f"{trained.dataset.n_rows:,} of {trained.dataset.n_available:,} rows"
        note(f"{trained.model.name}: a trial, on {of}")
    if trained.dataset.dvc_differs:
        note(
            f"{trained.model.name}: {trained.dataset.source} is not the file that "
            f"{trained.dataset.dvc_pointer} points to; "
            f"dvc pull --force {trained.dataset.dvc_pointer} brings that one back"
        )


def _show_scores(trained: Trained) -> None:
    model = trained.model
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
