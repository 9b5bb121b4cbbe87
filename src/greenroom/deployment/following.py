"""Following the registry: which version each route is to serve, with its files brought to disk.

Each model names what it serves with one selector, and that alone decides. What it names is
downloaded into the model store and verified before anybody hears of it; where that fails, or the
registry is away, what was selected before goes on; a fallback file, where a target has one, stands
in for what cannot be had either way, and never for what is not selected. Loading versions is
:mod:`greenroom.inference.inference`'s business, and bringing them to all workers the supervisor's.

Any number of targets costs one call a poll: the search for all registered models is taken as a hint
that something changed, and a model's versions are asked for only then, and from time to time, a few
models a poll.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from greenroom.deployment.deployments import (
    Target,
    chosen_version,
    deployment_of,
    instant,
    no_deployment,
    nothing_selected,
    problems_of,
    with_problems,
)
from greenroom.deployment.fallback import Fallback
from greenroom.deployment.fetching import fetch, provenance_of, require_place, require_whole
from greenroom.deployment.followed import ANOTHER, Followed, Rejection
from greenroom.deployment.restoring import restored
from greenroom.errors import GreenroomError, RegistryError, RegistryUnavailable
from greenroom.inference.generation import Deployment
from greenroom.registry.registered import ModelVersion, RegisteredModel
from greenroom.registry.registry import Registry
from greenroom.status import RegistryState, RegistryStatus, VersionStatus
from greenroom.versions.manifest import read_manifest
from greenroom.versions.model_store import DIGEST_TAG, ModelStore

__all__ = ["BUDGET_S", "MOST_RECHECKS", "RECHECK_S", "Follower", "Poll", "Target"]

RECHECK_S: Final = 30.0
"""How long the hint is believed that nothing changed, and a version left alone that failed."""

MOST_RECHECKS: Final = 4
"""How many models a poll asks for although nothing seems to have changed: those that were left
alone for longest. So many models do not all fall due at once, and a quiet poll stays cheap."""

BUDGET_S: Final = 5.0
"""How long a poll looks for what is new before it returns what it has."""

_UNASKED: Final = ("MLflow has not been asked yet what is selected", "")
_DISABLED: Final = (
    "MLflow is not asked what is selected",
    "set mlflow_enabled to true, or the model's fallback_path",
)
_START: Final = "start it, or set MLFLOW_TRACKING_URI"


@dataclass(frozen=True, slots=True)
class Poll:
    """What a poll found: a deployment for each target, in their order, and how the registry is.

    One that is ``unfinished`` has left models for the next one, which is due at once.
    """

    deployments: tuple[Deployment, ...]
    registry: RegistryStatus
    unfinished: bool = False


class Follower:
    """Follows the registry for all models of a server.

    Its methods block and may be called from any thread, one at a time.

    Parameters
    ----------
    registry : Registry
        Where it is asked what is selected.
    store : ModelStore
        Where versions are kept.
    targets : sequence of Target
        What there is to serve.
    keep_versions : int
        How many versions of each registered model stay in the store.
    asks : bool
        Whether the registry is asked at all; if not, fallback files are all there is.
    discover : callable, optional
        Told the name of each registered model that is not among the targets; returns the target
        to follow from then on, or None.
    clock_s : callable
        Seconds that only go up.
    """

    def __init__(
        self,
        registry: Registry,
        store: ModelStore,
        targets: Sequence[Target],
        *,
        keep_versions: int,
        asks: bool = True,
        discover: Callable[[str], Target | None] = lambda _: None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._store = store
        self._keep_versions = keep_versions
        self._asks = asks
        self._discover = discover
        self._clock_s = clock_s
        self._lock = threading.RLock()
        self._status = RegistryStatus(uri=registry.uri)
        self._followed: list[Followed] = []
        for target in targets:
            self._follow(target)

    def restore(self) -> tuple[Deployment, ...]:
        """Return what was served last, from the store alone; every file of it is verified.

        Fallback files are left aside: the registry is asked first.
        """
        with self._lock:
            self._follow_new(found.name for found in self._store.recall_all(Deployment).values())
            for followed in self._followed:
                followed.accepted = followed.offered = self._restored(followed)
            return tuple(followed.offered for followed in self._followed)

    def poll(self, *, force: bool = False) -> Poll:
        """Ask the registry what is selected, and bring what is new into the store.

        Trouble with the registry is no error but a state; trouble with a version is a problem of
        its deployment. Where versions have to be downloaded for longer than :data:`BUDGET_S`, what
        was found so far is returned, so that it is served while the rest comes.

        Parameters
        ----------
        force : bool
            Ask for everything, whatever the hint says, and try again what failed before.
        """
        with self._lock:
            unfinished = False
            if force:
                self._look_again()
            if not self._asks:
                self._registry_is("disabled")
                return Poll(self._deployments(), self._status)
            try:
                models = {model.name: model for model in self._registry.registered_models()}
                self._follow_new(models)
                unfinished = self._update_all(models, force=force)
            except RegistryError as error:
                self._unavailable(error)
            else:
                self._registry_is("healthy")
            return Poll(self._deployments(), self._status, unfinished)

    def registry_answers(self) -> bool:
        """Ask the registry for something small, without looking at what it selects."""
        try:
            self._registry.ping()
        except RegistryError:
            return False
        return True

    def accepted(self, deployments: Sequence[Deployment]) -> None:
        """Note that all workers serve ``deployments``, and remember that over a restart.

        Raises
        ------
        ProcessError
            When the store cannot be written.
        """
        with self._lock:
            # Nobody selected what is out of a fallback file.
            matched = [one for one in self._matched(deployments) if not one[1].from_fallback]
            for followed, deployment in matched:
                followed.accepted = deployment
            for followed, _ in matched:
                self._remember(followed)
            kept = [one for two in self._followed for one in (two.accepted, two.offered)]
            kept += deployments
            in_use = {one.serving.digest for one in kept if one.serving is not None}
            self._store.prune(self._keep_versions, in_use)

    def _remember(self, followed: Followed) -> None:
        lasting = with_problems(followed.accepted)
        if self._asks and lasting != followed.remembered:
            self._store.remember(followed.target.route, lasting)
            followed.remembered = lasting

    def rejected(self, deployment: Deployment, problem: str) -> None:
        """Note that a deployment does not load: what was served before goes on.

        It is not tried again until another version was selected in between, the registry says
        something new about this one, or a poll is forced.
        """
        with self._lock:
            for followed, rejected in self._matched([deployment]):
                if rejected.from_fallback and followed.fallback is not None:
                    followed.fallback.rejected(problem)
                elif rejected.serving is not None:
                    self._reject(followed, rejected.serving, rejected.compiled, problem)

    def _reject(
        self, followed: Followed, serving: VersionStatus, compiled: str, problem: str
    ) -> None:
        target, chosen = followed.target, followed.chosen
        known = chosen is not None and chosen.version == serving.version
        sentence = f"{target.name} version {serving.version} does not load: {problem}"
        followed.rejection = Rejection(
            version=serving.version,
            digest=serving.digest,
            compiled=compiled,
            updated_at_ms=chosen.updated_at_ms if chosen is not None and known else None,
            problem=sentence,
        )
        before = followed.accepted.serving
        if before is not None and before.digest == serving.digest:
            # What was served so far does not load any more, in a worker that was started anew.
            followed.accepted = no_deployment(target, sentence, ANOTHER)
        followed.offered = self._described(followed, followed.as_before(sentence))

    def _follow(self, target: Target) -> None:
        nothing = self._nothing(target)
        followed = Followed(target, nothing, nothing)
        if target.fallback_path:
            followed.fallback = Fallback(target, self._store, self._registry.uri)
        self._followed.append(followed)

    def _nothing(self, target: Target) -> Deployment:
        return no_deployment(target, *(_UNASKED if self._asks else _DISABLED))

    def _look_again(self) -> None:
        for followed in self._followed:
            if followed.fallback is not None:
                followed.fallback.look_again()

    def _follow_new(self, names: Iterable[str]) -> None:
        """Follow those of the registered models that are to be, and are not yet."""
        known = {followed.target.name for followed in self._followed}
        for name in names:
            target = self._discover(name) if name not in known else None
            if target is not None:
                self._follow(target)

    def _update_all(self, models: Mapping[str, RegisteredModel], *, force: bool) -> bool:
        """Find out what is to be served; return whether some of it was left for the next poll."""
        began_s = self._clock_s()
        overdue = self._overdue()
        for followed in self._followed:
            model = models.get(followed.target.name)
            if force or followed.changed(model) or followed in overdue:
                if not force and self._clock_s() - began_s > BUDGET_S:
                    return True
                self._update(followed, model, force=force)
        return False

    def _overdue(self) -> list[Followed]:
        """Return what is asked for again although the registry shows no change."""
        before_s = self._clock_s() - RECHECK_S
        waiting = [one for one in self._followed if one.checked_at_s is not None]
        waiting.sort(key=lambda one: one.checked_at_s or 0.0)
        return [one for one in waiting[:MOST_RECHECKS] if (one.checked_at_s or 0.0) <= before_s]

    def _restored(self, followed: Followed) -> Deployment:
        target = followed.target
        if not self._asks:
            return self._nothing(target)
        followed.remembered = self._store.recall(target.route, Deployment)
        found = restored(target, followed.remembered, self._store, self._registry.uri)
        record = None if found.serving is None else self._store.record(found.serving.digest)
        if record is not None:
            followed.fetched = record.provenance, record.digest
        return found if found.serving or found.reason else self._nothing(target)

    def _update(self, followed: Followed, model: RegisteredModel | None, *, force: bool) -> None:
        """Find out what one target is to serve, where that may have changed."""
        now_s = self._clock_s()
        if force:
            followed.rejection = followed.failed = None
        target = followed.target
        selected: tuple[ModelVersion, ...] = ()
        if model is not None:
            selected = self._registry.resolve(target.name, target.selector).versions
        followed.chosen = chosen_version(followed.accepted, selected)
        followed.problems = problems_of(target, model, selected, followed.chosen)
        followed.hint = model
        if followed.chosen is None:
            followed.rejection = None
            deployment = nothing_selected(target, model)
        else:
            deployment = self._selected(followed, followed.chosen, now_s)
        followed.offered = self._described(followed, deployment)
        followed.checked_at_s = now_s

    def _selected(self, followed: Followed, version: ModelVersion, now_s: float) -> Deployment:
        """Return the deployment of a version, or what was served before and the problem."""
        try:
            require_place(self._registry, version, followed.target.place)
            digest = self._fetched(followed, version, now_s)
            compiled = str(self._store.compiled.find(digest) or "")
            rejection = followed.rejection
            if rejection is not None and rejection.holds_for(version, digest, compiled):
                followed.rejection = dataclasses.replace(
                    rejection, updated_at_ms=version.updated_at_ms
                )
                return followed.as_before(rejection.problem)
            followed.rejection = None
            directory = self._store.path(digest)
            manifest = read_manifest(directory)
            if manifest is None:
                require_whole(self._registry, version, followed.target.preprocessing)
            return deployment_of(
                followed.target, version, digest, str(directory), manifest, compiled
            )
        except RegistryUnavailable:
            raise
        except GreenroomError as error:
            problem = f"{version.name} version {version.version}: {error.message}"
            return followed.as_before(problem, error.advice or ANOTHER)

    def _fetched(self, followed: Followed, version: ModelVersion, now_s: float) -> str:
        """Return the digest of a version whose files are in the store by then."""
        provenance = provenance_of(self._registry, version)
        tag = version.tags.get(DIGEST_TAG, "")
        if followed.fetched is not None and followed.fetched[0] == provenance:
            digest = followed.fetched[1]
            if digest == (tag or digest) and self._store.path(digest).is_dir():
                return digest
        if followed.failed is not None:
            failed, at_s, error = followed.failed
            if failed == provenance and now_s - at_s < RECHECK_S:
                raise error
        try:
            digest = fetch(self._registry, self._store, version)
        except RegistryUnavailable:
            raise
        except GreenroomError as error:
            followed.failed = provenance, now_s, error
            raise
        followed.fetched, followed.failed = (provenance, digest), None
        return digest

    def _described(self, followed: Followed, deployment: Deployment) -> Deployment:
        """Return a deployment with what the registry said beside it."""
        known = followed.hint.latest_versions if followed.hint is not None else ()
        return replace(
            deployment,
            problems=(*deployment.problems, *followed.problems),
            latest_versions={version.stage: version.version for version in known},
        )

    def _unavailable(self, error: RegistryError) -> None:
        self._registry_is("unavailable", error)
        for followed in self._followed:
            if followed.accepted.serving is None and followed.checked_at_s is None:
                nothing = no_deployment(followed.target, error.message, error.advice or _START)
                followed.offered = replace(nothing, selected=followed.accepted.selected)

    def _registry_is(self, state: RegistryState, error: RegistryError | None = None) -> None:
        since = self._status.since if self._status.state == state else instant(time.time())
        self._status = replace(
            self._status,
            state=state,
            since=since,
            problem="" if error is None else str(error),
            mlflow_answers=error is not None and error.mlflow_answers,
        )

    def _deployments(self) -> tuple[Deployment, ...]:
        return tuple(map(self._deployment, self._followed))

    def _deployment(self, followed: Followed) -> Deployment:
        """Return what is offered, or the fallback in its place."""
        still_asking = followed.checked_at_s is None and self._status.state == "healthy"
        if followed.fallback is None or still_asking:
            return followed.offered
        return followed.fallback.instead_of(followed.offered, by_choice=not self._asks)

    def _matched(self, deployments: Sequence[Deployment]) -> Iterator[tuple[Followed, Deployment]]:
        by_route = {followed.target.route: followed for followed in self._followed}
        for deployment in deployments:
            if deployment.route in by_route:
                yield by_route[deployment.route], deployment
