"""Judging on rows that neither version was trained on."""

from __future__ import annotations

import numpy as np
import pytest

from fake_registry import FakeRegistry
from greenroom.errors import (
    AppError,
    PromotionError,
    VersionCorrupt,
)
from greenroom.evaluation.evidence import HoldOut
from greenroom.evaluation.metrics import Predictions
from greenroom.gate import Gate
from greenroom.promotion.judging import (
    MIN_ROWS,
    Comparison,
    compare,
    gate_of,
    gather,
    judge,
    read_carried,
)
from greenroom.registry.registry import Registry
from greenroom.task import classification, regression
from greenroom.versions.manifest import HOLDOUT_FILE, MANIFEST_FILE
from judged import (
    GATE,
    NAME,
    PRODUCTION,
    holdout,
    right,
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


def test_evidence_is_read_out_of_a_version_and_a_foreign_one_has_none(registry):
    registry.add(NAME, right(40))
    registry.add(NAME, {"MLmodel": b"x"})
    found = gather(registry, NAME, "1")
    assert found.keys.tolist() == holdout(40).keys.tolist()
    assert found.predictions.classes == (0, 1)
    assert gather(registry, NAME, "2") is None


def test_what_a_candidate_carries_of_the_champions_answers_decides_where_no_row_is_shared(three):
    later = holdout(20, range(500, 700))
    options = {"selector": PRODUCTION, "gate": GATE, "task": classification}
    three.transition(NAME, "1", "Production")
    alone = judge(three, NAME, later, **options)
    assert not alone.decision.passed

    said = Comparison("1", holdout(40, range(500, 700)))
    judgement = judge(three, NAME, later, comparison=said, **options)
    assert judgement.decision.passed
    assert (judgement.n_rows, judgement.independence) == (200, "after both trainings")
    assert judgement.decision.champion == 0.8


def test_answers_of_a_champion_that_is_none_any_more_decide_nothing(three):
    later = holdout(20, range(500, 700))
    three.transition(NAME, "2", "Production")
    said = Comparison("1", holdout(40, range(500, 700)))
    options = {"selector": PRODUCTION, "gate": GATE, "task": classification}

    judgement = judge(three, NAME, later, comparison=said, **options)

    assert not judgement.decision.passed
    assert "only 0 rows are held out by both" in judgement.decision.reasons[0]


def test_half_of_the_evidence_is_a_corrupt_version(registry):
    registry.add(NAME, {MANIFEST_FILE: right(40)[MANIFEST_FILE]})
    registry.add(NAME, {MANIFEST_FILE: b"{", HOLDOUT_FILE: right(40)[HOLDOUT_FILE]})
    with pytest.raises(VersionCorrupt, match=HOLDOUT_FILE):
        gather(registry, NAME, "1")
    with pytest.raises(VersionCorrupt):
        gather(registry, NAME, "2")


def test_a_version_says_which_gate_and_task_it_was_trained_for(registry):
    registry.add(NAME, right(40))
    registry.add(NAME, right(30))
    assert gate_of(registry, NAME) == gate_of(registry, NAME, "1") == (GATE, "classification")
    registry.add(NAME, {"MLmodel": b"x"})
    with pytest.raises(PromotionError, match="version 3 was not trained by Greenroom"):
        gate_of(registry, NAME)
    with pytest.raises(PromotionError, match="has no version"):
        gate_of(registry, "other")


def test_evidence_is_downloaded_from_a_real_registry(real):
    registry, name = real
    carried = read_carried(registry, registry.version(name, "1"))
    assert carried.manifest.data.content_hash == "c1"
    assert len(carried.holdout) == 200
