"""Promotion, judged on evidence, against a registry in memory and against a real one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_registry import FakeRegistry, Killed
from greenroom import moving
from greenroom.errors import (
    AppError,
    NotInRegistry,
    PromotionError,
    PromotionRefused,
    PromotionUnderway,
    VersionCorrupt,
)
from greenroom.evidence import HoldOut, write_holdout
from greenroom.gate import Gate
from greenroom.history import Record, new_key, read_records, selected_before, write_record
from greenroom.judging import MIN_ROWS, gate_of, judge, read_carried
from greenroom.manifest import (
    HOLDOUT_FILE,
    MANIFEST_FILE,
    Code,
    Data,
    Environment,
    Manifest,
    write_manifest,
)
from greenroom.metrics import Predictions
from greenroom.moving import INTENT_TAG
from greenroom.promotion import compare, gather, history, promote, record, rollback, settle
from greenroom.registry import Registry
from greenroom.schema import Column
from greenroom.selector import Selector
from greenroom.split import Split
from greenroom.task import classification, regression

PRODUCTION = Selector.parse("Production")
CHAMPION = Selector.parse("@champion")
GATE = Gate("accuracy", minimum=0.6)
NAME = "credit"


def holdout(n_wrong: int, keys: range = range(200)) -> HoldOut:
    """Predictions of which the first ``n_wrong`` are wrong."""
    y = np.arange(len(keys)) % 2
    said = y.copy()
    said[:n_wrong] = 1 - said[:n_wrong]
    return HoldOut(np.array(keys, dtype=np.uint64), y, Predictions({"prediction": said}, (0, 1)))


def evidence(folder: Path, made: HoldOut, *, gate: Gate = GATE) -> dict[str, bytes]:
    """The files of a version that carries ``made``."""
    data = Data(name="d", source="d.csv", dataset_hash="d1", content_hash="c1", n_rows=1000)
    manifest = Manifest(
        app="app",
        model=NAME,
        task="classification",
        candidate="a",
        columns=(Column("a"),),
        inputs=("a",),
        classes=(0, 1),
        gate=gate,
        split=Split(),
        folds=5,
        seed=42,
        data=data,
        code=Code(code_hash="x", files={}),
        environment=Environment(python="3.11", packages={}),
    )
    write_manifest(folder, manifest)
    write_holdout(folder / HOLDOUT_FILE, made)
    return {path: (folder / path).read_bytes() for path in (MANIFEST_FILE, HOLDOUT_FILE)}


@pytest.fixture(scope="module")
def right(tmp_path_factory) -> Any:
    """Files of a version, by how many of its 200 held-out rows it gets wrong."""
    made: dict[int, dict[str, bytes]] = {}

    def files(n_wrong: int) -> dict[str, bytes]:
        if n_wrong not in made:
            made[n_wrong] = evidence(tmp_path_factory.mktemp("version"), holdout(n_wrong))
        return made[n_wrong]

    return files


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def three(registry, right) -> FakeRegistry:
    """Version 1 is right on 80 % of the rows, 2 on 85 %, 3 on 70 %."""
    for n_wrong in (40, 30, 60):
        registry.add(NAME, right(n_wrong), tags={"greenroom.content_hash": "tagged"})
    return registry


def go(registry, version: str | None = None, **options) -> Any:
    filled = {"selector": PRODUCTION, "gate": GATE, "task": classification, "who": "ada"}
    return promote(registry, NAME, version, **{**filled, **options})


def names(registry, selector: Selector = PRODUCTION) -> list[str]:
    return [one.version for one in registry.resolve(NAME, selector).versions]


def tags(registry) -> dict[str, str]:
    return registry.registered_model(NAME).tags


def later(monkeypatch, seconds: float = 61) -> None:
    """Be another process, some time later."""
    monkeypatch.setattr(moving, "_PROCESS", f"another-{seconds}")
    then = datetime.now(UTC) + timedelta(seconds=seconds)
    monkeypatch.setattr(moving, "_now", lambda: then)


# Judging


def test_figures_are_computed_on_the_rows_that_both_hold_out():
    challenger, champion = holdout(100, range(200)), holdout(0, range(100, 300))
    judgement = compare(GATE, classification, challenger, champion)
    assert judgement.n_rows == 100
    assert judgement.independence == "held out by both"
    # The challenger is wrong on its first 100 rows only, which the champion was trained on.
    assert judgement.decision.challenger == 1.0
    assert judgement.decision.champion == 1.0
    assert judgement.decision.passed


def test_a_champion_that_saw_the_rows_in_training_has_no_advantage_from_them():
    honest = holdout(30, range(1000))
    memory = HoldOut(honest.keys[500:], honest.y[500:], honest.take(slice(500, None)).predictions)
    judgement = compare(GATE, classification, honest, memory)
    assert judgement.n_rows == 500
    assert judgement.decision.challenger == judgement.decision.champion


def test_too_few_rows_in_both_is_said_and_nothing_is_guessed():
    few = MIN_ROWS - 1
    judgement = compare(GATE, classification, holdout(0), holdout(0, range(200 - few, 400)))
    assert not judgement.decision.passed
    assert judgement.n_rows == few
    (reason,) = judgement.decision.reasons
    assert reason.startswith(f"only {few} rows are held out by both versions, a comparison needs")
    assert judgement.decision.champion is None


def test_a_small_hold_out_is_enough_when_all_of_it_is_shared():
    assert compare(GATE, classification, holdout(0), holdout(5, range(30))).decision.passed
    short = compare(GATE, classification, holdout(0, range(1, 30)), holdout(5, range(30)))
    assert short.decision.passed
    assert short.n_rows == 29
    missed = compare(GATE, classification, holdout(0, range(15, 45)), holdout(5, range(30)))
    assert not missed.decision.passed


def test_no_common_row_at_all_is_refused():
    nothing = holdout(0, range(0))
    assert not compare(GATE, classification, holdout(0), nothing).decision.passed
    assert not compare(
        GATE, classification, holdout(0), holdout(0, range(900, 990))
    ).decision.passed


def test_without_a_champion_the_minimum_decides_on_all_held_out_rows():
    judgement = compare(GATE, classification, holdout(40), None)
    assert (judgement.n_rows, judgement.independence) == (200, "no champion")
    assert judgement.decision.passed
    assert judgement.decision.challenger == 0.8
    assert not compare(GATE, classification, holdout(90), None).decision.passed


def test_a_metric_that_cannot_be_computed_is_a_refusal_that_says_so():
    unlabelled = HoldOut(holdout(0).keys, None, holdout(0).predictions)
    judgement = compare(GATE, classification, unlabelled, None)
    assert not judgement.decision.passed
    assert judgement.decision.reasons == ("accuracy is undefined on the 200 held-out rows",)
    assert not compare(GATE, classification, unlabelled, holdout(0)).decision.passed


def test_a_metric_that_the_task_has_not_is_an_error_of_the_app():
    with pytest.raises(AppError, match="has no 'r2'"):
        compare(Gate("r2"), classification, holdout(0), None)


def test_lower_is_better_where_the_metric_says_so():
    y = np.linspace(0, 1, 200)
    keys = np.arange(200, dtype=np.uint64)
    good, bad = (HoldOut(keys, y, Predictions({"prediction": y + d})) for d in (0.1, 0.2))
    gate = Gate("mean_absolute_error", minimum=0.15)
    assert compare(gate, regression, good, bad).decision.passed
    assert not compare(gate, regression, bad, good).decision.passed


def test_evidence_is_read_out_of_a_version_and_a_foreign_one_has_none(registry, right):
    registry.add(NAME, right(40))
    registry.add(NAME, {"MLmodel": b"x"})
    found = gather(registry, NAME, "1")
    assert found.keys.tolist() == holdout(40).keys.tolist()
    assert found.predictions.classes == (0, 1)
    assert gather(registry, NAME, "2") is None


def test_half_of_the_evidence_is_a_corrupt_version(registry, right):
    registry.add(NAME, {MANIFEST_FILE: right(40)[MANIFEST_FILE]})
    registry.add(NAME, {MANIFEST_FILE: b"{", HOLDOUT_FILE: right(40)[HOLDOUT_FILE]})
    with pytest.raises(VersionCorrupt, match=HOLDOUT_FILE):
        gather(registry, NAME, "1")
    with pytest.raises(VersionCorrupt):
        gather(registry, NAME, "2")


def test_a_version_says_which_gate_and_task_it_was_trained_for(registry, right):
    registry.add(NAME, right(40))
    registry.add(NAME, right(30))
    assert gate_of(registry, NAME) == gate_of(registry, NAME, "1") == (GATE, "classification")
    registry.add(NAME, {"MLmodel": b"x"})
    with pytest.raises(PromotionError, match="version 3 was not trained by Greenroom"):
        gate_of(registry, NAME)
    with pytest.raises(PromotionError, match="has no version"):
        gate_of(registry, "other")


# Promoting


def test_a_promotion_moves_the_stage_writes_the_mirror_and_is_recorded(three):
    first = go(three, "1")
    assert (first.version, first.from_version, first.changed) == ("1", "", True)
    second = go(three, "2")
    assert (second.version, second.from_version) == ("2", "1")
    assert names(three) == ["2"]
    assert three.version(NAME, "1").stage == "Archived"
    assert names(three, Selector.parse("@production")) == ["2"]
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
    assert names(three) == names(three, Selector.parse("@production")) == ["2"]
    last = history(three, NAME)[-1]
    assert (last.action, last.passed, last.to_version, last.from_version) == (
        "refusal",
        False,
        "3",
        "2",
    )
    assert (last.challenger, last.champion, last.n_rows) == (0.7, 0.85, 200)


def test_an_equal_candidate_passes(registry, right):
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
    production = Selector.parse("@production")
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
    assert names(three, Selector.parse("@production")) == ["2"]
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


def test_a_champion_that_carries_no_evidence_is_not_guessed_about(registry, right):
    registry.add(NAME, {"MLmodel": b"x"})
    registry.add(NAME, right(30))
    go(registry, "1", gate=None)
    with pytest.raises(PromotionRefused, match="version 1 carries no held-out predictions"):
        go(registry, "2")
    assert history(registry, NAME)[-1].independence == "unknown"


def test_figures_of_a_foreign_champion_may_be_given_and_the_history_says_unknown(registry, right):
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


def test_a_foreign_candidate_is_judged_only_on_figures_that_are_given(registry, right):
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


# Rolling back


def back(registry, **options) -> str:
    return rollback(registry, NAME, **{"selector": PRODUCTION, "who": "bob", **options}).version


def test_a_rollback_goes_back_one_at_a_time_and_is_recorded(three):
    for version in ("1", "2", "3"):
        go(three, version, gate=None)
    assert back(three) == "2"
    assert names(three) == names(three, Selector.parse("@production")) == ["2"]
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
    assert back(three) == "1"
    with pytest.raises(PromotionError):
        back(three)


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


# Cut off and settled

STEPS = 5


def cut_off(three, step: int, act) -> None:
    """Let ``act`` die right after its write number ``step``, counted from 1."""
    three.dies_after = len(three.writes) + step
    with pytest.raises(Killed):
        act()
    three.dies_after = None


@pytest.mark.parametrize("selector", [PRODUCTION, CHAMPION, Selector.parse("@production")])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_promotion_killed_after_any_write_is_completed_once(step, selector, three, monkeypatch):
    go(three, "1", selector=selector)
    writes = 5 if selector.mirror else 4
    if step > writes:
        return
    cut_off(three, step, lambda: go(three, "2", selector=selector))
    later(monkeypatch)
    settle(three, NAME)
    assert settle(three, NAME) is None, "nothing is left"
    assert names(three, selector) == ["2"]
    if selector.mirror:
        assert names(three, selector.mirror) == ["2"]
    records = history(three, NAME)
    assert [one.to_version for one in records] == ["1", "2"]
    assert records[-1].outcome == ("done" if step >= writes - 1 else "resumed")
    assert records[-1].challenger == 0.85, "with the evidence"
    assert INTENT_TAG not in tags(three)


@pytest.mark.parametrize("second", range(1, STEPS + 1))
@pytest.mark.parametrize("first", range(1, STEPS))
def test_settling_can_be_killed_after_any_write_too(first, second, three, monkeypatch):
    go(three, "1")
    cut_off(three, first, lambda: go(three, "2"))
    later(monkeypatch)
    three.dies_after = len(three.writes) + second
    try:
        settle(three, NAME)
    except Killed:
        three.dies_after = None
        settle(three, NAME)
    assert names(three) == names(three, Selector.parse("@production")) == ["2"]
    assert [one.to_version for one in history(three, NAME)] == ["1", "2"]
    assert INTENT_TAG not in tags(three)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_rollback_killed_after_any_write_is_completed_once(step, three, monkeypatch):
    go(three, "1")
    go(three, "2")
    cut_off(three, step, lambda: back(three))
    later(monkeypatch)
    settle(three, NAME)
    assert names(three) == names(three, Selector.parse("@production")) == ["1"]
    assert [one.action for one in history(three, NAME)] == ["promotion", "promotion", "rollback"]


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_the_very_first_promotion_killed_anywhere_is_completed(step, three, monkeypatch):
    cut_off(three, step, lambda: go(three, "2"))
    later(monkeypatch)
    settle(three, NAME)
    assert names(three) == ["2"]
    assert len(history(three, NAME)) == 1


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_pointer_that_somebody_moved_since_stays_where_it_is(step, three, monkeypatch):
    go(three, "1")
    cut_off(three, step, lambda: go(three, "2"))
    three.transition(NAME, "3", "Production", archive_existing=True)
    later(monkeypatch)
    settled = settle(three, NAME)
    assert settled.outcome == "abandoned"
    assert names(three) == ["3"]
    *_, abandoned, moved = history(three, NAME)
    assert (abandoned.to_version, abandoned.outcome) == ("2", "abandoned")
    assert (moved.action, moved.from_version, moved.to_version) == ("move", "1", "3")
    assert INTENT_TAG not in tags(three)


@pytest.mark.parametrize("step", [1, 2])
def test_a_version_deleted_since_is_given_up(step, three, monkeypatch):
    go(three, "1")
    cut_off(three, step, lambda: go(three, "2"))
    three.remove(NAME, "2")
    later(monkeypatch)
    assert settle(three, NAME).outcome == "abandoned"
    assert INTENT_TAG not in tags(three)


@pytest.mark.parametrize("seconds", [0, 30, -30])
def test_a_fresh_intent_of_another_process_is_left_alone(seconds, three, monkeypatch):
    cut_off(three, 1, lambda: go(three, "2"))
    later(monkeypatch, seconds=seconds)
    writes = list(three.writes)
    for act in (lambda: go(three, "1"), lambda: back(three), lambda: settle(three, NAME)):
        with pytest.raises(PromotionUnderway, match="to version 2 was begun by ada at 20") as left:
            act()
        assert "60 s" in left.value.advice
    assert three.writes == writes


def test_an_intent_far_in_the_future_is_a_wrong_clock_and_settled(three, monkeypatch):
    cut_off(three, 1, lambda: go(three, "2"))
    later(monkeypatch, seconds=-7200)
    assert settle(three, NAME).outcome == "resumed"


def test_the_same_process_settles_its_own_failure_at_once(three):
    go(three, "1")
    cut_off(three, 1, lambda: go(three, "2"))
    with pytest.raises(PromotionRefused):
        go(three, "3")
    assert names(three) == ["2"], "settled first, then judged against it"
    assert [one.outcome for one in history(three, NAME)] == ["done", "resumed", "done"]


def test_a_promotion_of_the_same_process_in_the_middle_of_one_is_refused(three):
    go(three, "1")
    refused = []

    def meanwhile(registry):
        with pytest.raises(PromotionUnderway):
            go(registry, "3", gate=None)
        refused.append(True)

    three.before_write = {len(three.writes) + 1: meanwhile}
    go(three, "2")
    assert refused == [True]
    assert names(three) == ["2"]


def test_the_later_of_two_intents_in_the_same_moment_goes_through(three, monkeypatch):
    go(three, "1")
    real = three.set_model_tag

    def overwritten(name, key, value):
        real(name, key, value)
        if key == INTENT_TAG:
            monkeypatch.setattr(three, "set_model_tag", real)
            intent = msgspec.json.decode(value)
            theirs = {**intent, "key": new_key(datetime.now(UTC)), "process": "another"}
            theirs["record"]["who"] = "eve"
            real(name, key, msgspec.json.encode(theirs).decode())

    monkeypatch.setattr(three, "set_model_tag", overwritten)
    with pytest.raises(PromotionUnderway, match="begun by eve"):
        go(three, "2")
    assert names(three) == ["1"]
    assert "eve" in tags(three)[INTENT_TAG]


def test_an_intent_that_cannot_be_read_says_which_tag_to_delete(three):
    three.set_model_tag(NAME, INTENT_TAG, "{")
    with pytest.raises(PromotionError, match=INTENT_TAG) as failed:
        go(three, "1")
    assert "delete the tag" in failed.value.advice


# History


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


def test_a_record_that_cannot_be_read_stands_in_its_place():
    at = datetime(2026, 11, 21, tzinfo=UTC)
    good = Record(action="promotion", to_version="1", selector="Production")
    found = read_records({new_key(at): write_record(good), "greenroom.history.2025": "?"})
    assert [one.action for one in found] == ["unreadable", "promotion"]
    assert found[0].reasons == ("?",)


def test_names_of_records_sort_by_time_and_differ():
    at = datetime(2026, 11, 21, 4, 3, tzinfo=UTC)
    keys = [new_key(at + timedelta(microseconds=step)) for step in (0, 1, 10, 999_999, 1_000_000)]
    assert keys == sorted(keys)
    assert new_key(at) != new_key(at)


steps = st.lists(st.sampled_from(["1", "2", "3", "4", "back"]), max_size=12)


@given(steps)
def test_rolling_back_undoes_promotions_one_after_the_other(acts):
    """Against a plain stack of what was selected."""
    stack: list[str] = []
    records: list[Record] = []
    for act in acts:
        current = stack[-1] if stack else ""
        if act == "back":
            expected = [version for version in reversed(stack[:-1]) if version != current]
            found = selected_before(records, "Production", current)
            assert found == list(dict.fromkeys(expected))
            if not found:
                continue
            while stack[-1] != found[0]:
                stack.pop()
            kind, to = "rollback", found[0]
        elif act != current:
            stack.append(act)
            kind, to = "promotion", act
        else:
            continue
        made = Record(action=kind, from_version=current, to_version=to, selector="Production")
        records.append(made)


@given(
    st.builds(
        Record,
        action=st.sampled_from(["promotion", "refusal", "rollback"]),
        outcome=st.sampled_from(["done", "resumed", "abandoned"]),
        who=st.text(),
        reasons=st.lists(st.text(), max_size=3).map(tuple),
        passed=st.none() | st.booleans(),
        challenger=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        n_rows=st.integers(0, 10**9),
    )
)
def test_a_record_is_read_as_it_was_written(made):
    key = new_key(datetime.now(UTC))
    assert read_records({key: write_record(made), "other": "tag"}) == [made]


# Against a real server


@pytest.fixture
def real(mlflow_server, right, request):
    from mlflow_versions import register_files

    name = request.node.name
    with Registry(mlflow_server, timeout_s=20, environment={}) as opened:
        for n_wrong in (40, 30, 60):
            register_files(opened, name, right(n_wrong))
        yield opened, name


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


def test_a_promotion_cut_off_in_a_real_registry_is_completed(real, monkeypatch):
    registry, name = real
    options = {"selector": CHAMPION, "gate": GATE, "task": classification, "who": "ada"}
    promote(registry, name, "1", **options)
    with monkeypatch.context() as patched:
        patched.setattr(moving, "_finish", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            promote(registry, name, "2", **options)
    assert INTENT_TAG in registry.registered_model(name).tags
    later(monkeypatch)
    assert settle(registry, name).outcome == "resumed"
    assert registry.by_alias(name, "champion").version == "2"
    assert [one.to_version for one in history(registry, name)] == ["1", "2"]


def test_evidence_is_downloaded_from_a_real_registry(real):
    registry, name = real
    carried = read_carried(registry, registry.version(name, "1"))
    assert carried.manifest.data.content_hash == "c1"
    assert len(carried.holdout) == 200
