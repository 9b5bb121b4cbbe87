"""The one place where objects are built: each gets what it needs here, and looks for nothing.

Also holds the factory of a worker's ASGI app. Deciding anything is left to what is built. What only
one of the processes needs is imported where it is built: a trainer needs no web framework, and a
supervisor no runtime.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from greenroom.app import App
from greenroom.app_loading import load_app
from greenroom.control import WORKER_VARIABLE, CommittedGeneration, WorkerSetup
from greenroom.data.features import features_digest
from greenroom.deployment.deployments import Target
from greenroom.deployment.fetching import fetch
from greenroom.deployment.following import Follower
from greenroom.errors import AppError, SettingsError
from greenroom.inference.generation import Deployment
from greenroom.log_opening import (
    SPOOL_FOLDER,
    build_chronicle,
    build_redactions,
    build_shipper,
)
from greenroom.progress import OnProgress, silent
from greenroom.redaction import Redactions
from greenroom.registry.registered import ModelVersion
from greenroom.registry.registry import Registry
from greenroom.schema import Column
from greenroom.selector import Selector
from greenroom.settings import ModelSettings, Settings
from greenroom.versions.model_store import ModelStore

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from greenroom.inference.prediction_log import PredictionLog
    from greenroom.inference.served_model import ServedModel
    from greenroom.instruments import WorkerInstruments
    from greenroom.registry_errands import RegistryErrands
    from greenroom.supervision.supervisor import Supervisor
    from greenroom.tracking_server import TrackingServer

STORE_FOLDER: Final = "store"
ONLY_ROUTE: Final = "/predict"


def build_registry(settings: Settings) -> Registry:
    """Connect to the model registry that the settings name."""
    return Registry(settings.tracking_uri, timeout_s=settings.registry_timeout_s)


def build_store(settings: Settings) -> ModelStore:
    """Open the model store in the home folder."""
    return ModelStore(Path(settings.home) / STORE_FOLDER)


def build_follower(settings: Settings, app: App) -> Follower:
    """Follow the registry for all models of an app."""
    return follow(settings, app_targets(app, settings))


def follow(
    settings: Settings,
    targets: Sequence[Target],
    discover: Callable[[str], Target | None] = lambda _: None,
) -> Follower:
    """Follow the registry for ``targets``, with a connection and a store of its own."""
    return Follower(
        build_registry(settings),
        build_store(settings),
        targets,
        keep_versions=settings.keep_versions,
        asks=settings.mlflow_enabled,
        discover=discover,
    )


def follow_all(settings: Settings, prefix: str) -> Follower:
    """Follow the registry for every model whose name begins with ``prefix``, new ones too."""

    def discover(name: str) -> Target | None:
        if not name.startswith(prefix):
            return None
        return dataclasses.replace(registered_target(name, settings, alone=False), optional=True)

    return follow(settings, (), discover)


def build_tracking_server(
    settings: Settings, *, on_progress: OnProgress = silent
) -> TrackingServer:
    """Return what sees to it that MLflow answers; nothing is started yet."""
    from greenroom.tracking_server import TrackingServer

    return TrackingServer(
        settings.tracking_uri,
        Path(settings.home),
        start_timeout_s=settings.mlflow_start_timeout_s,
        on_progress=on_progress,
    )


def build_supervisor(
    settings: Settings,
    follower: Follower,
    app: App | None,
    folder: Path,
    *,
    on_event: Callable[[str], None],
    on_log: Callable[[str], None],
    registry_starts: Callable[[], bool] = lambda: False,
    config: Path | None = None,
    reread: Callable[[], Settings] | None = None,
) -> Supervisor:
    """Return a server for an app, or for registered models without one; nothing runs yet.

    Parameters
    ----------
    settings : Settings
        Where and how it runs.
    follower : Follower
        What is to be served.
    app : App, optional
        Whose routes and views it has.
    folder : Path
        Where the app is.
    on_event, on_log, registry_starts : callable
        As :class:`greenroom.supervision.supervisor.Supervisor` takes them.
    config : Path, optional
        The settings file that was named instead of the app's own.
    reread : callable, optional
        Reads the settings again, for hot reload.
    """
    from greenroom.monitoring_wiring import build_monitoring
    from greenroom.supervision.jobs import train_command
    from greenroom.supervision.supervisor import Supervisor

    if settings.log:
        build_redactions(app, settings)  # what is wrong with them is said before anything starts
    return Supervisor(
        settings=settings,
        follower=follower,
        app_name=app.name if app else "greenroom",
        app_folder=folder if app else None,
        on_event=on_event,
        on_log=on_log,
        registry_starts=registry_starts,
        registry_errands=_registry_errands(settings, app),
        shipper=build_shipper(settings, on_event, on_log, app) if settings.log else None,
        chronicle=build_chronicle(settings, on_event, app) if settings.log else None,
        monitoring=build_monitoring(
            settings, folder if app else None, config=config, on_event=on_event
        ),
        home=Path(settings.home),
        train=train_command(folder, config=config, generated=settings.generated),
        end_runs=partial(_end_runs, settings),
        reread=reread,
    )


def _end_runs(settings: Settings, job_id: str, problem: str) -> None:
    from greenroom.registry.mlflow_rest import MlflowRest
    from greenroom.unfinished_runs import end_runs

    with MlflowRest(settings.tracking_uri, timeout_s=settings.registry_timeout_s) as rest:
        end_runs(rest, job_id, problem)


def _registry_errands(settings: Settings, app: App | None) -> RegistryErrands | None:
    """Return what does errands to the registry, where an app has routes for them."""
    from greenroom.promotion.transitions import Judge
    from greenroom.registry_errands import RegistryErrands

    if app is None or app.management is None:
        return None
    gated = app.models if app.management.gated else ()
    judges = {model.name: Judge(model.gate, model.task) for model in gated}
    return RegistryErrands(build_registry(settings), app_targets(app, settings), judges)


def app_targets(app: App, settings: Settings) -> tuple[Target, ...]:
    """Return what an app's routes follow: the app's own names, where settings say nothing else.

    Raises
    ------
    SettingsError
        When the settings name a model that the app does not have, or a selector that is none.
    """
    names = [model.name for model in app.models]
    unknown = sorted(settings.models.keys() - set(names))
    if unknown:
        raise SettingsError(
            f"models.{unknown[0]}: app {app.name!r} has no such model",
            advice=f"it has {', '.join(names)}",
        )
    return tuple(
        dataclasses.replace(
            _target(model.name, model.serve, model.route, settings.models.get(model.name)),
            preprocessing=model.preprocessing,
            request=tuple(model.request_schema),
            task=model.task.name,
            place=settings.place,
        )
        for model in app.models
    )


def registered_target(
    name: str,
    settings: Settings,
    *,
    serve: str = "",
    declared: tuple[Column, ...] = (),
    alone: bool = True,
) -> Target:
    """Return what is followed for a registered model that is served without an app.

    Parameters
    ----------
    name : str
        The registered name.
    settings : Settings
        May name another selector, where ``serve`` is empty.
    serve : str
        The selector; default: Production.
    declared : tuple of Column
        The columns of a request, for versions whose signature does not name them.
    alone : bool
        Whether it is the server's only model, which answers at ``/predict``.

    Raises
    ------
    SettingsError
        When ``serve`` is no selector.
    """
    route = ONLY_ROUTE if alone else f"/models/{name}/predict"
    deployed = None if serve else settings.models.get(name)
    target = _target(name, serve or "Production", route, deployed)
    return dataclasses.replace(target, declared=declared, place=settings.place)


def download_version(registry: Registry, version: ModelVersion, folder: Path) -> Path:
    """Download a version, verified, into a model store in ``folder``; return where it is.

    Raises
    ------
    VersionError, RegistryError
        As :func:`greenroom.deployment.fetching.fetch`.
    """
    store = ModelStore(folder)
    return store.path(fetch(registry, store, version))


def worker() -> ASGIApp:
    """Build the ASGI app of a worker, as ``GREENROOM_WORKER`` says.

    Raises
    ------
    ProcessError
        When no supervisor has started this process.
    AppError
        When the app cannot be imported.
    """
    from greenroom.counters import CounterMemory
    from greenroom.http.first_use import FirstUse
    from greenroom.http.membership import Membership
    from greenroom.http.serving import build_asgi
    from greenroom.inference.inference import Engine
    from greenroom.inference.residency import BoundedEngine
    from greenroom.inference.runtime import load_runtime
    from greenroom.instruments import WorkerInstruments

    setup = WorkerSetup.load(os.environ.get(WORKER_VARIABLE, ""))
    app = load_app(Path(setup.app_folder)) if setup.app_folder else None
    load = partial(
        load_runtime,
        trust=setup.settings.trust,
        features_digests=_features_digests(app, Path(setup.app_folder)) if app else (),
    )
    counters = CounterMemory.attach(setup.counters_fd)
    instruments = WorkerInstruments(counters, seat=setup.seat, slot=setup.slot)

    def on_load(deployment: Deployment, seconds: float) -> None:
        instruments.loaded(deployment.name, seconds)

    settings = setup.settings
    redactions = build_redactions(app, settings) if settings.log else Redactions()

    def check(served: ServedModel) -> None:
        if served.runtime is not None:
            redactions.check(served.deployment.model, tuple(served.runtime.schema))

    committed = CommittedGeneration.attach(setup.committed_fd)
    bounded = None
    if settings.max_loaded:
        bounded = BoundedEngine(committed, load, on_load, check, max_loaded=settings.max_loaded)
    engine = bounded or Engine(committed, load, on_load, check)
    membership = Membership(engine, setup.control_fd)
    first_use = None
    if bounded:
        timeout_s = settings.load_timeout_s
        first_use = FirstUse(bounded, timeout_s=timeout_s, on_trouble=membership.report)
    return build_asgi(
        engine,
        membership.status,
        app=app,
        settings=settings,
        reload=membership.reload,
        ask=membership.ask,
        first_use=first_use.loaded if first_use else None,
        lifespan=membership.session,
        instruments=instruments,
        worker=setup.slot,
        log=_prediction_log(settings, app, instruments, redactions) if settings.log else None,
    )


def _prediction_log(
    settings: Settings, app: App | None, instruments: WorkerInstruments, redactions: Redactions
) -> PredictionLog:
    """Return what a worker notes its predictions in.

    Raises
    ------
    LogError
        When the spool cannot be written.
    """
    from greenroom.inference.prediction_log import PredictionLog
    from greenroom.log.mlflow_setup import models_for_mlflow
    from greenroom.log.spool import Spool
    from greenroom.log.spooling import Spooler

    spooler = Spooler(
        Spool(Path(settings.home) / SPOOL_FOLDER),
        fsync_s=settings.spool_fsync_ms / 1_000,
        seal_s=settings.log_ship_interval_s,
        max_bytes=settings.log_max_bytes,
    )
    return PredictionLog(
        spooler,
        when_full=settings.log_when_full,
        to_mlflow=models_for_mlflow(settings, app),
        unlogged=instruments.unlogged,
        redactions=redactions,
    )


def _features_digests(app: App, folder: Path) -> frozenset[str]:
    """Return the digests of the installed app's own features."""
    return frozenset(
        features_digest((folder / model.features).read_text(encoding="utf-8"))
        for model in app.models
        if model.features
    )


def _target(model: str, serve: str, route: str, deployed: ModelSettings | None) -> Target:
    """Take from settings which registered model and selector are deployed, else from the app."""
    deployed = deployed or ModelSettings()
    try:
        selector = Selector.parse(deployed.serve or serve)
    except AppError as error:
        place = f"models.{model}.serve" if deployed.serve else f"{model}.serve"
        raise SettingsError(f"{place}: {error.message}", advice=error.advice) from error
    return Target(
        model=model,
        name=deployed.name or model,
        selector=selector,
        route=route,
        fallback_path=deployed.fallback_path,
    )
