"""Registering from a folder: what is new, what is left alone, and being cut off anywhere."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count

import msgspec
import pytest

from fake_registry import FakeRegistry, Killed
from greenroom.errors import (
    RegistryError,
    RegistryUnavailable,
    VersionCorrupt,
    VersionUnloadable,
)
from greenroom.promotion.history import Record, new_key, timestamp
from greenroom.promotion.moving import INTENT_TAG, Intent
from greenroom.promotion.promotion import history, promote
from greenroom.selector import Selector
from greenroom.task import TASKS
from greenroom.training import registration
from greenroom.training.journal import LoggedVersion
from greenroom.training.model_folder import find_models
from greenroom.training.registration import register_entry, wait_for_registry
from greenroom.training.release import Deployed
from greenroom.training.run_folder import RunFolder
from mlflow_versions import files_in

pytestmark = pytest.mark.slow

NAME = "sample"
PRODUCTION = Selector.parse("Production")
SIGNATURE = """
flavors: {python_function: {loader_module: mlflow.sklearn}}
signature: {inputs: '[{"type": "double", "name": "amount"}]'}
"""


class FakeTracking:
    """Takes runs and uploads; what is uploaded is what a version of its source will have."""

    def __init__(self, registry: FakeRegistry) -> None:
        self.runs: list[FakeRun] = []
        self.ended: list[str] = []
        self._registry = registry
        self._numbers = count(1)

    def end_unfinished(self, tag: str, value: str) -> int:
        self.ended.append(value)
        return 0

    @contextmanager
    def run(self, name, *, tags, parent=None, started_at_ms=None, ended_at_ms=None):
        run = FakeRun(self._registry, f"run-{next(self._numbers)}", name, parent)
        run.tags, run.times = dict(tags), (started_at_ms, ended_at_ms)
        self.runs.append(run)
        yield run


class FakeRun:
    def __init__(self, registry: FakeRegistry, run_id: str, name: str, parent) -> None:
        self.id, self.name, self.parent = run_id, name, parent
        self.params: dict = {}
        self.metrics: dict = {}
        self.files: dict = {}
        self._registry = registry

    def log_params(self, params) -> None:
        self.params |= params

    def log_metrics(self, metrics) -> None:
        self.metrics |= metrics

    def upload_folder(self, folder) -> None:
        self.files |= files_in(folder)

    def upload_model(self, directory, *, name) -> LoggedVersion:
        source = f"models:/m-{self.id}"
        self._registry.stored[source] = files_in(directory)
        return LoggedVersion(f"m-{self.id}", source, self.id)


@pytest.fixture
def registry():
    return FakeRegistry()


@pytest.fixture
def tracking(registry):
    return FakeTracking(registry)


@pytest.fixture
def folder(tmp_path):
    _train(tmp_path)
    return tmp_path


@pytest.fixture
def call(registry, tracking, folder):
    def register(selector: str = "Production"):
        (entry,), problems = find_models(folder)
        assert not problems
        where = Deployed(NAME, Selector.parse(selector))
        return register_entry(registry, lambda: tracking, entry, where, who="a test")

    return register


def _train(folder, weights: str = "first") -> None:
    journal = RunFolder(folder / NAME)
    with journal.run("sample 2026-11-21", tags={"greenroom.app": "app"}) as run:
        run.log_params({"C": 1.0})
        run.log_metrics({"roc_auc": 0.9})
        run.log_files({"figures/roc.png": b"png"})
        with journal.run("tree", tags={}, parent=run) as below:
            below.log_metrics({"roc_auc": 0.8})
    model = next(folder.glob(".training-*")) / "model"
    (model / "greenroom").mkdir(parents=True)
    (model / "MLmodel").write_text(SIGNATURE)
    (model / "model.pkl").write_text(weights)
    journal.keep("app", NAME, weights, {"greenroom.candidate": "tree"})


def _selected(registry, selector: Selector = PRODUCTION) -> list[str]:
    return [one.version for one in registry.resolve(NAME, selector).versions]


def test_a_model_is_registered_with_its_run_and_selected_outside_the_gate(registry, tracking, call):
    done = call()

    assert (done.version, done.outcome, done.selected) == ("1", "registered", ("1",))
    run, candidate = tracking.runs
    assert (run.params, run.metrics) == ({"C": "1.0"}, {"roc_auc": 0.9})
    assert run.files == {"figures/roc.png": b"png"}
    assert run.tags["greenroom.app"] == "app"
    assert None not in run.times
    assert (candidate.parent, candidate.metrics) == (run, {"roc_auc": 0.8})
    version = registry.version(NAME, "1")
    assert version.run_id == run.id
    assert version.tags["greenroom.candidate"] == "tree"
    assert len(version.tags["greenroom.digest"]) == 64
    (record,) = history(registry, NAME)
    assert (record.action, record.who, record.outside_gate) == ("promotion", "a test", True)


def test_the_same_files_are_registered_once(registry, call):
    call()

    assert call().outcome == "unchanged"
    assert [one.version for one in registry.versions(NAME)] == ["1"]
    assert len(history(registry, NAME)) == 1


def test_other_files_make_a_version_that_is_selected(registry, folder, call):
    call()
    _train(folder, "second")
    done = call()

    assert (done.version, done.reason) == ("2", "its files have changed")
    assert _selected(registry) == ["2"]


def test_files_that_are_put_back_select_the_version_that_has_them(registry, folder, call):
    call()
    _train(folder, "second")
    call()
    _train(folder, "first")
    done = call()

    assert (done.outcome, done.version) == ("selected", "1")
    assert len(registry.versions(NAME)) == 2
    assert _selected(registry) == ["1"]


def test_what_a_person_selected_since_stays(registry, folder, call):
    call()
    _train(folder, "second")
    call()
    promote(
        registry,
        NAME,
        "1",
        selector=PRODUCTION,
        gate=None,
        task=TASKS["classification"],
        who="ada",
    )
    done = call()

    assert (done.outcome, done.version, done.selected) == ("unchanged", "2", ("1",))


def test_a_version_whose_files_are_gone_is_registered_anew(registry, call):
    call()
    registry.lose_files(NAME, "1")
    done = call()

    assert (done.version, _selected(registry)) == ("2", ["2"])
    assert "version 1 cannot be read" in done.reason
    assert call().outcome == "unchanged"


@pytest.mark.parametrize("dies_after", range(1, 8))
def test_cut_off_after_any_write_it_is_completed_without_a_second_version(
    registry, tracking, call, dies_after
):
    registry.dies_after = dies_after
    with pytest.raises(Killed):
        call()
    registry.dies_after = None
    done = call()

    assert [one.version for one in registry.versions(NAME)] == ["1"]
    assert _selected(registry) == ["1"]
    assert done.selected == ("1",)
    assert [one.to_version for one in history(registry, NAME)] == ["1"]
    assert call().outcome == "unchanged"


def test_without_interruption_there_are_as_many_writes_as_the_test_above_cuts_off(registry, call):
    call()

    assert 7 < len(registry.writes) <= 9, registry.writes


def test_runs_of_a_process_that_was_killed_are_ended_first(tracking, folder, call):
    call()

    (entry,), _ = find_models(folder)
    assert tracking.ended == [entry.digest]
    assert all(run.tags["greenroom.digest"] == entry.digest for run in tracking.runs)


def test_the_promotion_of_the_process_before_is_waited_for(registry, call, monkeypatch):
    monkeypatch.setattr(registration, "_ASK_AGAIN_S", 0.02)
    registry.add(NAME)
    at = datetime.now(UTC) - timedelta(seconds=59.8)
    cut_off = Record(
        action="promotion", at=timestamp(at), to_version="1", selector="Production", who="before"
    )
    intent = Intent(key=new_key(at), record=cut_off, from_versions=(), process="other")
    registry.set_model_tag(NAME, INTENT_TAG, msgspec.json.encode(intent).decode())
    done = call()

    assert done.selected == ("2",)
    moves = [(one.to_version, one.outcome) for one in history(registry, NAME)]
    assert moves == [("1", "resumed"), ("2", "done")]
    assert INTENT_TAG not in registry.registered_model(NAME).tags


def test_with_an_alias_the_alias_is_moved(registry, call):
    call("@champion")

    assert _selected(registry, Selector.parse("@champion")) == ["1"]


def test_with_latest_registering_selects_and_the_history_says_so(registry, folder, call):
    call("latest")
    _train(folder, "second")
    call("latest")
    _train(folder, "first")
    done = call("latest")

    assert (done.outcome, done.version) == ("registered", "3")
    assert [one.to_version for one in history(registry, NAME)] == ["1", "2", "3"]
    assert all(one.outside_gate for one in history(registry, NAME))


def test_a_version_number_stays_what_is_served(registry, folder, call):
    call("1")
    _train(folder, "second")
    done = call("1")

    assert (done.version, done.selected) == ("2", ("1",))


def test_files_that_were_changed_by_hand_are_refused(folder, call):
    (folder / NAME / "model" / "model.pkl").write_text("mine")

    with pytest.raises(VersionCorrupt, match="not those that its training left"):
        call()


def test_a_version_that_mlflow_does_not_give_back_is_not_selected(registry, call, monkeypatch):
    monkeypatch.setattr(registry, "files", lambda *_: [])

    with pytest.raises(RegistryError, match="does not give back"):
        call()
    assert _selected(registry) == []


def test_a_registry_that_fails_is_not_taken_for_one_without_files(registry, call, monkeypatch):
    call()

    def away(*_):
        raise RegistryUnavailable("it is away")

    monkeypatch.setattr(registry, "files", away)
    with pytest.raises(RegistryUnavailable):
        call()


def test_a_model_of_another_trainer_is_registered_by_its_signature(registry, tracking, tmp_path):
    place = tmp_path / "theirs" / NAME
    place.mkdir(parents=True)
    (place / "MLmodel").write_text(SIGNATURE)
    (entry,), _ = find_models(tmp_path / "theirs")
    where = Deployed(NAME, PRODUCTION)
    done = register_entry(registry, lambda: tracking, entry, where, who="a test")

    assert (done.version, _selected(registry)) == ("1", ["1"])
    assert tracking.runs[0].name == NAME


def test_a_model_without_a_signature_is_refused(registry, tracking, tmp_path):
    place = tmp_path / "theirs" / NAME
    place.mkdir(parents=True)
    (place / "MLmodel").write_text("flavors: {sklearn: {}}")
    (entry,), _ = find_models(tmp_path / "theirs")

    with pytest.raises(VersionUnloadable, match="no signature"):
        register_entry(registry, lambda: tracking, entry, Deployed(NAME, PRODUCTION), who="a test")
    assert registry.writes == []


class Starting:
    """A registry that answers at the third ask, or refuses, or never answers."""

    uri = "http://mlflow:5000"

    def __init__(self, *errors: Exception) -> None:
        self._errors = iter(errors)

    def ping(self) -> None:
        error = next(self._errors, None)
        if error is not None:
            raise error


def _wait(registry, timeout_s: float = 10.0) -> list[str]:
    told: list[str] = []
    seconds = count(0.0, 4.0)
    wait_for_registry(
        registry,
        timeout_s,
        on_progress=lambda text, _: told.append(text),
        clock_s=lambda: next(seconds),
        sleep=lambda _: None,
    )
    return told


def test_mlflow_is_waited_for_and_progress_is_told():
    away = RegistryUnavailable("Failed to connect to MLflow")

    told = _wait(Starting(away, away))

    assert told == [
        "waiting for MLflow at http://mlflow:5000: 4 s",
        "waiting for MLflow at http://mlflow:5000: 8 s",
    ]


def test_waiting_for_mlflow_ends():
    away = RegistryUnavailable("Failed to connect to MLflow", advice="start it")

    with pytest.raises(RegistryUnavailable, match=r"for 10 s\); start it"):
        _wait(Starting(*[away] * 9))


def test_an_mlflow_that_refuses_is_not_waited_for():
    with pytest.raises(RegistryError, match="refused access"):
        _wait(Starting(RegistryError("MLflow refused access")))


@pytest.mark.parametrize("selector", ["Production", "latest"])
def test_of_two_initializers_at_the_same_moment_the_later_one_takes_its_version_back(
    registry, call, monkeypatch, selector
):
    upload, others = FakeRun.upload_model, []

    def overtaken(run, directory, *, name):
        logged = upload(run, directory, name=name)
        if not others:
            others.append(None)  # the other one is not overtaken
            others[0] = call(selector)
        return logged

    monkeypatch.setattr(FakeRun, "upload_model", overtaken)
    ours = call(selector)
    assert (others[0].version, others[0].outcome) == ("1", "registered")
    assert (ours.version, ours.outcome, ours.selected) == ("1", "selected", ("1",))
    assert [one.version for one in registry.versions(NAME)] == ["1"]
    assert call(selector).outcome == "unchanged"
