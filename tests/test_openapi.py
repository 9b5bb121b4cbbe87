"""The OpenAPI document: that what it shows is what the server takes and answers."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import App, Gate, Model, Route, classification, regression
from greenroom.data.examples import example_request
from greenroom.evaluation.predictions import Predictions
from greenroom.payloads.request import RequestType
from greenroom.schema import Column, Schema
from servers import COLUMNS, FakeRuntime, FakeServer, nothing_served, served, with_status

EVERY_KIND = (
    Column("n", minimum=0.5, maximum=2.5, unit="USD", description="An amount."),
    Column("i", "integer", minimum=3, example=7),
    Column("b", "boolean"),
    Column("s", "string", nullable=True),
    Column("c", "category", categories=("low", "high"), nullable=True),
    Column("d", "date"),
    Column("with space", "datetime"),
)


def described(*models, **server):
    reply = FakeServer(list(models) or [served()], **server).get("/openapi.json")
    assert reply.status_code == 200
    return reply.json()


def row_of(document, model="credit"):
    return document["components"]["schemas"][f"{model}.Row"]


def references(node):
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_it_is_openapi_3_1_and_every_reference_leads_somewhere():
    document = described()
    assert document["openapi"] == "3.1.0"
    for reference in references(document):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_operation_ids_are_unique():
    document = described(served("a", route="/predict/a"), served("b", route="/predict/b"))
    ids = [
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    ]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", one) for one in ids)


def test_a_field_has_its_type_range_unit_and_description():
    row = row_of(described(served(runtime=FakeRuntime(Schema(EVERY_KIND)))))
    assert row["required"] == ["n", "i", "b", "d", "with space"]
    assert row["additionalProperties"] is False
    assert row["properties"]["n"] == {
        "type": "number",
        "minimum": 0.5,
        "maximum": 2.5,
        "description": "An amount. Unit: USD.",
        "x-unit": "USD",
    }
    assert row["properties"]["i"] == {
        "type": "integer",
        "minimum": 3,
        "maximum": 2**53 - 1,
        "examples": [7],
    }
    assert row["properties"]["b"] == {"type": "boolean"}
    assert row["properties"]["s"] == {"type": ["string", "null"]}
    assert row["properties"]["c"] == {"type": ["string", "null"], "enum": ["low", "high", None]}
    assert row["properties"]["d"] == {"type": "string", "format": "date"}
    assert row["properties"]["with space"] == {"type": "string", "format": "date-time"}


def test_fields_have_the_names_of_requests():
    assert list(row_of(described())["properties"]) == ["age", "Number30_59", "income"]


@pytest.mark.parametrize("columns", [COLUMNS, EVERY_KIND])
def test_every_example_can_be_sent_as_it_stands(columns):
    server = FakeServer([served(runtime=FakeRuntime(Schema(columns)))])
    document = server.get("/openapi.json").json()
    for path in ("/predict", "/models/credit/predict"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for shown in body["examples"].values():
            assert server.predict(shown["value"], path).status_code == 200


_BOUNDS = st.none() | st.floats(-1e9, 1e9) | st.integers(-100, 100)


@given(
    st.lists(
        st.builds(
            lambda kind, ends, nullable: (kind, ends, nullable),
            st.sampled_from(["number", "integer", "boolean", "string", "date", "datetime"]),
            st.tuples(_BOUNDS, _BOUNDS),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_example_of_any_columns_is_a_request_that_is_taken(drawn):
    columns = []
    for position, (kind, (low, high), nullable) in enumerate(drawn):
        ends = {}
        if kind in {"number", "integer"}:
            ends = {"minimum": low, "maximum": high}
            if low is not None and high is not None:
                ends = {"minimum": min(low, high), "maximum": max(low, high) + 1}
        columns.append(Column(f"column {position}", kind, nullable=nullable, **ends))
    schema = Schema(tuple(columns))
    RequestType.compile(schema).decode(json.dumps(example_request(schema)).encode())


def test_a_reply_is_described_field_by_field():
    schemas = described()["components"]["schemas"]
    reply = FakeServer([served()]).predict().json()
    assert set(schemas["credit.Reply"]["properties"]) == set(reply)
    assert list(schemas["credit.Reply"]["properties"]["probabilities"]["properties"]) == ["0", "1"]
    assert schemas["credit.Reply"]["properties"]["prediction"]["enum"] == [0, 1]
    several = FakeServer([served()]).predict([{"age": 1, "Number30_59": 2}]).json()
    assert set(schemas["credit.Replies"]["properties"]) == set(several)
    one = schemas["credit.Replies"]["properties"]["predictions"]["items"]["properties"]
    assert set(one) == set(several["predictions"][0])


def test_a_reply_is_described_with_the_outputs_that_the_version_gives():
    task = replace(classification, outputs=classification.outputs[:1])
    model = served()
    model = replace(model, runtime=FakeRuntime(Schema(COLUMNS), task=task))
    properties = described(model)["components"]["schemas"]["credit.Reply"]["properties"]
    assert "prediction" in properties
    assert "probability" not in properties


def test_a_model_that_expands_its_request_takes_one_row_and_answers_several():
    class Forecast(FakeRuntime):
        def predict_matrix(self, X):
            return Predictions({"prediction": np.arange(3.0)})

    runtime = Forecast(
        Schema((Column("horizon_days", "integer", minimum=1),)), task=regression, expands=True
    )
    server = FakeServer([served(runtime=runtime)])
    operation = server.get("/openapi.json").json()["paths"]["/predict"]["post"]
    body = operation["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/credit.Row"}
    assert list(body["examples"]) == ["one row"]
    reply = server.predict(body["examples"]["one row"]["value"])
    assert len(reply.json()["predictions"]) == 3


def test_a_model_without_a_version_is_described_with_the_reason():
    document = described(nothing_served())
    assert "No model in Production stage" in document["paths"]["/predict"]["post"]["description"]
    assert list(document["components"]["schemas"]) == ["Error", "ScoringError"]


def test_generated_data_is_said():
    runtime = FakeRuntime(Schema(COLUMNS))
    model = with_status(served(runtime=runtime), generated_data=True)
    assert "generated data" in described(model)["paths"]["/predict"]["post"]["description"]


def test_it_changes_when_the_generation_does_and_only_then():
    server = FakeServer([served(version="3")])
    wider = FakeRuntime(Schema((*COLUMNS, Column("debt"))))
    first, again = server.requests(("GET", "/openapi.json", {}), ("GET", "/openapi.json", {}))
    assert first.content == again.content
    server.swap([served(version="4", runtime=wider)])
    second = server.get("/openapi.json").json()
    assert "version 3" in first.text
    assert "version 4" in second["paths"]["/predict"]["post"]["description"]
    assert "debt" in row_of(second)["properties"]


def test_an_apps_own_pages_and_every_route_are_in_it():
    app = App(
        name="credit-risk",
        experiment="e",
        models=(
            Model(
                name="credit",
                task=regression,
                columns=COLUMNS,
                dataset="d.csv",
                target="y",
                candidates=lambda seed: {},
                gate=Gate("r2_score"),
            ),
        ),
        routes=(Route("GET", "/api/model/info", lambda status: {}, summary="As documented."),),
    )
    document = described(app=app)
    assert document["info"]["title"] == "credit-risk"
    assert document["paths"]["/api/model/info"]["get"]["summary"] == "As documented."
    assert {
        "/",
        "/health",
        "/live",
        "/ready",
        "/models",
        "/model/info",
        "/models/{name}/info",
        "/model/reload",
        "/models/{name}/reload",
        "/predict",
        "/models/credit/predict",
    } <= set(document["paths"])
    assert document["paths"]["/models/{name}/info"]["get"]["parameters"][0]["name"] == "name"


def test_a_name_with_a_space_is_spelled_as_a_path_and_a_component_may_be():
    document = described(served("my model"))
    assert "/models/my%20model/predict" in document["paths"]
    assert "my_x20_model.Row" in document["components"]["schemas"]


def fields_without_a_description(value, schema, path=""):
    """Walk through a reply and its schema; give the paths of fields that the schema lacks."""
    if isinstance(value, dict) and "properties" in schema:
        for name, inner in value.items():
            if name not in schema["properties"]:
                yield f"{path}.{name}"
            else:
                yield from fields_without_a_description(
                    inner, schema["properties"][name], f"{path}.{name}"
                )
    elif isinstance(value, list) and "items" in schema:
        for inner in value:
            yield from fields_without_a_description(inner, schema["items"], path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/health"),
        ("GET", "/live"),
        ("GET", "/ready"),
        ("GET", "/models"),
        ("POST", "/model/reload"),
    ],
)
@pytest.mark.parametrize("model", [served(), nothing_served()], ids=["served", "nothing served"])
def test_every_field_of_a_page_is_described_and_every_required_one_is_there(method, path, model):
    server = FakeServer([model])
    operation = described(model)["paths"][path][method.lower()]
    (reply,) = server.requests((method, path, {}))
    described_reply = operation["responses"][str(reply.status_code)]
    schema = described_reply["content"]["application/json"]["schema"]
    assert list(fields_without_a_description(reply.json(), schema)) == []
    assert set(schema["required"]) <= set(reply.json())


def test_the_page_of_a_version_is_described_but_for_how_it_was_trained():
    schema = described()["paths"]["/model/info"]["get"]["responses"]["200"]["content"]
    schema = schema["application/json"]["schema"]
    reply = FakeServer([served()]).get("/model/info").json()
    assert set(schema["properties"]) <= set(reply)
    training = {"candidate", "dataset_hash", "seed", "code_hash", "trained_with"}
    assert training <= set(reply) - set(schema["properties"])


def test_mlflows_scoring_protocol_is_described_where_it_is_answered():
    columns = (Column("a-b", request_name="a_b"), Column("code", "string", example='1,"x"'))
    server = FakeServer([served(runtime=FakeRuntime(Schema(columns)))])
    bodies = server.get("/openapi.json").json()["paths"]["/invocations"]["post"]["requestBody"][
        "content"
    ]
    for shown in bodies["application/json"]["examples"].values():
        reply = server.post("/invocations", json=shown["value"])
        assert reply.json() == {"predictions": [0]}, reply.text
    csv = bodies["text/csv"]["example"]
    assert csv.splitlines()[0] == "a-b,code"
    headers = {"content-type": "text/csv"}
    assert server.post("/invocations", content=csv, headers=headers).status_code == 200
    two = described(served("a", route="/predict/a"), served("b", route="/predict/b"))
    assert "/invocations" not in two["paths"]


def test_every_error_has_an_example_of_its_own():
    responses = described()["paths"]["/predict"]["post"]["responses"]
    examples = [
        one["content"]["application/json"]["example"]
        for status, one in responses.items()
        if status != "200"
    ]
    assert len({example["detail"] for example in examples}) == len(examples)
    refused = FakeServer([served()]).predict({"age": None, "Number30_59": 1})
    assert (
        responses["422"]["content"]["application/json"]["example"]["error"]["problems"]
        == (refused.json()["error"]["problems"])
    )
