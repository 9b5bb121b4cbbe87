"""A model as its app describes it: how it is trained, judged and served.

Data and pure functions, frozen and checked when they are built. What an app has beside its models
is :mod:`greenroom.app`'s; where and how they run is :mod:`greenroom.settings`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, Literal

from greenroom.errors import AppError, refuse
from greenroom.gate import Gate
from greenroom.privacy import NOTHING_PRIVATE, Privacy
from greenroom.schema import Column, Columns, Schema
from greenroom.selector import Selector
from greenroom.split import Split
from greenroom.task import TASKS, Task

REPLY_SOURCES: Final = (
    "prediction_id",
    "model_name",
    "model_version",
    "model_stage",
    "timestamp",
    "processing_time_ms",
    "mlflow_logged",
)
"""What a reply may hold besides the task's outputs."""

MLFLOW_LOGS: Final = ("", "each", "batch", "summary")

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]*")
"""What a registered model or an app may be called."""

PATH: Final = re.compile(r"/[A-Za-z0-9._~/{}-]*")
"""Where something may answer."""


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
    baselines : callable, optional
        ``seed -> {name: estimator}``: what the candidates are shown beside, fitted and judged as
        they are, never chosen; default: the mean, or the most frequent class.
    features : str, optional
        A Python file inside the app's folder, self-contained, with a pure function
        ``features(columns) -> columns``. Its source travels inside each version, so that training
        and serving call the same function; only its output enters the estimator. It may also
        hold ``expand(request) -> columns``, which turns one request into rows; where there is a
        ``context``, ``expand(request, context) -> columns``.
    request : sequence of Column, optional
        What a request holds when ``expand`` makes the rows from it; default: ``columns``.
    rows : callable, optional
        ``table -> columns``: makes the model's rows, and the target, of what the data hold, where
        the data are something else: dates written another way, days to be summed up. The table is
        every column of the file as an object array, texts where it is CSV.
    context : callable, optional
        ``table -> columns``: what ``expand`` may look at besides the request, such as an account's
        last year. It is made of the same table, and travels inside the version.
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
        ``seed -> table``: a stand-in with the columns of the file, for when the data are not to be
        had.
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
    mlflow_log : {"", "each", "batch", "summary"}
        What becomes of its predictions in MLflow, beside the prediction log: every one as a metric,
        a Parquet file for every ``mlflow_batch_size`` of them, the figures of every minute, or
        nothing.
    privacy : Privacy
        What of a request the prediction log does not keep; settings may add to it.

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
    baselines: Callable[[int], Mapping[str, Any]] | None = None
    features: str = ""
    request: tuple[Column, ...] = ()
    rows: Callable[[Columns], Mapping[str, Any]] | None = None
    context: Callable[[Columns], Mapping[str, Any]] | None = None
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
    mlflow_log: Literal["", "each", "batch", "summary"] = ""
    privacy: Privacy = NOTHING_PRIVATE

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "request", tuple(self.request))
        problems = [f"{self.name or 'model'}.{problem}" for problem in self._problems()]
        if problems:
            refuse(AppError(f"model {self.name!r}: {'; '.join(problems)}", problems=problems))

    def _problems(self) -> Iterator[str]:
        if not NAME.fullmatch(self.name):
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
        for column in self.columns:
            if column.kind == "records":
                yield f"columns: {column.name!r} is of kind 'records', which only a request has"
        if self.context is not None and not self.request:
            yield "context: is for expand, and there is no request"
        if self.target in names:
            yield f"target: {self.target!r} is also one of the columns"
        if self.features and not _is_inside(self.features):
            yield f"features: {self.features!r} is not a path inside the app's folder"
        for field_name in ("time", "group"):
            named = getattr(self.split, field_name)
            if named and named not in names:
                yield f"split.{field_name}: {named!r} is not one of the columns"

    def _training_problems(self) -> Iterator[str]:
        if not callable(self.candidates):
            yield "candidates: must be a function of the seed"
        functions = ("baselines", "generated", "params", "artifacts", "rows", "context")
        for field_name in functions:
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
        if self.route and not PATH.fullmatch(self.route):
            yield f"route: {self.route!r} is not a path"
        if self.request:
            yield from _problems_of(lambda: Schema(self.request), "request")
            if not self.features:
                yield "request: needs a features file with an expand function"
        for problem in self.privacy.problems(self.request or self.columns):
            yield f"privacy: {problem}"
        sources = {output.name for output in self.task.outputs} | set(REPLY_SOURCES)
        if self.mlflow_log not in MLFLOW_LOGS:
            yield f"mlflow_log: {self.mlflow_log!r} is none of {', '.join(MLFLOW_LOGS[1:])}"
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
