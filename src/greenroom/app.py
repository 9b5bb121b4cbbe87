"""What a user writes: one ``App`` value, made of models, routes and the names of documented things.

Everything here is data or a pure function, frozen and checked when it is built. What the models
*are* is said here; where and how they run is :mod:`greenroom.settings`. Finding an app on disk is
:func:`load_app`; what only looking at the files can tell is :mod:`greenroom.checking`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, Final, Literal

from greenroom.errors import AppError, refuse
from greenroom.gate import Gate
from greenroom.schema import Column, Columns, Schema
from greenroom.selector import Selector
from greenroom.split import Split
from greenroom.status import Status
from greenroom.task import TASKS, Task

REPLY_SOURCES: Final = (
    "prediction_id",
    "model_name",
    "model_version",
    "model_stage",
    "timestamp",
    "processing_time_ms",
)
"""What a reply may hold besides the task's outputs."""

RESERVED_PATHS: Final = ("/live", "/ready", "/docs", "/redoc", "/openapi.json", "/metrics")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]*")
_PATH = re.compile(r"/[A-Za-z0-9._~/{}-]*")


@dataclass(frozen=True, kw_only=True)
class Model:
    """One registered model: how it is trained, judged and served.

    Parameters
    ----------
    name : str
        The name in MLflow's registry.
    task : Task
        ``classification``, ``regression``, ``anomaly`` or ``forecast``.
    columns : sequence of Column
        A row as it is in the data file and in a request, without the target.
    dataset : str or callable
        A CSV or Parquet file: a path inside the app's folder or any fsspec address. Or a function
        that returns the rows (scikit-learn's own datasets, say).
    target : str
        The column that is predicted; empty for an anomaly model without labels.
    candidates : callable
        ``seed -> {name: estimator}``, in the order in which they are tried.
    gate : Gate
        What a candidate has to show before it is promoted.
    features : str, optional
        A Python file inside the app's folder, self-contained, with a pure function
        ``features(columns) -> columns``. Its source travels inside each version, so that training
        and serving call the same function; only its output enters the estimator. It may also
        hold ``expand(request) -> columns``, which turns one request into rows.
    request : sequence of Column, optional
        What a request holds when ``expand`` makes the rows from it; default: ``columns``.
    serve : str
        The selector: a stage, ``"@alias"``, ``"latest"`` or a version number.
    route : str
        Where it answers; default ``/predict`` for an app's only model.
    reply : mapping of str to str, optional
        The fields of a reply and what fills each; default: everything there is.
    split : Split
        How rows are held out.
    folds : int
        How many parts cross-validation has.
    seed : int
        What every random choice in training starts from.
    dataset_name : str, optional
        How runs call the data; default: the file's name.
    generated : callable, optional
        ``seed -> columns``: a stand-in with the same columns, for when the data are not to be had.
    params : callable, optional
        ``estimator -> {name: value}``: what a run records of a candidate; default: those of the
        last step's parameters that differ from their defaults.
    artifacts : callable, optional
        ``estimator -> {path: bytes}``: further files for the run.
    preprocessing : str, optional
        An artifact that another trainer kept in its runs, beside the model: a version of such a run
        is refused, because the estimator alone would answer wrongly.
    promote : {"after training", "by hand"}
        Whether training goes on to the gate, or leaves the version registered and unselected.

    Raises
    ------
    AppError
        Naming every field that is wrong.
    """

    name: str
    task: Task
    columns: tuple[Column, ...]
    dataset: str | Callable[[], Columns]
    target: str = ""
    candidates: Callable[[int], Mapping[str, Any]]
    gate: Gate
    features: str = ""
    request: tuple[Column, ...] = ()
    serve: str = "Production"
    route: str = ""
    reply: Mapping[str, str] = field(default_factory=dict)
    split: Split = field(default_factory=Split)
    folds: int = 5
    seed: int = 42
    dataset_name: str = ""
    generated: Callable[[int], Columns] | None = None
    params: Callable[[Any], Mapping[str, Any]] | None = None
    artifacts: Callable[[Any], Mapping[str, bytes]] | None = None
    preprocessing: str = ""
    promote: Literal["after training", "by hand"] = "after training"

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "request", tuple(self.request))
        problems = [f"{self.name or 'model'}.{problem}" for problem in self._problems()]
        if problems:
            refuse(AppError(f"model {self.name!r}: {'; '.join(problems)}", problems=problems))

    def _problems(self) -> Iterator[str]:
        if not _NAME.fullmatch(self.name):
            yield f"name: {self.name!r} cannot be a registered model's name"
        if not isinstance(self.task, Task):
            yield f"task: {self.task!r} is not a task; there are {', '.join(TASKS)}"
            return
        yield from self._data_problems()
        yield from self._training_problems()
        yield from self._serving_problems()

    def _data_problems(self) -> Iterator[str]:
        yield from _problems_of(lambda: Schema(self.columns))
        names = {column.name for column in self.columns}
        if self.task.target and not self.target:
            yield f"target: task {self.task.name!r} needs one"
        if self.target in names:
            yield f"target: {self.target!r} is also one of the columns"
        if self.features and not _is_inside(self.features):
            yield f"features: {self.features!r} is not a path inside the app's folder"
        for field_name in ("time", "group"):
            column = getattr(self.split, field_name)
            if column and column not in names:
                yield f"split.{field_name}: {column!r} is not one of the columns"

    def _training_problems(self) -> Iterator[str]:
        if not callable(self.candidates):
            yield "candidates: must be a function of the seed"
        for field_name in ("generated", "params", "artifacts"):
            function = getattr(self, field_name)
            if function is not None and not callable(function):
                yield f"{field_name}: must be a function"
        if not isinstance(self.seed, int):
            yield f"seed: {self.seed!r} is not an integer"
        if not (isinstance(self.folds, int) and self.folds >= 2):
            yield "folds: must be an integer, and at least 2"
        yield from _problems_of(lambda: self.task.metric(self.gate.metric))
        if self.gate.against not in {"", "nothing"}:
            yield from _problems_of(lambda: Selector.parse(self.gate.against), "gate.against")
        if self.promote not in {"after training", "by hand"}:
            yield f"promote: {self.promote!r} is neither 'after training' nor 'by hand'"

    def _serving_problems(self) -> Iterator[str]:
        yield from _problems_of(lambda: Selector.parse(self.serve), "serve")
        if self.route and not _PATH.fullmatch(self.route):
            yield f"route: {self.route!r} is not a path"
        if self.request:
            yield from _problems_of(lambda: Schema(self.request), "request")
            if not self.features:
                yield "request: needs a features file with an expand function"
        sources = {output.name for output in self.task.outputs} | set(REPLY_SOURCES)
        for name, source in self.reply.items():
            if source not in sources:
                yield f"reply.{name}: there is no {source!r}, only {', '.join(sorted(sources))}"

    @property
    def schema(self) -> Schema:
        """A row of the data."""
        return Schema(self.columns)

    @property
    def request_schema(self) -> Schema:
        """A row of a request."""
        return Schema(self.request or self.columns)

    @property
    def selector(self) -> Selector:
        """Which version is served."""
        return Selector.parse(self.serve)


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
        if not _PATH.fullmatch(self.path):
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
    metrics_prefix : str
        What the names of the app's own Prometheus metrics begin with.
    retrain : {"always", "when changed"}
        Whether training makes a new version when data, code and settings are as they were.

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
    metrics_prefix: str = "greenroom"
    retrain: Literal["always", "when changed"] = "always"

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
        if not _NAME.fullmatch(self.name):
            yield f"name: {self.name!r} cannot be an app's name"
        if not (isinstance(self.experiment, str) and self.experiment.strip()):
            yield "experiment: must be a name"
        if not self.models:
            yield "models: there is none"
        yield from _doubles("models: name", [model.name for model in self.models])
        for model in self.models:
            if not model.route:
                yield f"{model.name}.route: is needed where an app has several models"
        paths = [model.route for model in self.models if model.route]
        yield from _doubles("route", paths + [route.path for route in self.routes])
        for path in paths + [route.path for route in self.routes]:
            if path in RESERVED_PATHS:
                yield f"route: {path!r} is Greenroom's own"
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", self.metrics_prefix):
            yield f"metrics_prefix: {self.metrics_prefix!r} cannot begin a metric's name"
        if self.retrain not in {"always", "when changed"}:
            yield f"retrain: {self.retrain!r} is neither 'always' nor 'when changed'"

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


def _problems_of(build: Callable[[], object], prefix: str = "") -> Iterator[str]:
    try:
        build()
    except AppError as error:
        for problem in error.problems or (error.message,):
            yield f"{prefix}: {problem}" if prefix else problem


def _is_inside(path: object) -> bool:
    if not isinstance(path, str):
        return False
    parts = PurePath(path)
    return not parts.is_absolute() and ".." not in parts.parts


def _doubles(what: str, values: list[str]) -> Iterator[str]:
    for value in sorted({value for value in values if values.count(value) > 1}):
        yield f"{what} {value!r} is used twice"
