"""What a client gets instead of an answer: which HTTP status an error becomes, and its JSON.

This is the only place where the tree of errors meets HTTP. One shape for all of them::

    {"error": {"message": "...", "advice": "...", "problems": [{"row", "field", "problem"}]},
     "detail": "..."}

``advice`` and ``problems`` stand there when there are any. ``detail`` is the same in one line,
where clients of FastAPI services look for it. Nothing here repeats a value of a request.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from greenroom.errors import (
    CallerRefused,
    FieldProblem,
    GreenroomError,
    LogUnavailable,
    NotAllowed,
    NotAuthenticated,
    NotInRegistry,
    NotServing,
    ProcessError,
    PromotionError,
    RegistryError,
    RegistryUnavailable,
    RequestError,
    RequestInvalid,
    SpoolFull,
    TooBusy,
    TookTooLong,
    TrainingUnderway,
)

__all__ = [
    "ErrorReply",
    "HttpRefusal",
    "error_kind",
    "error_reply",
    "protocol_error_reply",
    "scoring_error_reply",
]

_LOG: Final = logging.getLogger("greenroom.serving")

_STATUSES: Final[tuple[tuple[type[GreenroomError], int], ...]] = (
    (RequestInvalid, 422),
    (RequestError, 400),
    (NotServing, 503),
    (NotAuthenticated, 401),
    (NotAllowed, 403),
    (TooBusy, 503),
    (SpoolFull, 503),
    (LogUnavailable, 503),
    (TookTooLong, 504),
    (TrainingUnderway, 409),
    (RegistryUnavailable, 503),
    (NotInRegistry, 404),
    (RegistryError, 502),
    (PromotionError, 409),
    (ProcessError, 503),
)
"""The first that fits holds; everything else is the server's own fault, 500."""


LOGGED_FRAMES: Final = 20
"""Of the stack of an error that nobody foresaw, the innermost; one that recurses has thousands."""


class HttpRefusal(Exception):
    """A request is refused for reasons of HTTP: its path, method, length or content type."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        advice: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.advice = advice
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class ErrorReply:
    """A reply that says what is wrong: its status, its JSON and headers of its own."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def error_kind(error: Exception) -> str:
    """Return what an error is counted as: our own by their classes, all others together.

    Examples
    --------
    >>> error_kind(NotServing("m is not served")), error_kind(ZeroDivisionError())
    ('NotServing', 'internal')
    """
    return type(error).__name__ if isinstance(error, GreenroomError | HttpRefusal) else "internal"


def error_reply(error: Exception, *, request_id: str, where: str) -> ErrorReply:
    """Make the reply to a request that ended in ``error``.

    What nobody foresaw is logged, with where it happened and ``request_id``, and the client is
    told only that. The log has the stack without the exception's own text, which may hold values
    of the request.

    Parameters
    ----------
    error : Exception
    request_id : str
        By which the log line can be found.
    where : str
        The method and route, for the log.

    Examples
    --------
    >>> error_reply(NotServing("m is not served"), request_id="1", where="POST /predict").status
    503
    """
    if isinstance(error, HttpRefusal):
        body = _encode(error.message, error.advice)
        return ErrorReply(error.status, body, error.headers)
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            problems = error.problems if isinstance(error, RequestInvalid) else ()
            body = _encode(error.message, error.advice, problems)
            return ErrorReply(status, body, _headers(error))
    frames = traceback.extract_tb(error.__traceback__)[-LOGGED_FRAMES:]
    stack = " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[::-1])
    kind_name = type(error).__name__
    _LOG.error("%s failed with %s, request %s: %s", where, kind_name, request_id, stack)
    return ErrorReply(
        500,
        _encode("the server failed to answer", f"its log says more about request {request_id}"),
        {"x-request-id": request_id},
    )


def _headers(error: GreenroomError) -> Mapping[str, str]:
    """Return what a reply says in headers: who would be let in, when to come again."""
    if isinstance(error, CallerRefused):
        return {"www-authenticate": error.challenge}
    if isinstance(error, TooBusy):
        return {"retry-after": str(error.retry_after_s)}
    return {}


def scoring_error_reply(error: Exception, *, request_id: str) -> ErrorReply:
    """Make the reply to a scoring request that ended in ``error``, as MLflow's clients expect it.

    A wrong value is 400 there, with ``error_code`` and ``message``.
    """
    plain = error_reply(error, request_id=request_id, where="POST /invocations")
    detail = msgspec.json.decode(plain.body)["detail"]
    status = 400 if plain.status == 422 else plain.status
    code = _SCORING_CODES.get(status, "INTERNAL_ERROR")
    body = msgspec.json.encode({"error_code": code, "message": detail})
    return ErrorReply(status, body, plain.headers)


def protocol_error_reply(error: Exception, *, request_id: str, where: str) -> ErrorReply:
    """Make the reply to a request of the Open Inference Protocol that ended in ``error``.

    Its one field ``error`` is a text there, and a wrong value is 400.
    """
    plain = error_reply(error, request_id=request_id, where=where)
    detail = msgspec.json.decode(plain.body)["detail"]
    status = 400 if plain.status == 422 else plain.status
    return ErrorReply(status, msgspec.json.encode({"error": detail}), plain.headers)


_SCORING_CODES: Final = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    405: "BAD_REQUEST",
    413: "BAD_REQUEST",
    408: "BAD_REQUEST",
    415: "BAD_REQUEST",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def _encode(message: str, advice: str = "", problems: Sequence[FieldProblem] = ()) -> bytes:
    error: dict[str, Any] = {"message": message}
    if advice:
        error["advice"] = advice
    if problems:
        error["problems"] = [problem._asdict() for problem in problems]
    detail = f"{message}; {advice}" if advice else message
    return msgspec.json.encode({"error": error, "detail": detail})
