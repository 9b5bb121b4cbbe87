"""The status and the pages that show it: health, readiness, and what is wrong."""

from __future__ import annotations

import datetime as dt
import math

import pytest
from msgspec.structs import replace

from greenroom.http.pages import health, ready, root
from greenroom.status import RegistryStatus, RestartStatus, Status
from greenroom.vitals import Vitals
from servers import FakeServer, deployment, nothing_served, served


def status(*models, state="healthy", **changes):
    registry = RegistryStatus(uri="http://user:secret@mlflow:5000", state=state, **changes)
    return Status(
        app="credit-risk",
        greenroom_version="0.1.0",
        started_at="2026-11-21T10:00:00Z",
        registry=registry,
        models=tuple(model.status for model in models),
    )


WELL = deployment()
TROUBLED = deployment(problems=("two versions in Production: 3 and 2",))
NONE = nothing_served().deployment
NONE_TOO = nothing_served("other", route="/other").deployment


@pytest.mark.parametrize(
    ("models", "state", "said", "code"),
    [
        ([WELL], "healthy", "healthy", 200),
        ([TROUBLED], "healthy", "degraded", 200),
        ([WELL, NONE_TOO], "healthy", "degraded", 200),
        ([WELL], "unavailable", "degraded", 200),
        ([WELL], "starting", "degraded", 200),
        ([NONE], "healthy", "unhealthy", 503),
        ([NONE, NONE_TOO], "healthy", "unhealthy", 503),
        ([], "healthy", "unhealthy", 503),
    ],
)
def test_health_is_503_only_when_no_prediction_can_be_answered(models, state, said, code):
    of = status(*models, state=state)
    assert of.health == said
    for page in (health(of), root(of)):
        assert (page.document["status"], page.status) == (said, code)


def test_nothing_is_wrong_with_an_optional_model_that_has_nothing_selected():
    optional = replace(NONE_TOO, optional=True)
    page = health(status(WELL, optional))
    assert (page.document["status"], page.document["problems"]) == ("healthy", [])
    assert page.document["models"][1]["loaded"] is False
    assert health(status(optional)).status == 503
    troubled = replace(optional, problems=("an alias disagrees",))
    assert health(status(WELL, troubled)).document["status"] == "degraded"


def test_health_of_one_model_has_the_documented_fields():
    now = dt.datetime(2026, 11, 21, 11, 0, tzinfo=dt.UTC)
    document = health(status(WELL), now=now).document
    assert {
        "status": "healthy",
        "model_loaded": True,
        "model_version": "3",
        "model_name": "credit",
        "model_stage": "Production",
        "mlflow_connection": "healthy",
        "registry_access": "healthy",
        "uptime_seconds": 3600,
    }.items() <= document.items()


def test_health_without_a_version_says_what_is_missing():
    document = health(status(NONE)).document
    assert document["model_loaded"] is False
    assert document["model_version"] is None
    assert document["problems"] == [
        "credit: No model in Production stage: credit has no version there"
    ]


def test_a_restart_that_stopped_is_a_problem_until_another_one_is_done():
    began = {"began_at": "2026-11-21T10:30:00.000Z"}
    failed = RestartStatus(state="failed", problem="the new worker 1 did not come up", **began)
    said = replace(status(WELL), restart=failed)
    assert said.health == "degraded"
    document = health(said).document
    assert document["restart"] == failed
    assert document["problems"] == [
        "the restart of 2026-11-21T10:30:00.000Z stopped: the new worker 1 did not come up"
    ]
    for state in ("running", "done"):
        well = replace(said, restart=RestartStatus(state=state, **began))
        assert (well.health, health(well).document["problems"]) == ("healthy", [])


def test_health_of_several_models_has_each_in_a_list_and_none_at_the_top():
    document = health(status(WELL, NONE_TOO)).document
    assert "model_name" not in document
    assert [(one["name"], one["loaded"]) for one in document["models"]] == [
        ("credit", True),
        ("other", False),
    ]


def test_health_says_since_when_the_registry_is_away_but_not_its_address():
    of = status(WELL, state="unavailable", since="2026-11-21T10:30:00Z", problem="no answer in 5 s")
    document = health(of).document
    assert document["mlflow_connection"] == document["registry_access"] == "unavailable"
    assert document["registry"]["since"] == "2026-11-21T10:30:00Z"
    assert document["problems"] == [
        "the model registry is unavailable since 2026-11-21T10:30:00Z: no answer in 5 s"
    ]
    assert "secret" not in str(document)


def test_root_names_the_service_and_leads_on():
    document = root(status(WELL)).document
    assert document["service"] == "credit-risk"
    assert (document["model_name"], document["model_version"]) == ("credit", "3")
    assert (document["docs"], document["health"]) == ("/docs", "/health")


@pytest.mark.parametrize(
    ("models", "code", "missing"),
    [
        ([WELL], 200, []),
        ([WELL, NONE_TOO], 200, ["other"]),
        ([NONE], 503, ["credit"]),
        ([NONE, NONE_TOO], 503, ["credit", "other"]),
        ([], 503, []),
    ],
)
def test_a_server_is_ready_when_it_answers_for_a_model_and_names_those_it_does_not(
    models, code, missing
):
    page = ready(status(*models))
    assert (page.status, page.document["ready"]) == (code, code == 200)
    assert [one["name"] for one in page.document["missing"]] == missing


def test_not_ready_says_why_by_model():
    (missing,) = ready(status(NONE)).document["missing"]
    assert missing["problems"] == ["No model in Production stage: credit has no version there"]


def test_pages_are_sent_with_their_status():
    server = FakeServer([nothing_served()])
    sent = [server.get(path).status_code for path in ("/", "/health", "/ready", "/live")]
    assert sent == [503, 503, 503, 200]
    server = FakeServer([served()])
    sent = [server.get(path).status_code for path in ("/", "/health", "/ready", "/live")]
    assert sent == [200, 200, 200, 200]


def test_pages_answer_head_too():
    (reply,) = FakeServer([served()]).requests(("HEAD", "/health", {}))
    assert reply.status_code == 200


def test_a_registry_that_nobody_wants_is_not_missed():
    of = status(WELL, state="disabled")
    page = health(of)
    assert (page.document["status"], page.document["problems"]) == ("healthy", [])
    assert page.document["mlflow_connection"] == page.document["registry_access"] == "disabled"


def test_mlflow_may_answer_where_its_registry_does_not():
    of = status(WELL, state="unavailable", problem="HTTP 500", mlflow_answers=True)
    page = health(of)
    assert page.document["status"] == "degraded"
    assert page.document["mlflow_connection"] == "healthy"
    assert page.document["registry_access"] == "unavailable"


def test_what_is_wrong_with_the_server_itself_degrades_it_and_is_named():
    of = replace(status(WELL), problems=("the state folder /x cannot be written",))
    page = health(of)
    assert (page.document["status"], page.status) == ("degraded", 200)
    assert page.document["problems"] == ["the state folder /x cannot be written"]


def test_response_times_and_resources_are_shown_in_the_units_of_their_names():
    vitals = Vitals(12, 0.0015, 0.001, 0.0049876, 2e8, 12.345, 5e9, 1e10)
    page = health(status(WELL), vitals)
    assert page.document["response_times"] == {
        "window_seconds": 300,
        "predictions": 12,
        "mean_ms": 1.5,
        "p50_ms": 1.0,
        "p99_ms": 4.988,
    }
    assert page.document["resources"] == {
        "cpu_percent": 12.3,
        "memory_bytes": 200_000_000,
        "disk_free_bytes": 5_000_000_000,
        "disk_total_bytes": 10_000_000_000,
    }


def test_a_vital_that_is_not_known_is_null():
    unknown = health(status(WELL), Vitals(0, *[math.nan] * 7)).document
    assert unknown["response_times"]["predictions"] == 0
    assert unknown["response_times"]["p99_ms"] is None
    assert set(unknown["resources"].values()) == {None}
    before = health(status(WELL)).document
    assert (before["response_times"], before["resources"]) == (None, None)
