"""What a user writes: one ``App`` value, made of models, routes and the names of documented things.

Everything here is data or a pure function, frozen and checked when it is built. What a model *is*
is said in :mod:`greenroom.model`; where and how they run is :mod:`greenroom.settings`. Finding an
app on disk is :func:`load_app`; what only looking at the files can tell is
:mod:`greenroom.checking`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from greenroom.errors import AppError, refuse
from greenroom.management import Management
from greenroom.model import NAME, PATH, Model
from greenroom.settings_file import SettingsFile
from greenroom.status import Status
from greenroom.training_route import TrainingRoute

RESERVED_PATHS: Final = ("/live", "/ready", "/docs", "/redoc", "/openapi.json", "/metrics")


@dataclass(frozen=True)
class Route:
    """A page of an app's own: a pure function of the server's status.

    Parameters
    ----------
    method : str
        ``"GET"``; views only read.
    path : str
        Where it answers.
    view : callable
        ``Status -> dict``, what is sent as JSON.
    summary : str
        One sentence for the documentation.
    scope : {"open", "read"}
        What a caller's token has to allow.
    """

    method: Literal["GET"]
    path: str
    view: Callable[[Status], Mapping[str, Any]]
    summary: str = ""
    scope: Literal["open", "read"] = "read"

    def __post_init__(self) -> None:
        problems = []
        if self.method != "GET":
            problems.append(f"route.method: {self.method!r}; a view answers GET")
        if not PATH.fullmatch(self.path):
            problems.append(f"route.path: {self.path!r} is not a path")
        if not callable(self.view):
            problems.append("route.view: must be a function of the status")
        if self.scope not in {"open", "read"}:
            problems.append(f"route.scope: {self.scope!r} is neither 'open' nor 'read'")
        if problems:
            refuse(AppError("; ".join(problems), problems=problems))


@dataclass(frozen=True, kw_only=True)
class App:
    """An application: the models that one server serves.

    Parameters
    ----------
    name : str
        What the application is called.
    experiment : str
        The MLflow experiment that its runs go to.
    models : sequence of Model
        At least one; names and routes are unique.
    routes : sequence of Route
        Reply shapes of the app's own.
    environment : mapping of str to str
        Documented environment variables and the setting that each one sets, such as
        ``{"PORT": "port", "MLFLOW_MODEL_NAME": "models.credit-risk-model.name"}``.
    settings_file : SettingsFile, optional
        A documented settings file beside ``greenroom.yaml``, with an outline of its own.
    management : Management, optional
        Paths of the app's own for managing the registry and the server.
    metrics_prefix : str
        What the names of the app's own Prometheus metrics begin with.
    retrain : {"always", "when changed"}
        Whether training makes a new version when data, code and settings are as they were.
    training : TrainingRoute, optional
        Where training is asked for over HTTP; default: nowhere.
    data_sources : mapping of str to str
        Data files that have a name, such as ``{"current": "data/current.parquet"}``: paths inside
        the app's folder, or addresses. ``greenroom monitor --current NAME`` compares one.

    Raises
    ------
    AppError
        Naming every field that is wrong.
    """

    name: str
    experiment: str
    models: tuple[Model, ...]
    routes: tuple[Route, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    settings_file: SettingsFile | None = None
    management: Management | None = None
    metrics_prefix: str = "greenroom"
    retrain: Literal["always", "when changed"] = "always"
    training: TrainingRoute | None = None
    data_sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        models = tuple(self.models)
        if len(models) == 1 and not models[0].route:
            models = (replace(models[0], route="/predict"),)
        object.__setattr__(self, "models", models)
        object.__setattr__(self, "routes", tuple(self.routes))
        problems = list(self._problems())
        if problems:
            refuse(AppError(f"app {self.name!r}: {'; '.join(problems)}", problems=problems))

    def _problems(self) -> Iterator[str]:
        if not NAME.fullmatch(self.name):
            yield f"name: {self.name!r} cannot be an app's name"
        if not (isinstance(self.experiment, str) and self.experiment.strip()):
            yield "experiment: must be a name"
        if not self.models:
            yield "models: there is none"
        yield from _doubles("models: name", [model.name for model in self.models])
        for model in self.models:
            if not model.route:
                yield f"{model.name}.route: is needed where an app has several models"
        yield from self._path_problems()
        for name, source in self.data_sources.items():
            if not (isinstance(source, str) and source.strip()):
                yield f"data_sources: {name!r} names no file"
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", self.metrics_prefix):
            yield f"metrics_prefix: {self.metrics_prefix!r} cannot begin a metric's name"
        if self.retrain not in {"always", "when changed"}:
            yield f"retrain: {self.retrain!r} is neither 'always' nor 'when changed'"

    def _path_problems(self) -> Iterator[str]:
        paths = [model.route for model in self.models if model.route]
        paths += [route.path for route in self.routes]
        paths += self.management.paths if self.management else ()
        paths += [self.training.path] if self.training else []
        yield from _doubles("route", paths)
        for path in paths:
            if path in RESERVED_PATHS:
                yield f"route: {path!r} is Greenroom's own"

    def model(self, name: str = "") -> Model:
        """Return the model called ``name``, or the only one there is.

        Raises
        ------
        AppError
            When there is no such model, or several and no name; the message lists them.
        """
        if not name and len(self.models) == 1:
            return self.models[0]
        for model in self.models:
            if model.name == name:
                return model
        known = ", ".join(model.name for model in self.models)
        what = f"has no model {name!r}" if name else "has several models"
        raise AppError(f"app {self.name!r} {what}", advice=f"name one of {known}")


def _doubles(what: str, values: list[str]) -> Iterator[str]:
    for value in sorted({value for value in values if values.count(value) > 1}):
        yield f"{what} {value!r} is used twice"
