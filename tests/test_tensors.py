"""Tensors: the two forms in which values travel mean the same, and what is broken is refused."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from greenroom.payloads.refusal import MAX_LISTED
from greenroom.protocols.tensors import (
    NUMBERS,
    BadTensor,
    datatype_of,
    invalid_tensors,
    read_binary,
    read_json,
    to_binary,
)


def from_json(datatype, shape, data):
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return read_json(datatype, shape, text)


def elements(*texts):
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


@pytest.mark.parametrize("datatype", NUMBERS)
@given(data=st.data())
@settings(deadline=None)
def test_a_number_is_the_same_as_json_and_as_binary(datatype, data):
    dtype = NUMBERS[datatype]
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    values = data.draw(hnp.arrays(dtype, (3,), elements=hnp.from_dtype(dtype, **finite)))
    binary = read_binary(datatype, [3], memoryview(values.tobytes()))
    np.testing.assert_array_equal(binary, from_json(datatype, [3], values.tolist()))
    np.testing.assert_array_equal(binary, values.astype(np.float64))
    assert to_binary(values) == values.tobytes()


@given(st.lists(st.text(), min_size=1))
@settings(deadline=None)
def test_text_is_the_same_as_json_and_as_binary(texts):
    raw = to_binary(np.array([*texts, None], dtype=object)[:-1])
    binary = read_binary("BYTES", [len(texts)], memoryview(raw))
    as_json = from_json("BYTES", [len(texts)], texts)
    assert binary.tolist() == as_json.tolist() == texts


def test_true_and_false_are_one_byte_each():
    assert read_binary("BOOL", [2, 1], memoryview(b"\x00\x01")).tolist() == [[0.0], [1.0]]
    assert from_json("BOOL", [2], [False, True]).tolist() == [0.0, 1.0]
    assert to_binary(np.array([True, False])) == b"\x01\x00"


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_json_is_flat_or_nested(data):
    assert from_json("FP64", [2, 2], data).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_null_is_a_missing_value():
    assert np.isnan(from_json("INT64", [1], [None])[0])
    assert from_json("BYTES", [1], [None])[0] is None


def test_what_is_read_may_be_written_to():
    raw = bytearray(b"." + np.array([1.0, 2.0]).tobytes())
    values = read_binary("FP64", [2], memoryview(raw)[1:])
    values[0] = 3.0
    assert raw[1:] == np.array([1.0, 2.0]).tobytes()
    assert values.flags.aligned


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "problem"),
    [
        ("FP64", [2], bytes(15), "has 15 bytes, and its shape wants 16"),
        ("FP64", [2**31], bytes(16), "and its shape wants 17179869184"),
        ("BYTES", [2**31], bytes(16), "and its shape wants 2147483648 elements"),
        ("BYTES", [2**64], bytes(16), "elements"),
        ("BF16", [1], bytes(2), "has a datatype that is none of FP64"),
        ("BOOL", [1], b"\x02", "neither 0 nor 1"),
        ("BYTES", [1], struct.pack("<I", 5) + b"abc", "ends before element 0 does"),
        ("BYTES", [1], struct.pack("<I", 2**32 - 1), "ends before element 0 does"),
        ("BYTES", [2], struct.pack("<I", 2) + b"abcd", "ends before the length of element 1"),
        ("BYTES", [1], elements(b"a") + b"x", "has 1 bytes after its last element"),
        ("BYTES", [1], elements(b"\xff"), "is not UTF-8 in element 0"),
    ],
)
def test_binary_that_is_not_what_it_says_is_refused(datatype, shape, raw, problem):
    with pytest.raises(BadTensor, match=problem):
        read_binary(datatype, shape, memoryview(raw))


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "problem"),
    [
        ("FP64", [2], [1], "has 1 values, and its shape wants 2"),
        ("FP64", [2**31], [1], "has 1 values"),
        ("FP64", [1], ["1.5"], "other values than numbers"),
        ("FP64", [1], [True], "other values than numbers"),
        ("FP64", [1], b"[1e999]", "all of them finite"),
        ("FP64", [1], b"[%s]" % (b"1" * 5_000), "other values than numbers"),
        ("FP64", [1], {"a": 1}, "other values than numbers"),
        ("FP64", [2, 2], [[1, 2], [3]], "is not nested as its shape is"),
        ("FP64", [2], [[1, 2]], "is not nested as its shape is"),
        ("FP64", [1, 1], [[[1]]], "other values"),
        ("FP64", [1], b"[" * 10_000, "other values"),
        ("FP64", [1], b"[1", "other values"),
        ("INT64", [1], [1.5], "not whole"),
        ("UINT8", [1], [256], "its datatype cannot"),
        ("INT8", [1], [-129], "its datatype cannot"),
        ("BOOL", [1], [1], "other values than true and false"),
        ("BYTES", [1], [1], "other values than strings"),
        ("complex", [1], [1], "has a datatype that is none of"),
    ],
)
def test_json_that_is_not_what_it_says_is_refused(datatype, shape, data, problem):
    with pytest.raises(BadTensor, match=problem):
        from_json(datatype, shape, data)


@given(
    st.sampled_from([*NUMBERS, "BOOL", "BYTES", "other"]),
    st.lists(st.integers(0, 2**33), min_size=1, max_size=2),
    st.binary(max_size=40),
)
@settings(deadline=None)
def test_no_bytes_do_anything_but_be_read_or_refused(datatype, shape, raw):
    try:
        values = read_binary(datatype, shape, memoryview(raw))
    except BadTensor:
        return
    assert list(values.shape) == shape


def test_single_precision_is_rounded_to_it_and_too_large_a_number_becomes_infinite():
    assert from_json("FP32", [2], [0.1, 1e300]).tolist() == [float(np.float32(0.1)), np.inf]


def test_arrays_of_numpy_have_a_datatype():
    found = [datatype_of(np.array([0], dtype=dtype)) for dtype in NUMBERS.values()]
    assert found == list(NUMBERS)
    assert datatype_of(np.array(["a"], dtype=object)) == "BYTES"


def test_every_bad_tensor_is_named_up_to_a_hundred():
    error = invalid_tensors({f"c{number}": "is bad" for number in range(MAX_LISTED + 5)})
    assert "c99 is bad; and 5 more" in error.message
    assert len(error.problems) == MAX_LISTED
