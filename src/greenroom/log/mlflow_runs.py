"""The runs that predictions are logged to: found or made, written to, and ended, over REST.

One run for each version and day, named like ``predictions v3 2026-11-21``; a tag says which spool's
it is, so a run is found again by whoever lost count of it. Writing twice leaves no trace: MLflow
takes a metric's run, name, step, time and value for its identity, and a file is replaced. What a
server notes of itself is in one run for each day. What is written is
:mod:`greenroom.log.mlflow_sending`'s business, and :mod:`greenroom.log.mlflow_events`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from greenroom.errors import NotInRegistry, RegistryError
from greenroom.log.outbox import RunKey, RunState
from greenroom.registry.artifacts import upload_file
from greenroom.registry.mlflow_rest import MlflowRest

__all__ = ["MAX_METRICS", "MAX_TAGS", "Metric", "MlflowRuns", "experiment_id"]

MAX_METRICS: Final = 1_000
"""So many are written in one call at most: MLflow's own limit, see
https://mlflow.org/docs/latest/rest-api.html#log-batch."""

MAX_TAGS: Final = 100
"""And so many tags."""

_TAG: Final = "greenroom.predictions"
_SERVER_TAG: Final = "greenroom.server"
_DAY_TAG: Final = "greenroom.day"
_LATEST: Final = 10
"""A server that was away for longer leaves a run that stands there as if it were going on."""
_EXISTS: Final = frozenset({"RESOURCE_ALREADY_EXISTS"})


class Metric(NamedTuple):
    """One value of a metric; ``at_ms`` is in milliseconds since 1970."""

    name: str
    value: float
    at_ms: int
    step: int


@contextmanager
def _understood() -> Iterator[None]:
    """Make an answer without what MLflow's answers have an error that names it."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise RegistryError(f"MLflow's answer about its runs lacks {error}") from error


class MlflowRuns:
    """The runs of one spool's predictions in one experiment.

    Parameters
    ----------
    rest : MlflowRest
    experiment : str
        Its name; made where it is not there.
    spool_id : str
        Whose predictions they are: another server's are in runs of their own.
    several : bool
        Whether more than one model is logged there, so that names of runs have to say which.
    """

    def __init__(
        self, rest: MlflowRest, experiment: str, spool_id: str, *, several: bool = False
    ) -> None:
        self._rest: Final = rest
        self._experiment: Final = experiment
        self._spool_id: Final = spool_id
        self._several: Final = several
        self._experiment_id = ""

    def open(self, run: RunState, at_ms: int) -> None:
        """See to it that a run is there, and note its id and where its files go.

        Parameters
        ----------
        run : RunState
        at_ms : int
            When it begins, where it is made.

        Raises
        ------
        RegistryError
            When MLflow is away or refuses.
        """
        with _understood():
            found = self._found(run.key) or self._made(run.key, at_ms)
            _note(run, found)

    def open_server(self, run: RunState, at_ms: int) -> None:
        """As :meth:`open`, for what the server notes of itself; ends its runs of earlier days.

        Parameters
        ----------
        run : RunState
            Of its key the day alone counts.
        at_ms : int
            When it begins, where it is made.

        Raises
        ------
        RegistryError
            When MLflow is away or refuses.
        """
        day = run.key.day
        with _understood():
            latest = self._search(f"tags.`{_SERVER_TAG}` = '{self._spool_id}'", "DESC", _LATEST)
            of_day = {_day_of(one): one for one in reversed(latest)}
            for before, found in of_day.items():
                if before < day and found["info"]["status"] == "RUNNING":
                    self.end(RunState(run.key, str(found["info"]["run_id"])), at_ms)
            tags = {_SERVER_TAG: self._spool_id, _DAY_TAG: day}
            _note(run, of_day.get(day) or self._create(f"server {day}", tags, at_ms))

    def is_there(self, run: RunState) -> bool:
        """Whether a run can be written to; it may have been deleted."""
        try:
            found = self._rest.get("runs/get", run_id=run.run_id)
        except NotInRegistry:
            return False
        with _understood():
            return bool(found["run"]["info"]["lifecycle_stage"] == "active")

    def log(
        self,
        run: RunState,
        metrics: Iterable[Metric],
        *,
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write metrics, at most :data:`MAX_METRICS`, and tags, at most :data:`MAX_TAGS`.

        Raises
        ------
        RegistryError
            When MLflow is away or refuses.
        """
        named = [
            {"key": name, "value": value, "timestamp": at_ms, "step": step}
            for name, value, at_ms, step in metrics
        ]
        body: dict[str, Any] = {"run_id": run.run_id, "metrics": named}
        if tags:
            body["tags"] = _listed(tags)
        self._rest.post("runs/log-batch", body)

    def put(self, run: RunState, path: str, content: bytes) -> None:
        """Write a file of a run's, or replace it.

        Raises
        ------
        RegistryError
            When it cannot be written from here.
        """
        upload_file(self._rest, run.artifact_uri, path, content)

    def end(self, run: RunState, at_ms: int) -> None:
        """Have a run stand there as finished; it can be written to all the same.

        Raises
        ------
        RegistryError
            When MLflow is away or refuses.
        """
        body = {"run_id": run.run_id, "status": "FINISHED", "end_time": at_ms}
        self._rest.post("runs/update", body, accept={"RESOURCE_DOES_NOT_EXIST"})

    def forget_experiment(self) -> None:
        """Look the experiment up again, because MLflow may have lost it."""
        self._experiment_id = ""

    def _found(self, key: RunKey) -> dict[str, Any] | None:
        runs = self._search(f"tags.`{_TAG}` = '{self._tag(key)}'", "ASC", 1)
        return runs[0] if runs else None

    def _search(self, wanted: str, order: str, most: int) -> list[dict[str, Any]]:
        body = {
            "experiment_ids": [self._id()],
            "filter": wanted,
            "run_view_type": "ACTIVE_ONLY",
            "order_by": [f"attributes.start_time {order}", "attributes.run_id ASC"],
            "max_results": most,
        }
        return [dict(run) for run in self._rest.post("runs/search", body).get("runs", [])]

    def _made(self, key: RunKey, at_ms: int) -> dict[str, Any]:
        tags = {
            _TAG: self._tag(key),
            "greenroom.model": key.model,
            "greenroom.registered_model": key.name,
            "greenroom.version": key.version,
            _DAY_TAG: key.day,
        }
        of = f"{key.name} " if self._several else ""
        return self._create(f"predictions {of}v{key.version} {key.day}", tags, at_ms)

    def _create(self, name: str, tags: Mapping[str, str], at_ms: int) -> dict[str, Any]:
        body = {
            "experiment_id": self._id(),
            "run_name": name,
            "start_time": at_ms,
            "tags": _listed(tags),
        }
        return dict(self._rest.post("runs/create", body)["run"])

    def _tag(self, key: RunKey) -> str:
        # A name may hold spaces and dots, and no quote (greenroom.model.NAME).
        return f"{self._spool_id} {key.day} v{key.version} {key.model} {key.name}"

    def _id(self) -> str:
        if not self._experiment_id:
            self._experiment_id = experiment_id(self._rest, self._experiment)
        return self._experiment_id


def _note(run: RunState, found: Mapping[str, Any]) -> None:
    run_id, uri = str(found["info"]["run_id"]), str(found["info"]["artifact_uri"])
    run.run_id, run.artifact_uri = run_id, uri


def _day_of(found: Mapping[str, Any]) -> str:
    return next(str(tag["value"]) for tag in found["data"]["tags"] if tag["key"] == _DAY_TAG)


def _listed(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": name, "value": value} for name, value in tags.items()]


def experiment_id(rest: MlflowRest, name: str) -> str:
    """Return the id of an experiment, which is made where it is not there.

    Raises
    ------
    RegistryError
        When MLflow is away or refuses, or somebody has deleted the experiment.
    """
    asked = {"experiment_name": name}
    with _understood():
        try:
            found = rest.get("experiments/get-by-name", **asked)["experiment"]
        except NotInRegistry:
            rest.post("experiments/create", {"name": name}, accept=_EXISTS)
            found = rest.get("experiments/get-by-name", **asked)["experiment"]
        if found.get("lifecycle_stage") == "deleted":
            raise RegistryError(
                f"experiment {name!r} is deleted",
                advice="restore it, or set mlflow_log_experiment to another one",
            )
        return str(found["experiment_id"])
