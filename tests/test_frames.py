"""Columns as frames: dtypes, and the step that plain MLflow clients apply."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from greenroom.data.frames import frame_transformer, signature_frame, to_frame
from greenroom.errors import RequestInvalid
from greenroom.schema import Column, Schema


def test_numbers_are_float64_and_text_is_object_with_none_for_missing():
    frame = to_frame({"a": np.array([1.0, np.nan]), "b": np.array(["001", None], dtype=object)})

    assert frame["a"].dtype == np.float64
    assert frame["b"].dtype == object
    assert frame["b"].tolist() == ["001", None]


def test_the_logged_step_takes_any_frame_of_the_columns_and_keeps_its_index():
    schema = Schema(
        (Column("a", "integer", nullable=True), Column("b", "string"), Column("c", "date"))
    )
    seen = {}

    def features(columns):
        seen.update(columns)
        return {"twice": columns["a"] * 2, "b": columns["b"]}

    frame = pd.DataFrame(
        {
            "c": pd.to_datetime(["2020-01-01", None]),
            "b": ["001", None],
            "a": pd.array([1, None], dtype="Int64"),
            "further": [0, 0],
        },
        index=[7, 9],
    )
    made = frame_transformer(features, schema)(frame)

    assert list(seen) == ["a", "b", "c"]
    assert seen["b"].tolist() == ["001", None]
    assert np.isnat(seen["c"][1])
    assert made.index.tolist() == [7, 9]
    np.testing.assert_array_equal(made["twice"], [2.0, np.nan])


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "2262-04-12", "1677-09-21"])
def test_an_instant_that_nanoseconds_do_not_reach_is_refused_instead_of_being_another(day):
    values = np.array(["2024-01-15", "NaT", day], dtype="datetime64[us]")

    with pytest.raises(RequestInvalid, match="at is not between 1677-09-22 and 2262") as refused:
        signature_frame({"at": values}, {"at": "datetime"})
    assert [problem.row for problem in refused.value.problems] == [2]
    assert signature_frame({"at": values[:2]}, {"at": "datetime"})["at"][0].year == 2024
