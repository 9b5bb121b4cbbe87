"""Transitions that a person asks for: carried out, recorded with who asked, judged where said."""

from __future__ import annotations

import re

import pytest

from fake_registry import FakeRegistry
from greenroom.errors import (
    NotInRegistry,
    PromotionError,
    PromotionRefused,
    PromotionUnderway,
)
from greenroom.gate import Gate
from greenroom.promotion.moving import INTENT_TAG
from greenroom.promotion.promotion import history, rollback
from greenroom.promotion.transitions import Judge, Transition, transition
from greenroom.selector import Selector
from greenroom.task import classification

NAME = "housing"
PRODUCTION = Selector("stage", "Production")


@pytest.fixture
def registry() -> FakeRegistry:
    made = FakeRegistry()
    for _ in range(3):
        made.add(NAME)
    return made


def move(registry, version, stage, **changes):
    given = {"archive_existing": False, "who": "ada", "served": {"Production"}, **changes}
    return transition(registry, NAME, version, stage, **given)


def stages(registry) -> dict[str, str]:
    return {one.version: one.stage for one in registry.versions(NAME)}


def told(registry) -> list[tuple[str, str, str, str, bool]]:
    return [
        (one.who, one.selector, one.from_version, one.to_version, one.outside_gate)
        for one in history(registry, NAME)
    ]


def test_the_documented_workflow_leaves_each_step_in_the_history(registry):
    assert move(registry, "1", "Production") == Transition("None")
    assert move(registry, "2", "Staging") == Transition("None")
    done = move(registry, "2", "Production", archive_existing=True)

    assert done == Transition("Staging", archived=("1",))
    assert stages(registry) == {"1": "Archived", "2": "Production", "3": "None"}
    assert told(registry) == [
        ("ada", "Production", "", "1", True),
        ("ada", "Staging", "", "2", True),
        ("ada", "Production", "1", "2", True),
        ("ada", "Staging", "2", "", True),
    ]
    assert {one.action for one in history(registry, NAME)} == {"transition"}


def test_the_mirror_goes_along_into_a_stage_and_out_of_it(registry):
    move(registry, "1", "Production")
    assert registry.version(NAME, "1").aliases == ("production",)

    move(registry, "1", "Archived")
    assert registry.registered_model(NAME).aliases == {}
    assert told(registry)[-1] == ("ada", "Production", "1", "", True)


def test_a_mirror_of_another_version_is_left_alone_when_one_is_moved_out(registry):
    move(registry, "1", "Production")
    registry.set_alias(NAME, "production", "3")

    move(registry, "1", "None")

    assert registry.registered_model(NAME).aliases == {"production": "3"}


def test_a_stage_that_is_served_never_gets_a_second_version_unasked(registry):
    move(registry, "1", "Production")
    before = len(registry.writes)

    with pytest.raises(PromotionError, match="version 1 of housing would be in Production beside"):
        move(registry, "2", "Production")

    assert len(registry.writes) == before
    assert stages(registry)["2"] == "None"


def test_a_stage_that_nobody_serves_may_hold_two_versions(registry):
    move(registry, "1", "Staging")
    assert move(registry, "2", "Staging") == Transition("None")

    assert stages(registry) == {"1": "Staging", "2": "Staging", "3": "None"}
    assert move(registry, "1", "Production") == Transition("Staging")
    # The one that stays is what the stage and its mirror name now.
    assert told(registry)[-1] == ("ada", "Staging", "1", "2", True)
    assert "staging" in registry.version(NAME, "2").aliases


def test_a_version_that_is_there_already_changes_nothing(registry):
    move(registry, "1", "Production")
    before = list(registry.writes)

    assert move(registry, "1", "Production", archive_existing=True) == Transition(
        "Production", changed=False
    )
    assert registry.writes == before


def test_a_version_that_is_there_with_another_one_can_have_it_archived(registry):
    for version in ("1", "2"):
        registry.transition(NAME, version, "Production")

    done = move(registry, "1", "Production", archive_existing=True)

    assert done == Transition("Production", archived=("2",))
    assert stages(registry) == {"1": "Production", "2": "Archived", "3": "None"}


def test_nothing_is_archived_out_of_the_archive(registry):
    for version in ("1", "2"):
        move(registry, version, "Archived", archive_existing=True)

    assert stages(registry) == {"1": "Archived", "2": "Archived", "3": "None"}
    assert told(registry) == []


def test_a_rollback_goes_back_behind_a_transition(registry):
    move(registry, "1", "Production")
    move(registry, "2", "Production", archive_existing=True)

    assert rollback(registry, NAME, selector=PRODUCTION, who="eve").version == "1"


def test_a_move_outside_of_greenroom_is_noticed_for_each_stage(registry):
    move(registry, "1", "Production")
    move(registry, "2", "Staging")
    registry.transition(NAME, "3", "Production", archive_existing=True)
    registry.transition(NAME, "2", "Archived")

    noticed = [one for one in history(registry, NAME) if one.action == "move"]

    assert [(one.selector, one.from_version, one.to_version) for one in noticed] == [
        ("Production", "1", "3"),
        ("Staging", "2", ""),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("nobody", "nobody"),
        ("a:b", "a:b"),
        ("a/b", "a/b"),
        ("a\0", "a?"),
        ("n" * 300, "nnn"),
        ("", ""),
    ],
)
def test_a_model_that_is_not_there_is_named(registry, name, shown):
    with pytest.raises(NotInRegistry, match=f"there is no registered model {re.escape(shown)}"):
        transition(registry, name, "1", "Staging", archive_existing=False, who="ada")


def test_a_version_that_is_not_there_is_named_with_those_that_are(registry):
    with pytest.raises(NotInRegistry, match="housing has no version 9; it has 1, 2, 3") as caught:
        move(registry, "9", "Staging")
    assert caught.value.message == "housing has no version 9"


def test_a_version_that_is_not_ready_is_not_moved(registry):
    version = registry.add(NAME, status="FAILED_REGISTRATION")

    with pytest.raises(PromotionError, match=f"version {version} is not ready"):
        move(registry, version, "Staging")


def test_a_promotion_that_is_under_way_is_waited_for(registry):
    move(registry, "1", "Production")
    registry.dies_after = len(registry.writes) + 1
    with pytest.raises(BaseException, match=INTENT_TAG):
        move(registry, "2", "Production", archive_existing=True)
    registry.dies_after = None
    intent = registry.registered_model(NAME).tags[INTENT_TAG]
    foreign = intent.replace('"process":"', '"process":"other-')
    registry.set_model_tag(NAME, INTENT_TAG, foreign)

    with pytest.raises(PromotionUnderway, match="transition of housing to version 2"):
        move(registry, "3", "Production", archive_existing=True)


def test_with_a_gate_a_version_without_evidence_is_refused_and_that_is_recorded(registry):
    move(registry, "1", "Production")
    judge = Judge(Gate("roc_auc"), classification)

    with pytest.raises(PromotionRefused, match="version 2 is not promoted"):
        move(registry, "2", "Production", archive_existing=True, judge=judge)

    assert stages(registry)["1"] == "Production"
    assert history(registry, NAME)[-1].action == "refusal"
    assert history(registry, NAME)[-1].who == "ada"
