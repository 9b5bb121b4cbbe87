"""Promotions, rollbacks and the history of what happened."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from fake_registry import FakeRegistry
from greenroom.errors import (
    NotInRegistry,
    PromotionError,
    PromotionRefused,
)
from greenroom.gate import Gate
from greenroom.promotion.history import Record, read_records
from greenroom.promotion.judging import judge
from greenroom.promotion.moving import INTENT_TAG
from greenroom.promotion.promotion import history, promote, record, rollback
from greenroom.registry.registry import Registry
from greenroom.selector import Selector
from greenroom.task import classification
from judged import (
    CHAMPION,
    GATE,
    MIRROR,
    NAME,
    PRODUCTION,
    back,
    cut_off,
    go,
    holdout,
    names,
    right,
    tags,
    three_versions,
)
from mlflow_versions import register_files


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def three() -> FakeRegistry:
    return three_versions()


@pytest.fixture
def real(mlflow_server, request):
    """A real registry, and the name of a model with the three versions in it."""
    name = request.node.name
    with Registry(mlflow_server, timeout_s=20, environment={}) as opened:
        for n_wrong in (40, 30, 60):
            register_files(opened, name, right(n_wrong))
        yield opened, name


def test_a_promotion_moves_the_stage_writes_the_mirror_and_is_recorded(three):
    first = go(three, "1")
    assert (first.version, first.from_version, first.changed) == ("1", "", True)
    second = go(three, "2")
    assert (second.version, second.from_version) == ("2", "1")
    assert names(three) == ["2"]
    assert three.version(NAME, "1").stage == "Archived"
    assert names(three, MIRROR) == ["2"]
    assert INTENT_TAG not in tags(three)
    one, two = history(three, NAME)
    assert (one.from_version, one.to_version, one.independence) == ("", "1", "no champion")
    assert two == Record(
        action="promotion",
        who="ada",
        at=two.at,
        from_version="1",
        to_version="2",
        selector="Production",
        passed=True,
        reasons=(
            "accuracy 0.85, minimum 0.6",
            "accuracy 0.85, the present version's 0.8",
        ),
        metric="accuracy",
        challenger=0.85,
        champion=0.8,
        n_rows=200,
        independence="held out by both",
        content_hash="c1",
    )
    assert datetime.fromisoformat(two.at).utcoffset() == timedelta(0)


def test_intent_pointer_mirror_and_record_are_written_in_this_order(three):
    go(three, "1")
    kinds = [" ".join(write.split()[:2]) for write in three.writes]
    assert kinds[0] == f"tag {INTENT_TAG}"
    assert kinds[1:3] == ["stage Production", "alias production"]
    assert kinds[3].startswith("tag greenroom.history.")
    assert three.writes[4] == f"no tag {INTENT_TAG}"
    assert len(three.writes) == 5


def test_a_refused_promotion_is_recorded_with_its_figures_and_nothing_moves(three):
    go(three, "2")
    with pytest.raises(PromotionRefused) as refused:
        go(three, "3")
    assert "accuracy 0.7, the present version's 0.85: worse by 0.15" in refused.value.message
    assert refused.value.advice.startswith("Production stays at version 2")
    assert names(three) == names(three, MIRROR) == ["2"]
    last = history(three, NAME)[-1]
    assert (last.action, last.passed, last.to_version, last.from_version) == (
        "refusal",
        False,
        "3",
        "2",
    )
    assert (last.challenger, last.champion, last.n_rows) == (0.7, 0.85, 200)


def test_an_equal_candidate_passes(registry):
    registry.add(NAME, right(40))
    registry.add(NAME, right(40))
    go(registry, "1")
    assert go(registry, "2").version == "2"


def test_outside_the_gate_nothing_is_judged_and_the_history_says_so(three):
    go(three, "2")
    moved = go(three, "3", gate=None)
    assert (moved.version, moved.judgement) == ("3", None)
    last = history(three, NAME)[-1]
    assert (last.outside_gate, last.passed, last.reasons) == (True, None, ())
    assert last.content_hash == "tagged"


def test_an_alias_is_moved_and_its_mirror_only_where_a_stage_has_its_name(three):
    go(three, "1", selector=CHAMPION)
    assert names(three, CHAMPION) == ["1"]
    assert [one.stage for one in three.versions(NAME)] == ["None"] * 3
    production = MIRROR
    go(three, "1", selector=production)
    go(three, "2", selector=production)
    assert names(three, production) == names(three) == ["2"]
    assert three.version(NAME, "1").stage == "Archived"


def test_two_versions_in_the_stage_are_put_right_by_a_promotion(three):
    three.transition(NAME, "3", "Production")
    three.transition(NAME, "1", "Production")
    done = go(three, "2")
    assert done.from_version == "1", "the one that was moved there last"
    assert done.judgement.compared_with == "1"
    assert names(three) == ["2"]


def test_one_of_two_versions_in_the_stage_can_be_the_one_that_stays(three):
    three.transition(NAME, "3", "Production")
    three.transition(NAME, "2", "Production")
    assert go(three, "2").judgement.compared_with == "3"
    assert names(three) == ["2"]


def test_what_is_selected_already_is_not_promoted_again_but_its_mirror_is_put_right(three):
    go(three, "2")
    three.set_alias(NAME, "production", "1")
    again = go(three, "2")
    assert (again.changed, again.from_version) == (False, "2")
    assert names(three, MIRROR) == ["2"]
    assert len(history(three, NAME)) == 1


@pytest.mark.parametrize("selector", ["latest", "3", "Archived"])
def test_a_selector_that_cannot_be_moved_is_an_error_with_advice(selector, three):
    for act in (go, lambda registry, **options: rollback(registry, NAME, who="ada", **options)):
        with pytest.raises(PromotionError, match="cannot be moved") as refused:
            act(three, selector=Selector.parse(selector))
        assert "@alias" in refused.value.advice
    assert three.writes == []


def test_by_default_the_newest_version_is_promoted_unless_it_was_selected_before(three):
    gate = Gate("accuracy", minimum=0.6, against="nothing")
    assert go(three, gate=gate).version == "3"
    rollback(three, NAME, selector=PRODUCTION, who="ada", to="2")
    with pytest.raises(PromotionError, match="none has been registered since version 3"):
        go(three, gate=gate)
    three.add(NAME, three._files[NAME, "1"])
    assert go(three, gate=gate).version == "4"


def test_by_default_what_is_archived_or_not_ready_is_left_out(three):
    three.transition(NAME, "3", "Archived")
    three.add(NAME, status="FAILED_REGISTRATION")
    assert go(three).version == "2"


def test_a_version_that_is_not_there_or_not_ready_is_refused(three):
    three.add(NAME, status="PENDING_REGISTRATION")
    with pytest.raises(NotInRegistry):
        go(three, "9")
    with pytest.raises(PromotionError, match="version 4 is not ready"):
        go(three, "4")
    with pytest.raises(NotInRegistry):
        promote(three, "other", selector=PRODUCTION, gate=GATE, task=classification, who="ada")
    assert three.writes == []


def test_the_gate_may_compare_with_another_selector_or_with_nothing(three):
    go(three, "2")
    go(three, "3", selector=Selector.parse("Staging"), gate=None)
    nothing = Gate("accuracy", minimum=0.6, against="nothing")
    assert go(three, "1", gate=nothing, selector=CHAMPION).judgement.independence == "no champion"
    with pytest.raises(PromotionRefused):
        go(three, "3", gate=Gate("accuracy", against="Production"), selector=CHAMPION)
    moved = go(three, "1", gate=Gate("accuracy", against="Staging"))
    assert moved.judgement.compared_with == "3"


def test_a_champion_that_carries_no_evidence_is_not_guessed_about(registry):
    registry.add(NAME, {"MLmodel": b"x"})
    registry.add(NAME, right(30))
    go(registry, "1", gate=None)
    with pytest.raises(PromotionRefused, match="version 1 carries no held-out predictions"):
        go(registry, "2")
    assert history(registry, NAME)[-1].independence == "unknown"


def test_figures_of_a_foreign_champion_may_be_given_and_the_history_says_unknown(registry):
    registry.add(NAME, {"MLmodel": b"x"})
    registry.add(NAME, right(30))
    go(registry, "1", gate=None)
    asked = []

    def given(version):
        asked.append(version.version)
        return holdout(50)

    assert go(registry, "2", evidence=given).judgement.independence == "unknown"
    assert asked == ["1"]
    last = history(registry, NAME)[-1]
    assert (last.independence, last.champion) == ("unknown", 0.75)


def test_a_foreign_candidate_is_judged_only_on_figures_that_are_given(registry):
    registry.add(NAME, right(30))
    registry.add(NAME, {"MLmodel": b"x"})
    go(registry, "1")
    with pytest.raises(PromotionRefused, match="the candidate carries no held-out predictions"):
        go(registry, "2")
    done = go(registry, "2", evidence=lambda version: holdout(10))
    assert done.judgement.independence == "unknown"
    assert done.judgement.decision.champion == 0.85


def test_an_unregistered_candidate_is_judged_against_the_latest_and_recorded(three):
    latest = Selector.parse("latest")
    judgement = judge(three, NAME, holdout(80), selector=latest, gate=GATE, task=classification)
    assert judgement.compared_with == "3"
    assert not judgement.decision.passed
    record(three, NAME, Record(action="refusal", selector="latest", from_version="3", who="ada"))
    (found,) = history(three, NAME)
    assert (found.action, bool(found.at)) == ("refusal", True)


def test_progress_is_told(three):
    told = []
    go(three, "1", on_progress=lambda text, share: told.append(text))
    assert told == ["judging version 1 by accuracy", "moving Production to version 1"]


def test_who_moves_the_pointer_while_the_gate_judges_is_not_overwritten(three):
    go(three, "1")
    three.before_write = {
        len(three.writes): lambda other: other.transition(
            NAME, "3", "Production", archive_existing=True
        )
    }
    with pytest.raises(PromotionError, match="was moved while version 2 was being judged"):
        go(three, "2")
    assert names(three) == ["3"]
    assert INTENT_TAG not in tags(three)
    assert history(three, NAME)[-2].outcome == "abandoned"
    assert history(three, NAME)[-1].action == "move"


def test_a_rollback_goes_back_one_at_a_time_and_is_recorded(three):
    for version in ("1", "2", "3"):
        go(three, version, gate=None)
    assert back(three) == "2"
    assert names(three) == names(three, MIRROR) == ["2"]
    assert back(three) == "1"
    last = history(three, NAME)[-1]
    assert (last.action, last.from_version, last.to_version) == ("rollback", "2", "1")
    assert (last.who, last.passed, last.outside_gate) == ("bob", None, False)
    with pytest.raises(PromotionError, match="has no version to go back to"):
        back(three)
    with pytest.raises(PromotionError, match="names version 1 already"):
        back(three, to="1")


def test_after_a_rollback_and_a_promotion_it_goes_back_to_what_was_there_between(three):
    for version in ("1", "2"):
        go(three, version, gate=None)
    back(three)
    go(three, "3", gate=None)
    assert back(three) == "1"


def test_a_rollback_can_name_its_version_and_needs_no_history(three):
    three.transition(NAME, "1", "Production")
    three.transition(NAME, "3", "Production", archive_existing=True)
    assert back(three) == "1", "the highest that is archived"
    assert back(three, to="2") == "2"
    with pytest.raises(PromotionError):
        back(three)  # 3 and 1 have been taken back


def test_a_rollback_skips_what_was_deleted(three):
    for version in ("1", "2", "3"):
        go(three, version, gate=None)
    three.remove(NAME, "2")
    assert back(three) == "1"


def test_a_rollback_after_a_move_by_hand_goes_back_to_what_greenroom_had_selected(three):
    go(three, "1")
    go(three, "2")
    three.transition(NAME, "3", "Production", archive_existing=True)
    assert back(three) == "2"
    three.transition(NAME, "1", "Production", archive_existing=True)
    assert back(three) == "2"


def test_a_rollback_of_what_was_emptied_by_hand_brings_it_back(three):
    go(three, "2")
    three.transition(NAME, "2", "Archived")
    assert names(three) == []
    assert back(three) == "2"


def test_with_nothing_to_go_back_to_a_rollback_says_so(three):
    with pytest.raises(PromotionError, match="names nothing"):
        back(three)
    go(three, "2")
    with pytest.raises(PromotionError, match="has no version to go back to"):
        back(three)
    with pytest.raises(NotInRegistry):
        back(three, to="77")
    assert len(history(three, NAME)) == 1


def test_an_alias_is_rolled_back_too(three):
    go(three, "1", selector=CHAMPION)
    go(three, "2", selector=CHAMPION)
    assert back(three, selector=CHAMPION) == "1"
    assert names(three, CHAMPION) == ["1"]


def test_a_move_outside_of_greenroom_is_the_last_record(three):
    go(three, "1")
    three.transition(NAME, "3", "Production", archive_existing=True)
    *known, moved = history(three, NAME)
    assert len(known) == 1
    assert (moved.action, moved.from_version, moved.to_version) == ("move", "1", "3")
    assert moved.outside_gate
    assert moved.at.startswith("1970-01-01T00:00:0"), "when MLflow says the stage changed"
    three.transition(NAME, "3", "Archived")
    assert history(three, NAME)[-1].to_version == ""
    assert len(read_records(tags(three))) == 1, "noticed, not written"


def test_a_second_version_in_the_stage_is_a_move_that_names_both(three):
    go(three, "1")
    three.transition(NAME, "3", "Production")
    assert "versions 3 and 1" in history(three, NAME)[-1].reasons[0]


def test_after_a_refusal_what_was_selected_is_still_accounted_for(three):
    go(three, "2")
    with pytest.raises(PromotionRefused):
        go(three, "3")
    assert [one.action for one in history(three, NAME)] == ["promotion", "refusal"]
    three.set_alias(NAME, "production", "1")
    assert len(history(three, NAME)) == 2, "a mirror is never followed"


def test_a_promotion_in_the_middle_is_not_taken_for_a_move(three):
    go(three, "1")
    cut_off(three, 2, lambda: go(three, "2"))
    assert [one.to_version for one in history(three, NAME)] == ["1"]


def test_a_model_without_history_has_none(three):
    three.transition(NAME, "3", "Production")
    assert history(three, NAME) == []
    with pytest.raises(NotInRegistry):
        history(three, "other")


def test_promotion_refusal_and_rollback_in_a_real_registry(real):
    registry, name = real
    options = {"selector": PRODUCTION, "gate": GATE, "task": classification, "who": "Ada <a@b>"}
    promote(registry, name, "1", **options)
    promote(registry, name, "2", **options)
    with pytest.raises(PromotionRefused):
        promote(registry, name, "3", **options)
    assert registry.version(name, "2").stage == "Production"
    assert registry.version(name, "1").stage == "Archived"
    assert registry.by_alias(name, "production").version == "2"
    rollback(registry, name, selector=PRODUCTION, who="bob")
    assert registry.version(name, "1").stage == "Production"
    assert registry.by_alias(name, "production").version == "1"
    found = history(registry, name)
    assert [(one.action, one.from_version, one.to_version) for one in found] == [
        ("promotion", "", "1"),
        ("promotion", "1", "2"),
        ("refusal", "2", "3"),
        ("rollback", "2", "1"),
    ]
    assert {one.who for one in found} == {"Ada <a@b>", "bob"}
    assert (found[2].challenger, found[2].champion) == (0.7, 0.85)
    registry.transition(name, "3", "Production", archive_existing=True)
    assert history(registry, name)[-1].action == "move"
    assert INTENT_TAG not in registry.registered_model(name).tags


def test_a_trial_is_judged_by_the_minimum_and_only_beside_other_trials(registry):
    for n_wrong, trial in ((60, True), (50, True), (70, False), (0, True)):
        registry.add(NAME, right(n_wrong, trial=trial))

    assert go(registry, "1").judgement.independence == "no champion"
    assert go(registry, "2").judgement.compared_with == "1"
    in_full = go(registry, "3").judgement
    assert (in_full.compared_with, in_full.decision.champion) == ("", None)
    with pytest.raises(PromotionRefused, match="a trial, and version 3 was trained in full"):
        go(registry, "4")
    assert names(registry) == ["3"]


def test_a_trial_does_not_take_the_place_of_a_version_that_nobody_knows(registry):
    registry.add(NAME, {"MLmodel": b""})
    registry.add(NAME, right(0, trial=True))
    go(registry, "1", gate=None)

    with pytest.raises(PromotionRefused, match="a trial"):
        go(registry, "2", evidence=lambda version: holdout(100))
