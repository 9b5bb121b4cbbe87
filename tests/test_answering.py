"""Answering: what is called in the event loop, with what company, and what goes to the thread."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from greenroom.errors import RequestInvalid
from greenroom.http.answering import LARGE_BODY_BYTES, Answering
from greenroom.inference.prediction_log import Asker
from greenroom.protocols.array_rows import ArrayRows
from greenroom.schema import Column, Schema
from servers import COLUMNS, GOOD, FakeRuntime, served


class Noting(FakeRuntime):
    """Notes how many rows each call has, and by which thread it was made."""

    def __init__(self, columns=COLUMNS, **changes):
        super().__init__(Schema(columns), **changes)
        self.calls = []

    def predict_matrix(self, X):
        self.calls.append((len(X), threading.current_thread() is threading.main_thread()))
        if (X[:, 0] == 13).any():
            raise ValueError("thirteen")
        return super().predict_matrix(X)

    def predict(self, columns):
        self.calls.append(
            (len(columns["age"]), threading.current_thread() is threading.main_thread())
        )
        return super().predict(columns)


def quick(runtime, rows=32, **changes):
    return replace(served(runtime=runtime, **changes), quick_rows=rows)


def aged(*ages):
    rows = [{**GOOD, "age": age} for age in ages]
    return json.dumps(rows[0] if len(rows) == 1 else rows).encode()


def ask(*questions, max_batch_rows=1_000):
    """Ask everything in one turn of an event loop; return the outcomes in the same order."""

    async def asking():
        answering = Answering(max_batch_rows)
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in questions]
        for (model, body), future in zip(questions, futures, strict=True):
            answering.ask(model, Asker(body=body), future.set_result)
        outcomes = await asyncio.wait_for(asyncio.gather(*futures), 10)
        answering.close()
        return outcomes

    return [one if isinstance(one, Exception) else json.loads(one) for one in asyncio.run(asking())]


def test_requests_of_one_turn_are_answered_in_one_call_each_with_its_own_answer():
    runtime = Noting()
    model = quick(runtime)
    replies = ask(*[(model, aged(age)) for age in range(1, 11)])
    assert runtime.calls == [(10, True)]
    assert [reply["probability"] for reply in replies] == [age / 200 for age in range(1, 11)]
    assert len({reply["prediction_id"] for reply in replies}) == 10


def test_lists_and_single_rows_in_one_call_are_answered_as_they_were_asked():
    runtime = Noting()
    model = quick(runtime)
    one, several, other = ask((model, aged(1)), (model, aged(2, 3)), (model, aged(4)))
    assert runtime.calls == [(4, True)]
    assert [row["probability"] for row in several["predictions"]] == [2 / 200, 3 / 200]
    assert (one["probability"], other["probability"]) == (1 / 200, 4 / 200)


def test_a_request_by_itself_is_answered_by_itself():
    runtime = Noting()
    (reply,) = ask((quick(runtime), aged(7)))
    assert runtime.calls == [(1, True)]
    assert reply["probability"] == 7 / 200


def test_what_fails_by_itself_fails_alone():
    runtime = Noting()
    model = quick(runtime)
    outcomes = ask(*[(model, aged(age)) for age in (1, 13, 2, 3)])
    assert isinstance(outcomes[1], ValueError)
    assert [one["probability"] for one in (outcomes[0], *outcomes[2:])] == [0.005, 0.01, 0.015]


def test_a_body_that_cannot_be_read_is_refused_and_keeps_nobody_waiting():
    runtime = Noting()
    model = quick(runtime)
    refused, reply = ask((model, b'{"age": -1}'), (model, aged(5)))
    assert isinstance(refused, RequestInvalid)
    assert reply["probability"] == 5 / 200


def test_two_models_in_one_turn_are_called_one_after_the_other():
    first, second = Noting(), Noting()
    models = quick(first, name="a"), quick(second, name="b")
    replies = ask(*[(models[i % 2], aged(i + 1)) for i in range(4)])
    assert first.calls == second.calls == [(2, True)]
    assert [reply["model_name"] for reply in replies] == ["a", "b", "a", "b"]


def test_more_rows_than_a_turn_may_take_go_to_the_thread():
    runtime = Noting()
    model = quick(runtime, rows=3)
    replies = ask((model, aged(1)), (model, aged(2, 3)), (model, aged(4)), (model, aged(5)))
    assert sorted(runtime.calls) == [(2, False), (3, True)]
    assert replies[3]["probability"] == 5 / 200


def test_a_model_that_is_not_quick_is_never_called_in_the_event_loop():
    runtime = Noting()
    (reply,) = ask((served(runtime=runtime), aged(9)))
    assert runtime.calls == [(1, False)]
    assert reply["probability"] == 9 / 200


def test_a_large_body_is_answered_in_the_thread_from_beginning_to_end():
    runtime = Noting()
    body = aged(*[1] * 3_000)
    assert len(body) > LARGE_BODY_BYTES
    (reply,) = ask((quick(runtime, rows=10_000), body))
    assert runtime.calls == [(3_000, False)]
    assert len(reply["predictions"]) == 3_000


def test_a_large_body_that_is_refused_is_told_why():
    body = aged(*[1] * 3_000, -1)
    (refused,) = ask((quick(Noting()), body))
    assert isinstance(refused, RequestInvalid)
    assert [problem.row for problem in refused.problems] == [3_000]


def test_a_call_has_no_more_rows_than_the_batch_size_unless_one_request_has():
    runtime = Noting()
    model = quick(runtime)
    ask(*[(model, aged(1, 2)) for _ in range(5)], (model, aged(*range(20, 27))), max_batch_rows=4)
    assert runtime.calls == [(4, True), (4, True), (2, True), (7, True)]


def test_rows_that_could_change_each_others_types_are_not_answered_together():
    runtime = Noting((Column("name", "string"), *COLUMNS))
    model = quick(runtime)
    whole = {"name": "a", **GOOD, "income": 1.5}
    bodies = [json.dumps(row).encode() for row in (whole, {"name": "b", **GOOD}, whole)]
    ask(*[(model, body) for body in bodies])
    assert runtime.calls == [(2, True), (1, True)]


def test_a_caller_that_cannot_be_told_does_not_keep_the_others_from_hearing(caplog):
    heard = []

    def deaf(_):
        raise ConnectionError

    async def asking():
        answering = Answering(100)
        model = quick(Noting())
        answering.ask(model, Asker(body=aged(1)), deaf)
        answering.ask(model, Asker(body=aged(2)), heard.append)
        for _ in range(3):
            await asyncio.sleep(0)
        answering.close()

    asyncio.run(asking())
    assert len(heard) == 1
    assert "a caller was not told" in caplog.text


@pytest.mark.parametrize("n_rows", [1, 32])
def test_the_turn_is_empty_again_after_it_was_answered(n_rows):
    runtime = Noting()
    model = quick(runtime)

    async def asking():
        answering = Answering(100)
        for _ in range(3):
            heard = []
            answering.ask(model, Asker(body=aged(*[1] * n_rows)), heard.append)
            await asyncio.sleep(0)
            assert len(heard) == 1
        answering.close()

    asyncio.run(asking())
    assert runtime.calls == [(n_rows, True)] * 3


@pytest.mark.parametrize(("quick_rows", "in_the_loop"), [(2, True), (1, False)])
def test_rows_of_other_protocols_are_predicted_where_a_prediction_is(quick_rows, in_the_loop):
    runtime = Noting()
    model = quick(runtime, quick_rows)

    async def asking():
        answering = Answering(1_000)
        predictions, _ = await answering.predict(model, model.decode(aged(40, 120)))
        answering.close()
        return predictions

    assert asyncio.run(asking()).outputs["probability"].tolist() == [0.2, 0.6]
    assert runtime.calls == [(2, in_the_loop)]


def test_tensors_of_several_requests_are_predicted_in_one_call_each_with_its_own_answer():
    entered, leave = threading.Event(), threading.Event()

    class Slow(Noting):
        def predict_matrix(self, X):
            if not self.calls:
                entered.set()
                assert leave.wait(30)
            return super().predict_matrix(X)

    runtime = Slow()
    model = served(runtime=runtime)

    def rows(age):
        return ArrayRows(runtime.schema, np.array([[age, 1.0, np.nan]]))

    async def asking():
        answering = Answering(1_000)
        first = asyncio.create_task(answering.predict(model, rows(10.0)))
        assert await asyncio.to_thread(entered.wait, 30)
        others = [asyncio.create_task(answering.predict(model, rows(age))) for age in (20.0, 40.0)]
        json_too = asyncio.create_task(answering.predict(model, model.decode(aged(60))))
        await asyncio.sleep(0)
        leave.set()
        found = await asyncio.gather(first, *others, json_too)
        answering.close()
        return [one.predictions.outputs["probability"].tolist() for one in found]

    assert asyncio.run(asking()) == [[0.05], [0.1], [0.2], [0.3]]
    assert runtime.calls == [(1, False), (2, False), (1, False)]


@pytest.mark.parametrize(("n_bytes", "in_the_loop"), [(10, True), (LARGE_BODY_BYTES, False)])
def test_work_on_many_bytes_is_done_in_the_thread(n_bytes, in_the_loop):
    async def working():
        answering = Answering(1_000)
        thread = await answering.work(n_bytes, threading.current_thread)
        answering.close()
        return thread

    assert (asyncio.run(working()) is threading.current_thread()) == in_the_loop
