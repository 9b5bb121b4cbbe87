"""Tags in MLflow follow what fires."""

from __future__ import annotations

from greenroom.errors import NotInRegistry, RegistryUnavailable
from greenroom.monitoring.alert_book import AlertBook
from greenroom.monitoring.alert_states import Condition
from greenroom.monitoring.alert_tags import PAUSE_S, TAG, MlflowTags


class FakeRegistry:
    """Keeps tags by model or model and version."""

    def __init__(self):
        self.tags, self.calls, self.error = {}, 0, None

    def _called(self):
        self.calls += 1
        if self.error is not None:
            raise self.error

    def set_model_tag(self, name, key, value):
        self._called()
        self.tags[name, key] = value

    def delete_model_tag(self, name, key):
        self._called()
        self.tags.pop((name, key), None)

    def set_version_tag(self, name, version, key, value):
        self._called()
        self.tags[name, version, key] = value

    def delete_version_tag(self, name, version, key):
        self._called()
        self.tags.pop((name, version, key), None)


class Case:
    def __init__(self, path):
        self.now_s, self.events, self.registry = 0.0, [], FakeRegistry()
        self.path = path
        self.open()

    def open(self):
        self.book = AlertBook(
            self.path, queues=False, repeat_s=0.0, on_problem=self.events.append,
            clock_s=lambda: self.now_s,
        )  # fmt: skip
        self.tags = MlflowTags(
            self.book, self.registry, on_event=self.events.append, clock_s=lambda: self.now_s
        )

    def hold(self, *found):
        self.book.take([Condition(name, "warning", labels, "bad") for name, labels in found])
        self.tags.round()


SLOW = ("Slow", {"model": "m"})
DRIFT = ("Drift", {"model": "m", "version": "3"})
SERVER = ("Backlog", {})


def test_what_fires_is_written_to_its_model_and_version_and_taken_away_again(tmp_path):
    case = Case(tmp_path / "8000.json")
    case.hold(SLOW, DRIFT, SERVER)
    assert case.registry.tags == {("m", TAG): "Slow", ("m", "3", TAG): "Drift"}
    case.hold(SLOW, DRIFT, SERVER)
    assert case.registry.calls == 2, "nothing is written that is written already"
    case.hold(SERVER)
    assert case.registry.tags == {}


def test_what_was_written_is_taken_away_by_the_next_process_too(tmp_path):
    case = Case(tmp_path / "8000.json")
    case.hold(SLOW)
    case.open()
    case.hold()
    assert case.registry.tags == {}


def test_a_registry_that_is_away_is_asked_again_after_a_while_and_complained_of_once(tmp_path):
    case = Case(tmp_path / "8000.json")
    case.registry.error = RegistryUnavailable("it is away")
    case.hold(SLOW)
    case.hold(SLOW)
    assert case.registry.calls == 1
    case.now_s += PAUSE_S
    case.hold(SLOW)
    assert (case.registry.calls, len(case.events)) == (2, 1)
    case.registry.error = None
    case.now_s += PAUSE_S
    case.hold(SLOW)
    assert case.registry.tags == {("m", TAG): "Slow"}


def test_a_version_that_is_gone_is_not_tagged_for_ever(tmp_path):
    case = Case(tmp_path / "8000.json")
    case.registry.error = NotInRegistry("there is no such version")
    case.hold(DRIFT)
    case.hold(DRIFT)
    assert (case.registry.calls, case.events) == (1, [])
