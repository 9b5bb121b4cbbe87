"""Feedback: what was really the case for predictions, as a client sends it, one or many.

By the rules that predictions have (:mod:`greenroom.payloads.refusal`): a body is taken whole or
refused whole, and every bad field of every item is named, without its value. Whether there is a
prediction of an id is not asked here: feedback may be early or late. Keeping it is
:mod:`greenroom.inference.prediction_log`'s business, joining it
:mod:`greenroom.tracing.live_scores`'.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from greenroom.errors import FieldProblem, RequestInvalid, RequestMalformed
from greenroom.log.log_records import Observation
from greenroom.payloads.refusal import (
    LARGEST_INTEGER,
    MAX_LISTED,
    field_problems,
    parse_body,
    sentence,
    value_problem,
)
from greenroom.schema import Column

__all__ = ["FEEDBACK_SCHEMA", "MAX_ITEMS", "read_feedback"]

MAX_ITEMS: Final = 10_000
"""How many observations one request may hold, as many as a request for predictions has rows."""

_AHEAD: Final = dt.timedelta(days=1)
"""How far a client's clock may be before ours."""

_ID: Final = "prediction_id"
_ACTUAL: Final = "actual"
_AT: Final = "observed_at"
_UUID7: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_OUTLINE: Final = 'send {"prediction_id", "actual", "observed_at"}, or a list of such objects'
_FIELDS: Final[Mapping[str, Column]] = {
    _ID: Column(_ID, "string"),
    _ACTUAL: Column(_ACTUAL, "string"),
    _AT: Column(_AT, "datetime", nullable=True),
}

_ITEM: Final[dict[str, Any]] = {
    "title": "One observation",
    "type": "object",
    "required": [_ID, _ACTUAL],
    "additionalProperties": False,
    "properties": {
        _ID: {
            "type": "string",
            "format": "uuid",
            "pattern": "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-"
            "[0-9a-fA-F]{12}$",
            "description": "The id that the prediction was answered with.",
        },
        _ACTUAL: {
            "type": ["number", "boolean", "string"],
            "description": "What was really the case: a label or a value, as the model's own are.",
        },
        _AT: {
            "type": ["string", "null"],
            "format": "date-time",
            "pattern": "^(19[7-9]|2[0-9])[0-9]",
            "description": "When that was seen; UTC where it names no offset.",
        },
    },
}
FEEDBACK_SCHEMA: Final[dict[str, Any]] = {
    "oneOf": [
        _ITEM,
        {
            "title": "Several observations",
            "type": "array",
            "items": _ITEM,
            "minItems": 1,
            "maxItems": MAX_ITEMS,
        },
    ]
}
"""What a body looks like, as JSON Schema."""


def read_feedback(body: bytes, now: dt.datetime) -> list[Observation]:
    """Read what a body says about predictions.

    Parameters
    ----------
    body : bytes
        A JSON object with ``prediction_id``, ``actual`` and perhaps ``observed_at``, or a list of
        up to 10,000 of them.
    now : datetime
        The time, in UTC.

    Raises
    ------
    RequestMalformed
        When it is neither.
    RequestInvalid
        When items are wrong; every bad field of every item is named, up to 100.

    Examples
    --------
    >>> sent = b'{"prediction_id": "01A1FDAF-3458-7E84-89AC-6F8EE5E36BFF", "actual": 1}'
    >>> read_feedback(sent, dt.datetime.now(dt.UTC))[0].actual
    1
    """
    document = parse_body(body, _OUTLINE)
    single = isinstance(document, dict)
    items = [document] if single else document
    if not isinstance(items, list):
        raise RequestMalformed(
            "the body is neither an observation nor a list of some", advice=_OUTLINE
        )
    if not items:
        raise RequestInvalid("the list of observations is empty", (), advice="send at least one")
    if len(items) > MAX_ITEMS:
        raise RequestInvalid(
            f"{len(items)} observations are more than one request may hold",
            (),
            advice=f"send at most {MAX_ITEMS} at a time",
        )
    found = [
        FieldProblem(number, *problem)
        for number, item in enumerate(items)
        for problem in _problems(item, now)
    ]
    if found:
        raise RequestInvalid(sentence(found, single=single), found[:MAX_LISTED], advice=_OUTLINE)
    return [
        Observation(item[_ID].lower(), _plain(item[_ACTUAL]), _microseconds(item.get(_AT)))
        for item in items
    ]


def _problems(item: Any, now: dt.datetime) -> Iterator[tuple[str, str]]:
    """Give every bad field of an observation, with what is wrong with it."""
    if not isinstance(item, dict):
        yield "", "is not an object with fields"
        return
    bad = set()
    for name, problem in field_problems(item, _FIELDS):
        if name == _ACTUAL and name in item and problem != "is given twice":
            problem = _actual_problem(item[name])
        if problem:
            bad.add(name)
            yield name, problem
    if _ID in item and _ID not in bad and not _UUID7.fullmatch(item[_ID]):
        yield _ID, "is not the id of a prediction (a UUID of version 7)"
    if item.get(_AT) is not None and _AT not in bad:
        observed = _instant(item[_AT])
        if observed <= _EPOCH:
            yield _AT, "is before 1970"
        elif observed > now + _AHEAD:
            yield _AT, "is in the future"


def _actual_problem(value: Any) -> str:
    if value is None:
        return "must not be null"
    if isinstance(value, float):
        return value_problem(Column(_ACTUAL), value)
    return "" if isinstance(value, bool | str) else "must be a number, true, false or a string"


def _plain(value: Any) -> Any:
    """Return a number without a fraction as an integer, which 3.0 is too in JSON."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_INTEGER
    return int(value) if whole else value


def _instant(text: str) -> dt.datetime:
    found = msgspec.convert(text, dt.datetime)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _microseconds(text: str | None) -> int:
    return 0 if text is None else (_instant(text) - _EPOCH) // dt.timedelta(microseconds=1)
