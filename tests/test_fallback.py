"""Fallbacks: when a fallback file stands in, and when nothing does."""

from __future__ import annotations

from dataclasses import replace

import pytest

import builders
from greenroom.deployment.deployments import Target
from greenroom.deployment.fallback_file import read_sidecar, rest_path, sidecar_path, write_fallback
from greenroom.deployment.following import RECHECK_S, Follower
from greenroom.errors import RegistryUnavailable, VersionCorrupt
from greenroom.registry.registered import ModelVersion
from greenroom.schema import Column
from greenroom.selector import Selector
from greenroom.versions.model_store import ModelStore, Provenance
from greenroom.versions.version_files import directory_digest
from test_following import Clock, FakeRegistry, served

DOWN = RegistryUnavailable("Failed to connect to MLflow at http://mlflow:5000", advice="start it")
PRODUCTION = Selector.parse("Production")


@pytest.fixture
def registry(tmp_path):
    return FakeRegistry(tmp_path / "registry")


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    return builders.version(tmp_path_factory.mktemp("version") / "3")


@pytest.fixture
def path(tmp_path, version):
    path = tmp_path / "models" / "model.pkl"
    write_fallback(path, version, ModelVersion("model", "3", run_id="r3", created_at_ms=1_000))
    return path


@pytest.fixture
def target(path):
    return Target(
        "model",
        "model",
        PRODUCTION,
        "/predict",
        fallback_path=str(path),
        request=builders.COLUMNS,
        task="classification",
    )


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def start(tmp_path, registry, target, clock):
    """Start a follower as a server does; the store is what is left of the one before."""

    def make(target=target):
        store = ModelStore(tmp_path / "store")
        follower = Follower(registry, store, [target], keep_versions=3, clock_s=clock)
        follower.restore()
        return follower

    return make


def test_without_registry_and_store_the_file_answers_and_says_so(registry, start, path):
    registry.failure = DOWN
    found = served(start())
    assert (found.serving.version, found.serving.stage) == ("3", "fallback")
    assert found.serving.source == "fallback"
    assert found.serving.run_id == "r3"
    assert found.serving.digest == read_sidecar(path).digest
    (problem,) = found.problems
    assert problem.startswith("Failed to load from MLflow registry: Failed to connect to MLflow")
    assert str(path) in problem
    assert " answers since 2" in problem


def test_since_when_it_answers_does_not_change_with_each_poll(registry, start):
    registry.failure = DOWN
    follower = start()
    assert served(follower) == served(follower)


def test_without_the_setting_there_is_no_fallback(registry, start, target):
    registry.failure = DOWN
    assert served(start(replace(target, fallback_path=""))).serving is None


def test_what_the_registry_selects_takes_its_place_in_the_next_poll(registry, start, version):
    registry.failure = DOWN
    follower = start()
    assert served(follower).from_fallback
    registry.failure = None
    registry.add(4, stage="Production")
    found = served(follower)
    assert (found.serving.version, found.serving.stage) == ("4", "Production")
    assert found.serving.source == "registry"
    assert found.problems == ()


def test_the_same_version_out_of_the_registry_is_not_downloaded_again(registry, start, version):
    registry.failure = DOWN
    follower = start()
    digest = served(follower).serving.digest
    registry.failure = None
    files = {"MLmodel": "never read"}
    registry.add(3, stage="Production", files=files)
    selected = registry.held["model", "3"]
    registry.held["model", "3"] = replace(selected, tags={"greenroom.digest": digest})
    found = served(follower)
    assert (found.serving.digest, found.serving.source) == (digest, "registry")
    assert registry.calls["download"] == 0


def test_where_nothing_is_selected_nothing_is_served_file_or_no_file(registry, start):
    registry.add(1, stage="Staging")
    found = served(start())
    assert found.serving is None
    assert found.reason.startswith("No model in Production stage")


def test_what_was_emptied_stays_empty_when_the_registry_goes_away(registry, start):
    registry.add(1, stage="Production")
    follower = start()
    assert served(follower).serving.version == "1"
    registry.move(1, "Archived")
    assert served(follower).serving is None
    registry.failure = DOWN
    assert served(follower).serving is None
    # Also over a restart: it is the last thing that the registry has said.
    found = served(start())
    assert found.serving is None
    assert "Failed to connect" in found.reason
    registry.failure = None
    registry.move(1, "Production")
    assert served(start()).serving.version == "1"


def test_what_was_selected_last_is_served_before_the_file(registry, start):
    registry.add(1, stage="Production")
    assert served(start()).serving.version == "1"
    registry.failure = DOWN
    found = served(start())
    assert (found.serving.version, found.serving.source) == ("1", "registry")


def test_the_file_is_not_taken_for_what_was_selected_last(registry, start, target, path):
    registry.failure = DOWN
    assert served(start()).from_fallback
    path.unlink()
    found = served(start())
    assert found.serving is None


def test_a_selected_version_that_cannot_be_had_leaves_it_to_the_file(registry, start, clock):
    registry.add(1, stage="Production")
    registry.sizes["MLmodel"] = 10**6
    follower = start()
    found = served(follower)
    assert found.from_fallback
    assert "model version 1: its file MLmodel has 7 bytes instead of" in found.problems[0]
    registry.sizes.clear()
    clock.now_s += RECHECK_S
    assert served(follower).serving.version == "1"


def test_a_selected_version_that_does_not_load_leaves_it_to_the_file(registry, start):
    registry.add(1, stage="Production")
    follower = start()
    (found,) = follower.poll().deployments
    follower.rejected(found, "no such package")
    found = served(follower)
    assert found.from_fallback
    assert "model version 1 does not load: no such package" in found.problems[0]


def test_a_file_that_does_not_load_is_left_alone_until_it_changes(registry, start, path, version):
    registry.failure = DOWN
    follower = start()
    (found,) = follower.poll().deployments
    follower.rejected(found, "no such package")
    found = served(follower)
    assert found.serving is None
    assert "does not load: no such package" in found.reason
    write_fallback(path, version, ModelVersion("model", "4"))
    assert served(follower).serving.version == "4"


def test_a_forced_poll_tries_again_what_did_not_load(registry, start):
    registry.failure = DOWN
    follower = start()
    (found,) = follower.poll().deployments
    follower.rejected(found, "no memory")
    assert served(follower).serving is None
    assert served(follower, force=True).from_fallback


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.write_bytes(b"other"), "the SHA-256 differs"),
        (lambda path: sidecar_path(path).unlink(), "has no sidecar model.pkl.json"),
        (lambda path: path.unlink(), "is not there"),
        (lambda path: rest_path(path).unlink(), "model.pkl.zip cannot be read"),
    ],
)
def test_a_harmed_file_is_refused_in_one_line_with_the_reason(registry, start, path, harm, said):
    registry.failure = DOWN
    harm(path)
    found = served(start())
    assert found.serving is None
    assert found.reason.startswith("Failed to connect to MLflow")
    assert said in found.reason
    assert "\n" not in found.reason
    assert found.advice


def test_a_file_of_another_model_is_refused(registry, start, path, version):
    write_fallback(path, version, ModelVersion("prices", "3"))
    registry.failure = DOWN
    assert "is of the model prices, not of model" in served(start()).reason


@pytest.mark.parametrize(
    "columns",
    [
        builders.COLUMNS[:1],
        (*builders.COLUMNS, Column("c")),
        (builders.COLUMNS[0], Column("b", "number")),
        (builders.COLUMNS[0], Column("b", "integer", nullable=True)),
        (builders.COLUMNS[0], Column("b", "integer", request_name="B")),
    ],
)
def test_a_file_that_takes_other_requests_than_the_app_is_refused(registry, start, target, columns):
    registry.failure = DOWN
    found = served(start(replace(target, request=columns)))
    assert found.serving is None
    assert "takes other requests than the app: " in found.reason


def test_other_words_about_a_column_are_no_other_request(registry, start, target):
    registry.failure = DOWN
    described = tuple(replace(one, description="new words") for one in builders.COLUMNS)
    assert served(start(replace(target, request=described))).from_fallback


def test_a_file_of_another_task_is_refused(registry, start, target):
    registry.failure = DOWN
    found = served(start(replace(target, task="regression")))
    assert "is a classification model" in found.reason


def test_a_copy_that_was_harmed_in_the_store_is_taken_from_the_file_again(
    registry, start, tmp_path, version
):
    registry.failure = DOWN
    found = served(start())
    (tmp_path / "store" / "versions" / found.serving.digest / "MLmodel").write_text("harmed")
    again = served(start())
    assert again.serving.digest == directory_digest(version)
    ModelStore(tmp_path / "store").verify(again.serving.digest)


def test_its_version_stays_in_the_store_as_long_as_it_answers(registry, target, tmp_path, version):
    registry.failure = DOWN
    store = ModelStore(tmp_path / "store")
    follower = Follower(registry, store, [target], keep_versions=1)
    (found,) = follower.poll().deployments
    with store.staging() as folder:
        (folder / "MLmodel").write_text("a newer one")
        newer = store.add(folder, Provenance(uri=registry.uri, name="model", version="9"))
    follower.accepted([found])
    assert store.verify(found.serving.digest)
    assert store.verify(newer)
    registry.failure = None
    registry.add(10, stage="Production")
    served(follower)
    with pytest.raises(VersionCorrupt):
        store.verify(found.serving.digest)


def test_a_file_that_is_written_while_the_registry_is_away_is_found(registry, start, path, version):
    registry.failure = DOWN
    path.unlink()
    follower = start()
    assert served(follower).serving is None
    write_fallback(path, version, ModelVersion("model", "5"))
    assert served(follower).serving.version == "5"


def test_a_version_that_is_still_to_be_asked_about_is_waited_for(registry, start, target, clock):
    registry.add(1, stage="Production")
    registry.add(1, "other", stage="Production")
    follower = Follower(
        registry,
        start()._store,
        [replace(target, name="other", model="other", route="/other"), target],
        keep_versions=3,
        clock_s=lambda: clock.now_s,
    )
    real = registry.resolve

    def slow(name, selector):
        clock.now_s += 60
        return real(name, selector)

    registry.resolve = slow
    poll = follower.poll()
    assert poll.unfinished
    assert poll.deployments[1].serving is None


def test_where_the_registry_is_not_to_be_asked_the_file_answers_and_nothing_is_wrong(
    registry, start, target, clock
):
    registry.add(1, stage="Production")
    store = start()._store
    follower = Follower(registry, store, [target], keep_versions=3, asks=False, clock_s=clock)
    follower.restore()
    found = served(follower)
    assert found.from_fallback
    assert found.problems == ()
    assert not registry.calls


def test_what_went_from_the_store_while_it_was_not_used_is_taken_from_the_file_again(
    registry, target, tmp_path
):
    registry.failure = DOWN
    store = ModelStore(tmp_path / "store")
    follower = Follower(registry, store, [target], keep_versions=1)
    digest = served(follower).serving.digest
    registry.failure = None
    registry.add(10, stage="Production")
    selected = served(follower)
    assert not store.path(digest).exists()
    registry.failure = DOWN
    follower.rejected(selected, "its files were harmed")
    assert served(follower).serving.digest == digest
    assert store.verify(digest)
