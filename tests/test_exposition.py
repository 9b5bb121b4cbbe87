"""``/metrics`` as Prometheus' own parsers read it."""

import math
import os
import re
from pathlib import Path

import msgspec
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from found import FINDINGS, SLOW
from greenroom import processes
from greenroom.alerts import AlertRecord
from greenroom.http.exposition import CONTENT_TYPE, Exposition
from greenroom.http.monitoring_exposition import MonitoringExposition
from greenroom.instruments import SupervisorInstruments, WorkerInstruments, read_totals
from greenroom.log.outbox import OutboxBalance
from greenroom.log.spool import Balance, Room
from greenroom.status import ModelStatus, RegistryStatus, RestartStatus, Status, VersionStatus
from greenroom.vitals import Vitals

VITALS = Vitals(10, 0.1, 0.1, 0.2, 1e8, 5.0, 2e9, 8e9)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
STATUS = Status(
    app="credit",
    greenroom_version="0.1.0",
    started_at="2026-11-21T06:00:00.000Z",
    generation=7,
    workers=2,
    registry=RegistryStatus(uri="http://mlflow", state="healthy"),
    models=(
        ModelStatus(
            name="credit",
            selector="Production",
            route="/predict",
            serving=VersionStatus(
                version="3",
                stage="Production",
                runtime="compiled",
                loaded_at="2026-11-21T06:00:10.000Z",
            ),
        ),
        ModelStatus(name="empty", selector="@a", route="/empty", problems=("one", "two")),
    ),
)


@pytest.fixture
def supervisor():
    made = SupervisorInstruments(2)
    yield made
    made.memory.close()


@pytest.fixture
def worker(supervisor):
    return WorkerInstruments(supervisor.memory, seat=supervisor.take_seat())


def exposed(supervisor, status=STATUS, **more):
    return Exposition(lambda: read_totals(supervisor.memory), lambda: status, **more)


def samples(supervisor, status=STATUS, **more):
    """Return the value of every sample by its name and labels."""
    text, _ = exposed(supervisor, status, **more).write()
    found = {}
    for family in parse_text(text.decode()):
        for sample in family.samples:
            key = sample.name, tuple(sample.labels.items())
            assert key not in found, "a series twice: Prometheus would refuse the whole page"
            found[key] = sample.value
    return found


def value(found, name, /, **labels):
    (one,) = [v for (of, has), v in found.items() if of == name and dict(has) == labels]
    return one


def test_requests_are_counted_by_route_model_version_and_status(supervisor, worker):
    answers = worker.predictions("/predict", "credit", "3")
    for _ in range(3):
        answers.answered(0.002)
    answers.refused(422, 0.2)
    worker.page("/health", 200, 0.001)
    found = samples(supervisor)
    of = {"route": "/predict", "model": "credit", "version": "3"}
    assert value(found, "greenroom_requests_total", **of, status="200") == 3
    assert value(found, "greenroom_requests_total", **of, status="422") == 1
    page = {"route": "/health", "model": "", "version": "", "status": "200"}
    assert value(found, "greenroom_requests_total", **page) == 1


def test_the_histogram_of_durations_covers_every_status(supervisor, worker):
    answers = worker.predictions("/predict", "credit", "3")
    answers.answered(0.002)
    answers.refused(422, 0.2)
    answers.refused(500, 60.0)
    found = samples(supervisor)
    name, of = (
        "greenroom_request_duration_seconds",
        {"route": "/predict", "model": "credit", "version": "3"},
    )
    assert value(found, f"{name}_count", **of) == 3
    assert value(found, f"{name}_sum", **of) == pytest.approx(60.202)
    buckets = {"0.001": 0, "0.0025": 1, "0.1": 1, "0.25": 2, "10.0": 2, "+Inf": 3}
    for bound, count in buckets.items():
        assert value(found, f"{name}_bucket", **of, le=bound) == count


def test_errors_are_counted_by_their_kind(supervisor, worker):
    worker.failed("/predict", 422, "RequestInvalid")
    found = samples(supervisor)
    of = {"route": "/predict", "status": "422", "error": "RequestInvalid"}
    assert value(found, "greenroom_request_errors_total", **of) == 1


def test_what_is_served_and_what_is_wrong_with_it_is_told(supervisor):
    found = samples(supervisor)
    of = {"model": "credit", "route": "/predict"}
    info = {**of, "version": "3", "stage": "Production", "runtime": "compiled"}
    assert value(found, "greenroom_model_info", **info) == 1
    since = value(found, "greenroom_model_loaded_timestamp_seconds", **of, version="3")
    assert since == value(found, "greenroom_start_time_seconds") + 10
    assert value(found, "greenroom_model_problems", **of) == 0
    assert value(found, "greenroom_model_problems", model="empty", route="/empty") == 2
    assert value(found, "greenroom_generation") == 7
    assert value(found, "greenroom_build_info", version="0.1.0") == 1


@pytest.mark.parametrize(("state", "up"), [("healthy", 1), ("unavailable", 0), ("starting", 0)])
def test_the_registry_is_up_when_it_answers(supervisor, state, up):
    supervisor.registry_answered(1_795_000_000.5)
    registry = msgspec.structs.replace(STATUS.registry, state=state)
    found = samples(supervisor, msgspec.structs.replace(STATUS, registry=registry))
    assert value(found, "greenroom_registry_up") == up
    assert value(found, "greenroom_mlflow_connection_status") == up
    last = value(found, "greenroom_registry_last_success_timestamp_seconds")
    assert last == 1_795_000_000.5


def test_the_supervisor_tells_of_workers_and_swaps(supervisor):
    supervisor.working(2)
    supervisor.restarted()
    supervisor.swapped("commit", 0.3)
    found = samples(supervisor)
    assert value(found, "greenroom_workers") == 2
    assert value(found, "greenroom_worker_restarts_total") == 1
    assert value(found, "greenroom_swap_seconds_count", verdict="commit") == 1
    assert value(found, "greenroom_swap_seconds_bucket", verdict="commit", le="0.25") == 0
    assert value(found, "greenroom_swap_seconds_bucket", verdict="commit", le="0.5") == 1


@pytest.mark.skipif(not processes.PROC.is_dir(), reason="there is no /proc")
def test_processes_are_shown_by_their_slots_and_two_of_one_slot_together(supervisor, worker):
    supervisor.memory.seats[supervisor.take_seat()].occupy(1)
    found = samples(supervisor)
    name = "greenroom_process_resident_memory_bytes"
    alone = value(found, name, process="supervisor")
    assert alone > 10_000_000
    assert value(found, name, process="worker-1") == pytest.approx(2 * alone, rel=0.1)
    cpu_s = value(found, "greenroom_process_cpu_seconds_total", process="supervisor")
    assert 0 < cpu_s <= sum(os.times()[:2]) + 0.02


def test_an_apps_prefix_gives_the_names_of_its_documents_and_no_others(supervisor):
    plain, own = samples(supervisor), samples(supervisor, prefix="housing_api")
    of = {"name": "credit", "stage": "Production"}
    assert value(own, "housing_api_model_version", **of) == 3
    assert value(own, "housing_api_mlflow_connection_status") == 1
    assert value(plain, "greenroom_model_version", **of) == 3
    renamed = {name.replace("housing_api_", "greenroom_", 1) for name, _ in own}
    assert renamed == {name for name, _ in plain}


def test_one_registered_model_under_two_routes_is_no_series_twice(supervisor):
    twice = msgspec.structs.replace(STATUS.models[0], route="/again")
    found = samples(supervisor, msgspec.structs.replace(STATUS, models=(*STATUS.models, twice)))
    assert value(found, "greenroom_model_version", name="credit", stage="Production") == 3


def test_labels_may_hold_anything(supervisor, worker):
    strange = 'a "b" \\ \n é {x}'
    worker.predictions(f"/{strange}", strange, "1").answered(0.001)
    of = {"route": f"/{strange}", "model": strange, "version": "1", "status": "200"}
    assert value(samples(supervisor), "greenroom_requests_total", **of) == 1


def test_openmetrics_is_written_for_who_asks_for_it(supervisor, worker):
    worker.predictions("/predict", "credit", "3").answered(0.001)
    worker.batched("credit", 4)
    text, content_type = exposed(supervisor).write(f"{OPENMETRICS},text/plain;version=0.0.4;q=0.5")
    assert content_type.startswith(OPENMETRICS)
    assert text.endswith(b"# EOF\n")
    families = {family.name: family for family in parse_openmetrics(text.decode())}
    assert families["greenroom_requests"].type == "counter"
    assert families["greenroom_batch_rows"].type == "histogram"


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=0.0.4", "application/json"])
def test_the_text_format_is_written_for_everyone_else(supervisor, accept):
    text, content_type = exposed(supervisor).write(accept)
    assert content_type == CONTENT_TYPE
    assert b"# EOF" not in text


def test_every_metric_has_a_help_line_and_a_conventional_name(supervisor, worker):
    text, _ = exposed(supervisor).write()
    for family in parse_text(text.decode()):
        assert family.documentation.endswith("."), family.name
        assert re.fullmatch(r"greenroom_[a-z]+(_[a-z]+)*", family.name)
        assert family.type in {"counter", "gauge", "histogram"}
        # Units are base units: seconds and bytes.
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent)(_|$)", family.name)


def test_the_log_says_how_much_it_has_and_where_under_the_apps_own_name_too(supervisor, worker):
    worker.unlogged["served"](2)
    found = samples(supervisor, prefix="housing_api", balance=lambda: Balance(5, 3, 2))
    assert found["housing_api_predictions_logged_total", ()] == 5
    assert found["greenroom_log_written_predictions_total", ()] == 3
    assert found["greenroom_log_waiting_predictions", ()] == 2
    assert found["greenroom_log_unlogged_predictions_total", (("verdict", "served"),)] == 2


def test_the_log_says_how_much_of_the_disk_it_takes_and_may(supervisor):
    found = samples(supervisor, room=lambda: Room(4096, 8192))
    assert value(found, "greenroom_log_spool_bytes") == 4096
    assert value(found, "greenroom_log_spool_limit_bytes") == 8192


def test_the_disk_of_the_state_is_shown_once_it_was_looked_at(supervisor):
    assert not any("disk" in name for name, _ in samples(supervisor))
    supervisor.sampled(VITALS._replace(disk_total_bytes=math.nan))
    assert not any("disk" in name for name, _ in samples(supervisor))
    supervisor.sampled(VITALS)
    found = samples(supervisor)
    assert value(found, "greenroom_state_disk_free_bytes") == 2e9
    assert value(found, "greenroom_state_disk_size_bytes") == 8e9


def test_a_registry_that_nobody_asks_is_not_shown_as_away(supervisor):
    registry = msgspec.structs.replace(STATUS.registry, state="disabled")
    found = samples(supervisor, msgspec.structs.replace(STATUS, registry=registry))
    assert ("greenroom_registry_up", ()) not in found
    assert value(found, "greenroom_mlflow_connection_status") == 0


def test_problems_of_the_server_itself_are_counted_and_a_failed_restart_is_one(supervisor):
    restart = RestartStatus(state="failed", began_at="2026-11-21T06:00:00.000Z", problem="hangs")
    status = msgspec.structs.replace(STATUS, problems=("a full disk",), restart=restart)
    assert value(samples(supervisor), "greenroom_server_problems") == 0
    assert value(samples(supervisor, status), "greenroom_server_problems") == 2


def test_the_page_of_the_http_api_lists_every_metric_and_its_labels(supervisor, worker):
    worker.predictions("/predict", "credit", "3").answered(0.001)
    worker.failed("/predict", 422, "RequestInvalid")
    worker.batched("credit", 4)
    worker.loaded("credit", 0.2)
    supervisor.swapped("commit", 0.3)
    supervisor.sampled(VITALS)
    given = {}
    exposition = exposed(
        supervisor,
        balance=lambda: Balance(5, 3, 2),
        room=lambda: Room(4096, 8192),
        outbox=lambda: OutboxBalance(1, 10, 2, 3, 4),
        monitoring=MonitoringExposition(
            lambda: (FINDINGS,), lambda: AlertRecord(alerts=(SLOW,), n_delivered=1)
        ),
    )
    for family in parse_text(exposition.write()[0].decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        (labels,) = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        given[name] = (family.type, labels, family.documentation)
    page = (Path(__file__).parents[1] / "docs" / "http-api.md").read_text(encoding="utf-8")
    row = re.compile(r"^\| `(greenroom_\w+)` \| (\w+) \| (.*?)\| (.*) \|$", re.MULTILINE)
    documented = {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in row.findall(page)
    }
    assert documented == given


def test_what_goes_to_mlflow_is_shown_under_the_documented_name(supervisor):
    found = samples(
        supervisor, prefix="housing_api", outbox=lambda: OutboxBalance(125, 1250, 3, 40, 5)
    )
    assert value(found, "housing_api_mlflow_batch_logs_total") == 125
    assert value(found, "greenroom_mlflow_sent_predictions_total") == 1250
    assert value(found, "greenroom_mlflow_waiting_predictions") == 3
    name = "greenroom_mlflow_summarised_predictions_total"
    assert value(found, name, reason="asked") == 40
    assert value(found, name, reason="overflow") == 5
    assert not any("mlflow_batch" in name for name, _ in samples(supervisor))
