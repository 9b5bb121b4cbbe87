"""Tensors as rows: the rules for values are those of JSON, and every bad column is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.errors import RequestError, RequestInvalid
from greenroom.payloads.request import RequestType
from greenroom.protocols.tensor_rows import TensorReader, input_metadata
from greenroom.protocols.tensors import Tensor
from greenroom.schema import Column, Schema

NUMERIC = Schema(
    (
        Column("a b", request_name="a", minimum=-1, maximum=10, unit="m"),
        Column("i", "integer", nullable=True),
        Column("ok", "boolean"),
    )
)
MIXED = Schema(
    (
        Column("n", minimum=0),
        Column("s", "string"),
        Column("maybe", "string", nullable=True),
        Column("c", "category", categories=("low", "high")),
        Column("d", "date", nullable=True),
        Column("t", "datetime", nullable=True),
    )
)


def rows_of(schema, tensors, **limits):
    return TensorReader(schema).rows(tensors, **limits)


def tensor(name, values, datatype="FP64", shape=None):
    dtype = object if datatype == "BYTES" else np.float64
    array = np.array(values, dtype=dtype)
    return Tensor(name, datatype, array if shape is None else array.reshape(shape))


def mixed(**changes):
    given = {"n": [1.5], "s": ["001"], "c": ["low"], **changes}
    return [tensor(name, v, "FP64" if name == "n" else "BYTES") for name, v in given.items() if v]


def refused(schema, tensors, **limits):
    with pytest.raises(RequestInvalid) as caught:
        rows_of(schema, tensors, **limits)
    return {field: problem for _, field, problem in caught.value.problems}


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_one_tensor_a_column_becomes_the_columns_of_the_data(shape):
    tensors = [tensor("ok", [0, 1], "BOOL", shape), tensor("a", [1.5, 2], "FP32", shape)]
    rows = rows_of(NUMERIC, tensors)
    assert (rows.n_rows, rows.single) == (2, False)
    assert tuple(rows.columns()) == NUMERIC.names
    np.testing.assert_array_equal(rows.matrix(), [[1.5, np.nan, 0], [2, np.nan, 1]])
    assert rows.gaps() == (1,)


def test_one_matrix_of_any_name_is_all_columns_in_order_and_is_not_copied():
    sent = tensor("input-0", [[1.5, 3, 0], [2, np.nan, 1]])
    rows = rows_of(NUMERIC, [sent])
    assert rows.matrix() is sent.values
    np.testing.assert_array_equal(rows.columns()["a b"], [1.5, 2])


def test_a_matrix_of_one_column_is_that_column():
    schema = Schema((Column("x"),))
    assert rows_of(schema, [tensor("input-0", [[1], [2]])]).matrix().tolist() == [[1], [2]]


def test_text_dates_and_instants_are_read_as_json_does():
    rows = rows_of(MIXED, mixed(d=["2024-02-29"], t=["2024-01-15T10:30:00+02:00"]))
    columns = rows.columns()
    assert columns["s"].tolist() == ["001"]
    assert columns["d"][0] == np.datetime64("2024-02-29")
    assert columns["t"][0] == np.datetime64("2024-01-15T08:30:00")
    assert columns["maybe"][0] is None


def test_an_element_of_no_bytes_is_missing_where_a_value_may_be():
    rows = rows_of(MIXED, mixed(s=[""], maybe=[""], d=[""], t=[None])).columns()
    assert (rows["s"][0], rows["maybe"][0]) == ("", None)
    assert np.isnat(rows["d"][0])
    assert np.isnat(rows["t"][0])
    assert refused(MIXED, mixed(c=[""])) == {"c": "in row 0 must be one of low, high"}


def test_every_bad_column_is_named_at_once_with_its_first_bad_row():
    tensors = [
        tensor("a", [1, 11, 12, np.inf]),
        tensor("i", [1, 2, 3.5, np.nan]),
        tensor("ok", [0, 2, 1, 1]),
    ]
    assert refused(NUMERIC, tensors) == {
        "a": "in row 1 is above the maximum, 10 m, and 2 more rows are bad",
        "i": "in row 2 must be a whole number",
        "ok": "in row 1 must be true or false",
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"a": [np.nan]}, {"a": "in row 0 must not be null or NaN"}),
        ({"a": [-2]}, {"a": "in row 0 is below the minimum, -1 m"}),
        ({"i": [2.0**53]}, {"i": "in row 0 is too large for an integer that is kept exactly"}),
        ({"i": [np.inf]}, {"i": "in row 0 is not finite"}),
        ({"a": None}, {"a": "is missing"}),
        ({"x": [1]}, {"x": "is unknown"}),
        ({"a": [1, 2]}, {"": "the tensors differ in how many rows they have"}),
        ({"a": [[1, 2]]}, {"a": "has the shape [1, 2] instead of [n] or [n, 1]"}),
    ],
)
def test_what_does_not_fit_is_named(changes, problem):
    given = {"a": [1], "i": [1], "ok": [1], **changes}
    tensors = [tensor(name, v) for name, v in given.items() if v is not None]
    assert refused(NUMERIC, tensors) == problem


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"s": ["a\x00b"]}, {"s": "in row 0 holds a zero byte"}),
        ({"c": ["middle"]}, {"c": "in row 0 must be one of low, high"}),
        ({"d": ["15.1.2024"]}, {"d": "in row 0 must be a date, such as 2024-01-15"}),
        ({"s": [None]}, {"s": "in row 0 must not be null"}),
    ],
)
def test_text_that_does_not_fit_is_named(changes, problem):
    assert refused(MIXED, mixed(**changes)) == problem


def test_a_datatype_belongs_to_a_kind():
    wrong = [tensor("a", [1], "BOOL"), tensor("i", [1]), tensor("ok", [1], "INT8")]
    assert refused(NUMERIC, wrong) == {"a": "has the datatype BOOL instead of FP64"}
    texts = [tensor("n", ["1"], "BYTES"), tensor("s", [1]), tensor("c", ["low"], "BYTES")]
    assert refused(MIXED, texts) == {
        "n": "has the datatype BYTES instead of FP64",
        "s": "has the datatype FP64 instead of BYTES",
    }


@pytest.mark.parametrize("values", [[[1, 2]], [1], [[1, 2, 3, 4]]])
def test_a_matrix_of_another_width_is_told_the_right_one(values):
    shape = list(np.shape(values))
    assert refused(NUMERIC, [tensor("input-0", values)]) == {
        "input-0": f"has the shape {shape} instead of [n, 3]"
    }


def test_a_tensor_given_twice_is_named():
    twice = [tensor("a", [1]), tensor("ok", [1]), tensor("a", [1])]
    assert refused(NUMERIC, twice) == {"a": "is given twice"}


def test_no_row_and_too_many_rows_are_refused():
    with pytest.raises(RequestInvalid, match="the tensors hold no row"):
        rows_of(NUMERIC, [tensor("x", np.empty((0, 3)))])
    with pytest.raises(RequestInvalid, match="3 rows are more than one request may hold"):
        rows_of(NUMERIC, [tensor("x", np.zeros((3, 3)))], max_rows=2)


def test_very_many_names_are_refused_in_good_time():
    tensors = [tensor(f"x{number}", [1]) for number in range(20_000)]
    assert len(refused(NUMERIC, tensors)) == 100


def test_the_tensors_of_each_kind_are_described():
    datatypes = [one["datatype"] for one in input_metadata(MIXED)]
    assert datatypes == ["FP64", "BYTES", "BYTES", "BYTES", "BYTES", "BYTES"]
    assert input_metadata(NUMERIC)[0] == {"name": "a", "datatype": "FP64", "shape": [-1]}


_NUMBERS = st.floats() | st.sampled_from([0.0, 1.0, 10.0, 11.0, 2.0**53, -2.0])


@given(st.lists(st.tuples(_NUMBERS, _NUMBERS, st.booleans()), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_a_number_is_taken_as_a_tensor_exactly_where_it_is_as_json(cells):
    names = [column.request_name for column in NUMERIC]
    body = json.dumps([dict(zip(names, row, strict=True)) for row in cells])
    # In a tensor NaN is how a missing value is written.
    agreed(NUMERIC, body.replace("NaN", "null"), [tensor("x", cells)])


_TEXTS = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1, max_size=4)
_DATES = st.dates().map(str) | st.datetimes().map(str) | _TEXTS


@given(
    st.lists(
        st.tuples(st.floats(0, 9), _TEXTS, _TEXTS, st.sampled_from(["low", "x"]), _DATES, _DATES),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=200, deadline=None)
def test_text_is_taken_as_a_tensor_exactly_where_it_is_as_json(rows):
    body = json.dumps([dict(zip(MIXED.names, row, strict=True)) for row in rows])
    columns = dict(zip(MIXED.names, zip(*rows, strict=True), strict=True))
    tensors = [tensor(n, list(v), "FP64" if n == "n" else "BYTES") for n, v in columns.items()]
    agreed(MIXED, body, tensors)


def agreed(schema, body, tensors):
    """Check that JSON and tensors are both refused, or both the same arrays."""
    try:
        expected = RequestType.compile(schema).decode(body.encode())
    except RequestError:
        with pytest.raises(RequestError):
            rows_of(schema, tensors)
        return
    found = rows_of(schema, tensors)
    for name, values in expected.columns().items():
        np.testing.assert_array_equal(found.columns()[name], values)
    assert found.gaps() == expected.gaps()
