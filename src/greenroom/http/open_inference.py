"""The Open Inference Protocol over HTTP, ``/v2``: what each of its paths answers.

Statuses and headers. Which paths there are stands in :mod:`greenroom.http.protocol_endpoints`, and
what bodies mean is :mod:`greenroom.protocols.inference_protocol`'s business. There is no web
framework here: a request comes as its parts and a reply goes back as its own, so that any server
can stand before it.

A server serves what the registry selects and nothing else. So a model has the one version that is
served, ``load`` has the registry asked now, and ``unload`` is refused: what is to be served is said
in the registry alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from greenroom import __version__
from greenroom.access.callers import Access
from greenroom.data.examples import example_request
from greenroom.errors import NotServing, RequestMalformed, VersionError
from greenroom.http.answering import Identified
from greenroom.http.error_replies import HttpRefusal, protocol_error_reply
from greenroom.http.headers import identifying, source_headers
from greenroom.http.pages import not_serving, ready
from greenroom.http.protocol_endpoints import endpoint_of
from greenroom.inference.prediction_log import UNKNOWN, Asker
from greenroom.inference.served_model import FirstUse, ServedModel
from greenroom.payloads.refusal import readable_name
from greenroom.payloads.reply import to_json
from greenroom.payloads.rows import RowSource
from greenroom.prediction_id import new_prediction_id
from greenroom.protocols.inference_protocol import (
    InferenceRequest,
    output_metadata,
    read_request,
    write_reply,
)
from greenroom.protocols.tensor_rows import TensorReader, input_metadata
from greenroom.status import Status

__all__ = ["JSON_LENGTH", "HttpReply", "OpenInference"]

JSON_LENGTH: Final = "inference-header-content-length"
"""The header that says how many bytes of a body are JSON, where the rest is binary."""

EXTENSIONS: Final = ("binary_tensor_data", "model_repository")

Predict: TypeAlias = Callable[[ServedModel, RowSource, Asker | None], Awaitable[Identified]]
Work: TypeAlias = Callable[[int, Callable[[], Any]], Awaitable[Any]]
Admit: TypeAlias = Callable[[Access], AbstractContextManager[str]]
ReadBody: TypeAlias = Callable[[], Awaitable[bytes | None]]

_encode: Final = msgspec.json.Encoder(enc_hook=to_json).encode


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply in its parts, and what is to be known about it where it is counted.

    Parameters
    ----------
    body : bytes
    status : int
    headers : mapping of str to str
    route : str
        The path of the endpoint that answered; empty where there is none.
    predicted : ServedModel, optional
        The model that was asked for a prediction.
    error : Exception, optional
        What the request has ended in.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    route: str = ""
    predicted: ServedModel | None = None
    error: Exception | None = None


class _Asked(NamedTuple):
    """A request in its parts."""

    route: str
    parameters: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    read: ReadBody
    asker: Asker = UNKNOWN


class _Gone(Exception):
    """The caller has gone away while its body was read."""


_Handler: TypeAlias = Callable[[_Asked], Awaitable[HttpReply]]


class OpenInference:
    """The protocol of one server.

    Parameters
    ----------
    models : callable
        Returns by name what the committed generation answers with.
    status : callable
        Returns the server's status.
    reload : callable
        Has the registry asked, and returns when all workers serve what it selects.
    first_use : callable
        Returns a model in memory, which it may not have been before.
    predict : callable
        ``model, rows, who asks -> predictions and their ids``: where a prediction is made is the
        server's to say; it is noted where somebody asks for it.
    work : callable
        ``n_bytes, work -> result``: does what takes the longer the more bytes there are.
    """

    def __init__(
        self,
        *,
        models: Callable[[], Mapping[str, ServedModel]],
        status: Callable[[], Status],
        reload: Callable[[], Awaitable[Status]],
        first_use: FirstUse,
        predict: Predict,
        work: Work,
    ) -> None:
        self._models = models
        self._first_use = first_use
        self._status = status
        self._reload = reload
        self._predict = predict
        self._work = work
        # By name: what the model's answers depend on, and what was made for it once. Not the model
        # itself, which may be put out of memory.
        self._readers: dict[str, tuple[object, TensorReader]] = {}
        self._described: dict[str, tuple[object, list[dict[str, Any]]]] = {}
        self._handlers: Final[dict[str, _Handler]] = {
            "infer": self._infer,
            "server": self._server,
            "live": self._live,
            "server_ready": self._ready,
            "metadata": self._metadata,
            "model_ready": self._model_ready,
            "index": self._index,
            "load": self._load,
            "unload": self._unload,
        }

    async def answer(
        self,
        method: str,
        path: str,
        headers: Mapping[bytes, bytes],
        read: ReadBody,
        *,
        admit: Admit,
        request_id: str = "",
    ) -> HttpReply | None:
        """Answer a request; None when the caller has gone away.

        Whatever goes wrong is answered, as ``{"error": text}``.

        Parameters
        ----------
        method, path : str
            The path is decoded, and begins with ``/v2``.
        headers : mapping of bytes to bytes
            Names in lower case.
        read : callable
            Reads the body; gives None when the caller has gone away.
        admit : callable
            Lets the caller in for what an endpoint asks for, or raises.
        request_id : str, optional
            By which a failure is found in the log.
        """
        asked = _Asked("", {}, headers, read)
        try:
            endpoint, parameters = endpoint_of(method, path)
            asked = asked._replace(route=endpoint.path, parameters=parameters)
            with admit(endpoint.scope) as caller:
                asker = Asker(caller, endpoint.path, request_id)
                reply = await self._handlers[endpoint.action](asked._replace(asker=asker))
        except _Gone:
            return None
        except Exception as error:  # noqa: BLE001 - the last place where it can be answered
            sought = request_id or new_prediction_id()
            told = protocol_error_reply(error, request_id=sought, where=f"{method} {asked.route}")
            reply = HttpReply(told.body, told.status, {**_JSON, **told.headers}, error=error)
        predicted = reply.predicted or self._asked_to_predict(asked)
        return replace(reply, route=asked.route, predicted=predicted)

    def _asked_to_predict(self, asked: _Asked) -> ServedModel | None:
        """Return the model that a request for a prediction named, if there is one of that name."""
        if not asked.route.endswith("/infer"):
            return None
        with suppress(NotServing):
            return self._models().get(asked.parameters["name"])
        return None

    async def _infer(self, asked: _Asked) -> HttpReply:
        name, served = await self._in_memory(asked)
        body = await _body(asked)
        json_length = _json_length(asked.headers)
        reader = self._reader(name, served)
        request, rows = await self._work(len(body), lambda: _decoded(reader, body, json_length))
        predictions, ids = await self._predict(served, rows, asked.asker)
        version = served.deployment.serving.version if served.deployment.serving else ""
        reply = write_reply(request, predictions, ids, model=name, version=version)
        told = {**source_headers(served.deployment), **identifying(ids)}
        if reply.json_length is None:
            return HttpReply(reply.body, headers={**_JSON, **told}, predicted=served)
        binary = {"content-type": "application/octet-stream", JSON_LENGTH: str(reply.json_length)}
        return HttpReply(reply.body, headers={**binary, **told}, predicted=served)

    def _reader(self, name: str, served: ServedModel) -> TensorReader:
        """Return what reads a model's tensors, made when it is first asked for."""
        found, made_for = self._readers.get(name), served.deployment.answers_as
        if found is None or found[0] != made_for:
            assert served.runtime is not None  # noqa: S101 - for the type checker
            found = self._readers[name] = (made_for, TensorReader(served.runtime.schema))
        return found[1]

    async def _server(self, _: _Asked) -> HttpReply:
        return _json({"name": "greenroom", "version": __version__, "extensions": EXTENSIONS})

    async def _live(self, _: _Asked) -> HttpReply:
        return _json({"live": True})

    async def _ready(self, _: _Asked) -> HttpReply:
        page = ready(self._status())
        # The protocol's text calls the field "live", and its clients read "ready".
        return _json({"live": True, "ready": page.status == 200}, page.status)

    async def _metadata(self, asked: _Asked) -> HttpReply:
        name, served = await self._in_memory(asked)
        runtime, serving = served.runtime, served.deployment.serving
        if runtime is None or serving is None:
            raise not_serving(served.deployment)
        document = {
            "name": name,
            "versions": [serving.version],
            "platform": f"greenroom_{runtime.kind}",
            "inputs": input_metadata(runtime.schema),
            "outputs": await self._outputs(name, served),
        }
        return _json(document)

    async def _outputs(self, name: str, served: ServedModel) -> list[dict[str, Any]]:
        """Describe a model's outputs by its answer to an example, asked for once."""
        found, made_for = self._described.get(name), served.deployment.answers_as
        if found is None or found[0] != made_for:
            assert served.runtime is not None  # noqa: S101 - for the type checker
            example = example_request(served.runtime.schema, served.runtime.example_values)
            rows = served.decode(msgspec.json.encode(example))
            predictions, _ = await self._predict(served, rows, None)
            found = (made_for, output_metadata(predictions))
            self._described[name] = found
        return found[1]

    async def _model_ready(self, asked: _Asked) -> HttpReply:
        try:
            name, _ = self._served(asked)
        except NotServing:
            return _json({"name": asked.parameters["name"], "ready": False}, 503)
        return _json({"name": name, "ready": True})

    async def _index(self, asked: _Asked) -> HttpReply:
        only_ready = _object(await _body(asked)).get("ready") is True
        found = []
        for name, served in self._models().items():
            deployment = served.deployment
            if deployment.serving is not None:
                state = {"version": deployment.serving.version, "state": "READY", "reason": ""}
                found.append({"name": name, **state})
            elif not only_ready:
                state = {"version": "", "state": "UNAVAILABLE", "reason": deployment.reason}
                found.append({"name": name, **state})
        return _json(found)

    async def _load(self, asked: _Asked) -> HttpReply:
        name, _ = self._named(asked)
        if _object(await _body(asked)).get("parameters"):
            raise RequestMalformed(
                "a model is loaded as it is registered", advice="leave parameters out"
            )
        try:
            await self._reload()
        except VersionError as error:
            # The registry selects what cannot be served, and the last good version goes on.
            raise HttpRefusal(409, error.message, advice=error.advice) from error
        _, served = self._named(asked)
        if served.deployment.serving is None:
            raise not_serving(served.deployment)
        return _json({"name": name, "version": served.deployment.serving.version})

    async def _unload(self, asked: _Asked) -> HttpReply:
        name, served = self._named(asked)
        raise HttpRefusal(
            409,
            f"{name} is not unloaded: the server serves what the registry selects",
            advice=f"take the version out of {served.deployment.selector} in the registry",
        )

    async def _in_memory(self, asked: _Asked) -> tuple[str, ServedModel]:
        """Return the model that a path names, loaded."""
        name, served = self._served(asked)
        return name, await self._first_use(served)

    def _served(self, asked: _Asked) -> tuple[str, ServedModel]:
        """Return the model that a path names, having a version, and the one that is asked for."""
        name, served = self._named(asked)
        serving = served.deployment.serving
        if serving is None:
            raise not_serving(served.deployment)
        version = asked.parameters.get("version")
        if version is not None and version != serving.version:
            raise HttpRefusal(
                404,
                f"{name} is not served in that version",
                advice=f"the registry selects version {serving.version}",
            )
        return name, served

    def _named(self, asked: _Asked) -> tuple[str, ServedModel]:
        models = self._models()
        name = asked.parameters["name"]
        if name not in models:
            known = ", ".join(models) or "none"
            raise HttpRefusal(
                404, f"there is no model {readable_name(name)}", advice=f"there are {known}"
            )
        return name, models[name]


_JSON: Final = {"content-type": "application/json"}


def _decoded(
    reader: TensorReader, body: bytes, json_length: int | None
) -> tuple[InferenceRequest, RowSource]:
    request = read_request(body, json_length)
    return request, reader.rows(request.inputs)


async def _body(asked: _Asked) -> bytes:
    """Read the body, which is what the length header says and not what its content type does."""
    if asked.headers.get(b"content-encoding", b"identity") != b"identity":
        raise HttpRefusal(415, "the body is compressed", advice="send it without Content-Encoding")
    body = await asked.read()
    if body is None:
        raise _Gone
    return body


def _json_length(headers: Mapping[bytes, bytes]) -> int | None:
    given = headers.get(JSON_LENGTH.encode())
    if given is None:
        return None
    if not given.isdigit() or len(given) > 18:
        raise RequestMalformed(
            "Inference-Header-Content-Length is not a number of bytes",
            advice="it is how many bytes of the body are JSON",
        )
    return int(given)


def _object(body: bytes) -> dict[str, Any]:
    """Read the JSON object of a request that may have none."""
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestMalformed("the body is not a JSON object") from None


def _json(document: Any, status: int = 200) -> HttpReply:
    return HttpReply(_encode(document), status, _JSON)
