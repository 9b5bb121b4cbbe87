"""Serving over ASGI: predictions, refusals, swaps, and what every reply carries."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
import uuid
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import numpy as np
import pytest

from greenroom import App, Gate, Model, Route, regression
from greenroom.errors import (
    NotServing,
    ProcessError,
    RegistryError,
    RegistryUnavailable,
    RequestMalformed,
    RowsRefused,
    VersionUnloadable,
)
from greenroom.schema import Column, Schema
from greenroom.settings import Settings
from servers import COLUMNS, GOOD, FakeRuntime, FakeServer, nothing_served, served, with_status

JSON = {"content-type": "application/json"}


def an_app(*, routes=(), models=("credit",)):
    return App(
        name="credit-risk",
        experiment="e",
        models=tuple(
            Model(
                name=name,
                task=regression,
                columns=COLUMNS,
                dataset="d.csv",
                target="y",
                candidates=lambda seed: {},
                gate=Gate("r2_score"),
                route="/predict" if len(models) == 1 else f"/predict/{name}",
            )
            for name in models
        ),
        routes=routes,
    )


def error_of(reply, status):
    """Check the shape of an error, and return what it says."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    document = reply.json()
    assert set(document) == {"error", "detail"}
    error = document["error"]
    assert set(error) <= {"message", "advice", "problems"}
    assert document["detail"] == "; ".join(filter(None, (error["message"], error.get("advice"))))
    return error


# Predictions


def test_a_row_is_answered_with_its_prediction_and_where_it_comes_from():
    reply = FakeServer([served()]).predict({"age": 120, "Number30_59": 0})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    document = reply.json()
    assert document["prediction"] == 1
    assert document["probability"] == 0.6
    assert document["probabilities"] == {"0": 0.4, "1": 0.6}
    assert document["model_name"] == "credit"
    assert document["model_version"] == "3"
    assert document["model_stage"] == "Production"
    assert uuid.UUID(document["prediction_id"]).version == 7
    assert document["timestamp"].endswith("Z")
    assert 0 <= document["processing_time_ms"] < 60_000


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"instances": rows}])
def test_several_rows_are_answered_in_their_order_each_with_its_own_id(wrap):
    rows = [{"age": age, "Number30_59": 0} for age in (10, 120, 50)]
    predictions = FakeServer([served()]).predict(wrap(rows)).json()["predictions"]
    assert [one["probability"] for one in predictions] == [0.05, 0.6, 0.25]
    assert len({one["prediction_id"] for one in predictions}) == 3


def test_numbers_go_to_the_runtime_as_a_matrix_and_anything_else_as_columns():
    numeric = FakeRuntime(Schema(COLUMNS))
    mixed = FakeRuntime(Schema((Column("name", "string"), *COLUMNS)))
    FakeServer([served(runtime=numeric)]).predict()
    FakeServer([served(runtime=mixed)]).predict({"name": "abc", **GOOD})
    assert (numeric.called, mixed.called) == (["matrix"], ["columns"])


def test_every_model_also_answers_under_its_name():
    models = [served("a", route="/predict/a"), served("my model", "7", route="/predict/b")]
    server = FakeServer(models)
    assert server.predict(path="/models/a/predict").json()["model_name"] == "a"
    assert server.predict(path="/models/my model/predict").json()["model_version"] == "7"
    assert server.predict(path="/predict/b").json()["model_name"] == "my model"
    assert server.predict(path="/predict").status_code == 404


def test_each_request_reads_the_committed_generation_once():
    server = FakeServer([served()])
    server.predict()
    assert server.n_reads == 1


def test_a_request_is_answered_to_the_end_by_the_generation_that_it_began_with():
    server = FakeServer([])

    class Swapping(FakeRuntime):
        def predict_matrix(self, X):
            server.swap([served(version="4")])
            return super().predict_matrix(X)

    server.models = [served(version="3", runtime=Swapping(Schema(COLUMNS)))]
    first, second = server.requests(*[("POST", "/predict", {"json": GOOD})] * 2)
    assert (first.json()["model_version"], second.json()["model_version"]) == ("3", "4")


def test_callers_at_the_same_time_each_get_their_own_answer():
    server = FakeServer([served()])

    async def send_all():
        transport = httpx.ASGITransport(app=server.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            sent = [
                client.post("/predict", json={"age": age, "Number30_59": 0}) for age in range(64)
            ]
            return await asyncio.gather(*sent)

    replies = [reply.json() for reply in asyncio.run(send_all())]
    assert [one["probability"] for one in replies] == [age / 200 for age in range(64)]
    assert len({one["prediction_id"] for one in replies}) == 64


def test_other_pages_are_answered_while_a_prediction_takes_its_time():
    entered, leave = threading.Event(), threading.Event()

    class Slow(FakeRuntime):
        def predict_matrix(self, X):
            entered.set()
            assert leave.wait(30)
            return super().predict_matrix(X)

    server = FakeServer([served(runtime=Slow(Schema(COLUMNS)))])

    async def send():
        transport = httpx.ASGITransport(app=server.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            slow = asyncio.create_task(client.post("/predict", json=GOOD))
            await asyncio.to_thread(entered.wait, 30)
            live = await client.get("/live")
            leave.set()
            return live, await slow

    live, slow = asyncio.run(send())
    assert (live.status_code, slow.status_code) == (200, 200)


def test_a_large_body_is_answered_like_a_small_one():
    rows = [{"age": position % 120, "Number30_59": 0} for position in range(5_000)]
    reply = FakeServer([served()]).predict(rows)
    assert len(reply.request.content) > 65_536
    assert [one["probability"] for one in reply.json()["predictions"][:3]] == [0.0, 0.005, 0.01]
    rows[4_321]["age"] = -1
    error = error_of(FakeServer([served()]).predict(rows), 422)
    assert error["problems"] == [
        {"row": 4_321, "field": "age", "problem": "is below the minimum, 0 years"}
    ]


def test_rows_with_other_gaps_are_not_answered_together_where_that_could_change_a_type():
    nullable = served(runtime=FakeRuntime(Schema((Column("s", "string"), *COLUMNS))))
    numeric = served()
    for model, row, apart in ((nullable, {"s": "001", **GOOD}, True), (numeric, GOOD, False)):
        whole = model.batch_key(model.decode(json.dumps({**row, "income": 1}).encode()))
        missing = model.batch_key(model.decode(json.dumps(row).encode()))
        assert (whole != missing) == apart


# Refusals


def test_values_that_only_the_model_refuses_are_the_callers_to_mend():
    class Strict(FakeRuntime):
        def predict_matrix(self, X):
            raise RowsRefused("row 0: a number is too large for the model")

    reply = FakeServer([served(runtime=Strict(Schema(COLUMNS)))]).predict()
    assert error_of(reply, 400)["message"] == "row 0: a number is too large for the model"


def test_of_an_error_that_recurses_the_log_has_the_innermost_frames(caplog):
    class Recursing(FakeRuntime):
        def predict_matrix(self, X):
            return self.predict_matrix(X)

    error_of(FakeServer([served(runtime=Recursing(Schema(COLUMNS)))]).predict(), 500)
    assert caplog.text.count("predict_matrix") <= 20


def test_bad_fields_are_422_and_all_named():
    error = error_of(FakeServer([served()]).predict({"age": 200, "x": 1}), 422)
    assert error["message"] == (
        "age is above the maximum, 120 years; Number30_59 is missing; x is unknown"
    )
    assert error["problems"] == [
        {"row": 0, "field": "age", "problem": "is above the maximum, 120 years"},
        {"row": 0, "field": "Number30_59", "problem": "is missing"},
        {"row": 0, "field": "x", "problem": "is unknown"},
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"3", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b'{"age": NaN, "Number30_59": 0}', 422),
        (b'{"age": 1, "age": 1, "Number30_59": 0}', 422),
        (b"[]", 422),
    ],
)
def test_a_body_that_is_not_json_is_400_and_one_with_bad_values_422(body, status):
    error_of(FakeServer([served()]).post("/predict", content=body, headers=JSON), status)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        None,
    ],
)
def test_json_is_taken_however_its_content_type_is_written(content_type):
    headers = {"content-type": content_type} if content_type else {}
    body = json.dumps(GOOD).encode()
    assert FakeServer([served()]).post("/predict", content=body, headers=headers).is_success


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/jsonp"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": ""},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_anything_but_json_is_415(headers):
    body = json.dumps(GOOD).encode()
    error_of(FakeServer([served()]).post("/predict", content=body, headers=headers), 415)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_prediction_takes_post_alone(method):
    reply = FakeServer([served()]).requests((method, "/predict", {}))[0]
    error_of(reply, 405)
    assert reply.headers["allow"] == "POST"


def test_a_page_names_the_methods_that_it_takes():
    reply = FakeServer([served()]).post("/health")
    error_of(reply, 405)
    assert reply.headers["allow"] == "GET, HEAD"


def drive(asgi, body_parts, headers=()):
    """Send a request by hand; return the status, or None when nothing was answered."""
    sent = []
    parts = iter(body_parts)

    async def receive():
        return next(parts)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": list(headers),
    }
    asyncio.run(asgi(scope, receive, send))
    return sent[0]["status"] if sent else None


def part(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_that_arrives_in_parts_is_put_together():
    body = json.dumps(GOOD).encode()
    assert drive(FakeServer([served()]).asgi(), [part(body[:5]), part(body[5:], more=False)]) == 200


def test_a_body_that_announces_too_much_is_413_before_any_of_it_is_read():
    server = FakeServer([served()], settings=Settings(max_body_bytes=1_024))
    headers = [(b"content-length", b"1025")]
    assert drive(server.asgi(), [], headers) == 413
    error_of(server.post("/predict", content=b" " * 1_025, headers=JSON), 413)


def test_a_body_that_grows_too_large_is_413_as_soon_as_it_does():
    asgi = FakeServer([served()], settings=Settings(max_body_bytes=1_024)).asgi()
    assert drive(asgi, [part(b" " * 1_000), part(b" " * 25)]) == 413


def test_a_body_as_large_as_allowed_is_taken():
    server = FakeServer([served()], settings=Settings(max_body_bytes=1_024))
    body = json.dumps(GOOD).encode().ljust(1_024)
    assert server.post("/predict", content=body, headers=JSON).status_code == 200


def test_a_caller_that_goes_away_is_not_answered():
    asgi = FakeServer([served()]).asgi()
    assert drive(asgi, [part(b"{"), {"type": "http.disconnect"}]) is None


def test_an_unknown_path_is_404_and_names_those_there_are():
    error = error_of(FakeServer([served()]).get("/nowhere"), 404)
    assert "POST /predict" in error["advice"]
    assert "GET /health" in error["advice"]
    error_of(FakeServer([served()]).post("/predict/", json=GOOD), 404)


CSV = {"content-type": "text/csv"}


def cold(model):
    """Return a model as it is while its version is not in memory."""
    return replace(model, runtime=None, request_type=None, reply_type=None)


class FirstUse:
    """Loads one model, and notes that it was asked to."""

    def __init__(self, loaded):
        self.loaded = loaded
        self.asked = []

    async def __call__(self, model):
        if model.awaits_load:
            self.asked.append(model.deployment.model)
            if isinstance(self.loaded, Exception):
                raise self.loaded
            return self.loaded
        return model


def through(server, first_use, *requests):
    async def send():
        transport = httpx.ASGITransport(app=server.asgi(first_use=first_use))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.request(method, path, **more) for method, path, more in requests]

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("POST", "/predict", {"json": GOOD}),
        ("POST", "/models/credit/predict", {"json": [GOOD]}),
        ("POST", "/invocations", {"json": {"dataframe_records": [{"age": 40, "Number30-59": 1}]}}),
        ("GET", "/model/info", {}),
        ("GET", "/models/credit/info", {}),
    ],
)
def test_a_model_that_is_not_in_memory_is_loaded_by_what_needs_it(method, path, more):
    server, first_use = FakeServer([cold(served())]), FirstUse(served())
    (reply,) = through(server, first_use, (method, path, more))
    assert reply.status_code == 200, reply.text
    assert first_use.asked == ["credit"]


def test_pages_and_refused_requests_load_nothing():
    server, first_use = FakeServer([cold(served())]), FirstUse(served())
    sent = [("GET", path, {}) for path in ("/", "/health", "/ready", "/models", "/openapi.json")]
    sent += [("GET", "/predict", {}), ("POST", "/predict", {"content": b"a,b", "headers": CSV})]
    statuses = [reply.status_code for reply in through(server, first_use, *sent)]
    assert statuses == [200, 200, 200, 200, 200, 405, 415]
    assert first_use.asked == []


def test_a_model_that_cannot_be_loaded_is_503_with_the_reason():
    server = FakeServer([cold(served())])
    first_use = FirstUse(NotServing("credit version 3 does not load: no memory", advice="wait"))
    (reply,) = through(server, first_use, ("POST", "/predict", {"json": GOOD}))
    assert reply.status_code == 503
    assert reply.json()["detail"] == "credit version 3 does not load: no memory; wait"


def test_what_a_model_is_asked_is_described_from_when_it_is_in_memory():
    server = FakeServer([cold(served())])
    asgi = server.asgi()

    async def described():
        transport = httpx.ASGITransport(app=asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return (await client.get("/openapi.json")).text

    before = asyncio.run(described())
    assert "is not in memory" in before
    assert "Number30_59" not in before
    server.models, server.generation = [served()], None
    assert "Number30_59" in asyncio.run(described())


def test_a_path_that_is_missing_among_many_is_answered_with_few():
    many = [served(f"m{number}", route=f"/m{number}") for number in range(200)]
    server = FakeServer(many)
    for path in ("/nowhere", "/models/nobody/info"):
        reply = server.get(path)
        assert reply.status_code == 404
        assert " more" in reply.text
        assert len(reply.text) < 3_000


def test_a_model_without_a_version_is_503_with_what_to_do():
    error = error_of(FakeServer([nothing_served()]).predict(), 503)
    assert error["message"] == "No model in Production stage: credit has no version there"
    assert error["advice"] == "promote one: greenroom promote credit --version N"


def test_before_anything_is_loaded_an_apps_routes_are_503_and_not_404():
    server = FakeServer([], app=an_app(), number=0)
    for path in ("/predict", "/models/credit/predict"):
        assert error_of(server.predict(path=path), 503)["message"] == "the server is starting"
    assert server.get("/live").status_code == 200
    assert server.get("/health").status_code == 503
    error_of(server.get("/model/info"), 503)
    error_of(server.get("/nowhere"), 404)


class Failing(FakeRuntime):
    error: Exception = ValueError("could not convert 4111-1111")

    def predict_matrix(self, X):
        raise self.error


def test_an_unforeseen_failure_is_500_without_a_traceback_and_logged_with_the_request_id(caplog):
    server = FakeServer([served(runtime=Failing(Schema(COLUMNS)))])
    with caplog.at_level(logging.ERROR):
        reply = server.predict(headers={"x-request-id": "abc-123"})
    error = error_of(reply, 500)
    assert reply.headers["x-request-id"] == "abc-123"
    assert "abc-123" in error["advice"]
    assert "ValueError" not in reply.text
    (record,) = caplog.records
    assert "POST /predict failed with ValueError, request abc-123" in record.getMessage()
    assert "predict_matrix" in record.getMessage()
    assert "4111" not in caplog.text


def test_a_failure_without_a_request_id_gets_one_to_be_found_by(caplog):
    reply = FakeServer([served(runtime=Failing(Schema(COLUMNS)))]).predict()
    assert reply.headers["x-request-id"] in caplog.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestMalformed("one row at a time"), 400),
        (NotServing("put out"), 503),
        (VersionUnloadable("secret path"), 500),
        (RegistryUnavailable("away"), 503),
        (RegistryError("nonsense"), 502),
        (ProcessError("gone"), 503),
    ],
)
def test_every_error_has_its_status(error, status):
    runtime = Failing(Schema(COLUMNS), error=error)
    said = error_of(FakeServer([served(runtime=runtime)]).predict(), status)
    assert (said["message"] == error.message) == (status != 500)


# Request ids


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/predict", GOOD),
        ("POST", "/predict", {}),
        ("GET", "/predict", None),
        ("GET", "/health", None),
        ("GET", "/nowhere", None),
        ("GET", "/docs", None),
        ("POST", "/live", None),
    ],
)
def test_the_request_id_is_given_back_on_every_reply(method, path, body):
    more = {"json": body} if body is not None else {}
    server = FakeServer([served()])
    given, absent = server.requests(
        (method, path, {**more, "headers": {"X-Request-ID": "abc"}}), (method, path, more)
    )
    assert given.headers.get_list("x-request-id") == ["abc"]
    assert "x-request-id" not in absent.headers


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (b"a b\tc", "abc"),
        (b"x\r\nset-cookie: y", "xset-cookie:y"),
        (b"\x00\x7f\xff", None),
        (b"", None),
        (b"y" * 500, "y" * 128),
    ],
)
def test_a_request_id_is_cut_to_visible_characters_and_a_bearable_length(given, returned):
    server = FakeServer([served()])
    for path in ("/predict", "/live"):
        reply = server.requests(("POST", path, {"json": GOOD, "headers": {b"x-request-id": given}}))
        assert reply[0].headers.get("x-request-id") == returned


# Pages of models


def test_the_version_that_answers_is_described():
    info = FakeServer([served()]).get("/model/info").json()
    assert info["model_name"] == "credit"
    assert info["model_version"] == "3"
    assert info["model_stage"] == "Production"
    assert info["run_id"] == "r1"
    assert info["metrics"] == {"roc_auc": 0.87}
    assert info["params"] == {"depth": 3}
    assert info["dataset_hash"] == "d" * 64
    assert info["content_hash"] == "c" * 64
    assert info["generated_data"] is False
    assert "data" not in info
    assert info["columns"][1] == {
        "name": "Number30-59",
        "request_name": "Number30_59",
        "kind": "number",
        "nullable": False,
        "minimum": 0,
        "example": 2,
    }


def test_a_version_trained_on_generated_data_is_called_so():
    server = FakeServer([with_status(served(), generated_data=True)])
    info = server.get("/model/info").json()
    assert (info["generated_data"], info["data"]) == (True, "generated data")
    assert server.get("/health").json()["models"][0]["data"] == "generated data"


def test_a_version_from_elsewhere_is_described_as_far_as_it_is_known():
    runtime = FakeRuntime(Schema(COLUMNS), manifest=None)
    info = FakeServer([served(runtime=runtime)]).get("/model/info").json()
    assert info["model_version"] == "3"
    assert "dataset_hash" not in info


def test_aliases_and_problems_are_those_that_are_known_now():
    server = FakeServer([served()], problems=("two versions in Production: 3 and 2",))
    assert server.get("/model/info").json()["problems"] == ["two versions in Production: 3 and 2"]
    assert server.get("/models").json()["models"][0]["problems"] == [
        "two versions in Production: 3 and 2"
    ]


def test_with_several_models_each_is_described_under_its_name():
    server = FakeServer([served("a", route="/a"), served("b", route="/b")])
    assert [one["name"] for one in server.get("/models").json()["models"]] == ["a", "b"]
    assert server.get("/models/b/info").json()["model_name"] == "b"
    assert "there are a, b" in error_of(server.get("/model/info"), 404)["advice"]
    assert "there are a, b" in error_of(server.get("/models/c/info"), 404)["advice"]


def test_a_model_without_a_version_has_nothing_to_describe():
    server = FakeServer([nothing_served()])
    assert "No model in Production" in error_of(server.get("/model/info"), 503)["message"]
    assert server.get("/models").json()["models"][0]["model_version"] is None


# Reload


@pytest.mark.parametrize("path", ["/model/reload", "/models/credit/reload"])
@pytest.mark.parametrize("body", [{}, {"json": {"force_mlflow": True}}])
def test_a_reload_is_answered_with_what_is_served_afterwards(path, body):
    server = FakeServer([served(version="3")], after_reload=[served(version="4")])
    document = server.post(path, **body).json()
    assert document["reloaded"] is True
    assert document["model_version"] == "4"
    assert document["models"] == [
        {
            "name": "credit",
            "model_name": "credit",
            "model_version": "4",
            "model_stage": "Production",
            "previous_version": "3",
        }
    ]


def test_a_reload_that_changes_nothing_says_so():
    assert FakeServer([served()]).post("/model/reload").json()["reloaded"] is False


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RegistryUnavailable("Failed to connect to MLflow", advice="start it"), 503),
        (VersionUnloadable("version 4 does not load"), 409),
        (ProcessError("the supervisor is gone"), 503),
    ],
)
def test_a_reload_that_fails_says_why(error, status):
    said = error_of(FakeServer([served()], after_reload=error).post("/model/reload"), status)
    assert said["message"] == error.message


def test_a_prediction_of_an_unknown_model_is_told_which_there_are():
    error = error_of(FakeServer([served()]).post("/models/other/predict", json=GOOD), 404)

    assert error["message"] == "there is no model of that name"
    assert error["advice"] == "there are credit"


def test_an_unknown_model_is_not_reloaded():
    error_of(FakeServer([served()]).post("/models/other/reload"), 404)


def test_a_reload_takes_post_alone():
    assert FakeServer([served()]).get("/model/reload").headers["allow"] == "POST"


# An app's own pages


def test_an_apps_view_is_answered_with_what_it_makes_of_the_status():
    def view(status):
        return {"app": status.app, "version": status.models[0].serving.version, "n": np.int64(1)}

    server = FakeServer([served()], app=an_app(routes=(Route("GET", "/api/model/info", view),)))
    reply = server.get("/api/model/info")
    assert reply.json() == {"app": "credit-risk", "version": "3", "n": 1}
    assert "GET /api/model/info" in error_of(server.get("/nowhere"), 404)["advice"]


def test_an_apps_view_may_take_the_place_of_a_page():
    app = an_app(routes=(Route("GET", "/health", lambda status: {"mine": True}),))
    server = FakeServer([served()], app=app)
    assert server.get("/health").json() == {"mine": True}
    assert server.get("/").json()["status"] == "healthy"


@pytest.mark.parametrize("view", [lambda status: 1 / 0, lambda status: {"x": object()}])
def test_a_view_that_fails_is_500_and_nothing_else_is_touched(view, caplog):
    server = FakeServer([served()], app=an_app(routes=(Route("GET", "/mine", view),)))
    error_of(server.get("/mine"), 500)
    assert "GET /mine failed" in caplog.text
    assert server.get("/live").status_code == 200


# Documentation pages


def test_the_documentation_pages_load_nothing_from_elsewhere():
    server = FakeServer([served()])
    for path in ("/docs", "/redoc"):
        reply = server.get(path)
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in reply.headers["content-security-policy"]
        assert "://" not in reply.text
        for quoted in reply.text.split('"')[1::2]:
            if "/static/" in quoted:
                assert server.get(f"/{quoted}").status_code == 200


def test_redocs_own_picture_is_loaded_from_here():
    server = FakeServer([served()])
    script = server.get("/redoc/static/redoc.standalone.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "cdn.redoc.ly" not in script.text
    assert server.get("/redoc/static/logo-mini.svg").status_code == 200


# The process around it


def test_the_given_context_is_entered_before_the_first_request_and_left_after_the_last():
    seen = []

    @asynccontextmanager
    async def context():
        seen.append("in")
        yield
        seen.append("out")

    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive():
        return next(messages)

    async def send(message):
        seen.append(message["type"])

    asgi = FakeServer([served()]).asgi(lifespan=context)
    asyncio.run(asgi({"type": "lifespan", "state": {}}, receive, send))
    assert seen == ["in", "lifespan.startup.complete", "out", "lifespan.shutdown.complete"]


def test_serving_imports_nothing_that_is_only_needed_for_training():
    heavy = ("pandas", "sklearn", "mlflow", "scipy", "pyarrow", "matplotlib", "pydantic")
    imported = "import sys, greenroom.http.serving;"
    program = f"{imported} print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
