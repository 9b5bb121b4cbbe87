"""One look, from a server's signals to what fires."""

from __future__ import annotations

import msgspec
import pytest

from greenroom.errors import LogError, MonitoringError
from greenroom.findings import ColumnDrift, Drift, Findings
from greenroom.instruments import SupervisorInstruments, WorkerInstruments, read_totals
from greenroom.monitoring.alert_book import AlertBook
from greenroom.monitoring.alerting import Alerting, Sources
from greenroom.settings import Settings
from greenroom.status import ModelStatus, RegistryStatus, Status, VersionStatus

NOW_S = 1_795_000_000.0


class Case:
    """A server, of which any number can be said, and an hour in a moment."""

    def __init__(self, tmp_path, **settings):
        self.now_s, self.events = NOW_S, []
        self.supervisor = SupervisorInstruments(1)
        self.worker = WorkerInstruments(self.supervisor.memory, seat=self.supervisor.take_seat())
        self.answers = self.worker.predictions("/predict", "m", "3")
        self.oldest_us, self.findings, self.problem = None, (), None
        serving = VersionStatus(version="3", stage="Production")
        self.status = Status(
            app="a",
            greenroom_version="0",
            started_at="2026-11-18T11:06:40.000Z",
            generation=1,
            registry=RegistryStatus(uri="http://mlflow", state="healthy"),
            models=(
                ModelStatus(name="m", selector="Production", route="/predict", serving=serving),
            ),
        )
        chosen = Settings(**{"alert_for_s": 60.0, **settings})
        self.book = AlertBook(
            tmp_path / "8000.json", queues=False, repeat_s=0.0, on_problem=self.events.append,
            clock_s=lambda: self.now_s,
        )  # fmt: skip
        self.alerting = Alerting(
            chosen,
            Sources(
                lambda: read_totals(self.supervisor.memory),
                lambda: self.status,
                self._findings,
                self._oldest_us,
            ),
            self.book,
            on_event=self.events.append,
            clock_s=lambda: self.now_s,
            monotonic_s=lambda: self.now_s,
        )

    def _findings(self):
        if self.problem:
            raise MonitoringError(self.problem)
        return self.findings

    def _oldest_us(self):
        if self.problem:
            raise LogError(self.problem)
        return self.oldest_us

    def look(self, after_s=0.0):
        self.now_s += after_s
        return self.alerting.look()


@pytest.fixture
def case(tmp_path):
    made = Case(tmp_path, alert_error_rate_percent=5.0, alert_response_time_ms=1_000.0)
    yield made
    made.supervisor.memory.close()


def test_errors_above_the_threshold_fire_after_their_time_and_are_over_when_they_are_gone(case):
    for _ in range(20):
        case.answers.refused(500, 0.001)
    assert case.look() == ()
    assert case.look(after_s=59.0) == ()
    (firing,) = case.look(after_s=1.0)
    assert firing.startswith("GreenroomErrorRate (model m): 100 % of the answers of m are errors")
    assert case.look(after_s=10.0) == (firing,)
    for _ in range(500):
        case.answers.answered(0.001)
    case.look(after_s=10.0)
    assert case.look(after_s=60.0) == ()
    kinds = [event.partition(":")[0] for event in case.events]
    assert kinds == ["alert", "alert over"]


def test_slow_answers_fire(case):
    for _ in range(20):
        case.answers.answered(2.0)
    case.look()
    (firing,) = case.look(after_s=60.0)
    assert firing.startswith("GreenroomSlowResponses (model m): m answers slowly")


def test_errors_that_fired_fire_on_while_nobody_asks_and_are_over_when_the_model_is_gone(case):
    for _ in range(20):
        case.answers.refused(500, 0.001)
    case.look()
    case.look(after_s=60.0)
    assert case.look(after_s=3_600.0), "nobody knows whether it would be better"
    case.status = msgspec.structs.replace(case.status, models=())
    case.look(after_s=10.0)
    assert case.look(after_s=60.0) == ()


def test_predictions_that_wait_beyond_what_shipping_explains_fire(case):
    case.oldest_us = int(1e6 * (NOW_S - 609.0))
    assert case.look() == ()
    assert case.look(after_s=2.0) == ()
    (firing,) = case.look(after_s=60.0)
    assert firing.startswith("GreenroomLogBacklog: predictions have waited")
    case.oldest_us = None
    case.look(after_s=1.0)
    assert case.look(after_s=60.0) == ()


@pytest.mark.parametrize("state", ["unavailable", "starting"])
def test_a_registry_that_does_not_answer_fires_after_its_time(case, state):
    away = RegistryStatus(uri="http://mlflow", state=state, since="2026-11-18T11:06:40.000Z")
    case.status = msgspec.structs.replace(case.status, registry=away)
    assert case.look() == ()
    assert case.look(after_s=601.0)[0].startswith("GreenroomRegistryStale")


def test_a_registry_that_was_not_asked_for_long_fires_too_and_one_that_nobody_wants_never(case):
    case.supervisor.registry_answered(NOW_S)
    assert case.look(after_s=600.0) == ()
    assert case.look(after_s=10.0)[0].startswith("GreenroomRegistryStale")
    case.supervisor.registry_answered(case.now_s)
    assert case.look(after_s=1.0) == ()
    disabled = RegistryStatus(uri="", state="disabled", since="2026-01-01T00:00:00Z")
    case.status = msgspec.structs.replace(case.status, registry=disabled)
    assert case.look(after_s=9_000.0) == ()


def test_drift_of_the_version_that_is_served_fires_at_once_and_is_over_with_the_next_run(case):
    column = ColumnDrift(
        column="age", role="feature", kind="number", verdict="drift", n_reference=9, n_current=9
    )
    drift = Drift(n_reference=9, n_current=9, features=(column,), predictions=())
    found = Findings(
        app="a", model="m", version="3", at="2026-11-18T11:00:00Z", n_rows=9, drift=drift
    )
    case.findings = (found,)
    assert case.look()[0].startswith("GreenroomDataDrift (model m, version 3)")
    case.findings, case.problem = (), "it cannot be read"
    assert case.look(after_s=1.0), "nobody knows whether it is better"
    stable = msgspec.structs.replace(column, verdict="stable")
    drift = msgspec.structs.replace(drift, features=(stable,))
    case.findings = (msgspec.structs.replace(found, at="2026-11-18T12:00:00Z", drift=drift),)
    case.problem = None
    assert case.look(after_s=1.0) == ()


def test_a_server_that_is_starting_takes_nothing_that_fired_for_over(case):
    for _ in range(20):
        case.answers.refused(500, 0.001)
    case.look()
    case.look(after_s=60.0)
    serving = case.status
    case.status = msgspec.structs.replace(serving, generation=0, models=())
    assert case.look(after_s=600.0)
    case.status = serving
    assert case.look(after_s=1.0)
    assert len(case.events) == 1


def test_what_fired_fires_on_after_a_restart_until_somebody_is_answered(tmp_path):
    settings = {"alert_error_rate_percent": 5.0, "alert_silence_s": 30.0}
    before = Case(tmp_path, **settings)
    for _ in range(20):
        before.answers.refused(500, 0.001)
    before.look()
    assert len(before.look(after_s=60.0)) == 2
    before.supervisor.memory.close()
    again = Case(tmp_path, **settings)
    again.now_s = before.now_s
    again.look(after_s=10.0)
    assert len(again.look(after_s=600.0)) == 2
    assert again.events == []
    for _ in range(20):
        again.answers.answered(0.001)
    again.look(after_s=10.0)
    assert again.look(after_s=29.0) != ()  # the errors have not been gone for long enough
    assert all("Silence" not in line for line in again.look())
    again.supervisor.memory.close()


def test_what_cannot_be_read_is_said_once_and_the_rest_is_looked_at(case):
    case.problem = "it cannot be read"
    for _ in range(20):
        case.answers.refused(500, 0.001)
    case.look()
    assert case.look(after_s=60.0)
    assert [event for event in case.events if "read" in event] == ["it cannot be read"]


def test_a_server_with_no_thresholds_and_nothing_to_compare_says_nothing(tmp_path):
    case = Case(tmp_path)
    for _ in range(20):
        case.answers.refused(500, 9.0)
    for _ in range(100):
        assert case.look(after_s=1.0) == ()
    assert case.events == []
    assert not (tmp_path / "8000.json").exists()
    case.supervisor.memory.close()
