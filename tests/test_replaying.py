"""Replaying: what a call of a model was is put together again, and answers are compared by bits."""

from __future__ import annotations

import json
from math import inf, nan

import msgspec
import numpy as np
import pytest

from greenroom.cli.tracing import _origin_rows, _show_replay
from greenroom.evaluation.predictions import Predictions
from greenroom.payloads.reply import to_json
from greenroom.payloads.request import RequestType
from greenroom.schema import Column, Schema
from greenroom.task import regression
from greenroom.tracing.replaying import Replay, compare, replay
from servers import FakeRuntime

SCHEMA = Schema((Column("n"), Column("when", "date", nullable=True)))


class Depending(FakeRuntime):
    """Answers a row with its value and, in the last bits, with how many rows it was beside."""

    kind = "native"

    def predict(self, columns):
        self.asked = columns
        n = columns["n"]
        return Predictions({"prediction": n + len(n) * 1e-12})

    def warm(self):
        pass


def runtime(**changes):
    return Depending(SCHEMA, task=regression, **changes)


def asked(key, first, rows, form="body", answered=3, engine="native"):
    """Return the log's rows of one request."""
    bodies = {
        "body": json.dumps([{"n": n, "when": "2024-01-15"} for n in rows]),
        "columns": json.dumps({"n": rows, "when": ["2024-01-15T00:00:00"] * len(rows)}),
        "redacted": json.dumps([{"n": n} for n in rows]),
    }
    return [
        {
            "prediction_id": f"{key}{place}",
            "request_key": key,
            "request_form": form,
            "request_row": place,
            "request_body": bodies[form] if not place else None,
            "call_row": first,
            "call_rows": answered,
            "engine": engine,
            "n_threads": 1,
            "prediction": n + answered * 1e-12,
        }
        for place, n in enumerate(rows)
    ]


@pytest.mark.parametrize("form", ["body", "columns"])
def test_the_rows_of_a_call_are_asked_together_in_their_order(form):
    call = [*asked("a", 0, [1.0, 2.0], form), *asked("b", 2, [0.5])]
    for row in call:
        model = runtime()
        found = replay(row, call, model)
        assert (found.verdict, found.reproduced, found.n_rows) == ("same_bits", True, 3)
        assert model.asked["n"].tolist() == [1.0, 2.0, 0.5]
        assert (model.asked["when"] == np.datetime64("2024-01-15", "us")).all()


def test_of_a_call_that_is_not_there_in_full_it_is_said():
    row, _ = asked("a", 0, [1.0, 2.0])
    found = replay(row, asked("a", 0, [1.0, 2.0]), runtime())
    assert (found.verdict, found.reproduced) == ("within_bound", False)
    assert found.reasons == (
        "2 of the 3 rows of its call were asked again: the log has no more of them",
    )
    call = [*asked("a", 0, [1.0, 2.0]), *asked("b", 2, [0.5], "redacted")]
    assert "must not be kept" in replay(row, call, runtime()).reasons[0]


def test_a_request_that_stands_there_redacted_is_not_asked_again():
    call = asked("a", 0, [1.0, 2.0, 3.0], "redacted")
    found = replay(call[0], call, runtime())
    assert found.verdict == "not_replayed"
    assert "it stands there redacted" in found.reasons[0]


def test_another_engine_is_said_and_another_answer_is_measured():
    call = asked("a", 0, [1.0, 2.0, 4.0], engine="compiled")
    found = replay(call[0], call, runtime())
    assert (found.verdict, found.reproduced) == ("same_bits", False)
    assert found.reasons == ("the compiled runtime answered, and there is only native",)
    call[2]["prediction"] = 2.0
    other = replay(call[2], call, runtime())
    assert other.verdict == "beyond_bound"
    assert other.largest_difference == pytest.approx(0.5)


def test_records_inside_of_a_row_are_what_they_were_also_where_they_came_as_columns():
    inner = (Column("date", "date"), Column("n"))
    schema = Schema((Column("n"), Column("past", "records", columns=inner, nullable=True)))
    sent = [
        {"n": 1.0, "past": [{"date": "2024-01-15", "n": 2.0}]},
        {"n": 2.0, "past": None},
    ]
    given = RequestType.compile(schema).decode(json.dumps(sent).encode()).columns()
    body = msgspec.json.encode(dict(given), enc_hook=to_json).decode()
    call = asked("a", 0, [1.0, 2.0], "columns", answered=2)
    call[0]["request_body"] = body
    model = Depending(schema, task=regression)
    assert replay(call[0], call, model).verdict == "same_bits"
    past = model.asked["past"]
    assert past[0]["date"].dtype == given["past"][0]["date"].dtype
    assert past[0]["date"].tolist() == given["past"][0]["date"].tolist()
    assert past[0]["n"].tolist() == [2.0]
    assert past[1] is None


@pytest.mark.parametrize(
    ("recorded", "replayed", "same", "difference"),
    [
        (1, 1, True, 0.0),
        (1, 0, False, None),
        ("1", 1, True, 0.0),
        (0.5, np.nextafter(0.5, 1).item(), False, pytest.approx(1.1e-16, rel=0.1)),
        (0.0, -0.0, False, 0.0),
        (nan, nan, True, 0.0),
        (nan, 1.0, False, None),
        (inf, 1.0, False, inf),
        ([0.25, 0.75], [0.25, 0.5], False, 0.25),
        ([0.25], [0.25, 0.5], False, None),
        (["a"], ["a"], True, 0.0),
    ],
)
def test_answers_are_compared_to_the_last_bit(recorded, replayed, same, difference):
    found = compare(recorded, replayed, absolute=True)
    assert (found.same_bits, found.difference) == (same, difference)


@pytest.mark.parametrize(
    ("first", "row", "n_rows", "said"),
    [(0, 2, 3, "row 3 of a call of 3"), (4, 1, 9, "row 6 of a call of 9"), (0, 6, 1, "row 1 of")],
)
def test_a_trace_says_which_row_of_its_call_a_prediction_was(first, row, n_rows, said):
    call = {"engine": "native", "n_threads": 2, "call_row": first, "call_rows": n_rows}
    model = {"name": "m", "version": "3", "stage": "Production", "run_id": "", "data": None}
    document = {"model": model, "call": call, "request": {"row": row}, "selection": None}
    assert f"native, 2 threads, {said}" in dict(_origin_rows(document))["engine"]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (Replay(verdict="not_replayed", reasons=("it is gone",)), "replay: not predicted again\n"),
        (
            Replay(verdict="same_bits", engine="native", n_rows=1, reproduced=True),
            "replay: the same answer, to the last bit (1 row by native, as recorded; bound 1e-06)",
        ),
    ],
)
def test_a_replay_says_what_was_asked_where_anything_was(capsys, result, said):
    _show_replay(result)
    assert capsys.readouterr().out.startswith(said)
