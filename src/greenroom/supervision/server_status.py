"""The server's status, made from what is served and from what the last poll found.

Pure but for the clock. What is to be served is :mod:`greenroom.deployment.following`'s business,
bringing it to the workers :mod:`greenroom.supervision.rollout`'s.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from greenroom import __version__
from greenroom.inference.generation import Deployment, Generation
from greenroom.settings import Settings
from greenroom.status import ModelStatus, RegistryStatus, Status

COMPILED: Final = "compiled"


def utc_now() -> str:
    """Return the present instant, UTC, ISO 8601, to the millisecond."""
    text = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def first_status(settings: Settings, app_name: str) -> Status:
    """Return what the server shows before anything is served."""
    started_at = utc_now()
    return Status(
        app=app_name,
        greenroom_version=__version__,
        started_at=started_at,
        workers=settings.workers,
        registry=RegistryStatus(uri=settings.tracking_uri, since=started_at),
    )


def identity(deployment: Deployment) -> Deployment:
    """Return the part of a deployment that workers answer from.

    Two deployments of one identity need no swap: the rest is only shown.
    """
    serving = deployment.serving
    if serving is not None:
        serving = msgspec.structs.replace(serving, aliases=(), loaded_at="", metrics={}, params={})
    return msgspec.structs.replace(deployment, serving=serving, problems=(), latest_versions={})


def same(one: Sequence[Deployment], other: Sequence[Deployment]) -> bool:
    """Whether workers that serve ``one`` need no swap to serve ``other``."""
    return [identity(deployment) for deployment in one] == [
        identity(deployment) for deployment in other
    ]


def changes(before: Sequence[Deployment], after: Sequence[Deployment]) -> list[Deployment]:
    """Return the deployments that workers have not answered from before."""
    known = [identity(deployment) for deployment in before]
    return [deployment for deployment in after if identity(deployment) not in known]


def blamed(
    problems: Mapping[str, str], wanted: Sequence[Deployment], before: Sequence[Deployment]
) -> list[tuple[Deployment, str]]:
    """Find the deployments that did not load, each with its problem.

    Parameters
    ----------
    problems : mapping of str to str
        By model; under another name when it is not known which model it was.
    wanted, before : sequence of Deployment
        What was to be loaded, and what was served before. Where no model is named, the new ones
        are to blame.
    """
    loaded = [deployment for deployment in wanted if deployment.serving is not None]
    named = [(one, problems[one.model]) for one in loaded if one.model in problems]
    if named:
        return named
    problem = "; ".join(problems.values())
    return [(one, problem) for one in changes(before, loaded) or loaded]


def without_version(deployment: Deployment, problem: str) -> Deployment:
    """Return a deployment that serves nothing, because its version does not load."""
    version = deployment.serving.version if deployment.serving else ""
    return msgspec.structs.replace(
        deployment,
        serving=None,
        directory="",
        compiled="",
        reason=f"{deployment.name} version {version} does not load: {problem}",
        advice="promote another version",
    )


def with_runtime(deployment: Deployment, kinds: Collection[str]) -> Deployment:
    """Return a deployment as it is shown: with the runtime that workers really answer with.

    A graph that was proved where the model was trained may not answer on this machine; then the
    estimator serves, and that is a problem to be shown.

    Parameters
    ----------
    deployment : Deployment
        Its runtime is the one that the version has files for.
    kinds : collection of str
        What the workers have said, normally all the same; empty when they have not.
    """
    serving = deployment.serving
    if serving is None or not kinds:
        return deployment
    problems = deployment.problems
    if serving.runtime == COMPILED and set(kinds) != {COMPILED}:
        problem = f"the graph of version {serving.version} does not answer here, and its estimator"
        problems = (*problems, f"{problem} serves; the log of the workers says why")
    shown = msgspec.structs.replace(serving, runtime=" and ".join(sorted(kinds)))
    return msgspec.structs.replace(deployment, serving=shown, problems=problems)


def served_line(deployment: Deployment) -> str:
    """Say in one line what is served from now on."""
    if deployment.serving is None:
        return f"{deployment.name}: nothing is served: {deployment.reason}"
    version = f"version {deployment.serving.version} ({deployment.serving.stage})"
    if deployment.from_fallback and deployment.problems:
        return f"Warning: {deployment.problems[0]}; {deployment.name}: {version} is served"
    return f"{deployment.name}: {version} is served"


def registry_line(registry: RegistryStatus) -> str:
    """Say in one line how the registry is."""
    if registry.state == "healthy":
        return f"MLflow answers at {registry.uri}"
    if registry.state == "starting":
        return f"MLflow is starting at {registry.uri}"
    if registry.state == "disabled":
        return "MLflow is not asked: mlflow_enabled is false"
    return registry.problem or f"Failed to connect to MLflow at {registry.uri}"


class Showcase:
    """What pages show of the models: remembers since when each version has been loaded."""

    def __init__(self) -> None:
        self._loaded_at: dict[tuple[str, str, str], str] = {}

    def models(
        self,
        generation: Generation,
        found: Sequence[Deployment],
        runtimes: Mapping[str, Collection[str]] = MappingProxyType({}),
        troubles: Mapping[tuple[str, str], str] = MappingProxyType({}),
    ) -> tuple[ModelStatus, ...]:
        """Return the state of every model.

        Parameters
        ----------
        generation : Generation
            What is served.
        found : sequence of Deployment
            What the last poll found: the problems, aliases and stages that it brought are shown,
            also where what it selected does not serve.
        runtimes : mapping of str to collection of str
            By model, what the workers answer with. Where they have not said, a model is shown with
            the runtime that its files are made for.
        troubles : mapping
            What does not load on its first use: by model and digest, why.
        """
        by_model = {deployment.model: deployment for deployment in found}
        shown = [
            _with_trouble(
                with_runtime(
                    _with_news(served, by_model.get(served.model, served)),
                    runtimes.get(served.model, ()),
                ),
                troubles,
            )
            for served in generation.deployments
        ]
        before, self._loaded_at = self._loaded_at, {}
        return tuple(self._stamped(shown, before))

    def _stamped(
        self, shown: Sequence[Deployment], before: Mapping[tuple[str, str, str], str]
    ) -> Iterator[ModelStatus]:
        for one in shown:
            if one.serving is None:
                yield one.status
                continue
            key = (one.model, one.serving.version, one.serving.digest)
            self._loaded_at[key] = before.get(key) or utc_now()
            serving = msgspec.structs.replace(one.serving, loaded_at=self._loaded_at[key])
            yield msgspec.structs.replace(one, serving=serving).status


def _with_trouble(served: Deployment, troubles: Mapping[tuple[str, str], str]) -> Deployment:
    digest = served.serving.digest if served.serving is not None else ""
    problem = troubles.get((served.model, digest))
    if problem is None:
        return served
    return msgspec.structs.replace(served, problems=(problem, *served.problems))


def _with_news(served: Deployment, found: Deployment) -> Deployment:
    """Return what is served, with what the last poll says about it."""
    if identity(served) == identity(found):
        return found
    return msgspec.structs.replace(
        served, problems=found.problems, latest_versions=found.latest_versions
    )
