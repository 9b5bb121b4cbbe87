"""Stage transitions that a person asks for: carried out and recorded, not judged unless it is said.

What the program promotes goes through :mod:`greenroom.promotion.promotion`. A person who moves a
stage decides alone, as in MLflow's UI; but here the history says who it was, the mirror goes along,
and a stage that is served never gets a second version unasked. Following what is selected then is
:mod:`greenroom.deployment.following`'s business.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from greenroom.errors import NotInRegistry, PromotionError
from greenroom.gate import Gate
from greenroom.payloads.refusal import readable_name
from greenroom.promotion.history import Record
from greenroom.promotion.moving import carry_out, selected, settle, write_mirror
from greenroom.promotion.promotion import CONTENT_HASH_TAG, promote, record
from greenroom.registry.registered import READY, ModelVersion, RegisteredModel
from greenroom.registry.registry import Registry
from greenroom.selector import ACTIVE_STAGES, Selector
from greenroom.task import Task

__all__ = ["Judge", "Transition", "find_model", "transition"]

_UNNAMEABLE: Final = frozenset(":/")
"""What MLflow allows in no registered model's name."""

_LONGEST_NAME: Final = 256
"""How many characters MLflow's database has for one."""


@dataclass(frozen=True, slots=True)
class Judge:
    """The gate that stands in front of a stage, and the task in which its metric is found."""

    gate: Gate
    task: Task


@dataclass(frozen=True, slots=True)
class Transition:
    """What a transition did.

    Parameters
    ----------
    from_stage : str
        Where the version was before.
    archived : tuple of str
        The versions that were moved out of the stage.
    changed : bool
        False when the version was in that stage already, and alone where that was asked for.
    """

    from_stage: str
    archived: tuple[str, ...] = ()
    changed: bool = True


def find_model(registry: Registry, name: str) -> RegisteredModel:
    """Return a registered model.

    Raises
    ------
    NotInRegistry
        When there is none of that name; the message names it.
    """
    try:
        if not _can_be_a_name(name):
            raise NotInRegistry(name)  # noqa: TRY301 - as if it had been looked for
        return registry.registered_model(name)
    except NotInRegistry as error:
        raise NotInRegistry(
            f"there is no registered model {readable_name(name)}",
            advice=f"it was looked for in MLflow at {registry.uri}",
        ) from error


def _can_be_a_name(name: str) -> bool:
    """Whether MLflow can be asked for it; of what it takes for no name, it makes an error."""
    return 0 < len(name) <= _LONGEST_NAME and name.isprintable() and not _UNNAMEABLE & set(name)


def transition(
    registry: Registry,
    name: str,
    version: str,
    stage: str,
    *,
    archive_existing: bool,
    who: str,
    served: Collection[str] = (),
    judge: Judge | None = None,
) -> Transition:
    """Move a version to another stage, and record who did.

    Parameters
    ----------
    name : str
        The registered model.
    version : str
        Which version of it.
    stage : str
        ``None``, ``Staging``, ``Production`` or ``Archived``.
    archive_existing : bool
        Whether what else is in the stage is archived; it means nothing for ``None`` and
        ``Archived``.
    who : str
        Who asks for it, for the history.
    served : collection of str
        The stages that somebody serves the model from: none of them gets two versions.
    judge : Judge, optional
        Whose gate has to be passed. None: the history says "outside the gate".

    Raises
    ------
    NotInRegistry
        When there is no such model or version; the message names it.
    PromotionRefused
        When the gate says no. The refusal is recorded, and nothing is moved.
    PromotionUnderway
        When another promotion of the model has been begun less than a minute ago.
    PromotionError
        When the version is not ready, or the stage would hold two versions.
    """
    find_model(registry, name)
    settle(registry, name)
    versions = {one.version: one for one in registry.versions(name)}
    chosen = _chosen(name, version, versions)
    there = selected(registry, name, Selector("stage", stage))
    others = tuple(one for one in there if one != version)
    archives = archive_existing and stage in ACTIVE_STAGES
    if others and not archives and stage in served:
        raise _crowded(name, version, stage, others)
    if chosen.stage == stage and not (archives and others):
        return Transition(chosen.stage, changed=False)
    if judge is not None:
        selector = Selector("stage", stage)
        promote(
            registry, name, version, selector=selector, gate=judge.gate, task=judge.task, who=who
        )
    else:
        _move(registry, chosen, stage, there, archives=archives, who=who)
    if chosen.stage in ACTIVE_STAGES and chosen.stage != stage:
        _leave(registry, chosen, who)
    return Transition(chosen.stage, others if archives else ())


def _move(
    registry: Registry,
    chosen: ModelVersion,
    stage: str,
    there: tuple[str, ...],
    *,
    archives: bool,
    who: str,
) -> None:
    """Move a version beside what is ``there``, or in its place, and record it where that counts."""
    made = Record(
        action="transition",
        who=who,
        from_version=there[0] if there else "",
        to_version=chosen.version,
        selector=stage,
        content_hash=chosen.tags.get(CONTENT_HASH_TAG, ""),
        outside_gate=True,
    )
    if stage not in ACTIVE_STAGES:
        registry.transition(chosen.name, chosen.version, stage)
    elif archives or not there:
        carry_out(registry, chosen.name, made, there)
    else:
        registry.transition(chosen.name, chosen.version, stage)
        record(registry, chosen.name, made)


def _leave(registry: Registry, left: ModelVersion, who: str) -> None:
    """Record that a version was moved out of its stage, and take the stage's mirror along."""
    name, selector = left.name, Selector("stage", left.stage)
    remaining = selected(registry, name, selector)
    if remaining:
        write_mirror(registry, name, selector, remaining[0])
    elif selector.mirror is not None:
        alias = selector.mirror.value
        if registry.registered_model(name).aliases.get(alias) == left.version:
            registry.delete_alias(name, alias)
    made = Record(
        action="transition",
        who=who,
        from_version=left.version,
        to_version=remaining[0] if remaining else "",
        selector=left.stage,
        outside_gate=True,
    )
    record(registry, name, made)


def _chosen(name: str, version: str, versions: dict[str, ModelVersion]) -> ModelVersion:
    found = versions.get(version)
    if found is None:
        known = ", ".join([*versions][-20:]) or "none"
        raise NotInRegistry(
            f"{name} has no version {readable_name(version)}", advice=f"it has {known}"
        )
    if found.status != READY:
        raise PromotionError(
            f"{name} version {version} is not ready: {found.status}",
            advice="look at it in MLflow, and register it anew",
        )
    return found


def _crowded(name: str, version: str, stage: str, others: tuple[str, ...]) -> PromotionError:
    plural = "s" if len(others) > 1 else ""
    return PromotionError(
        f"version{plural} {' and '.join(others)} of {name} would be in {stage} beside version "
        f"{version}, and only one can be served from there",
        advice="set archive_existing to true, or move the other one out first",
    )
