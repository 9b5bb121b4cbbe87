"""Generations: what all workers serve between one swap and the next, as plain values.

The supervisor numbers them, every worker prepares one, and one number commits it for all. Loading
what they name is :mod:`greenroom.inference.inference`'s business.
"""

from __future__ import annotations

import msgspec

from greenroom.schema import Column
from greenroom.status import FALLBACK, ModelStatus, VersionStatus


def predict_path(model: str) -> str:
    """Return where every model answers, whatever its own route is."""
    return f"/models/{model}/predict"


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """What one model's route answers with.

    Parameters
    ----------
    model : str
        The app's name for the model; the registered one where there is no app.
    name : str
        The registered name, which settings may point elsewhere.
    selector : str
        What is followed: ``Production``, ``@alias``, ``latest`` or a version number.
    route : str
        The path that answers.
    serving : VersionStatus, optional
        The version; None when nothing is to be served.
    directory : str
        The version's verified files in the model store.
    compiled : str
        What ``greenroom compile`` made of them, where it was called for this version.
    reason, advice : str
        When nothing is served: why, and what to do about it.
    problems : tuple of str
        What is wrong although something is served: two versions in the stage, a newer one that
        did not load, a mirror that disagrees.
    latest_versions : dict of str to str
        For each stage the highest version in it, as pages show it.
    declared : tuple of Column
        The columns of a request, for a version whose signature does not name them.
    optional : bool
        Whether nothing is wrong where nothing is served.
    selected : bool
        False where nothing is served because the registry has said that nothing is selected.
    place : str
        The address that the version's files had to lie under; empty for anywhere.
    """

    model: str
    name: str
    selector: str
    route: str
    serving: VersionStatus | None = None
    directory: str = ""
    compiled: str = ""
    reason: str = ""
    advice: str = ""
    problems: tuple[str, ...] = ()
    latest_versions: dict[str, str] = {}
    declared: tuple[Column, ...] = ()
    optional: bool = False
    selected: bool = True
    place: str = ""

    @property
    def from_fallback(self) -> bool:
        """Whether it is a fallback file that answers."""
        return self.serving is not None and self.serving.source == FALLBACK

    @property
    def files(self) -> tuple[str, str]:
        """Where a runtime is loaded from: the version, and what was compiled of it."""
        return self.directory, self.compiled

    @property
    def answers_as(self) -> tuple[object, ...]:
        """What its answers depend on: two that have this in common need to be proved only once."""
        serving = self.serving
        version = (serving.version, serving.stage) if serving is not None else ()
        return (self.name, *self.files, self.declared, *version)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where its predictions are: the route, and the path that every model has."""
        return (self.route, predict_path(self.model))

    @property
    def status(self) -> ModelStatus:
        """The same as a page shows it."""
        reason = "" if self.serving or self.optional else self.reason
        problems = (reason, *self.problems)
        return ModelStatus(
            name=self.name,
            selector=self.selector,
            route=self.route,
            serving=self.serving,
            problems=tuple(problem for problem in problems if problem),
            latest_versions=self.latest_versions,
            optional=self.optional,
        )


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """A numbered set of deployments, one for each model of the server."""

    number: int
    deployments: tuple[Deployment, ...]
