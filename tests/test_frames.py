"""Columns as frames: dtypes, and the step that plain MLflow clients apply."""

from __future__ import annotations

import numpy as np
import pandas as pd

from greenroom.data.frames import frame_transformer, to_frame
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
