"""A look-up is a process of its own: what it finds, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
import sys

import pytest

from greenroom.errors import LogUnavailable, ProcessError, TooBusy, TookTooLong
from greenroom.lookup import look_up
from greenroom.lookup_process import MOST_WAITING, LookupOrder, LookupProcess, NotInLog
from greenroom.prediction_id import new_prediction_id
from greenroom.settings import Settings
from servers import FakeServer, served

SAYS = 'import sys; sys.stdin.read(); print(\'{"found": {"a": 1}}\')'
LACKS = 'print(\'{"missing": true, "problem": "none"}\')'
FAILS = 'print(\'{"problem": "the store is away"}\')'
HANGS = "import time; time.sleep(60)"


def ask(script, **changes):
    process = LookupProcess(Settings(), command=(sys.executable, "-c", script), **changes)
    return asyncio.run(process.look_up("x", ["m"]))


def test_what_the_process_says_is_what_comes_back():
    assert ask(SAYS) == {"a": 1}
    with pytest.raises(NotInLog, match="none"):
        ask(LACKS)
    with pytest.raises(LogUnavailable, match="the store is away"):
        ask(FAILS)


@pytest.mark.parametrize(
    ("script", "error"),
    [("raise SystemExit(1)", ProcessError), ("print(5)", ProcessError), (HANGS, TookTooLong)],
)
def test_a_process_that_fails_or_hangs_is_no_answer(script, error):
    with pytest.raises(error):
        ask(script, timeout_s=1.0)


def test_one_is_looked_up_at_a_time_and_few_wait():
    async def crowd():
        process = LookupProcess(Settings(), command=(sys.executable, "-c", SAYS))
        many = [process.look_up("x", []) for _ in range(MOST_WAITING + 1)]
        return await asyncio.gather(*many, return_exceptions=True)

    outcomes = asyncio.run(crowd())
    assert [isinstance(one, TooBusy) for one in outcomes] == [False] * MOST_WAITING + [True]


def test_an_id_that_is_none_or_that_nobody_has_is_missing(tmp_path):
    settings = Settings(home=str(tmp_path), tracking_uri="http://127.0.0.1:1")
    for sought in ("nonsense", new_prediction_id()):
        outcome = look_up(LookupOrder(sought, ("m",), settings))
        assert (outcome.found, outcome.missing) == (None, True)
        assert outcome.problem


def test_where_the_log_is_off_no_process_is_started(tmp_path):
    reply = FakeServer([served()], settings=Settings(log=False, home=str(tmp_path))).get(
        f"/predictions/{new_prediction_id()}"
    )
    assert reply.status_code == 503
    assert "the prediction log is off" in reply.json()["error"]["message"]
