"""Management routes over HTTP: whom they let in, what they take, what they answer."""

from __future__ import annotations

import dataclasses

import pytest

from fake_registry import FakeRegistry
from greenroom import Management
from greenroom.access.tokens import TokensFile
from greenroom.deployment.deployments import Target
from greenroom.errors import RegistryError, RegistryUnavailable, VersionUnloadable
from greenroom.registry_errands import RegistryErrands
from greenroom.selector import Selector
from greenroom.settings import Settings
from greenroom.status import RegistryStatus
from servers import FakeServer, served
from test_serving import an_app, error_of

MANAGEMENT = Management(
    reload="/api/model/reload",
    models="/api/mlflow/models",
    model="/api/mlflow/models/{name}",
    transition="/api/mlflow/models/{name}/transition",
)
MOVE = "/api/mlflow/models/credit/transition"
TARGETS = (Target("credit", "credit", Selector.parse("Production"), "/predict"),)


class Away:
    """Errands to a registry that fails."""

    def __init__(self, error):
        self.error = error

    def run(self, errand):
        raise self.error


@pytest.fixture
def registry() -> FakeRegistry:
    """Three versions of credit, the first one in Production."""
    made = FakeRegistry()
    for _ in range(3):
        made.add("credit")
    made.transition("credit", "1", "Production")
    made.set_model_tag("credit", "team", "risk")
    return made


def server(models, **changes) -> FakeServer:
    """Return a server whose errands go to the registry ``models``."""
    app = dataclasses.replace(an_app(), management=MANAGEMENT)
    given = {"app": app, "errands": RegistryErrands(models, TARGETS), **changes}
    return FakeServer([served()], **given)


def test_the_list_has_the_documented_fields(registry):
    registry.transition("credit", "2", "Staging")

    document = server(registry).get("/api/mlflow/models").json()

    assert document["count"] == 1
    (model,) = document["registered_models"]
    assert model["name"] == "credit"
    assert isinstance(model["creation_timestamp"], int)
    assert model["latest_versions"] == {"Production": "1", "Staging": "2", "None": "3"}


def test_the_details_have_the_versions_newest_first_and_the_history(registry):
    asked = server(registry)
    asked.post(MOVE, json={"version": "2", "stage": "Production", "archive_existing": True})

    document = asked.get("/api/mlflow/models/credit").json()

    stages = [(one["version"], one["stage"]) for one in document["versions"]]
    assert stages == [("3", "None"), ("2", "Production"), ("1", "Archived")]
    assert document["tags"] == {"team": "risk"}
    assert document["aliases"] == {"production": "2"}
    (record,) = document["history"]
    assert (record["who"], record["action"]) == ("anonymous", "transition")
    assert (record["from_version"], record["to_version"]) == ("1", "2")
    assert record["outside_gate"] is True


def test_a_transition_says_what_it_changed(registry):
    reply = server(registry).post(
        MOVE, json={"version": "3", "stage": "Production", "archive_existing": True}
    )

    assert reply.status_code == 200
    assert reply.json() == {
        "name": "credit",
        "version": "3",
        "stage": "Production",
        "previous_stage": "None",
        "archived": ["1"],
        "changed": True,
        "latest_versions": {"Archived": "1", "None": "2", "Production": "3"},
    }


def test_a_transition_is_recorded_under_the_name_of_the_callers_token(registry, tmp_path):
    file = TokensFile(tmp_path / "tokens.json")
    secret = file.add("ada", ["admin"]).secret
    settings = Settings(auth="tokens", tokens_file=str(file.path))
    headers = {"authorization": f"Bearer {secret}"}

    reply = server(registry, settings=settings).post(
        MOVE, json={"version": "2", "stage": "Staging"}, headers=headers
    )

    assert reply.status_code == 200
    history = RegistryErrands(registry, ())._describe("credit").history
    assert [one.who for one in history] == ["ada"]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/api/mlflow/models", "read"),
        ("GET", "/api/mlflow/models/credit", "read"),
        ("POST", MOVE, "admin"),
        ("POST", "/api/model/reload", "admin"),
    ],
)
def test_reading_needs_read_and_changing_needs_admin(registry, tmp_path, method, path, scope):
    file = TokensFile(tmp_path / "tokens.json")
    sent = {"": {}}
    for one in ("read", "predict", "admin"):
        sent[one] = {"authorization": f"Bearer {file.add(one, [one]).secret}"}
    settings = Settings(auth="tokens", tokens_file=str(file.path))

    replies = server(registry, settings=settings).requests(
        *[(method, path, {"headers": headers}) for headers in sent.values()]
    )

    statuses = {name: one.status_code for name, one in zip(sent, replies, strict=True)}
    assert statuses.pop("") == 401
    assert statuses.pop(scope) in {200, 400}
    assert set(statuses.values()) == {403}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, {"version": "is missing", "stage": "is missing"}),
        (
            {"version": 4, "stage": "production", "archive_existing": "yes", "force": True},
            {
                "version": "must be a string",
                "stage": "must be one of None, Staging, Production, Archived",
                "archive_existing": "must be true or false",
                "force": "is unknown",
            },
        ),
        ({"version": "0", "stage": "Staging"}, {"version": "must be the number"}),
        ({"version": "04", "stage": "Staging"}, {"version": "must be the number"}),
        ({"version": "4\n", "stage": "Staging"}, {"version": "must be the number"}),
        ({"version": "v4", "stage": "Staging"}, {"version": "must be the number"}),
        ({"version": "4" * 99, "stage": "Staging"}, {"version": "must be the number"}),
        ({"version": "٤", "stage": "Staging"}, {"version": "must be the number"}),
    ],
)
def test_a_transition_with_bad_fields_is_refused_naming_every_one(registry, body, named):
    problems = error_of(server(registry).post(MOVE, json=body), 422)["problems"]

    assert {problem["field"] for problem in problems} == set(named)
    for problem in problems:
        assert named[problem["field"]] in problem["problem"]
    assert registry.writes[2:] == []


@pytest.mark.parametrize("path", [MOVE, "/api/model/reload"])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"content": b"[1]"}, 400),
        ({"content": b"{"}, 400),
        ({"content": b'{"version": NaN}'}, 422),
        ({"content": b"{}", "headers": {"content-type": "text/csv"}}, 415),
        ({"content": b"{}", "headers": {"content-encoding": "gzip"}}, 415),
        ({"content": b" " * 5_000_000}, 413),
    ],
)
def test_a_body_that_is_no_object_of_fields_is_refused(registry, path, sent, status):
    given = {"headers": {"content-type": "application/json"}, **sent}
    error_of(server(registry).post(path, **given), status)


def test_a_transition_with_an_empty_body_is_refused_and_a_reload_is_not(registry):
    assert error_of(server(registry).post(MOVE), 400)["message"] == "the body is empty"
    assert server(registry).post("/api/model/reload").status_code == 200


def test_what_is_not_in_the_registry_is_404_and_named(registry):
    asked = server(registry)
    body = {"version": "9", "stage": "Staging"}

    error = error_of(asked.post(MOVE, json=body), 404)
    assert error["message"] == "credit has no version 9"
    for path in ("/api/mlflow/models/nobody", "/api/mlflow/models/no%3Abody"):
        name = path.rpartition("/")[2].replace("%3A", ":")
        expected = f"there is no registered model {name}"
        assert error_of(asked.get(path), 404)["message"] == expected
        assert error_of(asked.post(f"{path}/transition", json=body), 404)["message"] == expected


def test_a_second_version_in_the_served_stage_is_409_and_named(registry):
    body = {"version": "2", "stage": "Production", "archive_existing": False}
    error = error_of(server(registry).post(MOVE, json=body), 409)

    assert error["message"].startswith(
        "version 1 of credit would be in Production beside version 2"
    )
    assert error["advice"].startswith("set archive_existing to true")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RegistryUnavailable("Failed to connect to MLflow at http://mlflow:5000: refused"), 503),
        (RegistryError("MLflow at http://mlflow:5000 refused: no"), 502),
    ],
)
def test_a_registry_that_fails_is_named(registry, error, status):
    away = server(registry, errands=Away(error))
    body = {"version": "2", "stage": "Staging"}
    for reply in away.requests(
        ("GET", "/api/mlflow/models", {}),
        ("GET", "/api/mlflow/models/credit", {}),
        ("POST", MOVE, {"json": body}),
    ):
        assert error_of(reply, status)["message"] == error.message


def test_a_reload_says_what_it_changed(registry):
    reply = server(registry, after_reload=[served(version="4")]).post(
        "/api/model/reload", json={"force_mlflow": True}
    )

    document = reply.json()
    assert document["reloaded"] is True
    assert (document["model_name"], document["model_version"]) == ("credit", "4")
    assert document["models"][0]["previous_version"] == "3"


def test_only_a_reload_that_is_forced_fails_when_the_registry_is_away(registry):
    problem = "Failed to connect to MLflow at http://mlflow:5000"
    status = RegistryStatus(uri="http://mlflow:5000", state="unavailable", problem=problem)
    away = server(registry, after_reload=RegistryUnavailable(problem), registry=status)

    forced = away.post("/api/model/reload", json={"force_mlflow": True})
    assert error_of(forced, 503)["message"] == problem

    for body in ({"force_mlflow": False}, {}):
        reply = away.post("/api/model/reload", json=body)
        assert reply.status_code == 200
        assert reply.json()["reloaded"] is False
        assert any(problem in one for one in reply.json()["problems"])


def test_a_reload_of_what_does_not_load_is_409(registry):
    asked = server(registry, after_reload=VersionUnloadable("credit version 4 was refused: x"))

    error_of(asked.post("/api/model/reload", json={}), 409)


def test_with_mlflow_switched_off_nothing_is_asked_of_it(registry):
    off = server(registry, settings=Settings(mlflow_enabled=False))
    for reply in off.requests(
        ("GET", "/api/mlflow/models", {}),
        ("GET", "/api/mlflow/models/credit", {}),
        ("POST", MOVE, {"json": {"version": "2", "stage": "Staging"}}),
        ("POST", "/api/model/reload", {"json": {"force_mlflow": True}}),
    ):
        assert "MLflow is not asked" in error_of(reply, 503)["message"]
    assert off.post("/api/model/reload").status_code == 200


def test_an_app_without_management_has_no_such_routes(registry):
    plain = server(registry, app=an_app())

    assert plain.get("/api/mlflow/models").status_code == 404
    assert "/api/mlflow/models" not in plain.get("/openapi.json").json()["paths"]


def test_the_routes_stand_in_the_document_with_what_they_take(registry):
    paths = server(registry).get("/openapi.json").json()["paths"]

    assert paths["/api/mlflow/models"]["get"]["tags"] == ["management"]
    move = paths["/api/mlflow/models/{name}/transition"]["post"]
    assert move["parameters"][0]["name"] == "name"
    content = move["requestBody"]["content"]["application/json"]
    assert content["schema"]["required"] == ["version", "stage"]
    assert content["schema"]["additionalProperties"] is False
    assert content["schema"]["properties"]["version"]["pattern"] == "^[1-9][0-9]{0,17}$"
    assert content["example"] == {"version": "4", "stage": "Production", "archive_existing": True}
    assert {"400", "404", "409", "413", "415", "422", "502", "503"} <= set(move["responses"])
    reload = paths["/api/model/reload"]["post"]
    assert reload["requestBody"]["required"] is False


def test_a_path_that_an_app_takes_replaces_the_servers_own(registry):
    app = dataclasses.replace(an_app(), management=Management(reload="/model/reload"))

    replaced = server(registry, app=app)

    error_of(replaced.post("/model/reload", json={"force": True}), 422)
