"""Moves that are cut off anywhere, and settled."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from fake_registry import FakeRegistry, Killed
from greenroom.errors import (
    PromotionError,
    PromotionRefused,
    PromotionUnderway,
)
from greenroom.promotion import moving
from greenroom.promotion.history import new_key
from greenroom.promotion.moving import INTENT_TAG, settle
from greenroom.promotion.promotion import history, promote
from greenroom.registry.registry import Registry
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
    later,
    names,
    right,
    tags,
    three_versions,
)
from mlflow_versions import register_files


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


STEPS = 5


@pytest.mark.parametrize("selector", [PRODUCTION, CHAMPION, MIRROR])
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
    assert names(three) == names(three, MIRROR) == ["2"]
    assert [one.to_version for one in history(three, NAME)] == ["1", "2"]
    assert INTENT_TAG not in tags(three)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_rollback_killed_after_any_write_is_completed_once(step, three, monkeypatch):
    go(three, "1")
    go(three, "2")
    cut_off(three, step, lambda: back(three))
    later(monkeypatch)
    settle(three, NAME)
    assert names(three) == names(three, MIRROR) == ["1"]
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
