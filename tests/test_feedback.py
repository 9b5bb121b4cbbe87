"""Feedback: what a body says, each bad field of each item named; noted before it is answered."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.errors import RequestInvalid, RequestMalformed
from greenroom.feedback import MAX_ITEMS, read_feedback
from greenroom.log.log_records import Observation, Observations
from greenroom.prediction_id import new_prediction_id
from greenroom.settings import Settings
from servers import FakeServer, served
from test_prediction_log import FullSpool, opened, records

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
ID = "01a1fdaf-3458-7e84-89ac-6f8ee5e36bff"


def read(document):
    return read_feedback(json.dumps(document).encode(), NOW)


def test_one_or_many_are_read_and_ids_are_written_one_way():
    observed = "2026-11-21T11:00:00+01:00"
    one = {"prediction_id": ID.upper(), "actual": 3.0, "observed_at": observed}
    at_us = int(dt.datetime(2026, 11, 21, 10, tzinfo=dt.UTC).timestamp() * 1e6)
    assert read(one) == [Observation(ID, 3, at_us)]
    naive = {"prediction_id": ID, "actual": "high", "observed_at": "2026-11-21T10:00:00"}
    assert read([one, naive])[1] == Observation(ID, "high", at_us)
    assert read({"prediction_id": ID, "actual": True, "observed_at": None})[0].actual is True


@given(st.one_of(st.booleans(), st.text(), st.floats(allow_nan=False, allow_infinity=False)))
def test_every_value_that_json_has_for_an_answer_is_taken_as_it_is(actual):
    (found,) = read({"prediction_id": ID, "actual": actual})
    assert found.actual == actual
    assert isinstance(found.actual, str) == isinstance(actual, str)


def test_every_bad_field_of_every_item_is_named():
    sent = [
        {"prediction_id": "4f2c9f0e-0000-4000-8000-000000000000", "actual": 1},
        {"prediction_id": ID},
        {"prediction_id": ID, "actual": None, "observed_at": "yesterday", "more": 1},
        {"actual": [1], "observed_at": "1969-12-31T00:00:00Z"},
        {"prediction_id": 7, "actual": {}, "observed_at": "2026-11-23T00:00:00Z"},
        5,
    ]
    with pytest.raises(RequestInvalid) as refused:
        read(sent)
    assert [(one.row, one.field, one.problem) for one in refused.value.problems] == [
        (0, "prediction_id", "is not the id of a prediction (a UUID of version 7)"),
        (1, "actual", "is missing"),
        (2, "actual", "must not be null"),
        (2, "observed_at", "must be a date and time, such as 2024-01-15T10:30:00Z"),
        (2, "more", "is unknown"),
        (3, "prediction_id", "is missing"),
        (3, "actual", "must be a number, true, false or a string"),
        (3, "observed_at", "is before 1970"),
        (4, "prediction_id", "must be a string"),
        (4, "actual", "must be a number, true, false or a string"),
        (4, "observed_at", "is in the future"),
        (5, "", "is not an object with fields"),
    ]


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (b"", RequestMalformed, "empty"),
        (b"5", RequestMalformed, "neither an observation nor a list"),
        (b"[]", RequestInvalid, "list of observations is empty"),
        (b"[" + b"{}," * MAX_ITEMS + b"{}]", RequestInvalid, "10001 observations"),
        (f'{{"prediction_id": "{ID}", "actual": NaN}}'.encode(), RequestInvalid, "not finite"),
        (
            f'{{"prediction_id": "{ID}", "actual": 1, "actual": 2}}'.encode(),
            RequestInvalid,
            "actual is given twice",
        ),
    ],
)
def test_what_is_no_feedback_is_refused(body, error, message):
    with pytest.raises(error, match=message):
        read_feedback(body, NOW)


class Logged(FakeServer):
    """A server whose worker has a log."""

    log = None

    def asgi(self, **changes):
        return super().asgi(**{"log": self.log, **changes})


@pytest.mark.parametrize("fsync_s", [0.0, 0.01])
def test_feedback_stands_in_the_log_when_it_is_answered(tmp_path, fsync_s):
    server = Logged([served()])
    server.log = opened(tmp_path, fsync_s=fsync_s)
    one = new_prediction_id()
    reply = server.post("/feedback", json=[{"prediction_id": one, "actual": 1}])
    assert (reply.status_code, reply.json()["accepted"]) == (200, 1)
    (record,) = [found for found in records(tmp_path) if isinstance(found, Observations)]
    assert record.observations == [Observation(one, 1)]
    server.log.close()


def test_feedback_that_cannot_be_kept_is_refused_whatever_becomes_of_predictions():
    sent = {"prediction_id": new_prediction_id(), "actual": 1}
    off = FakeServer([served()], settings=Settings(log=False)).post("/feedback", json=sent)
    assert (off.status_code, off.json()["error"]["message"]) == (
        503,
        "no feedback is kept: the prediction log is off",
    )
    server = Logged([served()])
    server.log = opened(None, when_full="serve")
    assert isinstance(server.log._spooler, FullSpool)
    assert server.post("/feedback", json=sent).status_code == 503
    assert server.post("/feedback", json={"actual": 1}).status_code == 422
