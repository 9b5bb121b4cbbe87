from __future__ import annotations

import json
from importlib import metadata

import numpy as np
import pytest

from greenroom.errors import RequestInvalid, RequestMalformed
from greenroom.evaluation.predictions import Predictions
from greenroom.payloads.request import RequestType
from greenroom.protocols.invocations import CSV, JSON, decode_invocation, encode_predictions
from greenroom.schema import Column, Schema
from servers import FakeServer, nothing_served, served

TYPE = RequestType.compile(
    Schema(
        (Column("a b", request_name="a_b"), Column("code", "string"), Column("n", nullable=True))
    )
)
ROWS = [{"a b": 1.5, "code": "001", "n": None}, {"a b": 2, "code": "1", "n": 3.0}]
SPLIT = {"columns": ["code", "a b", "n", "extra"], "data": [["001", 1.5, None, 0], ["1", 2, 3, 0]]}


def read(document, media=JSON):
    if not isinstance(document, str | bytes):
        document = json.dumps(document)
    body = document.encode() if isinstance(document, str) else document
    columns = decode_invocation(body, media, TYPE).columns()
    return {name: values.tolist() for name, values in columns.items()}


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_split": SPLIT},
        {"dataframe_records": ROWS},
        {"instances": ROWS},
        {"instances": [[1.5, "001", None], [2, "1", 3]]},
        {"inputs": {"a b": [1.5, 2], "code": ["001", "1"], "n": [None, 3]}, "params": {}},
        {"inputs": ROWS},
        {"dataframe_split": {**SPLIT, "index": [7, 8]}, "foo": 1, "params": None},
        "\ufeff" + json.dumps({"inputs": ROWS}),
        json.dumps({"dataframe_records": ROWS}).replace("null", "NaN"),
    ],
)
def test_every_format_of_mlflows_is_the_same_rows(document):
    found = read(document)
    assert (found["a b"], found["code"]) == ([1.5, 2.0], ["001", "1"])
    assert np.isnan(found["n"][0])


def test_columns_of_single_values_are_one_row():
    assert read({"inputs": {"a b": 1.5, "code": "001"}})["code"] == ["001"]


@pytest.mark.parametrize("name", ["instances", "inputs"])
def test_a_model_with_one_column_takes_a_list_of_its_values(name):
    one = RequestType.compile(Schema((Column("a"),)))
    rows = decode_invocation(json.dumps({name: [1.5, 2]}).encode(), JSON, one)
    assert rows.matrix().tolist() == [[1.5], [2.0]]


def test_text_that_looks_like_a_missing_number_or_a_repeated_name_stays_text():
    text = 'NaN "a": "a": Infinity'
    body = json.dumps({"inputs": [{"a b": 1, "code": text}]}).replace("1,", '1, "n": NaN,')
    assert read(body)["code"] == [text]


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "1e999"])
def test_an_infinity_is_refused_by_name(number):
    for document in (f'{{"inputs": {{"a b": [{number}], "code": ["1"]}}}}', "csv"):
        csv = f"a b,code\n{number},1\n"
        with pytest.raises(RequestInvalid, match="a_b is not finite"):
            read(csv if document == "csv" else document, CSV if document == "csv" else JSON)


@pytest.mark.parametrize("missing", ["", "NA", "#N/A", "<NA>", "-nan", "None", "n/a", "NULL"])
def test_csv_has_the_missing_values_of_pandas(missing):
    assert np.isnan(read(f"a b,code,n\n1,x,{missing}\n", CSV)["n"][0])


def test_csv_is_read_by_the_kinds_of_the_columns():
    found = read('code,n,a b,extra\n001,,1.5,x\n1,3,2,"y,\nz"\n', CSV)
    assert (found["a b"], found["code"], found["n"][1]) == ([1.5, 2.0], ["001", "1"], 3.0)
    assert np.isnan(found["n"][0])


@pytest.mark.parametrize(
    "document",
    [
        "", "[]", "{}", '{"inputs": [], "instances": []}', '{"dataframe_split": {"data": [[1]]}}',
        '{"dataframe_split": {"columns": ["n", "n"], "data": [[1, 1]]}}', '{"inputs": 3}',
        '{"inputs": {"a b": [1], "code": ["1", "2"]}}', '{"inputs": {"n": 3}}',
        '{"dataframe_records": [[1]]}', '{"instances": [[1]]}',
        '{"instances": [], "params": {"x": 1}}', "[" * 100_000, '{"inputs":' + "[" * 100_000,
        '{"inputs": ' + "[" * 900 + "]" * 900 + "}", '{"inputs": NaN}', "NaN", b"\xff",
        '{"inputs": [{"a b": 1, "code": "1"}], "inputs": [{"a b": 2, "code": "1"}]}',
        '{"inputs": [{"a b": 1, "a b": 1, "code": "1"}]}',
        '{"dataframe_split": {"columns": ["a b", "code"], "data": [[1, "1"]], "foo": 1}}',
        '{"dataframe_split": {"columns": ["a b", "code"], "data": [[1, "1"]], "index": []}}',
        '{"dataframe_records": [{"a b": "1.5", "code": "1"}]}',
        '{"dataframe_records": [{"a b": 1.5, "code": 1}]}',
    ],
)  # fmt: skip
def test_what_is_of_no_format_is_malformed_or_invalid(document):
    with pytest.raises((RequestMalformed, RequestInvalid)):
        read(document)


@pytest.mark.parametrize(
    "text",
    ["", "a b,code\n1\n", "a b,code\ninf,x\n", "a b,code\nx,x\n", "a b,code\n1_0,x\n"],
)
def test_csv_that_does_not_fit_is_refused(text):
    with pytest.raises((RequestMalformed, RequestInvalid)):
        read(text, CSV)


def test_a_forecast_is_answered_as_its_predict_has_it():
    one = {name: np.array([value]) for value, name in enumerate(("prediction", "lower", "upper"))}
    assert encode_predictions(Predictions(one)) == b'{"predictions":[[0,1,2]]}'


BODY = {"dataframe_records": [{"age": 40, "Number30-59": 1}, {"age": 120, "Number30-59": 0}]}


def test_a_server_with_one_model_answers_at_invocations():
    reply = FakeServer([served()]).post("/invocations", json=BODY)
    assert (reply.status_code, reply.json()) == (200, {"predictions": [0, 1]})


def test_a_server_with_two_models_does_not():
    two = FakeServer([served(), served("other", route="/other")])
    assert two.post("/invocations", json=BODY).status_code == 404


def test_clients_of_mlflows_scoring_server_are_told_whether_it_is_ready():
    ping = FakeServer([served()]).get("/ping")
    assert (ping.status_code, ping.text) == (200, "\n")
    assert FakeServer([nothing_served()]).get("/ping").status_code == 503


def test_clients_of_mlflows_scoring_server_are_told_mlflows_version():
    version = FakeServer([served()]).get("/version")
    assert (version.status_code, version.text) == (200, metadata.version("mlflow"))
    assert version.headers["content-type"].startswith("text/plain")


def test_refusals_have_the_shape_of_mlflows():
    server = FakeServer([served()])
    wrong = server.post("/invocations", json={"dataframe_records": [{"age": 400}]})
    assert (wrong.status_code, wrong.json()["error_code"]) == (400, "BAD_REQUEST")
    assert "age" in wrong.json()["message"]
    assert "400" not in wrong.json()["message"]
    other = server.post("/invocations", content=b"x", headers={"content-type": "text/plain"})
    assert (other.status_code, other.json()["error_code"]) == (415, "BAD_REQUEST")
    away = FakeServer([nothing_served()]).post("/invocations", json=BODY)
    assert away.status_code == 503
    assert server.get("/invocations").headers["allow"] == "POST"
