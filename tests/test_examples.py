from __future__ import annotations

from datetime import UTC, date, datetime

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from greenroom.data.examples import example_request
from greenroom.payloads.request import RequestType
from greenroom.schema import Column, Schema


def test_a_given_value_goes_before_an_example_and_that_before_the_range():
    schema = Schema(
        (
            Column("a", request_name="A", example=1.5, minimum=0, maximum=2),
            Column("b", "integer", example=3),
            Column("c", minimum=10, maximum=20),
        )
    )
    assert example_request(schema) == {"A": 1.5, "b": 3, "c": 15.0}
    assert example_request(schema, {"a": 0.5, "b": None}) == {"A": 0.5, "b": None, "c": 15.0}
    assert example_request(schema, {"A": 0.25, "a": 9.0})["A"] == 0.25


def test_instants_and_numpy_values_become_json():
    schema = Schema(
        (
            Column("day", "date", example=date(2026, 11, 21)),
            Column("at", "datetime", example=datetime(2026, 11, 21, tzinfo=UTC)),
            Column("n", example=np.float64(2.0)),
        )
    )
    body = msgspec.json.encode(example_request(schema))
    assert body == b'{"day":"2026-11-21","at":"2026-11-21T00:00:00+00:00","n":2.0}'


ranged = st.tuples(
    st.sampled_from(["number", "integer"]),
    st.none() | st.integers(-1000, 1000),
    st.integers(0, 1000),
    st.booleans(),
)


@given(ranged)
def test_a_made_up_value_is_inside_the_range(drawn):
    kind, low, width, closed = drawn
    high = (low or 0) + width if closed or low is None else None
    schema = Schema((Column("x", kind, minimum=low, maximum=high),))
    body = msgspec.json.encode([example_request(schema)])
    assert RequestType.compile(schema).decode(body).n_rows == 1


def test_every_kind_has_a_made_up_value():
    kinds = ("number", "integer", "boolean", "string", "date", "datetime")
    columns = [Column(kind, kind) for kind in kinds]
    schema = Schema((*columns, Column("c", "category", categories=("x", "y"))))
    body = msgspec.json.encode(example_request(schema))
    assert RequestType.compile(schema).decode(body).columns()["c"].tolist() == ["x"]
