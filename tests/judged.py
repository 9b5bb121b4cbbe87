"""Versions to be judged: their evidence, a registry that holds three, and what promotes them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from fake_registry import FakeRegistry, Killed
from greenroom.evaluation.evidence import HoldOut, write_holdout
from greenroom.evaluation.metrics import Predictions
from greenroom.gate import Gate
from greenroom.promotion import moving
from greenroom.promotion.promotion import Promotion, promote, rollback
from greenroom.schema import Column
from greenroom.selector import Selector
from greenroom.split import Split
from greenroom.task import classification
from greenroom.versions.manifest import (
    HOLDOUT_FILE,
    MANIFEST_FILE,
    Code,
    Data,
    Environment,
    Manifest,
    write_manifest,
)

PRODUCTION = Selector.parse("Production")
CHAMPION = Selector.parse("@champion")
MIRROR = Selector.parse("@production")
GATE = Gate("accuracy", minimum=0.6)
NAME = "credit"


def holdout(n_wrong: int, keys: range = range(200)) -> HoldOut:
    """Predictions of which the first ``n_wrong`` are wrong."""
    y = np.arange(len(keys)) % 2
    said = y.copy()
    said[:n_wrong] = 1 - said[:n_wrong]
    return HoldOut(np.array(keys, dtype=np.uint64), y, Predictions({"prediction": said}, (0, 1)))


@functools.cache
def right(n_wrong: int, *, trial: bool = False) -> dict[str, bytes]:
    """The files of a version that gets so many of its 200 held-out rows wrong."""
    data = Data(name="d", source="d.csv", dataset_hash="d1", content_hash="c1", n_rows=1000)
    manifest = Manifest(
        app="app",
        model=NAME,
        task="classification",
        candidate="a",
        columns=(Column("a"),),
        inputs=("a",),
        classes=(0, 1),
        gate=GATE,
        split=Split(),
        folds=5,
        seed=42,
        data=data,
        code=Code(code_hash="x", files={}),
        environment=Environment(python="3.11", packages={}),
        trial=trial,
    )
    with TemporaryDirectory() as made:
        folder = Path(made)
        write_manifest(folder, manifest)
        write_holdout(folder / HOLDOUT_FILE, holdout(n_wrong))
        return {path: (folder / path).read_bytes() for path in (MANIFEST_FILE, HOLDOUT_FILE)}


def three_versions() -> FakeRegistry:
    """Version 1 is right on 80 % of the rows, 2 on 85 %, 3 on 70 %."""
    registry = FakeRegistry()
    for n_wrong in (40, 30, 60):
        registry.add(NAME, right(n_wrong), tags={"greenroom.content_hash": "tagged"})
    return registry


def go(registry, version: str | None = None, **options) -> Promotion:
    filled = {"selector": PRODUCTION, "gate": GATE, "task": classification, "who": "ada"}
    return promote(registry, NAME, version, **{**filled, **options})


def back(registry, **options) -> str:
    return rollback(registry, NAME, **{"selector": PRODUCTION, "who": "bob", **options}).version


def names(registry, selector: Selector = PRODUCTION) -> list[str]:
    return [one.version for one in registry.resolve(NAME, selector).versions]


def tags(registry) -> dict[str, str]:
    return registry.registered_model(NAME).tags


def cut_off(registry: FakeRegistry, step: int, act: Callable[[], Any]) -> None:
    """Let ``act`` die right after its write number ``step``, counted from 1."""
    registry.dies_after = len(registry.writes) + step
    with pytest.raises(Killed):
        act()
    registry.dies_after = None


def later(monkeypatch: pytest.MonkeyPatch, seconds: float = 61) -> None:
    """Be another process, some time later."""
    monkeypatch.setattr(moving, "_PROCESS", f"another-{seconds}")
    then = datetime.now(UTC) + timedelta(seconds=seconds)
    monkeypatch.setattr(moving, "_now", lambda: then)
