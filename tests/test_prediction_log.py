"""The prediction log as a worker writes it: whatever way a request came, it stands there once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace

import pytest

from greenroom.errors import RequestInvalid, SpoolFull
from greenroom.http.answering import LARGE_BODY_BYTES, Answering
from greenroom.inference.prediction_log import Asker, PredictionLog
from greenroom.log.log_records import Answers, Version, read_record
from greenroom.log.spool import Spool
from greenroom.log.spooling import Spooler
from greenroom.payloads.reply import ReplyType
from greenroom.protocols.array_rows import ArrayRows
from greenroom.schema import Schema
from servers import COLUMNS, GOOD, FakeRuntime, served


class FullSpool:
    """A spooler whose disk is full."""

    immediate = False

    def append(self, payload, n_rows, number, described):
        raise SpoolFull("no room", advice="make some")

    def close(self):
        pass


def opened(folder, counts=None, when_full="refuse", to_mlflow=(), **changes):
    counts = Counter() if counts is None else counts

    def counting(verdict):
        return lambda n: counts.update({verdict: n})

    options = {"fsync_s": 0.01, "seal_s": 60.0, "max_bytes": 2**30, **changes}
    return PredictionLog(
        Spooler(Spool(folder), **options) if folder else FullSpool(),
        when_full=when_full,
        to_mlflow=to_mlflow,
        unlogged={verdict: counting(verdict) for verdict in ("served", "refused")},
    )


def body(*ages):
    rows = [{**GOOD, "age": age} for age in ages]
    return json.dumps(rows[0] if len(rows) == 1 else rows).encode()


def ask(log, questions, *, model=None, max_batch_rows=1_000):
    """Ask everything in one turn; return the replies."""

    async def asking():
        answering = Answering(max_batch_rows, log=log)
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in questions]
        for asker, future in zip(questions, futures, strict=True):
            answering.ask(model, asker, future.set_result)
        outcomes = await asyncio.wait_for(asyncio.gather(*futures), 10)
        answering.close()
        return outcomes

    outcomes = asyncio.run(asking())
    log.close()
    return [one if isinstance(one, Exception) else json.loads(one) for one in outcomes]


def records(folder):
    return [
        read_record(payload)
        for slot in Spool(folder).slots()
        for segment in slot.segments()
        for payload in segment.frames()
    ]


def quick(**changes):
    return replace(served(runtime=FakeRuntime(Schema(COLUMNS)), **changes), quick_rows=32)


def test_requests_of_one_turn_stand_in_one_record_each_as_it_was_received(tmp_path):
    questions = [Asker(f"t{age}", "/predict", f"r{age}", body(age)) for age in (40, 50)]
    replies = ask(opened(tmp_path), questions, model=quick())
    version, answers = records(tmp_path)
    assert isinstance(version, Version)
    assert isinstance(answers, Answers)
    assert (version.name, version.version, version.engine) == ("credit", "3", "native")
    assert [column.name for column in version.columns] == [column.name for column in COLUMNS]
    assert [one.ids for one in answers.requests] == [[r["prediction_id"]] for r in replies]
    assert [(one.caller, one.request_id) for one in answers.requests] == [
        ("t40", "r40"),
        ("t50", "r50"),
    ]
    assert [one.body for one in answers.requests] == [body(40), body(50)]
    assert [one.first_row for one in answers.requests] == [0, 1]
    assert answers.call_rows == 2
    probabilities = answers.outputs[version.outputs.index("probability")]
    assert probabilities == [reply["probability"] for reply in replies]


@pytest.mark.parametrize("way", ["in the turn", "in the thread", "large"])
def test_whichever_way_a_request_takes_every_id_in_its_reply_stands_in_the_log_once(tmp_path, way):
    model = quick() if way == "in the turn" else replace(quick(), quick_rows=0)
    ages = range(1, 100) if way != "large" else range(1, 91)
    asked = body(*ages)
    if way == "large":
        asked += b" " * LARGE_BODY_BYTES
    (reply,) = ask(opened(tmp_path), [Asker("me", "/predict", "", asked)], model=model)
    version, answers = records(tmp_path)
    (request,) = answers.requests
    assert request.ids == [row["prediction_id"] for row in reply["predictions"]]
    assert len(set(request.ids)) == len(ages)
    probabilities = answers.outputs[version.outputs.index("probability")]
    assert probabilities == [row["probability"] for row in reply["predictions"]]
    assert request.body == asked


def test_requests_that_shared_a_call_in_the_thread_say_so(tmp_path):
    model = replace(quick(), quick_rows=0)
    questions = [Asker("me", "/predict", "", body(age)) for age in range(1, 21)]
    ask(opened(tmp_path), questions, model=model)
    answers = [record for record in records(tmp_path) if isinstance(record, Answers)]
    by_call = Counter(record.call for record in answers)
    for record in answers:
        assert record.call_rows == by_call[record.call]
    places = [(record.call, record.requests[0].first_row) for record in answers]
    assert len(set(places)) == len(questions)


def test_a_request_that_is_refused_is_not_in_the_log(tmp_path):
    good, bad = ask(
        opened(tmp_path),
        [Asker(body=body(40)), Asker(body=b'{"age": "old"}')],
        model=quick(),
    )
    assert isinstance(bad, RequestInvalid)
    _, answers = records(tmp_path)
    assert [one.ids for one in answers.requests] == [[good["prediction_id"]]]


def test_rows_that_came_as_arrays_stand_there_column_by_column(tmp_path):
    log = opened(tmp_path)
    model = quick()
    rows = model.decode(body(40, 50))

    async def predict():
        answering = Answering(100, log=log)
        arrays = ArrayRows(Schema(COLUMNS), list(rows.columns().values()))
        await answering.predict(model, arrays, Asker("me", "/v2/models/{name}/infer"))
        await answering.predict(model, arrays)
        answering.close()

    asyncio.run(predict())
    log.close()
    _, answers = records(tmp_path)
    (request,) = answers.requests
    assert (request.form, request.single, len(request.ids)) == ("columns", False, 2)
    assert json.loads(request.body)["age"] == [40, 50]


def test_with_a_full_log_a_prediction_is_refused_with_the_reason_and_counted():
    counts = Counter()
    (refused,) = ask(opened(None, counts), [Asker(body=body(1, 2))], model=quick())
    assert isinstance(refused, SpoolFull)
    assert counts == {"refused": 2}


def test_or_it_is_served_without_a_record_and_counted_apart():
    counts = Counter()
    (reply,) = ask(opened(None, counts, "serve"), [Asker(body=body(1, 2))], model=quick())
    assert len(reply["predictions"]) == 2
    assert counts == {"served": 2}


def test_a_reply_says_whether_it_is_on_its_way_to_mlflow(tmp_path):
    model = quick()
    fields = {"value": "prediction", "mlflow_logged": "mlflow_logged"}
    reply = ReplyType.compile(model.runtime.task, model.runtime.classes, fields, {})
    model = replace(model, reply_type=reply)
    question = [Asker(body=body(40))]
    (sent,) = ask(opened(tmp_path / "a", to_mlflow={"credit"}), question, model=model)
    (kept,) = ask(opened(tmp_path / "b"), question, model=model)
    (lost,) = ask(opened(None, None, "serve", to_mlflow={"credit"}), question, model=model)
    assert [one["mlflow_logged"] for one in (sent, kept, lost)] == [True, False, False]
    assert [records(tmp_path / name)[0].to_mlflow for name in ("a", "b")] == [True, False]


def test_replies_that_have_to_wait_for_the_disk_are_given_all_the_same(tmp_path):
    questions = [Asker(body=body(age)) for age in range(1, 9)]
    replies = ask(opened(tmp_path, fsync_s=0), questions, model=quick())
    assert len({reply["prediction_id"] for reply in replies}) == 8
