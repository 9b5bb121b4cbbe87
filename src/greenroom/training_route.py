"""Training over HTTP, as an app declares it: what may be asked for, and what is trained then.

Values alone. Which pages are made of them is :mod:`greenroom.http.training_pages`' business, how a
training runs :mod:`greenroom.supervision.jobs`'.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import msgspec

from greenroom.errors import AppError, refuse
from greenroom.model import PATH, Model
from greenroom.schema import Column, Schema

__all__ = ["WAIT", "TrainingPlan", "TrainingRoute"]

WAIT: Final = "wait"
"""The field that every request may have: whether the answer waits for the end."""


class TrainingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one training is to do.

    Parameters
    ----------
    model : str
        The app's name for the model.
    candidates : tuple of str
        Which of its candidates are tried; default: all.
    dataset : str
        Another dataset than the model's: a path inside the app's folder, or an fsspec address.
    rows : int
        On how many rows at most, drawn by the model's seed from all there are; 0: on all.
    trial : bool
        Whether it is a trial, as one with ``rows`` always is. Its version is registered and judged
        like any other, but never takes the place of one that was trained in full.

    Examples
    --------
    >>> TrainingPlan(model="traffic", candidates=("rf",), rows=1_000).is_trial
    True
    """

    model: str
    candidates: tuple[str, ...] = ()
    dataset: str = ""
    rows: int = 0
    trial: bool = False

    @property
    def is_trial(self) -> bool:
        """Whether its version stands behind one that was trained in full."""
        return self.trial or self.rows > 0

    def applied_to(self, model: Model) -> Model:
        """Return ``model`` as it is to be trained: from the plan's data, with its candidates.

        Raises
        ------
        AppError
            When the model has no such candidate.
        """
        if self.dataset:
            model = replace(model, dataset=self.dataset, dataset_name="")
        if self.candidates:
            known = tuple(model.candidates(model.seed))
            unknown = [name for name in self.candidates if name not in known]
            if unknown:
                raise AppError(
                    f"model {model.name!r} has no candidate {', '.join(map(repr, unknown))}",
                    advice=f"it has {', '.join(known)}",
                )
            model = replace(model, candidates=_chosen(model, self.candidates))
        return model


def _chosen(model: Model, names: Sequence[str]) -> Callable[[int], Mapping[str, Any]]:
    """Return the model's candidates, but only those of these names, in the model's order."""
    every = model.candidates

    def candidates(seed: int) -> dict[str, Any]:
        return {name: made for name, made in every(seed).items() if name in names}

    return candidates


MakePlan: TypeAlias = Callable[[Mapping[str, Any]], TrainingPlan]


@dataclass(frozen=True, kw_only=True)
class TrainingRoute:
    """Where training is asked for over HTTP, with what, and what that trains.

    ``POST`` there begins a training, ``GET`` lists the last ones, ``GET`` with a job's id behind it
    says how that one is or went.

    Parameters
    ----------
    request : sequence of Column
        The fields of a request, checked like those of a prediction; one that may be left out is
        ``nullable``, and is None then. Every request may have a field ``wait`` besides: whether
        the answer waits until the training is over, which it does by default.
    plan : callable
        The request's fields, by request name, -> what is to be trained. Pure. Where the fields are
        right one by one and do not go together, it raises ``ValueError`` with what is wrong: the
        caller reads that.
    path : str
        Where it answers.
    environment : str, optional
        The field that says which environment the training is meant for (``dev`` or ``prod``). A
        request for another one than the server's setting ``environment`` is refused.
    summary : str
        One sentence for the documentation.

    Raises
    ------
    AppError
        Naming every field that is wrong.

    Examples
    --------
    >>> kinds = Column("kind", "category", categories=("forest", "linear"))
    >>> route = TrainingRoute(
    ...     request=(kinds, Column("quick", "boolean", nullable=True)),
    ...     plan=lambda asked: TrainingPlan(
    ...         model="traffic",
    ...         candidates=(asked["kind"],),
    ...         rows=1_000 if asked["quick"] else 0,
    ...     ),
    ... )
    >>> route.plan({"kind": "forest", "quick": None}).candidates
    ('forest',)
    """

    request: tuple[Column, ...]
    plan: MakePlan
    path: str = "/train"
    environment: str = ""
    summary: str = "Train a model, register it and take it through the gate."

    def __post_init__(self) -> None:
        object.__setattr__(self, "request", tuple(self.request))
        problems = [f"training.{problem}" for problem in self._problems()]
        if problems:
            refuse(AppError("; ".join(problems), problems=problems))

    def _problems(self) -> Iterator[str]:
        try:
            names = [one.request_name for one in Schema(self.request)] if self.request else []
        except AppError as error:
            yield from (f"request: {problem}" for problem in error.problems or (error.message,))
            names = []
        if WAIT in names:
            yield f"request: {WAIT!r} is a field that every request has"
        if self.environment and self.environment not in names:
            yield f"environment: {self.environment!r} is not a field of the request"
        if not callable(self.plan):
            yield "plan: must be a function of the request's fields"
        if not PATH.fullmatch(self.path) or "{" in self.path or self.path.endswith("/"):
            yield f"path: {self.path!r} is not a path"

    def typed(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's fields as ``plan`` takes them, by request name; left out is None."""
        return {one.request_name: _typed(one, asked.get(one.request_name)) for one in self.request}

    @property
    def schema(self) -> Schema:
        """The fields of a request, ``wait`` included."""
        return Schema((*self.request, _WAIT))

    @property
    def job_path(self) -> str:
        """Where one job answers, as a template."""
        return f"{self.path}/{{job_id}}"


def _typed(column: Column, value: Any) -> Any:
    """Return a field's value as what it is: JSON has no integers, dates or instants."""
    if value is None:
        return None
    if column.kind == "integer":
        return int(value)
    kinds: dict[str, type] = {"date": dt.date, "datetime": dt.datetime}
    return msgspec.convert(value, kinds[column.kind]) if column.kind in kinds else value


_WAIT: Final = Column(
    WAIT,
    "boolean",
    nullable=True,
    description="Whether the answer waits until the training is over; default: true.",
    example=True,
)
