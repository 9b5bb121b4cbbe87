"""What routes around the prediction log take and answer: feedback, and a prediction by its id.

Feedback is noted by the worker before it replies, as predictions are. A prediction is looked up by
a process of its own (:mod:`greenroom.lookup_process`), so that neither the worker's loop nor its
memory pays for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from greenroom.feedback import FEEDBACK_SCHEMA, read_feedback
from greenroom.http.endpoints import Call, Endpoint
from greenroom.http.error_replies import HttpRefusal
from greenroom.http.pages import Page
from greenroom.inference.prediction_log import PredictionLog
from greenroom.inference.served_model import ServedModel
from greenroom.lookup_process import LookupProcess, NotInLog
from greenroom.openapi.json_schemas import object_schema
from greenroom.openapi.openapi import Operation
from greenroom.settings import Settings

__all__ = ["FEEDBACK_PATH", "PREDICTION_PATH", "log_endpoints"]

FEEDBACK_PATH: Final = "/feedback"
PREDICTION_PATH: Final = "/predictions/{prediction_id}"

_OFF: Final = "the prediction log is off"
_SWITCH: Final = "set GREENROOM_LOG=true and restart the server"
_EXAMPLE: Final = {
    "prediction_id": "01a1fdaf-3458-7e84-89ac-6f8ee5e36bff",
    "actual": 1,
    "observed_at": "2026-11-21T10:30:00Z",
}
_UNKEPT: Final = {
    400: "The body is neither an object nor a list of objects.",
    413: "The body is larger than the server reads.",
    415: "The body is not sent as application/json.",
    422: "Items are wrong: every bad field of every item is named.",
    503: "The log is off, or has no room; nothing of the request was kept.",
}
_UNFOUND: Final = {
    404: "The log has no prediction of that id.",
    503: "The log is off, or cannot be read at the moment.",
    504: "It took too long to find it.",
}
_TEXT: Final = {"type": "string"}
_OBJECT: Final = {"type": "object"}
_ACCEPTED: Final = object_schema(
    {
        "accepted": {
            "type": "integer",
            "minimum": 1,
            "description": "How many observations were noted, also those of ids not known here.",
        },
        "received_at": {**_TEXT, "description": "UTC, ISO 8601."},
    },
    required=["accepted", "received_at"],
    title="Feedback was noted",
)
_TRACED: Final = object_schema(
    {
        "prediction_id": _TEXT,
        "answered_at": {**_TEXT, "description": "UTC, ISO 8601."},
        "answer": {**_OBJECT, "description": "What the model answered, output by output."},
        "request": {**_OBJECT, "description": "What was asked, where and by whom."},
        "model": {**_OBJECT, "description": "The version, its run, its data and its code."},
        "call": {**_OBJECT, "description": "The call of the model: engine, threads, rows."},
        "selection": {
            "type": ["object", "null"],
            "description": "Who selected the version, and on what evidence.",
        },
        "feedback": {"type": "array", "items": _OBJECT, "description": "What was observed."},
        "notes": {"type": "array", "items": _TEXT, "description": "What could not be found."},
    },
    required=["prediction_id", "answered_at", "answer", "request", "model", "call", "notes"],
    title="A prediction",
)


def log_endpoints(
    settings: Settings,
    log: PredictionLog | None,
    models: Callable[[], Mapping[str, ServedModel]],
    lookup: LookupProcess | None = None,
) -> Iterator[Endpoint]:
    """Give the routes that every server has around its log.

    Parameters
    ----------
    settings : Settings
    log : PredictionLog, optional
        Where feedback is noted; None where the log is off.
    models : callable
        Returns what is served at the moment, by name.
    lookup : LookupProcess, optional
        What finds predictions; default: a process as the settings say.
    """
    pages = _Pages(settings, log, models, lookup or LookupProcess(settings))
    feedback = Operation(
        method="POST",
        path=FEEDBACK_PATH,
        scope="feedback",
        tag="log",
        summary="Say what was really the case for predictions.",
        statuses=_UNKEPT,
        reply=_ACCEPTED,
        body_schema=FEEDBACK_SCHEMA,
        body_example=_EXAMPLE,
    )
    traced = Operation(
        method="GET",
        path=PREDICTION_PATH,
        scope="read",
        tag="log",
        summary="A prediction: what was asked and answered, by which version, and why by that.",
        statuses=_UNFOUND,
        reply=_TRACED,
    )
    yield Endpoint(feedback, pages.observed)
    yield Endpoint(traced, pages.traced)


class _Pages:
    """The answers; see :func:`log_endpoints`."""

    def __init__(
        self,
        settings: Settings,
        log: PredictionLog | None,
        models: Callable[[], Mapping[str, ServedModel]],
        lookup: LookupProcess,
    ) -> None:
        self._settings = settings
        self._log = log
        self._models = models
        self._lookup = lookup

    async def observed(self, call: Call) -> Page:
        """Note feedback."""
        now = dt.datetime.now(dt.UTC)
        observations = read_feedback(call.body, now)
        if self._log is None:
            raise HttpRefusal(503, f"no feedback is kept: {_OFF}", advice=_SWITCH)
        self._log.observe(call.caller, observations)
        await self._log.durable()
        received = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return Page({"accepted": len(observations), "received_at": received})

    async def traced(self, call: Call) -> Page:
        """Find a prediction."""
        if not self._settings.log:
            raise HttpRefusal(503, f"no prediction is kept: {_OFF}", advice=_SWITCH)
        names = dict.fromkeys(one.deployment.name for one in self._models().values())
        found: dict[str, Any]
        try:
            found = await self._lookup.look_up(call.parameters["prediction_id"], list(names))
        except NotInLog as error:
            raise HttpRefusal(404, error.message, advice=error.advice) from error
        return Page(found)
