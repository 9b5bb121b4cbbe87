from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from builders import version as write_version
from greenroom.deployment.following import BUDGET_S, MOST_RECHECKS, RECHECK_S, Follower, Target
from greenroom.errors import NotInRegistry, ProcessError, RegistryError, RegistryUnavailable
from greenroom.registry.artifacts import RemoteFile
from greenroom.registry.registered import ModelVersion, RegisteredModel
from greenroom.registry.registry import Selection
from greenroom.selector import Selector
from greenroom.versions.manifest import Data
from greenroom.versions.model_store import DIGEST_TAG, ModelStore
from greenroom.versions.version_files import directory_digest
from test_model_store import fill


class FakeRegistry:
    """A registry in memory, with versions' files in folders."""

    def __init__(self, folder: Path, uri: str = "http://mlflow:5000") -> None:
        self.uri = uri
        self.folder = folder
        self.held: dict[tuple[str, str], ModelVersion] = {}
        self.aliases: dict[str, dict[str, str]] = {}
        self.calls: Counter[str] = Counter()
        self.failure: RegistryError | None = None
        self.sizes: dict[str, int] = {}
        self.places: dict[str, str] = {}
        self.run_files: set[tuple[str, str]] = set()
        self.now_ms = 1_000

    def add(self, version, name="model", *, stage="None", tagged=True, files=None, **fields):
        directory = self.folder / name / str(version)
        if files is None:
            files = {"MLmodel": f"{name} {version}", "sub__model": "x" * 10}
        fill(directory, **files)
        tags = {DIGEST_TAG: directory_digest(directory)} if tagged else {}
        self.now_ms += 1
        self.held[name, str(version)] = ModelVersion(
            name=name,
            version=str(version),
            stage=stage,
            run_id=f"run {version}",
            source=f"models:/m-{version}",
            tags=tags,
            created_at_ms=self.now_ms,
            updated_at_ms=self.now_ms,
            **fields,
        )
        return directory

    def move(self, version, stage, name="model"):
        self.now_ms += 1
        one = self.held[name, str(version)]
        self.held[name, str(version)] = replace(one, stage=stage, updated_at_ms=self.now_ms)

    def registered_models(self):
        self._call("search")
        names = {name for name, _ in self.held}
        return [
            RegisteredModel(
                name,
                aliases=dict(self.aliases.get(name, {})),
                updated_at_ms=max(one.updated_at_ms for one in self._of(name)),
                latest_versions=tuple({one.stage: one for one in self._of(name)}.values()),
            )
            for name in sorted(names)
        ]

    def resolve(self, name, selector):
        self._call("resolve")
        found = self._of(name)
        if selector.kind == "stage":
            found = [one for one in found if one.stage == selector.value]
        elif selector.kind == "alias":
            number = self.aliases.get(name, {}).get(selector.value)
            found = [one for one in found if one.version == number]
        elif selector.kind == "latest":
            found = found[-1:]
        else:
            found = [one for one in found if one.version == selector.value]
        found.sort(key=lambda one: (one.updated_at_ms, one.number), reverse=True)
        return Selection(tuple(found))

    def files(self, version):
        self._call("files")
        directory = self.folder / version.name / version.version
        if not directory.exists():
            raise NotInRegistry(f"{version.name} has no files")
        paths = (path for path in sorted(directory.rglob("*")) if path.is_file())
        names = [(path.relative_to(directory).as_posix(), path.stat().st_size) for path in paths]
        return [RemoteFile(name, self.sizes.get(name, size)) for name, size in names]

    def download(self, version, path, destination):
        self._call("download")
        target = destination / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / version.name / version.version / path, target)
        return target

    def location(self, version):
        self._call("location")
        return self.places.get(version.version, f"mlflow-artifacts:/1/{version.version}")

    def run_has(self, run_id, path):
        self._call("run_has")
        return (run_id, path) in self.run_files

    def _of(self, name):
        found = [one for (held, _), one in self.held.items() if held == name]
        return sorted(found, key=lambda one: one.number)

    def _call(self, what):
        self.calls[what] += 1
        if self.failure is not None:
            raise self.failure


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def registry(tmp_path):
    return FakeRegistry(tmp_path / "registry")


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "store")


@pytest.fixture
def clock():
    return Clock()


def target(selector="Production", name="model", route="/predict"):
    return Target(name, name, Selector.parse(selector), route)


@pytest.fixture
def follow(registry, store, clock):
    def make(*targets, keep_versions=3, registry=registry):
        wanted = targets or (target(),)
        return Follower(registry, store, wanted, keep_versions=keep_versions, clock_s=clock)

    return make


def served(follower, **options):
    """Poll, accept what was found as the supervisor does, and return the only deployment."""
    found = follower.poll(**options)
    follower.accepted(found.deployments)
    return found.deployments[0]


def unavailable():
    return RegistryUnavailable(
        "Failed to connect to MLflow at http://mlflow:5000", advice="start it"
    )


def test_what_the_stage_names_is_brought_to_disk_and_offered(registry, store, follow):
    registry.add(1, stage="Production")
    registry.add(2)
    follower = follow()
    poll = follower.poll()
    (found,) = poll.deployments
    assert (found.serving.version, found.serving.stage) == ("1", "Production")
    assert (found.problems, found.reason) == ((), "")
    assert found.latest_versions == {"Production": "1", "None": "2"}
    assert store.verify(found.serving.digest) == Path(found.directory)
    assert (Path(found.directory) / "sub/model").read_text() == "x" * 10
    assert poll.registry.state == "healthy"
    assert poll.registry.since


def test_figures_come_from_what_the_version_carries(tmp_path, registry, follow):
    generated = Data(
        name="d", source="", dataset_hash="1", content_hash="2", n_rows=40, generated=True
    )
    directory = registry.add(1, stage="Production", files={}, tagged=False)
    write_version(directory, data=generated)
    found = served(follow()).serving
    assert found.metrics == {"accuracy": 0.9}
    assert found.params["content_hash"] == "2"
    assert found.generated_data


def test_one_call_a_poll_is_made_while_nothing_changes(registry, follow, clock):
    registry.add(1, stage="Production")
    registry.add(1, "other", stage="Production")
    follower = follow(target(), target(name="other", route="/other"))
    served(follower)
    registry.calls.clear()
    for _ in range(3):
        follower.poll()
    assert registry.calls == {"search": 3}
    clock.now_s += RECHECK_S
    follower.poll()
    assert registry.calls == {"search": 4, "resolve": 2}


def test_a_promotion_is_seen_at_the_next_poll_and_only_that_model_is_asked_for(registry, follow):
    registry.add(1, stage="Production")
    registry.add(2)
    registry.add(1, "other", stage="Production")
    follower = follow(target(), target(name="other", route="/other"))
    served(follower)
    registry.calls.clear()
    registry.move(1, "Archived")
    registry.move(2, "Production")
    assert served(follower).serving.version == "2"
    assert registry.calls["resolve"] == 1


def test_a_change_that_the_hint_does_not_show_is_found_by_and_by(registry, follow, clock):
    registry.add(1, stage="Production")
    follower = follow()
    served(follower)
    hint = registry.registered_models()
    registry.move(1, "None")
    registry.registered_models = lambda: hint
    assert served(follower).serving is not None
    clock.now_s += RECHECK_S
    assert served(follower).serving is None


def test_an_alias_that_moves_is_seen_by_the_next_search_and_asked_for_only_then(registry, follow):
    registry.add(1)
    registry.add(2)
    registry.aliases["model"] = {"champion": "1"}
    follower = follow(target("@champion"))
    found = served(follower)
    assert (found.serving.version, found.serving.stage) == ("1", "None")
    asked = registry.calls["resolve"]
    served(follower)
    assert registry.calls["resolve"] == asked
    registry.aliases["model"] = {"champion": "2"}
    assert served(follower).serving.version == "2"


def test_a_quiet_poll_of_200_models_is_one_search_and_few_rechecks(registry, follow, clock):
    names = [f"model-{number}" for number in range(200)]
    for name in names:
        registry.add(1, name, stage="Production", files={"MLmodel": name})
    follower = follow(*[target(name=name, route=f"/{name}") for name in names])
    follower.accepted(follower.poll().deployments)
    registry.calls.clear()
    follower.poll()
    assert registry.calls == {"search": 1}
    clock.now_s += RECHECK_S
    rechecked = 0
    for _ in range(200 // MOST_RECHECKS):
        registry.calls.clear()
        follower.poll()
        assert registry.calls == {"search": 1, "resolve": MOST_RECHECKS}
        rechecked += registry.calls["resolve"]
        clock.now_s += 0.01
    assert rechecked == 200
    registry.calls.clear()
    follower.poll()
    assert registry.calls == {"search": 1}


def by_name(name):
    """Follow whatever is registered under a name that begins with m."""
    return target(name=name, route=f"/{name}") if name.startswith("m") else None


def test_models_are_followed_from_when_they_are_registered_and_by_their_name_alone(
    registry, store, clock
):
    follower = Follower(registry, store, (), keep_versions=3, discover=by_name, clock_s=clock)
    assert follower.poll().deployments == ()
    registry.add(1, "m1", stage="Production", files={"MLmodel": "m1"})
    registry.add(1, "other", stage="Production", files={"MLmodel": "other"})
    assert [one.name for one in follower.poll().deployments] == ["m1"]
    registry.add(1, "m0", files={"MLmodel": "m0"})
    found = follower.poll().deployments
    assert [(one.name, one.serving is not None) for one in found] == [("m1", True), ("m0", False)]


def test_what_was_followed_by_its_name_is_restored_while_the_registry_is_away(
    registry, store, clock
):
    def follower():
        return Follower(registry, store, (), keep_versions=3, discover=by_name, clock_s=clock)

    registry.add(1, "m1", stage="Production", files={"MLmodel": "m1"})
    first = follower()
    first.accepted(first.poll().deployments)
    registry.failure = RegistryUnavailable("away")
    (found,) = follower().restore()
    assert (found.name, found.serving.version) == ("m1", "1")


def test_a_poll_that_takes_long_returns_what_it_has_and_the_next_goes_on(registry, follow, clock):
    for name in "abc":
        registry.add(1, name, stage="Production", files={"MLmodel": name})
    download = registry.download

    def slowly(*given):
        clock.now_s += BUDGET_S + 1
        return download(*given)

    registry.download = slowly
    follower = follow(*[target(name=name, route=f"/{name}") for name in "abc"])
    polls = [follower.poll() for _ in range(4)]
    served = [[one.name for one in poll.deployments if one.serving] for poll in polls]
    assert served == [["a"], ["a", "b"], ["a", "b", "c"], ["a", "b", "c"]]
    assert [poll.unfinished for poll in polls] == [True, True, False, False]


def test_what_is_overdue_longest_is_asked_for_first_and_nothing_is_forgotten(
    registry, follow, clock
):
    for name in "abcdef":
        registry.add(1, name, stage="Production", files={"MLmodel": name})
    follower = follow(*[target(name=name, route=f"/{name}") for name in "abcdef"])
    follower.poll()
    hint = registry.registered_models()
    registry.registered_models = lambda: hint
    for name in "abcdef":
        registry.move(1, "Archived", name)
    clock.now_s += RECHECK_S
    gone = [one.serving is None for one in follower.poll().deployments]
    assert gone == [True] * MOST_RECHECKS + [False] * (6 - MOST_RECHECKS)
    assert all(one.serving is None for one in follower.poll().deployments)


def test_only_what_changed_is_written_when_a_swap_is_accepted(registry, store, follow):
    for name in "ab":
        registry.add(1, name, stage="Production", files={"MLmodel": name})
    follower = follow(*[target(name=name, route=f"/{name}") for name in "ab"])
    follower.accepted(follower.poll().deployments)
    written = []
    remember = store.remember
    store.remember = lambda key, value: (written.append(key), remember(key, value))
    registry.add(2, "b", stage="Production", files={"MLmodel": "b 2"})
    registry.move(1, "Archived", "b")
    follower.accepted(follower.poll().deployments)
    assert written == ["/b"]
    assert [one.serving.version for one in follower.restore()] == ["1", "2"]


def test_nothing_selected_is_said_in_the_documented_words_also_when_emptied_later(registry, follow):
    follower = follow()
    found = served(follower)
    assert found.serving is None
    assert found.reason == "No model in Production stage: model is not registered"
    registry.add(1)
    assert served(follower).advice == "promote a version with `greenroom promote model`"
    registry.move(1, "Production")
    assert served(follower).serving.version == "1"
    registry.move(1, "Archived")
    found = served(follower)
    assert (found.serving, found.directory) == (None, "")
    assert found.reason == "No model in Production stage: model has no version there"


def test_of_two_versions_in_the_stage_the_served_one_goes_on_and_both_are_named(registry, follow):
    registry.add(1, stage="Production")
    registry.add(2)
    follower = follow()
    served(follower)
    registry.move(2, "Production")
    found = served(follower)
    assert found.serving.version == "1"
    assert "versions 1 and 2" in found.problems[0]
    assert follow().poll().deployments[0].serving.version == "2", "at a start: the last moved"
    registry.move(1, "Archived")
    found = served(follower)
    assert (found.serving.version, found.problems) == ("2", ())


def test_a_mirror_that_disagrees_is_a_problem_and_not_followed(registry, follow):
    registry.add(1, stage="Production")
    registry.add(2)
    registry.aliases["model"] = {"production": "2"}
    found = served(follow())
    assert found.serving.version == "1"
    assert "alias @production names version 2" in found.problems[0]


def test_with_the_registry_away_what_was_selected_goes_on_and_it_is_said_since_when(
    registry, follow
):
    registry.add(1, stage="Production")
    follower = follow()
    before = served(follower)
    registry.failure = unavailable()
    first, second = follower.poll(), follower.poll()
    assert first.deployments == second.deployments == (before,)
    assert first.registry.state == "unavailable"
    assert first.registry.problem.startswith("Failed to connect to MLflow")
    assert first.registry.since == second.registry.since != ""
    registry.failure = None
    assert follower.poll().registry.state == "healthy"


def test_a_registry_that_was_never_reached_is_said_where_nothing_can_be_served(registry, follow):
    follower = follow()
    assert "not been asked" in follower.restore()[0].reason
    registry.failure = unavailable()
    (found,) = follower.poll().deployments
    assert found.reason == "Failed to connect to MLflow at http://mlflow:5000"
    assert found.advice == "start it"


def test_a_registry_that_refuses_is_a_state_too(registry, follow):
    registry.failure = RegistryError("MLflow refused: 403")
    assert follow().poll().registry.problem == "MLflow refused: 403"


def test_a_registry_lost_in_the_middle_of_a_download_is_asked_again(registry, follow):
    registry.add(1, stage="Production")
    follower = follow()
    download = registry.download

    def fail(*args):
        raise unavailable()

    registry.download = fail
    poll = follower.poll()
    assert (poll.registry.state, poll.deployments[0].serving) == ("unavailable", None)
    registry.download = download
    assert served(follower).serving.version == "1"


def test_a_start_without_the_registry_serves_what_was_served_last(registry, follow):
    registry.add(1, stage="Production")
    before = served(follow())
    registry.failure = unavailable()
    again = follow()
    (restored,) = again.restore()
    assert restored == before
    assert again.poll().deployments == (restored,)
    registry.failure = None
    registry.calls.clear()
    assert served(again) == before
    assert registry.calls["download"] == 0


def test_what_was_remembered_for_another_selector_or_registry_is_not_served(
    tmp_path, registry, follow
):
    registry.add(1, stage="Production")
    served(follow())
    assert follow(target("Staging")).restore()[0].serving is None
    assert follow(target(name="other")).restore()[0].serving is None
    elsewhere = FakeRegistry(tmp_path / "other", uri="http://elsewhere")
    assert follow(registry=elsewhere).restore()[0].serving is None
    assert follow().restore()[0].serving is not None


def test_what_was_emptied_stays_empty_over_a_restart(registry, follow):
    registry.add(1, stage="Production")
    follower = follow()
    served(follower)
    registry.move(1, "Archived")
    served(follower)
    registry.failure = unavailable()
    assert follow().restore()[0].serving is None


def test_a_version_harmed_on_disk_is_not_restored_but_downloaded_again(registry, follow):
    registry.add(1, stage="Production")
    before = served(follow())
    (Path(before.directory) / "MLmodel").write_text("harmed")
    again = follow()
    (restored,) = again.restore()
    assert restored.serving is None
    assert "MLmodel is not the one that was downloaded" in restored.reason
    assert served(again) == before
    assert (Path(before.directory) / "MLmodel").read_text() == "model 1"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda r, d: (d / "MLmodel").write_text("model 3"), "not the ones that were registered"),
        (lambda r, d: (d / "extra").write_text("x"), "not the ones that were registered"),
        (lambda r, d: r.sizes.update({"sub/model": 99}), "has 10 bytes instead of 99"),
        (lambda r, d: shutil.rmtree(d), "has no files"),
        (lambda r, d: [shutil.rmtree(d), d.mkdir()], "it has no files"),
        (
            lambda r, d: r.held.update(
                {("model", "2"): replace(r.held["model", "2"], status="FAILED_REGISTRATION")}
            ),
            "FAILED_REGISTRATION",
        ),
        (
            lambda r, d: r.held.update(
                {("model", "2"): replace(r.held["model", "2"], tags={DIGEST_TAG: "../../x"})}
            ),
            "no digest",
        ),
    ],
)
def test_a_version_that_does_not_verify_never_serves_and_the_last_one_goes_on(
    registry, follow, harm, said
):
    registry.add(1, stage="Production")
    follower = follow()
    served(follower)
    directory = registry.add(2, stage="Production")
    registry.move(1, "Archived")
    harm(registry, directory)
    found = served(follower)
    assert found.serving.version == "1"
    assert said in found.problems[0]
    assert "version 2" in found.problems[0]
    (alone,) = follow().poll().deployments
    assert alone.serving is None
    assert said in alone.reason


def test_a_version_that_failed_is_left_alone_for_a_while_also_under_an_alias(
    registry, follow, clock
):
    directory = registry.add(1)
    registry.aliases["model"] = {"champion": "1"}
    (directory / "MLmodel").write_text("harmed")
    follower = follow(target("@champion"))
    follower.poll()
    registry.calls.clear()
    assert "not the ones" in follower.poll().deployments[0].reason
    assert registry.calls["files"] == 0
    (directory / "MLmodel").write_text("model 1")
    clock.now_s += RECHECK_S
    assert served(follower).serving.version == "1"


def test_a_version_of_another_trainer_is_checked_by_its_sizes(registry, follow):
    registry.add(1, stage="Production", tagged=False)
    assert served(follow()).serving.version == "1"


def test_a_version_that_does_not_load_is_not_offered_again_until_something_changes(
    registry, follow
):
    registry.add(1, stage="Production")
    registry.add(2)
    follower = follow()
    first = served(follower)
    registry.move(1, "Archived")
    registry.move(2, "Production")
    (second,) = follower.poll().deployments
    follower.rejected(second, "it needs the package 'xgboost'")
    for _ in range(2):
        (found,) = follower.poll().deployments
        assert found.serving == first.serving
        problem = "model version 2 does not load: it needs the package 'xgboost'"
        assert found.problems == (problem,)
    assert follower.poll(force=True).deployments[0].serving.version == "2"
    follower.rejected(second, "still")
    registry.move(2, "Production")
    assert follower.poll().deployments[0].serving.version == "2"


def test_a_restored_version_that_does_not_load_any_more_is_not_served(registry, follow):
    registry.add(1, stage="Production")
    served(follow())
    again = follow()
    (restored,) = again.restore()
    again.rejected(restored, "it is broken")
    (found,) = again.poll().deployments
    assert found.serving is None
    assert found.reason == "model version 1 does not load: it is broken"
    registry.move(1, "Production")
    assert served(again).serving.version == "1"


def test_a_rejected_version_is_tried_again_after_another_was_selected(registry, follow):
    registry.add(1, stage="Production")
    registry.add(2)
    registry.aliases["model"] = {"champion": "2"}
    follower = follow(target("@champion"))
    (second,) = follower.poll().deployments
    follower.rejected(second, "no")
    assert follower.poll().deployments[0].serving is None
    registry.aliases["model"] = {"champion": "1"}
    served(follower)
    registry.aliases["model"] = {"champion": "2"}
    assert follower.poll().deployments[0].serving.version == "2"


def test_only_so_many_versions_stay_on_disk_and_a_rollback_downloads_nothing(
    tmp_path, registry, follow
):
    follower = follow(keep_versions=2)
    for number in range(1, 4):
        registry.add(number, stage="Production")
        if number > 1:
            registry.move(number - 1, "Archived")
        served(follower)
    assert len(list((tmp_path / "store/versions").iterdir())) == 2
    registry.calls.clear()
    registry.move(3, "Archived")
    registry.move(2, "Production")
    assert served(follower).serving.version == "2"
    assert registry.calls["download"] == 0


def test_a_registry_set_up_anew_is_not_mistaken_for_the_old_one(registry, follow):
    registry.add(1, stage="Production", tagged=False)
    follower = follow()
    before = served(follower)
    registry.held.clear()
    files = {"MLmodel": "another model 1", "sub__model": "y" * 10}
    registry.add(1, stage="Production", tagged=False, files=files)
    assert served(follower).serving.digest != before.serving.digest


def test_a_full_disk_is_a_problem_and_the_last_version_goes_on(registry, follow):
    registry.add(1, stage="Production")
    follower = follow()
    served(follower)
    registry.add(2, stage="Production")
    registry.move(1, "Archived")

    def full(*args):
        raise OSError(28, "No space left on device", "somewhere")

    registry.download = full
    (found,) = follower.poll().deployments
    assert found.serving.version == "1"
    assert "No space left on device" in found.problems[0]


def test_a_store_that_cannot_be_written_is_an_error_that_names_it(registry, follow, monkeypatch):
    registry.add(1, stage="Production")
    follower = follow()
    found = follower.poll()

    def refuse(self, target):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(ProcessError, match="cannot be written: Permission denied"):
        follower.accepted(found.deployments)


def keep_compiled(store, digest, content="graph"):
    """Keep something beside a version, as ``greenroom compile`` does; its report says: passed."""
    with store.staging() as folder:
        fill(folder, greenroom__graph=content)
        (folder / "greenroom/parity.json").write_text('{"passed": true}')
        return store.keep_compiled(digest, folder)


def test_what_was_compiled_is_offered_at_the_next_forced_poll_and_soon_by_itself(
    registry, store, follow, clock
):
    registry.add(1, stage="Production")
    follower = follow()
    before = served(follower)
    path = keep_compiled(store, before.serving.digest)
    assert follower.poll().deployments[0] == before
    clock.now_s += RECHECK_S
    assert follower.poll().deployments[0].compiled == str(path)
    after = served(follower, force=True)
    assert (before.compiled, before.serving.runtime) == ("", "native")
    assert (after.compiled, after.serving.runtime) == (str(path), "compiled")
    assert after.directory == before.directory


def test_what_was_compiled_is_served_again_after_a_restart(registry, store, follow):
    registry.add(1, stage="Production")
    path = keep_compiled(store, served(follow()).serving.digest)
    (restored,) = follow().restore()
    assert (restored.compiled, restored.serving.runtime) == (str(path), "compiled")


def test_what_was_compiled_and_is_harmed_is_removed_and_the_version_goes_on(
    registry, store, follow, caplog
):
    registry.add(1, stage="Production")
    path = keep_compiled(store, served(follow()).serving.digest)
    assert served(follow()).compiled == str(path)
    (path / "greenroom/graph").write_text("harmed")
    follower = follow()
    (restored,) = follower.restore()
    assert (restored.compiled, restored.serving.runtime) == ("", "native")
    assert "is not what was compiled" in caplog.text
    assert not path.exists()
    assert follower.poll().deployments[0] == restored


def test_what_was_compiled_outlives_files_that_are_downloaded_again(registry, store, follow):
    registry.add(1, stage="Production")
    first = served(follow())
    path = keep_compiled(store, first.serving.digest)
    (Path(first.directory) / "MLmodel").write_text("harmed")
    follower = follow()
    assert follower.restore()[0].serving is None
    again = served(follower)
    assert store.verify(again.serving.digest)
    assert again.compiled == str(path)


def test_a_version_that_was_refused_is_tried_again_once_it_is_compiled(
    registry, store, follow, clock
):
    registry.add(1, stage="Production")
    follower = follow()
    (found,) = follower.poll().deployments
    follower.rejected(found, "it has no compiled runtime")
    clock.now_s += RECHECK_S
    assert follower.poll().deployments[0].serving is None
    keep_compiled(store, found.serving.digest)
    clock.now_s += RECHECK_S
    assert follower.poll().deployments[0].serving.runtime == "compiled"


def _with_scaler(registry, store):
    scaled = replace(target("latest"), preprocessing="preprocessing/scaler.pkl")
    return Follower(registry, store, [scaled], keep_versions=3)


def test_a_bare_version_of_another_trainer_is_refused_with_the_reason(registry, store):
    registry.add(1, tagged=False)
    follower = _with_scaler(registry, store)
    follower.accepted(follower.poll().deployments)
    registry.add(2, tagged=False)
    registry.run_files.add(("run 2", "preprocessing/scaler.pkl"))

    (deployment,) = follower.poll().deployments

    assert deployment.serving.version == "1"
    (problem,) = deployment.problems
    assert "model version 2: it is a bare model" in problem
    assert "preprocessing/scaler.pkl in the run run 2" in problem


def test_nobody_asks_a_run_of_greenrooms_own_for_its_scaler(registry, store):
    write_version(registry.add(1, tagged=False))
    registry.run_files.add(("run 1", "preprocessing/scaler.pkl"))

    (deployment,) = _with_scaler(registry, store).poll().deployments

    assert (deployment.serving.version, deployment.problems) == ("1", ())
    assert registry.calls["run_has"] == 0


def test_a_store_that_vanished_is_one_error_and_what_is_served_goes_on(
    registry, store, follow, tmp_path
):
    registry.add(1, stage="Production")
    follower = follow()
    assert served(follower).serving.version == "1"
    registry.add(2, stage="Production")
    registry.move(1, "Archived")
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "store").write_text("a file where the folder was")
    for _ in range(2):
        (found,) = follower.poll(force=True).deployments
        assert found.serving.version == "1"
        assert "cannot be written" in found.problems[0]
        with pytest.raises(ProcessError, match="cannot be written"):
            follower.accepted([found])


def test_the_models_of_a_server_are_accepted_also_where_the_first_cannot_be_remembered(
    registry, store, follow, monkeypatch
):
    registry.add(1, stage="Production")
    registry.add(1, "other", stage="Production")
    follower = follow(target(), target(name="other", route="/other"))
    poll = follower.poll()

    def full(key, value):
        raise ProcessError("the model store is full")

    monkeypatch.setattr(store, "remember", full)
    with pytest.raises(ProcessError):
        follower.accepted(poll.deployments)
    registry.failure = unavailable()
    follower.rejected(poll.deployments[1], "it does not load any more")
    first, second = follower.poll().deployments
    assert (first.serving.version, second.serving) == ("1", None)


def test_a_registry_that_is_not_to_be_asked_is_not_and_what_was_selected_stays_remembered(
    registry, store, follow, clock
):
    registry.add(1, stage="Production")
    assert served(follow()).serving.version == "1"
    registry.calls.clear()
    apart = Follower(registry, store, [target()], keep_versions=3, asks=False, clock_s=clock)
    assert apart.restore()[0].serving is None
    poll = apart.poll(force=True)
    apart.accepted(poll.deployments)
    assert poll.registry.state == "disabled"
    assert poll.deployments[0].reason == "MLflow is not asked what is selected"
    assert "fallback_path" in poll.deployments[0].advice
    assert not registry.calls
    assert follow().restore()[0].serving.version == "1"


def test_it_is_told_whether_mlflow_itself_answers_where_the_registry_does_not(registry, follow):
    follower = follow()
    registry.failure = unavailable()
    assert follower.poll().registry.connection == "unavailable"
    registry.failure = RegistryUnavailable("HTTP 500", mlflow_answers=True)
    found = follower.poll().registry
    assert (found.state, found.connection) == ("unavailable", "healthy")
    registry.failure = None
    assert follower.poll().registry.connection == "healthy"


def _from_bucket(registry, store):
    return Follower(
        registry, store, [replace(target("latest"), place="gs://bucket/models")], keep_versions=3
    )


def test_a_version_from_elsewhere_than_production_takes_them_is_not_served(registry, store):
    registry.add(1)
    registry.places["1"] = "gs://bucket/models/1"
    follower = _from_bucket(registry, store)
    follower.accepted(follower.poll().deployments)
    registry.add(2)

    (deployment,) = follower.poll().deployments

    assert deployment.serving.version == "1"
    (problem,) = deployment.problems
    assert "model version 2: its files are at mlflow-artifacts:/1/2" in problem
    assert "takes versions from gs://bucket/models" in problem


def test_what_was_served_from_anywhere_is_not_restored_where_one_place_is_asked_for(
    registry, store
):
    registry.add(1)
    before = Follower(registry, store, [target("latest")], keep_versions=3)
    before.accepted(before.poll().deployments)
    assert before.restore()[0].serving is not None

    follower = _from_bucket(registry, store)
    assert follower.restore()[0].serving is None
    assert follower.poll(force=True).deployments[0].serving is None


def test_where_versions_may_come_from_anywhere_nobody_asks_where_they_are(registry, follow):
    registry.add(1, stage="Production")
    follow().poll()
    assert registry.calls["location"] == 0
