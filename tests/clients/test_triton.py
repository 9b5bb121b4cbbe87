"""Triton's client, sync and aio, with JSON and with its binary default, against a real server."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

MODELS = ["native", "compiled", "mixed", "price", "odd", "demand"]
DTYPES = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}


@pytest.fixture
def client(url):
    with triton.InferenceServerClient(url.removeprefix("http://")) as found:
        yield found


def column(spec, values, binary, kind=triton):
    """Return a column as a tensor of the datatype that the model's metadata gives."""
    datatype = spec["datatype"]
    if datatype == "BYTES":
        array = np.array([text.encode() for text in values], dtype=object)
    else:
        array = np.array(values, dtype=DTYPES[datatype])
    tensor = kind.InferInput(spec["name"], list(array.shape), datatype)
    return tensor.set_data_from_numpy(array, binary_data=binary)


def inputs(metadata, model, binary, kind=triton):
    return [column(one, model.columns[one["name"]], binary, kind) for one in metadata["inputs"]]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("binary", [True, False])
def test_the_answers_are_the_estimators_own(client, models, name, binary):
    model = models[name]
    metadata = client.get_model_metadata(name)
    outputs = None
    if not binary:
        outputs = [
            triton.InferRequestedOutput(one["name"], binary_data=False)
            for one in metadata["outputs"]
        ]
    found = client.infer(name, inputs(metadata, model, binary), outputs=outputs, request_id="r1")
    assert found.get_response()["id"] == "r1"
    assert found.get_response()["model_version"] == "3"
    assert {one["name"] for one in metadata["outputs"]} == set(model.outputs)
    for one in metadata["outputs"]:
        values = found.as_numpy(one["name"])
        assert list(values.shape[1:]) == one["shape"][1:]
        assert model.agrees(one["name"], values), one


@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
@pytest.mark.parametrize("name", ["native", "compiled"])
def test_one_matrix_in_binary_holds_all_columns(client, models, name, datatype):
    model = models[name]
    matrix = model.matrix.astype({"FP64": np.float64, "FP32": np.float32}[datatype])
    tensor = triton.InferInput("input-0", list(matrix.shape), datatype)
    tensor.set_data_from_numpy(matrix)
    values = client.infer(name, [tensor], model_version="3").as_numpy("probability")
    if datatype == "FP64":
        assert model.agrees("probability", values)
    else:
        assert np.allclose(values, model.outputs["probability"], atol=0.5)


def test_a_missing_number_is_nan_in_both_forms(client, models):
    model = models["mixed"]
    assert None in model.columns["income"]
    metadata = client.get_model_metadata("mixed")
    for binary in (True, False):
        found = client.infer("mixed", inputs(metadata, model, binary))
        assert model.agrees("probabilities", found.as_numpy("probabilities"))


def test_aio_answers_many_callers_at_once_each_with_its_own_rows(url, models):
    async def ask(client, name, metadata, row):
        model = models[name]
        tensors = [
            column(one, model.columns[one["name"]][row : row + 1], row % 2 == 0, triton_aio)
            for one in metadata["inputs"]
        ]
        found = await client.infer(name, tensors)
        return model.agrees("probabilities", found.as_numpy("probabilities"), slice(row, row + 1))

    async def scenario():
        async with triton_aio.InferenceServerClient(url.removeprefix("http://")) as client:
            assert await client.is_server_ready()
            asked = [
                ask(client, name, await client.get_model_metadata(name), row)
                for name in ("native", "compiled", "mixed")
                for row in range(40)
            ]
            assert all(await asyncio.gather(*asked))

    asyncio.run(scenario())


def test_the_server_and_its_models_are_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("native")
    assert client.is_model_ready("native", "3")
    assert not client.is_model_ready("native", "2")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data", "model_repository"]


def test_the_repository_is_listed_and_can_be_asked_to_look_again(client):
    index = {one["name"]: one for one in client.get_model_repository_index()}
    assert set(index) == set(MODELS)
    assert index["native"] == {"name": "native", "version": "3", "state": "READY", "reason": ""}
    client.load_model("native")
    with pytest.raises(InferenceServerException, match="serves what the registry selects"):
        client.unload_model("native")
    assert client.is_model_ready("native")


def test_a_bad_value_names_every_bad_column(client):
    tensors = []
    for name, value in (("a", [0.5, 11.0]), ("b", [1.5, 2.0])):
        tensor = triton.InferInput(name, [2], "FP64")
        tensors.append(tensor.set_data_from_numpy(np.array(value)))
    with pytest.raises(InferenceServerException) as caught:
        client.infer("native", tensors)
    assert caught.value.status() == "400"
    assert "a in row 1 is above the maximum, 10" in caught.value.message()
    assert "b in row 0 must be a whole number" in caught.value.message()


@pytest.mark.parametrize(("name", "version"), [("nothing", ""), ("native", "2")])
def test_an_unknown_model_or_version_is_404(client, models, name, version):
    tensor = triton.InferInput("input-0", [1, 2], "FP64")
    tensor.set_data_from_numpy(np.ones((1, 2)))
    with pytest.raises(InferenceServerException) as caught:
        client.infer(name, [tensor], model_version=version)
    assert caught.value.status() == "404"
