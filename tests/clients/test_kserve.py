"""KServe's ``InferenceRESTClient`` against a real server, with JSON and with binary data."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

MODELS = ["native", "compiled", "mixed", "price", "odd", "demand"]
DATATYPES = {"a": "FP64", "b": "INT64", "income": "FP64", "owner": "BOOL"}
DTYPES = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}


def column(name, values, binary):
    datatype = DATATYPES.get(name, "BYTES")
    dtype = DTYPES.get(datatype, object)
    array = np.array(values, dtype=dtype)
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def asked(url, work):
    async def scenario():
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
            return await work(client, url)

    return asyncio.run(scenario())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("binary", [True, False])
def test_the_answers_are_the_estimators_own(url, models, name, binary):
    model = models[name]
    tensors = [column(one, values, binary) for one, values in model.columns.items()]
    outputs = [
        RequestedOutput(one, {"binary_data": binary} if binary else {}) for one in model.outputs
    ]
    request = InferRequest(name, tensors, request_id="r1", request_outputs=outputs)
    reply = asked(url, lambda client, base: client.infer(base, request, model_name=name))
    assert (reply.id, reply.model_name) == ("r1", name)
    assert [one.name for one in reply.outputs] == list(model.outputs)
    for one in reply.outputs:
        assert model.agrees(one.name, one.as_numpy()), one.name


def test_a_plain_dict_is_answered_too(url, models):
    model = models["native"]
    tensor = {
        "name": "input-0",
        "shape": [40, 2],
        "datatype": "FP64",
        "data": model.matrix.ravel().tolist(),
    }
    body = {"inputs": [tensor]}
    reply = asked(url, lambda client, base: client.infer(base, body, model_name="native"))
    values = {one.name: one.as_numpy() for one in reply.outputs}
    assert model.agrees("probability", values["probability"])


def test_the_server_and_its_models_are_ready(url):
    async def work(client, base):
        return [
            await client.is_server_ready(base),
            await client.is_server_live(base),
            await client.is_model_ready(base, "native"),
            await client.is_model_ready(base, "nothing"),
        ]

    assert asked(url, work) == [True, True, True, False]


def test_what_is_refused_is_told_in_the_error(url):
    body = {"inputs": [{"name": "a", "shape": [1], "datatype": "FP64", "data": [11]}]}
    with pytest.raises(httpx.HTTPStatusError, match="above the maximum, 10") as caught:
        asked(url, lambda client, base: client.infer(base, body, model_name="native"))
    assert caught.value.response.status_code == 400
