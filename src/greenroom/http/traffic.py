"""Traffic: one worker's answers, counted by what they were asked under and how they came out.

Predictions that take the short way are counted by whoever answers them, with what :class:`Routed`
holds. Everything that goes through ASGI is counted here, at the moment its answer begins:
:class:`CountedSend` stands in the place of ASGI's ``send``. What is counted is
:mod:`greenroom.instruments`' business, and what is answered is not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple, TypeAlias

from greenroom.http.error_replies import error_kind
from greenroom.http.headers import source_headers
from greenroom.http.messages import NO_HEADERS
from greenroom.http.pages import predict_path
from greenroom.inference.served_model import ServedModel
from greenroom.instruments import Answers, WorkerInstruments

__all__ = ["CountedSend", "Routed", "Traffic", "note_error", "route_of"]

# As ASGI has them.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_ERROR: Final = "greenroom.error"


class Routed(NamedTuple):
    """A model under one of its paths.

    Parameters
    ----------
    served : ServedModel
    route : str
        What the path is counted as.
    answers : Answers
        What counts the answers of this version under this path.
    headers : mapping of str to str
        What its answers say beside the body.
    """

    served: ServedModel
    route: str
    answers: Answers
    headers: Mapping[str, str] = NO_HEADERS


def route_of(model: str, path: str) -> str:
    """Return what a prediction's path is counted as.

    Examples
    --------
    >>> route_of("credit", "/predict"), route_of("credit", "/models/credit/predict")
    ('/predict', '/models/{name}/predict')
    """
    return predict_path("{name}") if path == predict_path(model) else path


class Traffic:
    """What counts the answers of the generation that is served.

    Parameters
    ----------
    instruments : WorkerInstruments
    """

    def __init__(self, instruments: WorkerInstruments) -> None:
        self.instruments: Final = instruments
        self._generation = 1
        self._answers: dict[tuple[str, str, str], Answers] = {}

    def routed(self, generation: int, paths: Mapping[str, ServedModel]) -> dict[str, Routed]:
        """Go over to a generation; return by path what answers there, with what counts it."""
        self._generation = generation
        present = {(served.deployment.name, _version(served)) for served in paths.values()}
        self._answers = {
            key: answers for key, answers in self._answers.items() if key[1:] in present
        }
        found = {}
        for path, served in paths.items():
            route = route_of(served.deployment.model, path)
            told = source_headers(served.deployment)
            found[path] = Routed(served, route, self.answers(route, served), told)
        self.instruments.forget()
        return found

    def answers(self, route: str, served: ServedModel) -> Answers:
        """Return what counts a version's answers under any route."""
        key = (route, served.deployment.name, _version(served))
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = self.instruments.predictions(
                *key, generation=self._generation
            )
        return found


def _version(served: ServedModel) -> str:
    serving = served.deployment.serving
    return serving.version if serving is not None else ""


def note_error(scope: Scope, error: Exception) -> None:
    """Note for what is counted which error a request has ended in."""
    scope[_ERROR] = error_kind(error)


class CountedSend:
    """ASGI's ``send``, which counts an answer before it passes it on.

    Parameters
    ----------
    send : callable
        ASGI's own.
    scope : dict
        The request's; the route that Starlette writes into it is what is counted.
    instruments : WorkerInstruments
    """

    def __init__(self, send: Send, scope: Scope, instruments: WorkerInstruments) -> None:
        self._send = send
        self._scope = scope
        self._instruments = instruments
        self._began_s = time.perf_counter()
        self.route = ""
        self.answers: Answers | None = None
        self.counted = False

    def under(self, route: str, answers: Answers | None = None) -> None:
        """Say what the request is counted under, where Starlette does not."""
        self.route, self.answers = route, answers

    async def __call__(self, message: Message) -> None:
        """Count the answer when it begins, and pass the message on."""
        if message["type"] == "http.response.start" and not self.counted:
            self.counted = True
            self._count(message["status"])
        await self._send(message)

    def _count(self, status: int) -> None:
        seconds = time.perf_counter() - self._began_s
        found: Any = self._scope.get("route")
        route = self.route or getattr(found, "path", "")
        if self.answers is not None:
            self.answers.refused(status, seconds)
        else:
            self._instruments.page(route, status, seconds)
        if _ERROR in self._scope:
            self._instruments.failed(route, status, self._scope[_ERROR])
