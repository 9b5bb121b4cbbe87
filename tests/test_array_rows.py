from __future__ import annotations

import numpy as np
import pytest

from greenroom.payloads.request import RequestType
from greenroom.protocols.array_rows import ArrayRows
from greenroom.schema import Column, Schema

NUMERIC = Schema((Column("a"), Column("b", nullable=True)))
TEXTS = Schema((Column("s", "string", nullable=True), Column("d", "date", nullable=True)))


def texts(value, day):
    values = np.array([value], dtype=object)
    return ArrayRows(TEXTS, [values, np.array([day], dtype="datetime64[us]")])


@pytest.mark.parametrize(
    "arrays",
    [np.array([[1.0, np.nan], [2.0, 3.0]]), [np.array([1.0, 2.0]), np.array([np.nan, 3.0])]],
)
def test_a_matrix_and_columns_give_the_same_as_json_does(arrays):
    json = RequestType.compile(NUMERIC).decode(b'[{"a": 1, "b": null}, {"a": 2, "b": 3}]')
    rows = ArrayRows(NUMERIC, arrays)
    np.testing.assert_array_equal(rows.matrix(), json.matrix())
    np.testing.assert_array_equal(rows.columns()["b"], json.columns()["b"])
    assert (rows.n_rows, rows.gaps()) == (json.n_rows, json.gaps())


def test_missing_text_and_instants_are_gaps():
    assert texts(None, "NaT").gaps() == (0, 1)
    assert texts("", "2024-01-15").gaps() == ()


def test_requests_are_joined_one_after_the_other():
    both = ArrayRows.joined([texts("x", "2024-01-15"), texts(None, "NaT")])
    assert both.n_rows == 2
    assert both.columns()["s"].tolist() == ["x", None]
    one, two = ArrayRows(NUMERIC, np.ones((1, 2))), ArrayRows(NUMERIC, [np.zeros(1)] * 2)
    assert ArrayRows.joined([one, two]).matrix().tolist() == [[1, 1], [0, 0]]
