"""``greenroom up`` and ``serve``: running things."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from greenroom.app_loading import find_app
from greenroom.cli.context import (
    Project,
    app_argument,
    config_option,
    note_credentials,
    open_project,
    open_settings,
)
from greenroom.cli.registered import read_schema, require_registered, split_name
from greenroom.cli.terminal import note, print_error, progress, show_log, table
from greenroom.errors import AppError, GreenroomError, ProcessError, SettingsError
from greenroom.status import FALLBACK

if TYPE_CHECKING:
    from greenroom.deployment.following import Follower
    from greenroom.settings import Settings
    from greenroom.status import ModelStatus, Status
    from greenroom.supervision.supervisor import Supervisor
    from greenroom.tracking_server import TrackingServer

host_option = click.option("--host", default=None, help="The address to listen on.")
port_option = click.option("--port", type=int, default=None, help="The port to listen on.")
workers_option = click.option("--workers", type=int, default=None, help="How many workers serve.")
pem_file = click.Path(resolve_path=True, dir_okay=False)
certfile_option = click.option(
    "--ssl-certfile", type=pem_file, default=None, help="Serve HTTPS with this certificate (PEM)."
)
keyfile_option = click.option(
    "--ssl-keyfile", type=pem_file, default=None, help="The certificate's private key (PEM)."
)


ALL_MAX_LOADED = 20
"""How many models of ``serve --all`` are in memory, where the setting does not say."""

MOST_LISTED = 20
"""How many models are listed at the start; ``/models`` has them all."""


@click.command(short_help="Serve what the registry selects.")
@click.argument("names", metavar="[APP | NAME[@ALIAS | /VERSION | :STAGE]...]", nargs=-1)
@click.option(
    "--schema",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A list of columns (YAML or JSON), for a model whose signature names none.",
)
@click.option("--all", "every", is_flag=True, help="Serve all registered models.")
@click.option("--prefix", default=None, help="With --all: those whose names begin with it.")
@click.option(
    "--max-loaded", type=int, default=None, help="How many models a worker has in memory at most."
)
@host_option
@port_option
@workers_option
@certfile_option
@keyfile_option
@config_option
def serve(
    names: tuple[str, ...],
    schema: Path | None,
    every: bool,
    prefix: str | None,
    config: Path | None,
    **options: Any,
) -> None:
    """Serve what an app's models select in the registry, and nothing else.

    APP is an app's folder, or its name under apps/; default: the current folder. Where there is no
    such app, NAME is a registered model, and any number of them is served without one: what is in
    Production, or what the alias, version or stage behind the name says.

    With --all every registered model is served that has something in Production, also those that
    are registered or promoted later; each is loaded on its first use.
    """
    from greenroom.wiring import build_supervisor

    if prefix is not None and not every:
        raise SettingsError("--prefix is for --all", advice="name the models, or add --all")
    if every:
        project, follower = _all_registered(names, schema, prefix or "", config, options)
    else:
        project, follower = _to_serve(names, schema, config, options)
    supervisor = build_supervisor(
        project.settings,
        follower,
        project.app,
        project.folder,
        on_event=note,
        on_log=note,
        config=project.config,
        reread=project.reread,
    )
    supervisor.bind()
    note_credentials()
    asyncio.run(_serve(project, supervisor))


def _all_registered(
    names: tuple[str, ...],
    schema: Path | None,
    prefix: str,
    config: Path | None,
    options: dict[str, Any],
) -> tuple[Project, Follower]:
    from greenroom.wiring import follow_all

    if names or schema is not None:
        given = "names" if names else "--schema"
        raise SettingsError(f"{given} and --all exclude each other", advice="leave one of them out")
    project = open_settings(config=config, **options)
    settings = project.settings
    if not settings.max_loaded:
        settings = msgspec.structs.replace(settings, max_loaded=ALL_MAX_LOADED)
    return replace(project, settings=settings), follow_all(settings, prefix)


def _to_serve(
    names: tuple[str, ...], schema: Path | None, config: Path | None, options: dict[str, Any]
) -> tuple[Project, Follower]:
    """Tell an app from registered models: where one argument finds an app, it is that."""
    from greenroom.wiring import build_follower

    no_app: AppError | None = None
    if len(names) < 2:
        try:
            find_app("".join(names))
        except AppError as error:
            if not names:
                raise
            no_app = error
        else:
            if schema is not None:
                raise SettingsError("--schema is for registered models; an app has its columns")
            project = open_project("".join(names), config=config, **options)
            return project, build_follower(project.settings, project.the_app)
    project = open_settings(config=config, **options)
    return project, _follow_registered(project.settings, names, schema, no_app)


def _follow_registered(
    settings: Settings, names: tuple[str, ...], schema: Path | None, no_app: AppError | None
) -> Follower:
    from greenroom.wiring import follow, registered_target

    wanted = [split_name(text) for text in names]
    twice = {name for name, _ in wanted if [one for one, _ in wanted].count(name) > 1}
    if twice:
        raise SettingsError(f"{', '.join(sorted(twice))} is named twice")
    if schema is not None and len(wanted) > 1:
        raise SettingsError("--schema is for one model", advice="serve it by itself")
    declared = read_schema(schema) if schema is not None else ()
    alone = len(wanted) == 1
    follower = follow(
        settings,
        [
            registered_target(name, settings, serve=serve, declared=declared, alone=alone)
            for name, serve in wanted
        ],
    )
    # What was served last is served again, also while the registry is away.
    known = {one.name for one in follower.restore() if one.serving is not None}
    unsure = [name for name, serve in wanted if not serve and name not in known]
    if unsure and settings.mlflow_enabled:
        require_registered(unsure, settings, no_app)
    return follower


@click.command(short_help="Run everything on this machine.")
@app_argument
@host_option
@port_option
@workers_option
@certfile_option
@keyfile_option
@click.option(
    "--generated",
    is_flag=True,
    default=None,
    help="Where the dataset is absent, train on generated data, and say so everywhere.",
)
@config_option
def up(app: str, config: Path | None, **options: Any) -> None:
    """Run everything on this machine: MLflow, training if nothing is selected, serving.

    APP is an app's folder, or its name under apps/; default: the current folder. Ctrl-C stops
    everything and loses nothing; the next start finds what this one left.
    """
    from greenroom.wiring import build_follower, build_supervisor, build_tracking_server

    project = open_project(app, config=config, **options)
    settings = project.settings
    if not settings.mlflow_enabled:
        raise SettingsError(
            "up starts MLflow and trains, and mlflow_enabled is false",
            advice="call `greenroom serve`, which then serves the fallback file",
        )
    mlflow = build_tracking_server(settings)
    follower = build_follower(settings, project.the_app)
    supervisor = build_supervisor(
        settings,
        follower,
        project.the_app,
        project.folder,
        on_event=note,
        on_log=note,
        registry_starts=lambda: mlflow.starting,
        config=project.config,
        reread=project.reread,
    )
    supervisor.bind()
    note_credentials()
    restored = all(deployment.serving for deployment in follower.restore())
    if not restored:
        _refuse_missing_data(project, mlflow)
    try:
        mlflow.start()
        if restored:
            _wait_behind(mlflow)
        else:
            _wait_and_train(project, mlflow, follower)
        asyncio.run(_serve(project, supervisor))
    finally:
        if mlflow.ours:
            note("stopping MLflow")
        mlflow.stop()
    note("stopped; everything is kept in " + settings.home)


async def _serve(project: Project, supervisor: Supervisor) -> None:
    show_log(project.settings.log_level)
    served = asyncio.create_task(supervisor.run())
    ready = asyncio.create_task(supervisor.ready.wait())
    await asyncio.wait({served, ready}, return_when=asyncio.FIRST_COMPLETED)
    if not served.done():
        _print_urls(project, supervisor.status, supervisor.address)
    ready.cancel()
    await served


def _print_urls(project: Project, status: Status, address: tuple[str, int]) -> None:
    host = "localhost" if address[0] in {"127.0.0.1", "0.0.0.0", "::1", "::"} else address[0]  # noqa: S104 - shown
    settings = project.settings
    base = f"{settings.scheme}://{host}:{address[1]}"
    listed = status.models[:MOST_LISTED]
    n_more = len(status.models) - len(listed)
    rows = [
        ["API", base, _door(settings)],
        *([f"POST {model.name}", base + model.route, served_state(model)] for model in listed),
        *([["models", f"{base}/models", f"{n_more} more"]] if n_more else []),
        ["documentation", f"{base}/docs", ""],
        ["health", f"{base}/health", status.health],
        ["MLflow", settings.tracking_uri, status.registry.state],
    ]
    table("", ["what", "where", "state"], rows)


def _door(settings: Settings) -> str:
    """Say whom the server answers."""
    if settings.auth == "none":
        return "open"
    return "development tokens" if settings.development_tokens else "asks for tokens"


def served_state(model: ModelStatus) -> str:
    """Say in a few words what answers for a model, or why nothing does."""
    if model.serving is None:
        return "; ".join(model.problems) or "nothing is selected"
    generated = ", trained on generated data" if model.serving.generated_data else ""
    # Of the file nobody knows whether its version is selected.
    selected = "the fallback file" if model.serving.source == FALLBACK else model.selector
    return f"version {model.serving.version}, {selected}{generated}"


def _refuse_missing_data(project: Project, mlflow: TrackingServer) -> None:
    """Say at once that training will fail, instead of after MLflow's minute of starting.

    Only where the registry is sure to be empty: no database of ours, and no server that answers.
    """
    from greenroom.training.dataset import require_dataset

    if mlflow.has_database or mlflow.answers():
        return
    for model in project.the_app.models:
        require_dataset(model, project.folder, generated=project.settings.generated)


def _wait_behind(mlflow: TrackingServer) -> None:
    """Let MLflow come up while serving has begun from the model store."""
    note("MLflow is starting; serving what was selected last meanwhile")

    def wait() -> None:
        try:
            mlflow.wait()
        except GreenroomError as error:
            print_error(str(error))

    threading.Thread(target=wait, name="mlflow", daemon=True).start()


def _wait_and_train(project: Project, mlflow: TrackingServer, follower: Follower) -> None:
    with progress() as on_progress:
        mlflow.on_progress = on_progress
        mlflow.wait()
        on_progress("asking the registry what is selected", None)
        deployments = follower.poll(force=True).deployments
    for deployment in deployments:
        if deployment.serving is None:
            note(f"{deployment.reason}: training {deployment.model}")
            _train(project, deployment.model)


def _train(project: Project, model: str) -> None:
    """Train in a process of its own, whose memory and threads end with it."""
    command = [sys.executable, "-m", "greenroom", "train", str(project.folder), "--promote"]
    command += ["--model", model, *(["--generated"] if project.settings.generated else [])]
    ended = _run(command)
    if ended:
        raise ProcessError(
            f"training {model} ended with exit status {ended}",
            advice="its message stands above; nothing was selected",
        )


def _run(command: Sequence[str]) -> int:
    child = subprocess.Popen(command)
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.wait()  # it got the same Ctrl-C, and marks its run as killed
        raise
