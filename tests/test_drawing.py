from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from greenroom.compiler.drawing import draw_rows, with_missing
from greenroom.payloads.request import RequestType
from greenroom.schema import Column, Schema

RNG = np.random.default_rng


@st.composite
def schemas(draw):
    columns = []
    for position in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["number", "integer", "boolean"]))
        ends = [None, None]
        if kind != "boolean":
            low = draw(st.none() | st.integers(-1_000, 1_000))
            width = draw(st.none() | st.integers(0, 1_000))
            ends = [low, width if low is None or width is None else low + width]
        columns.append(Column(f"c{position}", kind, minimum=ends[0], maximum=ends[1]))
    return Schema(tuple(columns))


@given(schemas(), st.integers(0, 2**32 - 1))
def test_every_drawn_row_is_a_request_that_is_accepted(schema, seed):
    rng = RNG(seed)
    landmarks = np.where(rng.random((3, len(schema))) < 0.5, rng.normal(size=(3, len(schema))), 9e9)
    rows = draw_rows(schema, 30, rng, landmarks=landmarks)
    kinds = {"number": float, "integer": int, "boolean": bool}
    body = [
        {column.name: kinds[column.kind](value) for column, value in zip(schema, row, strict=True)}
        for row in rows.tolist()
    ]
    decoded = RequestType.compile(schema).decode(json.dumps(body).encode())
    assert np.array_equal(decoded.matrix(), rows)


def test_values_lie_on_between_and_beyond_the_landmarks():
    landmarks = np.array([[100.0, np.nan], [140.0, np.nan]])
    rows = draw_rows(Schema((Column("a"), Column("b"))), 900, RNG(0), landmarks=landmarks)
    first = rows[:, 0]
    assert 0.2 < np.isin(first, [100.0, 140.0]).mean() < 0.5
    assert 0.2 < ((first > 96) & (first < 144) & ~np.isin(first, [100.0, 140.0])).mean() < 0.5
    assert first.max() > 1_000
    assert np.isfinite(rows).all()


def test_an_open_range_is_drawn_from_small_and_large_magnitudes():
    values = draw_rows(Schema((Column("a"),)), 1_000, RNG(0))[:, 0]
    assert values.min() < -10_000
    assert values.max() > 10_000
    assert (np.abs(values) < 1).mean() > 0.2


def test_a_column_with_known_values_has_no_others():
    rows = draw_rows(Schema((Column("a", "integer"),)), 50, RNG(0), known={"a": (3, 7)})
    assert set(rows[:, 0]) == {3.0, 7.0}


def test_a_third_is_missing_where_it_may_be_and_the_rows_stay_as_they_were():
    rows = np.ones((900, 2))
    found = with_missing(rows, [1], RNG(0))
    assert not np.isnan(found[:, 0]).any()
    assert 0.25 < np.isnan(found[:, 1]).mean() < 0.42
    assert not np.isnan(rows).any()
