from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.payloads.json_literals import has_literals, replace_literals


def test_a_missing_number_becomes_null_and_an_infinity_a_number_too_large():
    body = b'[NaN, Infinity, -Infinity, "NaN", "\\"NaN"]'
    assert replace_literals(body) == b'[null, 1e999, -1e999, "NaN", "\\"NaN"]'


@pytest.mark.parametrize(("body", "there"), [(b"[1, 2]", False), (b"[NaN]", True)])
def test_it_is_seen_at_once_that_there_is_nothing_to_replace(body, there):
    assert has_literals(body) == there


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["NaN", '"NaN', "\\"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_JSON)
@settings(deadline=None)
def test_everything_else_stays_as_it_is(document):
    def expected(node):
        if isinstance(node, dict):
            return {name: expected(value) for name, value in node.items()}
        if isinstance(node, list):
            return [expected(value) for value in node]
        return None if isinstance(node, float) and math.isnan(node) else node

    assert json.loads(replace_literals(json.dumps(document).encode())) == expected(document)
