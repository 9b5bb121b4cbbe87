"""Moving what a selector names, so that it can be cut off anywhere and be settled later.

A move writes in this order: its intent, the pointer (a stage transition or an alias), the mirror
(the other of the two, for clients that know only that), the record, and then it removes the intent.
One that is cut off leaves its intent, and :func:`settle` completes it or, when somebody has moved
the pointer since, leaves it at that.

MLflow has no compare-and-set. Intents keep moves apart that begin at different times; two that
begin in the same instant can both go through, the later one last. Deciding what may be selected is
:mod:`greenroom.promotion.promotion`'s business.
"""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from typing import Final

import msgspec

from greenroom.errors import NotInRegistry, PromotionError, PromotionUnderway
from greenroom.promotion.history import Outcome, Record, new_key, timestamp, write_record
from greenroom.registry.registry import Registry
from greenroom.selector import Selector

INTENT_TAG: Final = "greenroom.promotion"
"""The tag of a registered model that is there while something is being moved."""

FRESH_S: Final = 60.0
"""An intent of another process is left alone for so long: it may be at work."""

_PROCESS: Final = secrets.token_hex(8)
_CARRYING_OUT: set[str] = set()


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What is about to be done: the record that will stand for it, and under which name."""

    key: str
    record: Record
    from_versions: tuple[str, ...]
    process: str


def settle(registry: Registry, name: str) -> Record | None:
    """Complete a promotion that was cut off, or give it up where somebody moved the pointer since.

    Returns
    -------
    Record
        What was recorded; None when there was nothing to settle.

    Raises
    ------
    PromotionUnderway
        When it was begun less than a minute ago by another process, which may be at work.
    """
    intent = read_intent(registry, name)
    if intent is None:
        return None
    if intent.key in _CARRYING_OUT or (intent.process != _process() and _fresh(intent.record)):
        raise _underway(name, intent.record)
    made = intent.record
    if intent.key in registry.registered_model(name).tags:
        registry.delete_model_tag(name, INTENT_TAG)
        return None
    selector = Selector.parse(made.selector)
    now_selected = selected(registry, name, selector)
    outcome: Outcome = "resumed"
    try:
        if set(now_selected) == set(intent.from_versions):
            _point(registry, name, selector, made.to_version)
        if made.to_version in now_selected or set(now_selected) == set(intent.from_versions):
            write_mirror(registry, name, selector, made.to_version)
        else:
            outcome = "abandoned"
    except NotInRegistry:
        outcome = "abandoned"  # the version has been deleted since
    return _finish(registry, name, intent, outcome)


def selected(registry: Registry, name: str, selector: Selector) -> tuple[str, ...]:
    """Return the versions that the selector names now, the one that was moved there last first."""
    return tuple(one.version for one in registry.resolve(name, selector).versions)


def carry_out(registry: Registry, name: str, made: Record, before: tuple[str, ...]) -> None:
    """Let the selector name ``made.to_version``, and record it.

    Whatever cuts this off leaves the intent, for :func:`settle`.

    Parameters
    ----------
    made : Record
        What is done; its time is set here.
    before : tuple of str
        What the selector named when it was decided.

    Raises
    ------
    PromotionUnderway
        When another process wrote its intent in the same moment.
    PromotionError
        When the selector names something else by now; nothing is moved.
    """
    now = _now()
    made = msgspec.structs.replace(made, at=timestamp(now))
    intent = Intent(key=new_key(now), record=made, from_versions=before, process=_process())
    selector = Selector.parse(made.selector)
    _CARRYING_OUT.add(intent.key)
    try:
        registry.set_model_tag(name, INTENT_TAG, msgspec.json.encode(intent).decode())
        written = read_intent(registry, name)
        if written is not None and written.key != intent.key:
            raise _underway(name, written.record)
        if selected(registry, name, selector) != before:
            _finish(registry, name, intent, "abandoned")
            raise PromotionError(
                f"{name}: {selector} was moved while version {made.to_version} was being judged",
                advice="look at `greenroom history`, and promote again",
            )
        _point(registry, name, selector, made.to_version)
        write_mirror(registry, name, selector, made.to_version)
        _finish(registry, name, intent, "done")
    finally:
        _CARRYING_OUT.discard(intent.key)


def _point(registry: Registry, name: str, selector: Selector, version: str) -> None:
    if selector.kind == "stage":
        registry.transition(name, version, selector.value, archive_existing=True)
    else:
        registry.set_alias(name, selector.value, version)


def write_mirror(registry: Registry, name: str, selector: Selector, version: str) -> None:
    """Let the selector's mirror name ``version`` too, where it has one."""
    if selector.mirror is not None and selected(registry, name, selector.mirror) != (version,):
        _point(registry, name, selector.mirror, version)


def _finish(registry: Registry, name: str, intent: Intent, outcome: Outcome) -> Record:
    """Write the record under the intent's name, so that there is one however often this runs."""
    made = msgspec.structs.replace(intent.record, outcome=outcome)
    registry.set_model_tag(name, intent.key, write_record(made))
    left = read_intent(registry, name)
    if left is None or left.key == intent.key:
        registry.delete_model_tag(name, INTENT_TAG)
    return made


def read_intent(registry: Registry, name: str) -> Intent | None:
    """Return what is being moved, or was when it was cut off.

    Raises
    ------
    PromotionError
        When the intent cannot be read.
    """
    text = registry.registered_model(name).tags.get(INTENT_TAG, "")
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=Intent)
    except msgspec.DecodeError as error:
        raise PromotionError(
            f"{name}: the tag {INTENT_TAG} of the registered model cannot be read: {error}",
            advice="delete the tag in MLflow once no promotion is under way",
        ) from error


def _fresh(made: Record) -> bool:
    age_s = (_now() - datetime.fromisoformat(made.at)).total_seconds()
    return abs(age_s) < FRESH_S  # a clock may run ahead of the one that wrote it


def _underway(name: str, made: Record) -> PromotionUnderway:
    return PromotionUnderway(
        f"a {made.action} of {name} to version {made.to_version} was begun by {made.who} "
        f"at {made.at} and has not ended",
        advice=f"try again; after {FRESH_S:.0f} s it is taken to be cut off, and settled first",
    )


def _process() -> str:
    """Name this process; a fork is another one."""
    return f"{os.getpid()}-{_PROCESS}"


def _now() -> datetime:
    return datetime.now(UTC)
