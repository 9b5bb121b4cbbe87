"""Casting: one rule for all file formats, and every misfit told by its row."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.data.casting import cast_column, cast_labels
from greenroom.schema import Column


def problems(values, column):
    cast = cast_column(pa.array(values), column)
    return {misfit.problem: misfit.rows.tolist() for misfit in cast.misfits}


def test_leading_zeros_stay_in_a_string():
    cast = cast_column(pa.array(["001", "1"]), Column("code", "string"))
    assert cast.values.tolist() == ["001", "1"]


@pytest.mark.parametrize("kind", ["string", "number", "integer", "boolean", "datetime", "date"])
@pytest.mark.parametrize("text", ["", "NA", "NaN", "null"])
def test_every_way_to_write_a_missing_value_is_the_same_one(kind, text):
    column = Column("a", kind, nullable=True)
    cast = cast_column(pa.array([text, None]), column)
    assert not cast.misfits
    missing = [value is None or value != value for value in cast.values.tolist()]
    assert missing == [True, True] or np.isnat(cast.values).all()


def test_a_missing_value_is_a_misfit_where_the_column_is_not_nullable():
    assert problems(["1", "", "NA"], Column("a")) == {"missing": [1, 2]}


@pytest.mark.parametrize(
    ("values", "column", "expected"),
    [
        (["1", "x", "2"], Column("a"), {"not a number": [1]}),
        (["inf", "1"], Column("a"), {"not finite": [0]}),
        (["1.5", "2.0"], Column("a", "integer"), {"not whole": [0]}),
        ([1.5, 2.0], Column("a", "integer"), {"not whole": [0]}),
        (
            ["9007199254740993"],
            Column("a", "integer"),
            {"too large for an integer; declare a string": [0]},
        ),
        (["-1", "5"], Column("a", minimum=0), {"below the minimum 0": [0]}),
        ([1, 11], Column("a", maximum=10), {"above the maximum 10": [1]}),
        (["yes", "true"], Column("a", "boolean"), {"not true or false": [0]}),
        ([1, 2], Column("a", "boolean"), {"not true or false": [1]}),
        (
            ["x", "z"],
            Column("a", "category", categories=("x", "y")),
            {"not one of the categories": [1]},
        ),
        (["01-02-2020"], Column("a", "date"), {"not an ISO 8601 date or time": [0]}),
        ([3, 4], Column("a", "datetime"), {"not an ISO 8601 date or time": [0, 1]}),
        (
            ["2020-01-01T10:00", "2020-01-02"],
            Column("a", "date"),
            {"a time of day, not a date": [0]},
        ),
        ([0.5], Column("a", "string"), {"not a text": [0]}),
    ],
)
def test_what_does_not_fit_is_told_by_row(values, column, expected):
    assert problems(values, column) == expected


def test_a_misfit_is_not_counted_as_missing_too():
    assert problems(["x"], Column("a")) == {"not a number": [0]}


@pytest.mark.parametrize(
    ("values", "column", "expected"),
    [
        ([" 1 ", "2.0", "1e3"], Column("a", "integer"), [1.0, 2.0, 1000.0]),
        (["True", "false", "1", "0"], Column("a", "boolean"), [1.0, 0.0, 1.0, 0.0]),
        ([True, False], Column("a", "boolean"), [1.0, 0.0]),
        ([7, 8], Column("a", "string"), ["7", "8"]),
    ],
)
def test_what_fits_is_cast(values, column, expected):
    cast = cast_column(pa.array(values), column)
    assert not cast.misfits
    assert cast.values.tolist() == expected


def test_instants_come_out_in_utc_however_they_are_written():
    texts = ["2021-03-01T12:00:00", "2021-03-01 12:00:00", "2021-03-01T13:00:00+01:00"]
    expected = np.datetime64("2021-03-01T12:00:00", "us")
    cast = cast_column(pa.array(texts), Column("at", "datetime"))
    assert (cast.values == expected).all()
    zoned = pa.array(cast.values).cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("ns", "CET"))
    assert (cast_column(zoned, Column("at", "datetime")).values == expected).all()


def test_dictionaries_of_parquet_are_read_as_their_texts():
    values = pa.array(["x", None, "x", "NA"]).dictionary_encode()
    cast = cast_column(values, Column("a", "string", nullable=True))
    assert cast.values.tolist() == ["x", None, "x", None]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_a_number_read_from_text_is_the_number_that_was_written(numbers):
    texts = pa.array([repr(number) for number in numbers], type=pa.string())
    cast = cast_column(texts, Column("a"))
    assert cast.values.tobytes() == np.array(numbers, dtype=np.float64).tobytes()


@given(st.lists(st.integers(-(10**6), 10**6) | st.just("x") | st.none(), min_size=1))
def test_one_bad_text_does_not_change_how_others_are_read(values):
    texts = pa.array([None if value is None else str(value) for value in values])
    cast = cast_column(texts, Column("a", nullable=True))
    expected = [float(value) if isinstance(value, int) else np.nan for value in values]
    assert np.array_equal(cast.values, expected, equal_nan=True)
    bad = [position for position, value in enumerate(values) if value == "x"]
    assert [row for misfit in cast.misfits for row in misfit.rows.tolist()] == bad


@pytest.mark.parametrize(
    ("found", "expected", "dtype"),
    [
        (["0", "1"], [0, 1], np.int64),
        (["0.0", "-1.0"], [0, -1], np.int64),
        ([0.0, 1.0], [0, 1], np.int64),
        ([True, False], [1, 0], np.int64),
        (["True", "FALSE"], [1, 0], np.int64),
        (["01", "02"], ["01", "02"], object),
        (["yes", "1"], ["yes", "1"], object),
    ],
)
def test_labels_are_whole_numbers_or_texts(found, expected, dtype):
    cast = cast_labels(pa.array(found), "y")
    assert cast.values.tolist() == expected
    assert cast.values.dtype == dtype


def test_a_label_that_is_missing_or_not_whole_is_a_misfit():
    assert [m.problem for m in cast_labels(pa.array(["1", None]), "y").misfits] == ["missing"]
    assert [m.problem for m in cast_labels(pa.array([0.5, 1.0]), "y").misfits] == ["not whole"]
