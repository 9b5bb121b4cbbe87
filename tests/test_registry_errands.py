"""Errands to the registry: what comes back, and which transitions are judged or refused."""

from __future__ import annotations

import msgspec
import pytest

from fake_registry import FakeRegistry
from greenroom.deployment.deployments import Target
from greenroom.errands import DescribeModel, Done, ListModels, MoveVersion
from greenroom.errors import NotInRegistry, PromotionError, PromotionRefused
from greenroom.gate import Gate
from greenroom.promotion.transitions import Judge
from greenroom.registry_errands import RegistryErrands
from greenroom.selector import Selector
from greenroom.task import classification
from judged import GATE, NAME, three_versions

PRODUCTION = Target("credit", "registered", Selector.parse("Production"), "/predict")
CHAMPION = Target("credit", "registered", Selector.parse("@champion"), "/predict")
JUDGES = {"credit": Judge(Gate("roc_auc"), classification)}


@pytest.fixture
def registry() -> FakeRegistry:
    made = FakeRegistry()
    for name in ("registered", "registered", "other", "other"):
        made.add(name)
    return made


def move(name="registered", version="1", stage="Production", **changes):
    given = {"archive_existing": False, "who": "ada", **changes}
    return MoveVersion(name=name, version=version, stage=stage, **given)


def test_what_comes_back_survives_the_way_to_a_worker(registry):
    errands = RegistryErrands(registry, (PRODUCTION,))
    moved = errands.run(move())
    for done in (moved, errands.run(ListModels()), errands.run(DescribeModel("registered"))):
        sent = msgspec.msgpack.encode(done)
        assert msgspec.msgpack.decode(sent, type=Done) == done
    assert moved.latest_versions == {"None": "2", "Production": "1"}


def test_a_model_is_described_with_its_versions_and_its_history(registry):
    errands = RegistryErrands(registry, ())
    errands.run(move())

    found = errands.run(DescribeModel("registered"))

    assert [one.version for one in found.versions] == ["1", "2"]
    assert [one.to_version for one in found.history] == ["1"]
    with pytest.raises(NotInRegistry, match="there is no registered model credit"):
        errands.run(DescribeModel("credit"))


def test_only_the_stage_that_is_followed_is_kept_to_one_version(registry):
    errands = RegistryErrands(registry, (PRODUCTION,))
    for name, stage in (("registered", "Staging"), ("other", "Production")):
        errands.run(move(name, "1", stage))
        errands.run(move(name, "2", stage))

    errands.run(move(version="1"))
    with pytest.raises(PromotionError, match="beside version 2"):
        errands.run(move(version="2"))


def test_a_stage_beside_a_followed_alias_is_nobodys(registry):
    errands = RegistryErrands(registry, (CHAMPION,), JUDGES)

    errands.run(move(version="1"))
    assert errands.run(move(version="2")).changed


def test_with_a_gate_only_transitions_into_the_served_stage_are_judged(registry):
    errands = RegistryErrands(registry, (PRODUCTION,), JUDGES)

    assert errands.run(move(stage="Staging")).changed
    assert errands.run(move("other")).changed
    with pytest.raises(PromotionRefused, match="registered version 1 is not promoted"):
        errands.run(move())


def test_with_a_gate_what_passes_is_moved_and_the_history_has_the_figures():
    registry = three_versions()  # right on 80 %, 85 % and 70 % of the rows
    target = Target(NAME, NAME, Selector.parse("Production"), "/predict")
    errands = RegistryErrands(registry, (target,), {NAME: Judge(GATE, classification)})

    errands.run(move(NAME, "1"))
    errands.run(move(NAME, "2", "Staging"))
    moved = errands.run(move(NAME, "2", archive_existing=True))
    with pytest.raises(PromotionRefused, match="version 3 is not promoted"):
        errands.run(move(NAME, "3", archive_existing=True))

    assert (moved.from_stage, moved.archived) == ("Staging", ("1",))
    history = errands.run(DescribeModel(NAME)).history
    assert [(one.action, one.selector, one.to_version, one.outside_gate) for one in history] == [
        ("promotion", "Production", "1", False),
        ("transition", "Staging", "2", True),
        ("promotion", "Production", "2", False),
        ("transition", "Staging", "", True),
        ("refusal", "Production", "3", False),
    ]
    assert history[2].challenger == 0.85
    assert {one.who for one in history} == {"ada"}
