"""Errands to the registry: what callers ask of it through the server, done by the supervisor.

Each method blocks and may be called from any thread. What a transition is made of is
:mod:`greenroom.promotion.transitions`'s business; how callers ask,
:mod:`greenroom.http.management_pages`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from greenroom.deployment.deployments import Target
from greenroom.errands import (
    DescribeModel,
    ListModels,
    ModelDescribed,
    ModelsListed,
    MoveVersion,
    VersionMoved,
)
from greenroom.promotion.promotion import history
from greenroom.promotion.transitions import Judge, find_model, transition
from greenroom.registry.registry import Registry

__all__ = ["RegistryErrand", "RegistryErrands", "RegistryOutcome"]

RegistryErrand = ListModels | DescribeModel | MoveVersion
RegistryOutcome = ModelsListed | ModelDescribed | VersionMoved


class RegistryErrands:
    """Does what callers ask of the registry.

    Parameters
    ----------
    registry : Registry
        A connection of its own.
    targets : sequence of Target
        What the server serves: no stage that is served from gets two versions.
    judges : mapping of str to Judge
        By the app's model, the gate that a transition into the stage it serves has to pass; empty
        where a person's act is not judged.
    """

    def __init__(
        self,
        registry: Registry,
        targets: Sequence[Target],
        judges: Mapping[str, Judge] | None = None,
    ) -> None:
        self._registry = registry
        self._targets = tuple(targets)
        self._judges = dict(judges or {})

    def run(self, errand: RegistryErrand) -> RegistryOutcome:
        """Do what is asked.

        Raises
        ------
        NotInRegistry
            When there is no such model or version.
        PromotionError
            When a transition cannot be carried out, or the gate says no.
        RegistryError, RegistryUnavailable
            When the registry refuses, or does not answer.
        """
        if isinstance(errand, MoveVersion):
            return self._move(errand)
        if isinstance(errand, DescribeModel):
            return self._describe(errand.name)
        return ModelsListed(tuple(self._registry.registered_models()))

    def _describe(self, name: str) -> ModelDescribed:
        model = find_model(self._registry, name)
        versions = tuple(self._registry.versions(name))
        return ModelDescribed(model, versions, tuple(history(self._registry, name)))

    def _move(self, errand: MoveVersion) -> VersionMoved:
        serving = [
            target
            for target in self._targets
            if target.name == errand.name and target.selector.kind == "stage"
        ]
        judges = (
            self._judges[target.model]
            for target in serving
            if target.selector.value == errand.stage and target.model in self._judges
        )
        done = transition(
            self._registry,
            errand.name,
            errand.version,
            errand.stage,
            archive_existing=errand.archive_existing,
            who=errand.who,
            served={target.selector.value for target in serving},
            judge=next(judges, None),
        )
        return VersionMoved(
            name=errand.name,
            version=errand.version,
            stage=errand.stage,
            from_stage=done.from_stage,
            archived=done.archived,
            changed=done.changed,
            latest_versions=self._registry.registered_model(errand.name).versions_by_stage,
        )
