"""Text, anomaly and forecast models from training to answers: an app with one of each, as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from greenroom.app_loading import forget_app, load_app
from greenroom.inference.proving import proved
from greenroom.inference.runtime import load_runtime
from greenroom.registry.registry import Registry
from greenroom.settings_sources import load_settings
from greenroom.training.release import train_and_release
from servers import FakeServer, deployment

FOLDER = Path(__file__).parents[1] / "apps" / "titans_finance"
pytestmark = pytest.mark.slow

CATEGORY = "category"
DOCUMENTED = {
    "/predict/category": {"amount": 50.00, "description": "Grocery shopping", "date": "2024-01-15"},
    "/predict/anomaly": {"amount": 10000.00, "category": "Shopping", "date": "2024-01-15"},
}


@pytest.fixture(scope="module")
def released(mlflow_server, tmp_path_factory):
    """Every model of the app trained, registered, judged, downloaded; by its route."""
    app = load_app(FOLDER)
    variables = {"MLFLOW_TRACKING_URI": mlflow_server}
    settings = load_settings(FOLDER, environment=variables, documented=app.environment)
    found = {}
    with Registry(mlflow_server) as registry:
        for model in app.models:
            release = train_and_release(
                app,
                model,
                FOLDER,
                settings=settings,
                registry=registry,
                who="a test",
                promotes=True,
            )
            version = registry.version(model.name, release.version)
            folder = tmp_path_factory.mktemp("version")
            for file in registry.files(version):
                registry.download(version, file.path, folder)
            found[model.route] = (version, folder)
    # A server has no such app: what it needs has to be in the version.
    forget_app(FOLDER)
    return found


@pytest.fixture(scope="module")
def server(released):
    served = [
        proved(
            deployment(version.name, version.version, route=route, directory=str(folder)),
            None,
            load_runtime,
        )
        for route, (version, folder) in released.items()
    ]
    return FakeServer(served)


def test_every_model_passes_its_gate_and_says_that_its_data_are_generated(released):
    for version, _ in released.values():
        assert version.stage == "Production"
        assert version.tags["greenroom.data"] == "generated data"


def test_the_documents_requests_are_answered_as_they_stand(server):
    category = server.post("/predict/category", json=DOCUMENTED["/predict/category"]).json()
    anomaly = server.post("/predict/anomaly", json=DOCUMENTED["/predict/anomaly"]).json()

    assert (category["category"], category["probability"] > 0.5) == ("Groceries", True)
    assert anomaly["is_anomaly"] is True
    assert "times the usual for Shopping" in anomaly["reasons"][0]


def test_the_example_of_every_model_in_the_document_can_be_sent(server, released):
    paths = server.get("/openapi.json").json()["paths"]
    for route in released:
        content = paths[route]["post"]["requestBody"]["content"]["application/json"]
        reply = server.post(route, json=content["examples"]["one row"]["value"])
        assert reply.status_code == 200, reply.text


def test_a_forecast_has_a_day_a_value_and_an_interval_for_each_day_asked_for(server):
    days = server.post("/predict/cashflow", json={"horizon_days": 45}).json()["predictions"]
    default = server.post("/predict/cashflow", json={}).json()["predictions"]

    assert [day["date"] for day in days[:2]] == ["2025-01-01", "2025-01-02"]
    assert (len(days), len(default)) == (45, 30)
    assert all(day["lower"] <= day["prediction"] <= day["upper"] for day in days)
    salary = next(day for day in days if day["date"] == "2025-01-31")
    assert salary["prediction"] > 1_000


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        ("/predict/category", {"description": "x", "amount": 1, "date": "15.01.2024"}, "date"),
        ("/predict/category", {"description": "x", "amount": -1, "date": "2024-01-15"}, "amount"),
        (
            "/predict/amount",
            {"description": "x", "category": "?", "date": "2024-01-15"},
            "category",
        ),
        ("/predict/anomaly", {"amount": 1, "category": "?", "date": "2024-01-15"}, "category"),
        ("/predict/cashflow", {"horizon_days": 0}, "horizon_days"),
        ("/predict/cashflow", {"horizon_days": 10_000}, "horizon_days"),
        ("/predict/cashflow", {"history": []}, "history"),
        ("/predict/cashflow", {"history": [{"date": "x", "amount": 1}]}, "history[0].date"),
    ],
)
def test_bad_input_is_refused_by_the_name_of_the_field(server, route, body, field):
    reply = server.post(route, json=body)

    assert reply.status_code == 422
    assert [problem["field"] for problem in reply.json()["error"]["problems"]] == [field]


def test_an_amount_that_is_not_finite_is_refused_by_its_name(server):
    body = b'{"amount": 1e999, "category": "Shopping", "date": "2024-01-15"}'

    reply = server.post("/predict/anomaly", content=body)

    assert reply.status_code == 422
    assert reply.json()["error"]["problems"][0]["field"] == "amount"
