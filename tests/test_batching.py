"""Batching: who is answered with whom, and that nobody can tell but by the time it takes."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import threading
import weakref

import numpy as np
import pytest

from greenroom.evaluation.predictions import Predictions
from greenroom.inference import batching
from greenroom.inference.batching import Batcher
from greenroom.payloads.request import RequestType
from greenroom.schema import Column, Schema

NUMBERS = RequestType.compile(Schema((Column("a"),)))
MIXED = RequestType.compile(Schema((Column("s", "string"), Column("i", "integer", nullable=True))))


def rows(*values, requests=NUMBERS):
    return requests.decode(json.dumps([{"a": value} for value in values]).encode())


class Doubling:
    """Answers twice the value; fails where one is negative; waits until it may go on."""

    def __init__(self, *, batches=True, held=False, error=ValueError):
        self.batches = batches
        self.calls = []
        self.entered, self.leave = threading.Event(), threading.Event()
        self.error = error
        if not held:
            self.leave.set()

    def batch_key(self, rows):
        return ()

    def predict(self, rows):
        values = rows.matrix()[:, 0]
        self.calls.append(values.tolist())
        self.entered.set()
        assert self.leave.wait(30)
        if (values < 0).any():
            raise self.error
        return Predictions({"prediction": values * 2})


def ask(batcher, model, *values):
    return asyncio.ensure_future(batcher.predict(model, rows(*values)))


async def ask_behind(batcher, model, *requests):
    """Have one request occupy the thread, the others wait behind it, and then let all go on."""
    first = ask(batcher, model, 0)
    await asyncio.to_thread(model.entered.wait, 30)
    tasks = [ask(batcher, model, *values) for values in requests]
    await asyncio.sleep(0)
    model.leave.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def said(batched):
    return batched.predictions.outputs["prediction"].tolist()


def test_what_waits_while_the_model_is_busy_is_answered_in_one_call():
    model = Doubling(held=True)
    answers = asyncio.run(ask_behind(Batcher(256), model, (1,), (2, 3), (4,)))
    assert model.calls == [[0], [1, 2, 3, 4]]
    assert [said(one) for one in answers] == [[2], [4, 6], [8]]
    assert [(one.n_rows, one.first_row) for one in answers] == [(4, 0), (4, 1), (4, 3)]


def test_who_counts_calls_is_told_of_each_one_that_answered_and_of_its_rows():
    told = []
    model = Doubling(held=True)
    batcher = Batcher(256, lambda of, n_rows: told.append((of is model, n_rows)))
    answers = asyncio.run(ask_behind(batcher, model, (1,), (2, 3), (4,), (-5,)))
    assert isinstance(answers[-1], ValueError)
    assert told[0] == (True, 1)
    assert sum(n_rows for _, n_rows in told[1:]) == 4


def test_64_callers_at_once_each_get_their_own_answer():
    async def main():
        batcher, model = Batcher(16), Doubling()
        for _ in range(20):
            answers = await asyncio.gather(*(ask(batcher, model, value) for value in range(64)))
            assert [said(one) for one in answers] == [[2 * value] for value in range(64)]
        assert max(len(call) for call in model.calls) == 16

    asyncio.run(main())


def test_a_lone_request_is_answered_at_once_and_alone():
    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later = loop.call_at = None  # what waiting for company would need
        model = Doubling()
        answer = await Batcher(256).predict(model, rows(3))
        assert (said(answer), answer.n_rows, model.calls) == ([6], 1, [[3]])

    asyncio.run(main())
    source = inspect.getsource(batching)
    assert not any(timer in source for timer in ("sleep", "call_later", "call_at", "timeout"))


def test_a_batch_has_no_more_rows_than_allowed_but_a_larger_request_goes_whole():
    model = Doubling(held=True)
    answers = asyncio.run(ask_behind(Batcher(3), model, (1,), (2,), (3, 4), (5, 6, 7, 8), (9,)))
    assert model.calls == [[0], [1, 2], [3, 4], [5, 6, 7, 8], [9]]
    assert [len(said(one)) for one in answers] == [1, 1, 2, 4, 1]


@pytest.mark.parametrize("error", [ValueError, StopIteration, SystemExit])
def test_a_poisoned_row_fails_alone(error):
    async def main():
        batcher, model = Batcher(256), Doubling(held=True, error=error)
        requests = [(value,) for value in (1, 2, 3, -4, 5, 6, 7, 8)]
        answers = await ask_behind(batcher, model, *requests)
        assert isinstance(answers.pop(3), RuntimeError if error is not ValueError else ValueError)
        assert [said(one) for one in answers] == [[2], [4], [6], [10], [12], [14], [16]]
        assert said(await batcher.predict(model, rows(9))) == [18]

    asyncio.run(main())


def test_rows_of_two_versions_are_never_in_one_call_and_versions_take_turns():
    async def main():
        batcher, busy = Batcher(2), Doubling(held=True)
        old, new = Doubling(), Doubling()
        first = ask(batcher, busy, 0)
        await asyncio.to_thread(busy.entered.wait, 30)
        tasks = [ask(batcher, model, n) for n in range(4) for model in (old, new)]
        await asyncio.sleep(0)
        assert batcher.n_waiting == 8
        busy.leave.set()
        await first
        await asyncio.gather(*tasks)
        assert old.calls == new.calls == [[0, 1], [2, 3]]
        assert batcher.n_waiting == 0

    asyncio.run(main())


def test_a_model_that_expands_requests_answers_each_by_itself():
    model = Doubling(batches=False, held=True)
    asyncio.run(ask_behind(Batcher(256), model, (1,), (2,)))
    assert model.calls == [[0], [1], [2]]


def test_a_caller_that_is_gone_harms_nobody():
    async def main():
        batcher, model = Batcher(256), Doubling(held=True)
        working = ask(batcher, model, 0)
        await asyncio.to_thread(model.entered.wait, 30)
        waiting, other = ask(batcher, model, 1), ask(batcher, model, 2)
        await asyncio.sleep(0)
        working.cancel()
        waiting.cancel()
        await asyncio.sleep(0)
        model.leave.set()
        assert said(await other) == [4]
        assert model.calls == [[0], [2]]
        assert said(await batcher.predict(model, rows(3))) == [6]
        assert batcher.n_waiting == 0

    asyncio.run(main())


def test_when_all_who_waited_are_gone_the_next_request_is_answered():
    async def main():
        batcher, model = Batcher(256), Doubling()
        gone = ask(batcher, model, 1)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        assert said(await batcher.predict(model, rows(2))) == [4]

    asyncio.run(main())


def test_work_by_itself_is_done_in_its_turn_and_its_failure_is_its_own():
    async def main():
        batcher = Batcher(256)
        done = await asyncio.gather(
            batcher.alone(int, "7"), batcher.alone(int, "x"), return_exceptions=True
        )
        assert done[0] == 7
        assert isinstance(done[1], ValueError)

    asyncio.run(main())


def test_the_thread_ends_when_nothing_refers_to_the_batcher():
    batcher = Batcher(256)
    asyncio.run(batcher.predict(Doubling(), rows(1)))
    (thread,) = [one for one in threading.enumerate() if one.name == "predict"][-1:]
    gone = weakref.ref(batcher)
    del batcher
    gc.collect()
    thread.join(30)
    assert gone() is None
    assert not thread.is_alive()


def test_joined_rows_keep_their_order_and_their_kinds():
    first = MIXED.decode(b'{"s": "001", "i": null}')
    second = MIXED.decode(b'[{"s": "1", "i": 4}, {"s": "a"}]')
    joined = type(first).joined([first, second])
    assert (joined.n_rows, joined.single) == (3, False)
    assert joined.columns()["s"].tolist() == ["001", "1", "a"]
    np.testing.assert_array_equal(joined.columns()["i"], [np.nan, 4, np.nan])


def test_rows_say_in_which_columns_something_is_missing():
    assert MIXED.decode(b'{"s": "a", "i": 1}').gaps() == ()
    assert MIXED.decode(b'{"s": "a", "i": null}').gaps() == (1,)
    assert MIXED.decode(b'[{"s": "a", "i": 1}, {"s": "a"}]').gaps() == (1,)
    assert rows(1).gaps() == ()
