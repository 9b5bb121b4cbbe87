"""The Open Inference Protocol over HTTP: every path, every status, and what clients read."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom import __version__
from greenroom.errors import RegistryUnavailable, VersionUnloadable
from greenroom.http.protocol_endpoints import ENDPOINTS
from greenroom.schema import Column, Schema
from greenroom.settings import Settings
from servers import COLUMNS, FakeRuntime, FakeServer, nothing_served, served

AGE = {"name": "age", "shape": [2], "datatype": "INT64", "data": [40, 120]}
LATE = {"name": "Number30_59", "shape": [2], "datatype": "FP64", "data": [1, 0]}
BODY = {"inputs": [AGE, LATE]}
_SERVER = FakeServer([served()])
INFER = "/v2/models/credit/infer"


def error_of(reply, status):
    """Check the shape of an error, and return what it says."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    document = reply.json()
    assert list(document) == ["error"]
    assert isinstance(document["error"], str)
    return document["error"]


def outputs_of(reply):
    assert reply.status_code == 200, reply.text
    return {output["name"]: output["data"] for output in reply.json()["outputs"]}


@pytest.mark.parametrize("path", [INFER, "/v2/models/credit/versions/3/infer"])
def test_a_request_of_json_is_answered_with_the_tasks_outputs(path):
    reply = FakeServer([served()]).post(path, json={**BODY, "id": "42"})
    assert outputs_of(reply) == {
        "prediction": [0, 1],
        "probability": [0.2, 0.6],
        "probabilities": [0.8, 0.2, 0.4, 0.6],
    }
    about = {name: value for name, value in reply.json().items() if name != "outputs"}
    ids = about.pop("parameters")
    assert ids["prediction_ids"].split(",")[0] == ids["prediction_id"]
    assert len(set(ids["prediction_ids"].split(","))) == 2
    assert reply.headers["x-prediction-id"] == ids["prediction_id"]
    assert about == {"model_name": "credit", "model_version": "3", "id": "42"}


def test_a_binary_request_is_answered_in_binary_where_that_is_asked_for():
    raw = np.array([[40, 1, np.nan], [120, 0, 5]]).tobytes()
    tensor = {
        "name": "input-0",
        "shape": [2, 3],
        "datatype": "FP64",
        "parameters": {"binary_data_size": len(raw)},
    }
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    reply = FakeServer([served()]).post(INFER, content=text + raw, headers=headers)
    assert reply.headers["content-type"] == "application/octet-stream"
    length = int(reply.headers["inference-header-content-length"])
    outputs = json.loads(reply.content[:length])["outputs"]
    assert [one["parameters"]["binary_data_size"] for one in outputs] == [16, 16, 32]
    assert np.frombuffer(reply.content[length:][16:32]).tolist() == [0.2, 0.6]


@pytest.mark.parametrize("kind", ["native", "compiled"])
def test_one_matrix_of_numbers_is_all_columns(kind):
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [[40, 1, None]]}
    runtime = FakeRuntime(Schema(COLUMNS), kind=kind)
    reply = FakeServer([served(runtime=runtime)]).post(INFER, json={"inputs": [tensor]})
    assert outputs_of(reply)["probability"] == [0.2]
    assert runtime.called == ["matrix"]


def test_text_goes_to_the_runtime_as_columns():
    runtime = FakeRuntime(Schema((Column("name", "string"), *COLUMNS)))
    name = {"name": "name", "shape": [2], "datatype": "BYTES", "data": ["a" * 20, "b" * 40]}
    reply = FakeServer([served(runtime=runtime)]).post(INFER, json={"inputs": [name, AGE, LATE]})
    assert outputs_of(reply)["probability"] == [0.1, 0.2]
    assert runtime.called == ["columns"]


def test_outputs_are_those_that_are_asked_for():
    outputs = [{"name": "probability"}]
    reply = FakeServer([served()]).post(INFER, json={**BODY, "outputs": outputs})
    assert outputs_of(reply) == {"probability": [0.2, 0.6]}


def test_many_rows_are_answered_like_few():
    ages = [row % 120 for row in range(9_000)]
    late = {**LATE, "shape": [9_000], "data": [age / 7 for age in ages]}
    inputs = [{**AGE, "shape": [9_000], "data": ages}, late]
    reply = FakeServer([served()]).post(INFER, json={"inputs": inputs})
    assert len(reply.request.content) > 65_536
    assert outputs_of(reply)["probability"] == [age / 200 for age in ages]


def test_a_bad_value_is_400_and_every_bad_column_is_named_without_its_value():
    inputs = [{**AGE, "data": [40, 777]}, {**LATE, "data": [-333, 0]}]
    error = error_of(FakeServer([served()]).post(INFER, json={"inputs": inputs}), 400)
    assert "age in row 1 is above the maximum, 120 years" in error
    assert "Number30_59 in row 0 is below the minimum, 0" in error
    assert "777" not in error
    assert "333" not in error


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [3]},
        {"shape": [2**31]},
        {"shape": [0], "data": []},
        {"datatype": "BYTES", "data": ["a", "b"]},
        {"datatype": "FP128"},
        {"data": [1, "x"]},
        {"data": [None, 1]},
        {"name": "unknown"},
        {"parameters": {"binary_data_size": 16}},
    ],
)
def test_a_tensor_that_does_not_fit_is_400(changes):
    error_of(FakeServer([served()]).post(INFER, json={"inputs": [{**AGE, **changes}, LATE]}), 400)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_are_not_finite_are_400(number):
    body = json.dumps(BODY).encode().replace(b"120", number)
    assert "age" in error_of(FakeServer([served()]).post(INFER, content=body), 400)


@pytest.mark.parametrize("length", ["", "x", "-1", "1e3", "99999", "0", "9" * 30, "10"])
def test_a_header_that_lies_about_the_length_of_the_json_is_400(length):
    headers = {"Inference-Header-Content-Length": length}
    body = json.dumps(BODY).encode()
    error_of(FakeServer([served()]).post(INFER, content=body, headers=headers), 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/credit/versions/2/infer", 404),
        ("POST", "/v2/models/credit/versions/03/infer", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/credit/versions/2", 404),
        ("GET", "/v2/models/credit/versions/2/ready", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("POST", "/v2/repository/models/other/load", 404),
        ("POST", "/v2/repository/models/other/unload", 404),
        ("GET", "/v2/models/credit/config", 404),
        ("GET", "/v2/models/stats/x", 404),
        ("GET", "/v2/", 404),
        ("GET", "/v2/%00", 404),
        ("GET", "/v2/models//infer", 404),
        ("GET", INFER, 405),
        ("DELETE", "/v2", 405),
        ("GET", "/v2/repository/index", 405),
        ("POST", "/v2/models/credit", 405),
    ],
)
def test_what_is_not_there_is_404_and_a_wrong_method_405(method, path, status):
    (reply,) = FakeServer([served()]).requests((method, path, {}))
    error_of(reply, status)
    assert ("allow" in reply.headers) == (status == 405)


def test_a_path_that_only_begins_alike_is_not_the_protocols():
    reply = FakeServer([served()]).get("/v2x")
    assert set(reply.json()) == {"error", "detail"}


def test_a_body_that_is_too_large_is_413_and_a_compressed_one_415():
    small = FakeServer([served()], settings=Settings(max_body_bytes=20))
    assert "20 bytes" in error_of(small.post(INFER, json=BODY), 413)
    packed = {"content": b"x", "headers": {"content-encoding": "gzip"}}
    error_of(FakeServer([served()]).post(INFER, **packed), 415)


def test_the_content_type_is_not_looked_at():
    headers = {"content-type": "application/x-www-form-urlencoded"}
    body = json.dumps(BODY).encode()
    assert FakeServer([served()]).post(INFER, content=body, headers=headers).is_success


def test_a_caller_that_goes_away_is_not_answered():
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": INFER, "headers": []}
    asyncio.run(FakeServer([served()]).asgi()(scope, receive, send))
    assert sent == []


def test_a_model_that_fails_is_500_and_says_nothing_of_the_request():
    class Failing(FakeRuntime):
        def predict_matrix(self, X):
            raise ValueError(f"secret {X}")

    reply = FakeServer([served(runtime=Failing(Schema(COLUMNS)))]).post(INFER, json=BODY)
    assert "secret" not in error_of(reply, 500)
    assert reply.headers["x-request-id"]


def test_the_server_says_what_it_is_and_that_it_is_well():
    server = FakeServer([served()])
    assert server.get("/v2").json() == {
        "name": "greenroom",
        "version": __version__,
        "extensions": ["binary_tensor_data", "model_repository"],
    }
    assert server.get("/v2/health/live").json() == {"live": True}
    ready = server.get("/v2/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"live": True, "ready": True})
    assert server.requests(("HEAD", "/v2/health/live", {}))[0].status_code == 200


@pytest.mark.parametrize("path", ["/v2/models/credit", "/v2/models/credit/versions/3"])
def test_a_model_describes_its_tensors(path):
    assert FakeServer([served()]).get(path).json() == {
        "name": "credit",
        "versions": ["3"],
        "platform": "greenroom_native",
        "inputs": [
            {"name": "age", "datatype": "INT64", "shape": [-1]},
            {"name": "Number30_59", "datatype": "FP64", "shape": [-1]},
            {"name": "income", "datatype": "FP64", "shape": [-1]},
        ],
        "outputs": [
            {"name": "prediction", "datatype": "INT64", "shape": [-1]},
            {"name": "probability", "datatype": "FP64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP64", "shape": [-1, 2]},
        ],
    }


def test_a_model_is_asked_once_for_what_its_outputs_are_and_again_when_it_is_another():
    runtime = FakeRuntime(Schema(COLUMNS))
    server = FakeServer([served(runtime=runtime)])
    path = ("GET", "/v2/models/credit", {})
    server.requests(path, path)
    assert runtime.called == ["matrix"]
    other = FakeRuntime(Schema(COLUMNS))
    asked = ("POST", "/v2/repository/models/credit/load", {})
    server.after_reload = [served(version="4", runtime=other)]
    assert server.requests(path, asked, path)[2].json()["versions"] == ["4"]
    assert other.called == ["matrix"]


def test_names_with_spaces_are_decoded():
    server = FakeServer([served("my model")])
    assert server.get("/v2/models/my%20model").json()["name"] == "my model"


def test_a_model_without_a_version_is_not_ready():
    server = FakeServer([nothing_served(), served("other", route="/other")])
    assert server.get("/v2/health/ready").status_code == 200
    ready = server.get("/v2/models/credit/ready")
    assert (ready.status_code, ready.json()) == (503, {"name": "credit", "ready": False})
    assert server.get("/v2/models/other/ready").json() == {"name": "other", "ready": True}
    for method, path in (("GET", "/v2/models/credit"), ("POST", INFER)):
        (reply,) = server.requests((method, path, {}))
        assert "No model in Production stage" in error_of(reply, 503)


def test_a_server_that_is_starting_is_live_and_not_ready():
    server = FakeServer([nothing_served()], number=0)
    assert server.get("/v2/health/live").status_code == 200
    ready = server.get("/v2/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"live": True, "ready": False})
    assert "the server is starting" in error_of(server.post(INFER, json=BODY), 503)
    assert server.get("/v2").status_code == 200


def test_the_index_lists_the_models_and_their_states():
    server = FakeServer([served(), nothing_served("other", route="/other")])
    credit = {"name": "credit", "version": "3", "state": "READY", "reason": ""}
    other = {
        "name": "other",
        "version": "",
        "state": "UNAVAILABLE",
        "reason": "No model in Production stage: other has no version there",
    }
    assert server.post("/v2/repository/index").json() == [credit, other]
    assert server.post("/v2/repository/index", json={"ready": True}).json() == [credit]
    error_of(server.post("/v2/repository/index", content=b"[]"), 400)


def test_load_asks_the_registry_and_says_what_is_served_then():
    server = FakeServer([served()], after_reload=[served(version="4")])
    load = "/v2/repository/models/credit/load"
    assert server.post(load).json() == {"name": "credit", "version": "4"}
    error_of(server.post(load, json={"parameters": {"config": "{}"}}), 400)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (VersionUnloadable("it does not load"), 409),
        (RegistryUnavailable("the registry is away"), 503),
        ([nothing_served()], 503),
    ],
)
def test_a_load_after_which_the_model_is_not_served_as_selected_is_an_error(outcome, status):
    server = FakeServer([served()], after_reload=outcome)
    error_of(server.post("/v2/repository/models/credit/load"), status)


def test_unload_is_refused_and_says_where_to_go():
    error = error_of(FakeServer([served()]).post("/v2/repository/models/credit/unload"), 409)
    assert "take the version out of Production in the registry" in error


def test_answers_are_counted_under_their_paths_and_predictions_by_version():
    asked = [
        ("POST", INFER, {"json": BODY}),
        ("POST", INFER, {"json": {}}),
        ("GET", "/v2/health/live", {}),
        ("GET", "/metrics", {}),
    ]
    lines = FakeServer([served()]).requests(*asked)[-1].text.splitlines()
    counted = [line for line in lines if "requests_total{" in line and "v2" in line]
    of = 'model="credit",route="/v2/models/{name}/infer"'
    assert f'greenroom_requests_total{{{of},status="200",version="3"}} 1.0' in counted
    assert f'greenroom_requests_total{{{of},status="400",version="3"}} 1.0' in counted
    assert any('route="/v2/health/live"' in line and line.endswith(" 1.0") for line in counted)


def test_a_request_id_is_given_back():
    for path in ("/v2", "/v2/nowhere"):
        reply = FakeServer([served()]).get(path, headers={"x-request-id": "r-1"})
        assert reply.headers["x-request-id"] == "r-1"


def test_numbers_of_any_length_are_400_and_not_waited_for():
    digits = "9" * 5_000
    for old, new in (
        ("40", digits),
        ("40", f"1e{digits}"),
        ('"shape": [2]', f'"shape": [{digits}]'),
    ):
        body = json.dumps(BODY).replace(old, new, 1)
        error_of(FakeServer([served()]).post(INFER, content=body), 400)


_RAW = np.array([[40, 1, np.nan], [120, 0, 5]]).tobytes()
_TEXT = json.dumps(
    {
        "inputs": [
            {
                "name": "x",
                "shape": [2, 3],
                "datatype": "FP64",
                "parameters": {"binary_data_size": len(_RAW)},
            }
        ]
    }
).encode()
_WHOLE = _TEXT + _RAW


@given(
    st.integers(0, len(_WHOLE)),
    st.integers(0, 6),
    st.binary(max_size=6) | st.sampled_from([b"9" * 20, b"-", b"null", b"[", b'"', b"1e999"]),
    st.integers(-3, 3),
)
@settings(max_examples=200, deadline=None)
def test_a_damaged_body_is_answered_or_400_and_never_more(at, cut, inserted, off_by):
    headers = {"Inference-Header-Content-Length": str(len(_TEXT) + off_by)}
    damaged = _WHOLE[:at] + inserted + _WHOLE[at + cut :]
    reply = _SERVER.post(INFER, content=damaged, headers=headers)
    if reply.status_code != 200:
        error_of(reply, 400)


@pytest.mark.parametrize("body", [b'{"NaN"', b'{"inputs": "NaN", "a": Infinity', b'"Infinity" NaN'])
def test_a_body_that_is_no_json_although_it_speaks_of_nan_is_refused(body):
    error_of(_SERVER.post(INFER, content=body), 400)


def test_every_endpoint_answers():
    server = FakeServer([served()])
    for endpoint in ENDPOINTS:
        path = endpoint.path.format(name="credit", version="3")
        (reply,) = server.requests(
            (endpoint.method, path, {"json": BODY} if "infer" in path else {})
        )
        assert reply.status_code == (409 if path.endswith("unload") else 200), path
