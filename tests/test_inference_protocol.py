"""The Open Inference Protocol's bodies: taken apart, put together, and refused when they lie."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.errors import RequestError, RequestInvalid, RequestMalformed
from greenroom.evaluation.predictions import Predictions
from greenroom.protocols.inference_protocol import (
    InferenceRequest,
    output_metadata,
    read_request,
    write_reply,
)
from greenroom.task import classification_outputs

PREDICTIONS = classification_outputs(np.array([[0.9, 0.1], [0.25, 0.75]]), np.array(["no", "ja"]))
INPUT = {"name": "a", "shape": [2], "datatype": "FP64", "data": [1, 2.5]}


def body(*inputs, **more):
    return json.dumps({"inputs": list(inputs) or [INPUT], **more}).encode()


def binary(*tensors, **more):
    """Return a body with binary tensors, given as name, datatype, shape and bytes."""
    inputs = [
        {"name": n, "datatype": d, "shape": s, "parameters": {"binary_data_size": len(raw)}}
        for n, d, s, raw in tensors
    ]
    text = body(*inputs, **more)
    return text + b"".join(raw for *_, raw in tensors), len(text)


def replied(predictions=PREDICTIONS, **asked):
    request = InferenceRequest(None, (), asked.pop("outputs", {}), asked.pop("binary", False))
    reply = write_reply(request, predictions, model="m", version="3")
    document = json.loads(reply.body[: reply.json_length])
    rest = b"" if reply.json_length is None else reply.body[reply.json_length :]
    return {output["name"]: output for output in document["outputs"]}, rest


def test_a_request_of_json_has_an_id_tensors_and_outputs():
    request = read_request(body(id="42", outputs=[{"name": "prediction"}]))
    assert (request.id, request.outputs, request.binary_outputs) == (
        "42",
        {"prediction": False},
        False,
    )
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype, tensor.values.tolist()) == ("a", "FP64", [1.0, 2.5])


def test_binary_tensors_lie_behind_the_json_in_the_order_of_the_inputs():
    raw = np.array([1.5, 2.5], dtype="<f4").tobytes()
    text = struct.pack("<I", 2) + b"ab" + struct.pack("<I", 0)
    sent, json_length = binary(("a", "FP32", [2, 1], raw), ("s", "BYTES", [2], text))
    a, s = read_request(sent, json_length).inputs
    assert (a.values.tolist(), s.values.tolist()) == ([[1.5], [2.5]], ["ab", ""])


def test_a_binary_tensor_may_stand_beside_one_of_json():
    raw = b"\x01\x00"
    text = body(
        INPUT,
        {"name": "b", "shape": [2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}},
    )
    assert [t.values.tolist() for t in read_request(text + raw, len(text)).inputs] == [
        [1.0, 2.5],
        [1.0, 0.0],
    ]


def test_what_pythons_json_writes_for_a_missing_number_is_one():
    sent = json.dumps({"inputs": [{**INPUT, "data": [float("nan"), 1]}]}).encode()
    assert np.isnan(read_request(sent).inputs[0].values[0])


@pytest.mark.parametrize(
    ("more", "outputs", "binary_outputs"),
    [
        ({"parameters": {"binary_data_output": True}}, {}, True),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "x", "parameters": {"binary_data": False}}, {"name": "y"}],
            },
            {"x": False, "y": True},
            True,
        ),
        (
            {"outputs": [{"name": "x", "parameters": {"binary_data": True}}]},
            {"x": True},
            False,
        ),
        ({"parameters": None, "outputs": None, "id": None}, {}, False),
        ({"parameters": {"priority": 3, "my own": "x"}, "extension": 1}, {}, False),
    ],
)
def test_outputs_are_binary_where_that_is_asked_for(more, outputs, binary_outputs):
    request = read_request(body(**more))
    assert (request.outputs, request.binary_outputs) == (outputs, binary_outputs)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not one of V2|not JSON|nested too deeply"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b"[]", "not one of V2"),
        (b"{}", "missing required field `inputs`"),
        (b'{"inputs": []}', "has no inputs"),
        (b'{"inputs": [{"name": "a"}]}', "missing required field"),
        (body({**INPUT, "shape": [1.5]}), "not one of V2"),
        (body({**INPUT, "shape": 2}), "not one of V2"),
        (body({**INPUT, "shape": [True]}), "not one of V2"),
        (body({**INPUT, "name": None}), "not one of V2"),
        (body(id=3), "not one of V2"),
        (body({**INPUT, "parameters": {"binary_data_size": -1}}), "is no size"),
        (body({**INPUT, "parameters": {"binary_data_size": True}}), "is no size"),
        (body({**INPUT, "parameters": {"binary_data_size": 8}}), "0 bytes of binary data"),
        (body(outputs=[{"name": "x"}, {"name": "x"}]), "x is asked for twice"),
        (body(outputs=[{"name": "x", "parameters": {"classification": 2}}]), "not supported"),
    ],
)
def test_a_body_that_is_no_request_is_malformed(sent, message):
    with pytest.raises(RequestMalformed, match=message):
        read_request(sent)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"shape": []}, "neither [n] nor [n, columns]"),
        ({"shape": [1, 1, 2]}, "neither [n] nor [n, columns]"),
        ({"shape": [-2]}, "neither [n] nor [n, columns]"),
        ({"shape": [2**31]}, "has 2 values, and its shape wants 2147483648"),
        ({"shape": [2**62, 2**62]}, "has 2 values, and its shape wants"),
        ({"data": [1]}, "has 1 values, and its shape wants 2"),
        ({"datatype": "FP8"}, "has a datatype that is none of"),
        ({"parameters": {"shared_memory_region": "x"}}, "which is not supported"),
        ({"parameters": {"binary_data_size": 0}}, "has data beside its binary_data_size"),
    ],
)
def test_a_tensor_that_is_not_what_it_says_is_named(changes, problem):
    with pytest.raises(RequestInvalid) as caught:
        read_request(body({**INPUT, **changes}))
    assert problem in caught.value.problems[0].problem
    assert caught.value.problems[0].field == "a"


def test_all_broken_tensors_are_named_at_once():
    without = {name: value for name, value in INPUT.items() if name != "data"}
    with pytest.raises(RequestInvalid) as caught:
        read_request(
            body({**INPUT, "shape": [3]}, {**without, "name": "b"}, {**INPUT, "name": "c"})
        )
    assert [problem.field for problem in caught.value.problems] == ["a", "b"]


@pytest.mark.parametrize("json_length", [0, -1, 10, 10_000, 2**70])
def test_a_length_of_the_json_that_is_a_lie_is_refused(json_length):
    with pytest.raises(RequestMalformed):
        read_request(body(), json_length)


@pytest.mark.parametrize("size", [0, 15, 17, 2**62])
def test_binary_sizes_that_do_not_add_up_to_the_body_are_refused(size):
    tensor = {"name": "a", "datatype": "FP64", "shape": [2]}
    text = body({**tensor, "parameters": {"binary_data_size": size}})
    with pytest.raises(RequestMalformed, match="add up to"):
        read_request(text + bytes(16), len(text))


@given(st.binary(max_size=60), st.integers(-2, 70) | st.none())
@settings(deadline=None)
def test_whatever_is_sent_is_read_or_refused(sent, json_length):
    with pytest.raises(RequestError):
        read_request(sent, json_length)


_VALUE = st.none() | st.booleans() | st.integers(-3, 2**65) | st.floats() | st.text(max_size=3)
_NODE = _VALUE | st.lists(_VALUE, max_size=3) | st.dictionaries(st.text(max_size=3), _VALUE)


@given(
    st.fixed_dictionaries(
        {
            "name": st.just("a") | _NODE,
            "shape": st.lists(st.integers(0, 3), max_size=3) | _NODE,
            "datatype": st.sampled_from(["FP64", "INT8", "BYTES", "BOOL"]) | _NODE,
        },
        optional={"data": _NODE, "parameters": st.just({"binary_data_size": 8}) | _NODE},
    ),
    st.binary(max_size=9),
)
@settings(deadline=None)
def test_whatever_a_tensor_says_of_itself_it_is_read_or_refused(tensor, raw):
    text = body(tensor)
    try:
        (found,) = read_request(text + raw, len(text)).inputs
    except RequestError:
        return
    assert list(found.values.shape) == tensor["shape"]


def test_all_outputs_are_given_as_json_unless_something_else_is_asked_for():
    outputs, rest = replied()
    assert outputs == {
        "prediction": {
            "name": "prediction",
            "datatype": "BYTES",
            "shape": [2],
            "data": ["no", "ja"],
        },
        "probability": {
            "name": "probability",
            "datatype": "FP64",
            "shape": [2],
            "data": [0.1, 0.75],
        },
        "probabilities": {
            "name": "probabilities",
            "datatype": "FP64",
            "shape": [2, 2],
            "data": [0.9, 0.1, 0.25, 0.75],
        },
    }
    assert rest == b""


def test_binary_outputs_follow_the_json_in_their_order():
    outputs, rest = replied(outputs={"probability": True, "prediction": True})
    sizes = [output["parameters"]["binary_data_size"] for output in outputs.values()]
    assert list(outputs) == ["probability", "prediction"]
    assert sizes == [16, 12]
    assert np.frombuffer(rest[:16]).tolist() == [0.1, 0.75]
    assert rest[16:] == b"\x02\x00\x00\x00no\x02\x00\x00\x00ja"
    assert all("data" not in output for output in outputs.values())


def test_outputs_of_both_forms_stand_side_by_side():
    outputs, rest = replied(outputs={"prediction": False, "probability": True})
    assert outputs["prediction"]["data"] == ["no", "ja"]
    assert len(rest) == outputs["probability"]["parameters"]["binary_data_size"] == 16


def test_an_output_that_the_model_does_not_give_is_refused():
    with pytest.raises(RequestMalformed, match="no output lower, upper; its outputs are"):
        replied(outputs={"lower": False, "upper": False})


def test_a_list_of_texts_is_one_text_a_row_and_a_number_that_is_not_finite_is_null():
    reasons = np.empty(2, dtype=object)
    reasons[:] = [["too high", "öd"], []]
    outputs, _ = replied(Predictions({"score": np.array([np.nan, 1.0]), "reasons": reasons}))
    assert outputs["score"]["data"] == [None, 1.0]
    assert outputs["reasons"]["data"] == ['["too high","öd"]', "[]"]
    assert outputs["reasons"]["datatype"] == "BYTES"


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [
        ("bool", "BOOL"),
        ("int64", "INT64"),
        ("int32", "INT32"),
        ("float32", "FP32"),
        ("U3", "BYTES"),
    ],
)
def test_an_output_has_the_datatype_of_its_array(dtype, datatype):
    predictions = Predictions({"prediction": np.ones(2).astype(dtype)})
    assert output_metadata(predictions) == [
        {"name": "prediction", "datatype": datatype, "shape": [-1]}
    ]
    assert replied(predictions)[0]["prediction"]["datatype"] == datatype


def test_every_output_is_described_with_any_number_of_rows():
    shapes = {one["name"]: one["shape"] for one in output_metadata(PREDICTIONS)}
    assert shapes == {"prediction": [-1], "probability": [-1], "probabilities": [-1, 2]}
