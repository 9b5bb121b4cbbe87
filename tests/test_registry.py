"""The registry's client, most of it against a real MLflow server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from greenroom.errors import NotInRegistry, RegistryError, RegistryUnavailable
from greenroom.registry.registry import Registry, name_filter
from greenroom.selector import Selector
from misbehaving import against, says, server

NOWHERE = "s3://nowhere/model"


@pytest.fixture
def registry(mlflow_server: str) -> Iterator[Registry]:
    with Registry(mlflow_server, timeout_s=20, environment={}) as opened:
        yield opened


@pytest.fixture
def three(registry: Registry, request) -> str:
    """A registered model with three versions; its name is the test's."""
    name = request.node.name
    registry.create_model(name)
    for _ in range(3):
        registry.create_version(name, NOWHERE)
    return name


def versions(registry: Registry, name: str, selector: str) -> list[str]:
    return [one.version for one in registry.resolve(name, Selector.parse(selector)).versions]


def test_a_model_is_created_once_however_often_it_is_asked_for(registry):
    first = registry.create_model("created-twice")
    assert registry.create_model("created-twice") == first
    assert first.created_at_ms > 0
    assert "created-twice" in [model.name for model in registry.registered_models()]


def test_versions_come_lowest_first_with_their_tags_and_aliases(registry, three):
    registry.set_version_tag(three, "2", "colour", "green")
    registry.set_alias(three, "champion", "3")
    registry.set_alias(three, "another", "3")
    found = registry.versions(three)
    assert [one.version for one in found] == ["1", "2", "3"]
    assert found[1].tags == {"colour": "green"}
    assert found[2].aliases == ("another", "champion")
    assert found[2] == registry.version(three, "3") == registry.by_alias(three, "champion")


def test_a_version_is_registered_together_with_its_tags(registry):
    registry.create_model("tagged at once")
    made = registry.create_version("tagged at once", NOWHERE, tags={"greenroom.digest": "abc"})
    assert made.status == "READY"
    assert registry.version("tagged at once", made.version).tags == {"greenroom.digest": "abc"}


@pytest.mark.parametrize("name", ["it's", 'say "so"', "both ' and \"", "100%_sure", "a\\b", "ünï"])
def test_any_name_that_mlflow_takes_can_be_searched_for(registry, name):
    for one in (name, f"{name}2", name.replace("'", "x")):
        registry.create_model(one)
        registry.create_version(one, NOWHERE)
    assert {(one.name) for one in registry.versions(name)} == {name}


def test_a_stage_is_resolved_through_its_versions(registry, three):
    assert versions(registry, three, "Production") == []
    registry.transition(three, "3", "Production")
    registry.transition(three, "1", "Production")
    assert versions(registry, three, "Production") == ["1", "3"], "the last moved comes first"
    registry.transition(three, "2", "Production", archive_existing=True)
    assert versions(registry, three, "Production") == ["2"]
    assert versions(registry, three, "Archived") == ["3", "1"]


def test_existing_versions_are_left_where_mlflow_cannot_archive_them(registry, three):
    registry.transition(three, "1", "Archived")
    registry.transition(three, "2", "Archived", archive_existing=True)
    assert sorted(versions(registry, three, "Archived")) == ["1", "2"]


def test_the_search_for_all_models_shows_that_an_alias_moved(registry, three):
    def shown():
        return next(one for one in registry.registered_models() if one.name == three)

    registry.set_alias(three, "moved", "1")
    before = shown()
    registry.set_alias(three, "moved", "3")
    assert (before.aliases["moved"], shown().aliases["moved"]) == ("1", "3")
    registry.delete_alias(three, "moved")
    assert "moved" not in shown().aliases


def test_an_alias_latest_and_a_number_select_one_version_or_none(registry, three):
    assert versions(registry, three, "@champion") == []
    registry.set_alias(three, "champion", "2")
    assert versions(registry, three, "@champion") == ["2"]
    registry.delete_alias(three, "champion")
    registry.delete_alias(three, "champion")
    assert versions(registry, three, "@champion") == []
    assert versions(registry, three, "latest") == ["3"]
    assert versions(registry, three, "1") == ["1"]
    assert versions(registry, three, "77") == []


def test_a_model_that_is_not_registered_selects_nothing_and_says_so(registry):
    selection = registry.resolve("never-registered", Selector.parse("latest"))
    assert (selection.versions, selection.registered) == ((), False)


def test_tags_of_a_model_are_set_and_deleted_as_often_as_one_likes(registry, three):
    registry.set_model_tag(three, "greenroom.note", "one")
    registry.set_model_tag(three, "greenroom.note", "two")
    assert registry.registered_model(three).tags == {"greenroom.note": "two"}
    registry.delete_model_tag(three, "greenroom.note")
    registry.delete_model_tag(three, "greenroom.note")
    registry.set_version_tag(three, "1", "greenroom.note", "hello")
    assert registry.version(three, "1").tags["greenroom.note"] == "hello"
    registry.delete_version_tag(three, "1", "greenroom.note")
    registry.delete_version_tag(three, "1", "greenroom.note")
    assert "greenroom.note" not in registry.version(three, "1").tags
    assert registry.registered_model(three).tags == {}


@pytest.mark.parametrize(
    "ask",
    [
        lambda registry, name: registry.registered_model("never-registered"),
        lambda registry, name: registry.versions("never-registered"),
        lambda registry, name: registry.version(name, "99"),
        lambda registry, name: registry.by_alias(name, "nobody"),
        lambda registry, name: registry.transition(name, "99", "Production"),
        lambda registry, name: registry.set_alias(name, "champion", "99"),
        lambda registry, name: registry.create_version("never-registered", NOWHERE),
    ],
)
def test_what_is_not_there_is_not_in_the_registry(registry, ask):
    registry.create_model("here")
    with pytest.raises(NotInRegistry):
        ask(registry, "here")


def test_a_refusal_carries_mlflows_own_words(registry):
    registry.create_model("refused")
    with pytest.raises(RegistryError, match="Invalid model version source: '/etc'") as refusal:
        registry.create_version("refused", "/etc")
    assert not isinstance(refusal.value, NotInRegistry | RegistryUnavailable)


def test_an_answer_that_makes_no_sense_is_an_error_of_the_registry():
    with against(says(200, {"registered_model": {"aliases": 5}})) as registry:
        with pytest.raises(RegistryError, match="holds no registered model"):
            registry.registered_model("m")
        with pytest.raises(RegistryError, match="holds no model version"):
            registry.version("m", "1")


def test_pages_are_followed_to_the_end():
    def paged(method, path, query):
        number = int(query.get("page_token", ["0"])[0])
        page = {"registered_models": [{"name": f"model-{number}"}]}
        return says(200, {**page, "next_page_token": str(number + 1) if number < 3 else ""})()

    with server(paged) as uri, Registry(uri) as registry:
        names = [model.name for model in registry.registered_models()]
    assert names == ["model-0", "model-1", "model-2", "model-3"]


def test_a_version_that_becomes_ready_later_is_waited_for_and_one_that_fails_is_an_error():
    states = ["PENDING_REGISTRATION", "PENDING_REGISTRATION", "READY"]

    def pending(method, path, query):
        status = states.pop(0) if states else "FAILED_REGISTRATION"
        return says(200, {"model_version": {"name": "m", "version": "1", "status": status}})()

    with server(pending) as uri, Registry(uri) as registry:
        assert registry.create_version("m", NOWHERE).status == "READY"
        with pytest.raises(RegistryError, match="FAILED_REGISTRATION"):
            registry.create_version("m", NOWHERE)


def test_latest_leaves_out_what_is_not_ready():
    entries = [
        {"name": "m", "version": "2", "status": "FAILED_REGISTRATION"},
        {"name": "m", "version": "1", "status": "READY"},
    ]
    answer = {"registered_model": {"name": "m"}, "model_versions": entries}
    with server(says(200, answer)) as uri, Registry(uri) as registry:
        assert versions(registry, "m", "latest") == ["1"]


def test_a_name_with_both_quotes_is_searched_for_with_a_wildcard():
    assert name_filter("a'b\"c") == "name LIKE 'a_b\"c'"


def test_a_run_says_whether_it_has_an_artifact(registry, mlflow_server, tmp_path):
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_server)
    run = client.create_run(client.create_experiment("artifacts of runs"))
    file = tmp_path / "scaler.pkl"
    file.write_bytes(b"x")
    client.log_artifact(run.info.run_id, str(file), "preprocessing")
    client.log_artifact(run.info.run_id, str(file))

    assert registry.run_has(run.info.run_id, "preprocessing/scaler.pkl")
    assert registry.run_has(run.info.run_id, "scaler.pkl")
    assert not registry.run_has(run.info.run_id, "preprocessing/other.pkl")
    with pytest.raises(NotInRegistry):
        registry.run_has("0" * 32, "scaler.pkl")
