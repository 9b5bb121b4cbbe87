"""Columns and schemas: what is refused, and how rows are held."""

from __future__ import annotations

import numpy as np
import pytest

from greenroom.errors import AppError
from greenroom.schema import Column, Schema, matrix, n_rows, take


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"name": ""}, "name"),
        ({"kind": "float"}, "kind"),
        ({"kind": "string", "minimum": 0}, "minimum"),
        ({"minimum": 2, "maximum": 1}, "minimum"),
        ({"maximum": float("inf")}, "finite"),
        ({"kind": "category"}, "categories"),
        ({"categories": ("a",)}, "categories"),
        ({"kind": "category", "categories": ("a", "a")}, "twice"),
    ],
)
def test_a_column_that_makes_no_sense_is_refused_and_the_field_is_named(options, problem):
    with pytest.raises(AppError, match=problem):
        Column(**{"name": "x", **options})


def test_a_column_is_called_in_requests_as_in_the_data_unless_said_otherwise():
    assert Column("late-30").request_name == "late-30"
    assert Column("late-30", request_name="late_30").request_name == "late_30"


def test_neither_names_nor_request_names_may_be_used_twice():
    with pytest.raises(AppError, match="name 'a' is used twice"):
        Schema((Column("a"), Column("a", request_name="b")))
    with pytest.raises(AppError, match="request name 'c' is used twice"):
        Schema((Column("a", request_name="c"), Column("b", request_name="c")))


def test_a_schema_needs_a_column():
    with pytest.raises(AppError, match="none"):
        Schema(())


def test_a_schema_is_numeric_when_all_of_its_columns_are():
    assert Schema((Column("a", "integer"), Column("b", "boolean"))).numeric
    assert not Schema((Column("a"), Column("b", "date"))).numeric


def test_rows_are_taken_by_position_and_by_mask():
    columns = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array(["x", None, "z"], dtype=object)}

    assert take(columns, np.array([2, 0]))["b"].tolist() == ["z", "x"]
    assert take(columns, np.array([False, True, False]))["a"].tolist() == [2.0]
    assert n_rows(columns) == 3
    assert n_rows({}) == 0


def test_a_matrix_has_the_columns_in_their_order_row_by_row():
    made = matrix({"b": np.array([1.0, 2.0]), "a": np.array([3.0, np.nan])})

    assert made.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(made, [[1.0, 3.0], [2.0, np.nan]])
