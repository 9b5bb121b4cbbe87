"""Open Inference Protocol V2: its requests and replies, as JSON and with binary data behind it.

A request's body is a JSON object, and behind it the bytes of those tensors that travel as binary;
:func:`read_request` takes it apart, and names everything that is wrong with its tensors.
:func:`write_reply` is the way back. What the values of tensors look like is
:mod:`greenroom.protocols.tensors`' business, whether they fit a model
:mod:`greenroom.protocols.tensor_rows`'. There is no HTTP here.

Source: https://github.com/kserve/open-inference-protocol, and for binary data Triton's extension
``binary_tensor_data``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from greenroom.errors import RequestMalformed
from greenroom.evaluation.predictions import Predictions
from greenroom.payloads.json_literals import has_literals, replace_literals
from greenroom.payloads.refusal import readable_name
from greenroom.payloads.reply import instant_texts, to_json
from greenroom.protocols.tensors import (
    BadTensor,
    Tensor,
    datatype_of,
    invalid_tensors,
    read_binary,
    read_json,
    to_binary,
)

__all__ = [
    "InferenceReply",
    "InferenceRequest",
    "output_metadata",
    "read_request",
    "write_reply",
]

_UNSUPPORTED: Final = ("shared_memory_region", "classification")
_OUTLINE: Final = 'send {"inputs": [{"name", "shape", "datatype", "data"}, ...]}'
_encode: Final = msgspec.json.Encoder(enc_hook=to_json).encode


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_decode: Final = msgspec.json.Decoder(_Request).decode


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A request, taken apart.

    Parameters
    ----------
    id : str or None
        What the reply gives back.
    inputs : tuple of Tensor
        At least one.
    outputs : mapping of str to bool
        The outputs that are asked for, in their order, and whether each is to be binary; empty for
        all there are.
    binary_outputs : bool
        Whether outputs are binary of which nothing else is said.
    """

    id: str | None
    inputs: tuple[Tensor, ...]
    outputs: Mapping[str, bool]
    binary_outputs: bool


class InferenceReply(NamedTuple):
    """A reply's body, and how much of it is JSON; None when all of it is."""

    body: bytes
    json_length: int | None


def read_request(body: bytes, json_length: int | None = None) -> InferenceRequest:
    """Read the body of a request.

    Parameters
    ----------
    body : bytes
    json_length : int, optional
        How many of its first bytes are JSON; None for all.

    Raises
    ------
    RequestMalformed
        When it is not a request of the protocol, or ``json_length`` and the sizes of the binary
        tensors do not add up to the body.
    RequestInvalid
        When tensors are not what they say they are; every one is named.

    Examples
    --------
    >>> sent = b'{"inputs": [{"name": "a", "shape": [2], "datatype": "FP64", "data": [1, 2.5]}]}'
    >>> read_request(sent).inputs[0].values
    array([1. , 2.5])
    """
    if json_length is not None and not 0 < json_length <= len(body):
        raise RequestMalformed(
            f"the body has {len(body)} bytes, and its JSON is said to have {json_length}",
            advice="Inference-Header-Content-Length is the number of bytes before the binary data",
        )
    request = _read_json(body[:json_length])
    if not request.inputs:
        raise RequestMalformed("the request has no inputs", advice=_OUTLINE)
    binary = memoryview(body)[json_length if json_length is not None else len(body) :]
    parameters = request.parameters or {}
    binary_outputs = parameters.get("binary_data_output") is True
    return InferenceRequest(
        id=request.id,
        inputs=_tensors(request.inputs, binary),
        outputs=_outputs(request.outputs or (), binary_outputs),
        binary_outputs=binary_outputs,
    )


def write_reply(
    request: InferenceRequest,
    predictions: Predictions,
    ids: Sequence[str] = (),
    *,
    model: str,
    version: str,
) -> InferenceReply:
    """Write the reply: the outputs that were asked for, in that order.

    Prediction ids are among its parameters: ``prediction_id`` of the first row, and of several
    rows ``prediction_ids``, parted by commas, as a parameter is no list.

    Raises
    ------
    RequestMalformed
        When an output is asked for that the model does not give.

    Examples
    --------
    >>> asked = InferenceRequest("42", (), {}, False)
    >>> answered = Predictions({"prediction": np.array([0.5])})
    >>> write_reply(asked, answered, model="m", version="3").body
    b'{"model_name":"m",...,"id":"42",...{"name":"prediction",...,"shape":[1],"data":[0.5]}]}'
    """
    given = predictions.outputs
    asked = request.outputs or dict.fromkeys(given, request.binary_outputs)
    unknown = [readable_name(name) for name in asked if name not in given]
    if unknown:
        raise RequestMalformed(
            f"the model gives no output {', '.join(unknown)}",
            advice=f"its outputs are {', '.join(given)}",
        )
    described, blobs = [], []
    for name, binary in asked.items():
        values = _plain(given[name])
        output: dict[str, Any] = {"name": name, "datatype": datatype_of(values)}
        output["shape"] = list(values.shape)
        if binary:
            blobs.append(to_binary(values))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            output["data"] = values.ravel().tolist()
        described.append(output)
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id is not None:
        document["id"] = request.id
    if ids:
        document["parameters"] = {"prediction_id": ids[0]}
    if len(ids) > 1:
        document["parameters"]["prediction_ids"] = ",".join(ids)
    document["outputs"] = described
    text = _encode(document)
    if not blobs:
        return InferenceReply(text, None)
    return InferenceReply(b"".join([text, *blobs]), len(text))


def output_metadata(predictions: Predictions) -> list[dict[str, Any]]:
    """Describe a model's outputs by what it answered once; how many rows varies, and so is -1."""
    found = []
    for name, values in predictions.outputs.items():
        plain = _plain(values)
        shape = [-1, *plain.shape[1:]]
        found.append({"name": name, "datatype": datatype_of(plain), "shape": shape})
    return found


def _read_json(text: bytes) -> _Request:
    """Read the JSON; only where that fails, once more with NaN as a missing value."""
    try:
        return _decode(text)
    except msgspec.ValidationError as error:
        # It names the place and the types, and holds no value.
        raise RequestMalformed(f"the request is not one of V2: {error}", advice=_OUTLINE) from None
    except RecursionError:
        raise RequestMalformed("the request is nested too deeply", advice=_OUTLINE) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        plain = replace_literals(text) if has_literals(text) else text
        # Equal where the literals stand in strings only: then they are not what is wrong.
        if plain != text:
            return _read_json(plain)
        raise RequestMalformed("the request is not JSON in UTF-8", advice=_OUTLINE) from None


def _tensors(inputs: Sequence[_Input], binary: memoryview) -> tuple[Tensor, ...]:
    """Read the values of all tensors; the binary ones lie one after the other."""
    sizes = [_binary_size(one) for one in inputs]
    if sum(size or 0 for size in sizes) != binary.nbytes:
        raise RequestMalformed(
            f"there are {binary.nbytes} bytes of binary data, and the inputs' binary_data_size "
            f"add up to {sum(size or 0 for size in sizes)}"
        )
    found, place = [], 0
    problems: dict[str, str] = {}
    for one, size in zip(inputs, sizes, strict=True):
        raw = binary[place : place + (size or 0)]
        place += raw.nbytes
        try:
            found.append(Tensor(one.name, one.datatype, _values(one, size, raw)))
        except BadTensor as error:
            problems.setdefault(one.name, str(error))
    if problems:
        raise invalid_tensors(problems)
    return tuple(found)


def _binary_size(one: _Input) -> int | None:
    size = (one.parameters or {}).get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise RequestMalformed(f"{readable_name(one.name)} has a binary_data_size that is no size")
    return size


def _values(one: _Input, size: int | None, raw: memoryview) -> npt.NDArray[Any]:
    _require_supported(one.parameters)
    if len(one.shape) not in {1, 2} or any(extent < 0 for extent in one.shape):
        raise BadTensor("has a shape that is neither [n] nor [n, columns]")
    text = bytes(one.data)
    if size is not None:
        if text:
            raise BadTensor("has data beside its binary_data_size")
        return read_binary(one.datatype, one.shape, raw)
    if not text:
        raise BadTensor("has neither data nor a binary_data_size")
    return read_json(one.datatype, one.shape, text)


def _outputs(outputs: Sequence[_Output], binary: bool) -> dict[str, bool]:
    asked: dict[str, bool] = {}
    for one in outputs:
        if one.name in asked:
            raise RequestMalformed(f"the output {readable_name(one.name)} is asked for twice")
        try:
            _require_supported(one.parameters)
        except BadTensor as error:
            raise RequestMalformed(f"the output {readable_name(one.name)} {error}") from None
        asked[one.name] = (one.parameters or {}).get("binary_data", binary) is True
    return asked


def _require_supported(parameters: Mapping[str, Any] | None) -> None:
    """Refuse what would change the meaning of a tensor; of the rest nothing has to be known."""
    for name in _UNSUPPORTED:
        if parameters and name in parameters:
            raise BadTensor(f"has the parameter {name}, which is not supported")


def _plain(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an output as the protocol can hold it: numbers, true and false, or text.

    What is none of these becomes its JSON: the reasons of an anomaly, a list of texts for each row.
    """
    if values.dtype.kind in "biuf":
        return values
    plain = np.empty(values.shape, dtype=object)
    if values.dtype.kind == "M":
        plain[:] = [text or "" for text in instant_texts(values)]
        return plain
    for place, value in np.ndenumerate(values):
        plain[place] = str(value) if isinstance(value, str) else _encode(value).decode()
    return plain
