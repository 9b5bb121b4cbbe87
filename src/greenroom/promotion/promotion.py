"""Promotion and rollback: deciding what a selector names, on evidence, and recording it.

A promotion asks the gate, and moves the pointer when it says yes; every promotion, refusal and
rollback becomes a record of the registered model. A person who moves a stage in MLflow's UI is not
stopped and not judged; :func:`history` shows it. How the evidence is judged is in
:mod:`greenroom.promotion.judging`, how a move survives being cut off in
:mod:`greenroom.promotion.moving`; serving what is selected is
:mod:`greenroom.deployment.following`'s business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import msgspec

from greenroom.errors import PromotionError, PromotionRefused
from greenroom.evaluation.evidence import HoldOut
from greenroom.gate import Gate
from greenroom.progress import OnProgress, silent
from greenroom.promotion.history import (
    Record,
    new_key,
    read_records,
    selected_before,
    timestamp,
    write_record,
)
from greenroom.promotion.judging import (
    Carried,
    Evidence,
    Judgement,
    compare,
    gate_of,
    gather,
    judge,
    read_carried,
)
from greenroom.promotion.moving import INTENT_TAG, carry_out, selected, settle, write_mirror
from greenroom.registry.registered import READY, ModelVersion
from greenroom.registry.registry import Registry
from greenroom.selector import Selector
from greenroom.task import Task

__all__ = [
    "Carried",
    "Judgement",
    "Promotion",
    "Record",
    "compare",
    "gate_of",
    "gather",
    "history",
    "judge",
    "promote",
    "read_carried",
    "record",
    "rollback",
    "settle",
    "with_judgement",
]

CONTENT_HASH_TAG: Final = "greenroom.content_hash"
_LIST_ADVICE: Final = "`greenroom history` lists what was selected when"


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion or a rollback did.

    Parameters
    ----------
    name : str
        The registered model.
    version : str
        What the selector names now.
    from_version : str
        What it named before; empty for nothing.
    selector : Selector
        What was moved.
    judgement : Judgement, optional
        The gate's; None where it was not asked.
    changed : bool
        False when the version was selected already, and nothing was written but its mirror.
    """

    name: str
    version: str
    from_version: str
    selector: Selector
    judgement: Judgement | None = None
    changed: bool = True


def promote(
    registry: Registry,
    name: str,
    version: str | None = None,
    *,
    selector: Selector,
    gate: Gate | None,
    task: Task,
    who: str,
    evidence: Evidence | None = None,
    on_progress: OnProgress = silent,
) -> Promotion:
    """Judge a version and let the selector name it.

    Parameters
    ----------
    name : str
        The registered model.
    version : str, optional
        Default: the newest one, where it is newer than all that the selector ever named.
    selector : Selector
        What to move: a stage or an alias.
    gate : Gate, optional
        None promotes without judging, and the history says so.
    task : Task
        Where the gate's metric is found.
    who : str
        Who asks for it, for the history.
    evidence : callable, optional
        As in :func:`greenroom.promotion.judging.judge`.

    Returns
    -------
    Promotion
        A version that is selected already is not judged, and not promoted a second time.

    Raises
    ------
    PromotionRefused
        When the gate says no. The refusal is recorded, and what is selected stays.
    PromotionUnderway
        When another promotion of the model has been begun less than a minute ago.
    PromotionError
        When the selector cannot be moved, or there is no version to promote.
    RegistryError
        When the registry fails; what was begun is settled by the next call.
    """
    _require_movable(selector)
    settle(registry, name)
    before = selected(registry, name, selector)
    chosen = _chosen(registry, name, version, selector, before)
    present = before[0] if before else ""
    if before == (chosen.version,):
        write_mirror(registry, name, selector, chosen.version)
        return Promotion(name, chosen.version, present, selector, changed=False)
    made = Record(
        action="promotion",
        who=who,
        from_version=present,
        to_version=chosen.version,
        selector=str(selector),
        content_hash=chosen.tags.get(CONTENT_HASH_TAG, ""),
        outside_gate=gate is None,
    )
    judgement = None
    if gate is not None:
        on_progress(f"judging version {chosen.version} by {gate.metric}", None)
        judgement, content_hash = _judge(registry, chosen, selector, gate, task, evidence)
        made = with_judgement(msgspec.structs.replace(made, content_hash=content_hash), judgement)
        if not judgement.decision.passed:
            _refuse(registry, name, made)
    on_progress(f"moving {selector} to version {chosen.version}", None)
    carry_out(registry, name, made, before)
    return Promotion(name, chosen.version, present, selector, judgement)


def rollback(
    registry: Registry,
    name: str,
    *,
    selector: Selector,
    who: str,
    to: str | None = None,
    on_progress: OnProgress = silent,
) -> Promotion:
    """Let the selector name the version again that it named before; no gate is asked.

    Parameters
    ----------
    to : str, optional
        Default: what was selected before, by the history; where that knows nothing, the highest
        archived version.

    Raises
    ------
    PromotionUnderway
        When a promotion of the model has been begun less than a minute ago.
    PromotionError
        When the selector cannot be moved, or there is nothing to go back to.
    """
    _require_movable(selector)
    settle(registry, name)
    before = selected(registry, name, selector)
    present = before[0] if before else ""
    target = to or _previous(registry, name, selector, before)
    _ready(registry, name, target)
    if before == (target,):
        raise PromotionError(
            f"{name}: {selector} names version {target} already", advice=_LIST_ADVICE
        )
    on_progress(f"moving {selector} back to version {target}", None)
    made = Record(
        action="rollback",
        who=who,
        from_version=present,
        to_version=target,
        selector=str(selector),
    )
    carry_out(registry, name, made, before)
    return Promotion(name, target, present, selector)


def history(registry: Registry, name: str) -> list[Record]:
    """Return what happened to a registered model, oldest first.

    Last come records of action ``move``, one for each selector that names another version than the
    history accounts for: somebody moved it outside of Greenroom.
    """
    model = registry.registered_model(name)
    records = read_records(model.tags)
    if INTENT_TAG in model.tags:
        return records
    known = [one for one in records if one.selector and one.selected_afterwards is not None]
    moves = []
    for text, expected in {one.selector: one.selected_afterwards or "" for one in known}.items():
        selector = Selector.parse(text)
        versions = registry.resolve(name, selector).versions if selector.movable else ()
        if selector.movable and [one.version for one in versions] != [expected] * bool(expected):
            moves.append(_move(selector, expected, versions))
    return [*records, *moves]


def record(registry: Registry, name: str, made: Record) -> Record:
    """Add a record to the history of a registered model, at the present time, for good.

    For what is decided elsewhere: with the selector ``latest`` registering is deploying, and the
    gate is asked before.
    """
    now = datetime.now(UTC)
    made = msgspec.structs.replace(made, at=timestamp(now))
    registry.set_model_tag(name, new_key(now), write_record(made))
    return made


def _require_movable(selector: Selector) -> None:
    if selector.movable:
        return
    what = {
        "latest": "the newest version is served as soon as it is registered",
        "version": "that version is served until the setting is changed",
    }.get(selector.kind, "nothing is served from there")
    raise PromotionError(
        f"the selector {selector} cannot be moved: {what}",
        advice="serve Production or an @alias to promote and roll back",
    )


def _chosen(
    registry: Registry,
    name: str,
    version: str | None,
    selector: Selector,
    before: tuple[str, ...],
) -> ModelVersion:
    if version is not None:
        return _ready(registry, name, version)
    records = read_records(registry.registered_model(name).tags)
    past = [one.to_version for one in records if one.moved and one.selector == str(selector)]
    newest_selected = max((int(one) for one in (*before, *past) if one), default=0)
    candidates = [
        one
        for one in registry.versions(name)
        if one.status == READY
        and one.number > newest_selected
        and not (selector.kind == "stage" and one.stage == "Archived")
    ]
    if not candidates:
        since = f"since version {newest_selected} was selected" if newest_selected else "yet"
        raise PromotionError(
            f"{name} has no new version to promote: none has been registered {since}",
            advice="train one, or name a version",
        )
    return max(candidates, key=lambda one: one.number)


def _ready(registry: Registry, name: str, version: str) -> ModelVersion:
    found = registry.version(name, version)
    if found.status != READY:
        raise PromotionError(
            f"{name} version {version} is not ready: {found.status}",
            advice="look at it in MLflow, and register it anew",
        )
    return found


def _previous(registry: Registry, name: str, selector: Selector, before: tuple[str, ...]) -> str:
    records = read_records(registry.registered_model(name).tags)
    versions = {one.version: one for one in registry.versions(name) if one.status == READY}
    if any(one.moved and one.selector == str(selector) for one in records):
        past = selected_before(records, str(selector), before[0] if before else "")
    else:
        archived = [one.number for one in versions.values() if one.stage == "Archived"]
        past = [str(number) for number in sorted(archived, reverse=True)]
    for version in past:
        if version in versions and version not in before:
            return version
    raise PromotionError(
        f"{name} has no version to go back to: {selector} names "
        f"{_versions_text(before)}, and nothing that is still there was selected before",
        advice="name the version to go back to",
    )


def _judge(
    registry: Registry,
    chosen: ModelVersion,
    selector: Selector,
    gate: Gate,
    task: Task,
    evidence: Evidence | None,
) -> tuple[Judgement, str]:
    """Judge a registered version; return also the hash of its data, where that is known."""
    carried = read_carried(registry, chosen)
    if carried is not None:
        challenger: HoldOut | None = carried.holdout
    else:
        challenger = evidence(chosen) if evidence else None
    judgement = judge(
        registry,
        chosen.name,
        challenger,
        selector=selector,
        gate=gate,
        task=task,
        version=chosen.version,
        trial=carried is not None and carried.manifest.trial,
        comparison=carried.comparison if carried else None,
        evidence=evidence,
    )
    if carried is None:
        return replace(judgement, independence="unknown"), ""
    return judgement, carried.manifest.data.content_hash


def with_judgement(made: Record, judgement: Judgement) -> Record:
    """Return the record with what the gate decided, and on what."""
    decision = judgement.decision
    return msgspec.structs.replace(
        made,
        passed=decision.passed,
        reasons=decision.reasons,
        metric=decision.metric,
        challenger=_finite(decision.challenger),
        champion=_finite(decision.champion),
        n_rows=judgement.n_rows,
        independence=judgement.independence,
    )


def _finite(figure: float | None) -> float | None:
    return figure if figure is not None and math.isfinite(figure) else None


def _refuse(registry: Registry, name: str, made: Record) -> None:
    record(registry, name, msgspec.structs.replace(made, action="refusal"))
    stays = f"version {made.from_version}" if made.from_version else "nothing"
    raise PromotionRefused(
        f"{name} version {made.to_version} is not promoted: {'; '.join(made.reasons)}",
        advice=f"{made.selector} stays at {stays}; `greenroom history` keeps the figures",
    )


def _move(selector: Selector, expected: str, versions: tuple[ModelVersion, ...]) -> Record:
    names = [one.version for one in versions]
    latest = versions[0] if versions and selector.kind == "stage" else None
    at = datetime.fromtimestamp(latest.updated_at_ms / 1000, UTC) if latest else None
    return Record(
        action="move",
        at=timestamp(at) if at else "",
        from_version=expected,
        to_version=names[0] if names else "",
        selector=str(selector),
        outside_gate=True,
        reasons=(f"{selector} names {_versions_text(tuple(names))}: moved outside the gate",),
    )


def _versions_text(versions: tuple[str, ...]) -> str:
    if not versions:
        return "nothing"
    return f"version{'s' if len(versions) > 1 else ''} {' and '.join(versions)}"
