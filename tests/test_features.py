from __future__ import annotations

import pickle
import sys
import traceback

import numpy as np
import pytest

from greenroom.data.features import features_digest, load_features
from greenroom.errors import AppError

SOURCE = '''
"""Ratios."""
import numpy as np

def features(columns):
    return {"ratio": np.divide(columns["a"], columns["b"])}

def expand(request):
    return {"a": np.arange(request["n"], dtype=float), "b": np.ones(request["n"])}
'''


def test_the_functions_of_the_source_are_found():
    found = load_features(SOURCE)
    out = found.features({"a": np.array([1.0, 4.0]), "b": np.array([2.0, 2.0])})
    assert out["ratio"].tolist() == [0.5, 2.0]
    assert found.expand is not None
    assert found.expand({"n": 3})["a"].tolist() == [0.0, 1.0, 2.0]
    assert found.digest == features_digest(SOURCE)
    assert found.source == SOURCE


def test_the_same_source_is_imported_once_and_another_beside_it():
    first, again = load_features(SOURCE), load_features(SOURCE)
    other = load_features(SOURCE + "\n# another text\n")
    assert first.module is again.module
    assert other.module is not first.module
    assert first.module.__name__ == f"greenroom_features_{first.digest[:16]}"


def test_functions_of_the_module_can_be_pickled_by_reference():
    found = load_features(SOURCE)
    assert pickle.loads(pickle.dumps(found.features)) is found.features


def test_a_source_may_define_dataclasses():
    source = (
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\nclass Box:\n    width: float\n"
        "def features(columns):\n    return columns\n"
    )
    assert load_features(source).module.Box(1.0).width == 1.0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def feature(columns): return columns", "no function 'features'"),
        ("features = 3", "no function 'features'"),
        ("def features(c): return c\nexpand = 3", "`expand` is not a function"),
        ("def features(:", "SyntaxError"),
        ("import greenroom_no_such_package\ndef features(c): return c", "greenroom_no_such"),
        ("from .sibling import x\ndef features(c): return c", "ImportError"),
        ("1 / 0\ndef features(c): return c", "ZeroDivisionError"),
    ],
)
def test_what_is_wrong_with_a_source_is_named_and_nothing_stays_imported(source, said):
    before = set(sys.modules)
    with pytest.raises(AppError, match=said) as raised:
        load_features(source)
    assert raised.value.problems
    assert set(sys.modules) - before == set()


def test_a_file_that_imports_its_siblings_is_told_to_be_self_contained():
    with pytest.raises(AppError, match="self-contained"):
        load_features("import greenroom_no_such_sibling\ndef features(c): return c")


def test_a_traceback_shows_the_lines_of_the_source():
    found = load_features("def features(columns):\n    return columns['absent']\n")
    try:
        found.features({})
    except KeyError:
        assert "return columns['absent']" in traceback.format_exc()
