"""The fields of one object: read whole, or every bad one named."""

from __future__ import annotations

import pytest

from greenroom.errors import RequestInvalid, RequestMalformed
from greenroom.payloads.fields import read_fields
from greenroom.schema import Column, Schema

SCHEMA = Schema(
    (
        Column("version", "string"),
        Column("stage", "category", categories=("Staging", "Production")),
        Column("archive", "boolean", nullable=True),
    )
)


def read(body: bytes):
    return read_fields(body, SCHEMA, {"version": lambda text: "" if text == "1" else "is not 1"})


def test_fields_that_may_be_left_out_are_none():
    found = read(b'{"version": "1", "stage": "Staging"}')

    assert found == {"version": "1", "stage": "Staging", "archive": None}


def test_every_bad_field_is_named_and_none_is_repeated():
    with pytest.raises(RequestInvalid) as caught:
        read(b'{"version": "secret", "stage": "Prod", "archive": "yes", "force": 1, "force": 2}')

    assert [(problem.field, problem.problem) for problem in caught.value.problems] == [
        ("stage", "must be one of Staging, Production"),
        ("archive", "must be true or false"),
        ("force", "is unknown"),
        ("force", "is given twice"),
        ("version", "is not 1"),
    ]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "the body is empty"),
        (b"[]", "not a JSON object"),
        (b'"1"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"version": ', "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"version": "\\ud800"}', "half a character"),
    ],
)
def test_what_is_no_object_is_refused(body, problem):
    with pytest.raises(RequestMalformed, match=problem):
        read(body)


@pytest.mark.parametrize("value", [b"NaN", b"1", b"null", b"{}", b"[]", b"true", b"1e999"])
def test_a_value_of_another_kind_is_named_once(value):
    with pytest.raises(RequestInvalid) as caught:
        read(b'{"stage": "Staging", "version": ' + value + b"}")

    assert [problem.field for problem in caught.value.problems] == ["version"]
