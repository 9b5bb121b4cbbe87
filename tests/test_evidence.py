"""Evidence: read back bit for bit, sampled fairly, and matched row by row."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom.errors import VersionCorrupt
from greenroom.evaluation.evidence import (
    HoldOut,
    common,
    read_holdout,
    read_reference,
    reference_sample,
    write_holdout,
    write_reference,
)
from greenroom.evaluation.predictions import Predictions
from greenroom.schema import Column, Schema

SCHEMA = Schema((Column("a"), Column("t", "string"), Column("at", "datetime")))
ODD_NUMBERS = np.array([0x7FF8000000000001, 0xFFF8000000000000, 1 << 63, 1], dtype=np.uint64).view(
    np.float64
)
"""A NaN with a payload, one with a sign, the negative zero, and the least number there is."""


def same_bits(left, right):
    assert (left.dtype, left.shape) == (right.dtype, right.shape)
    if left.dtype == object:
        return left.tolist() == right.tolist()
    return left.tobytes() == right.tobytes()


def hold(keys, y=None, values=None):
    predictions = {"prediction": np.array(keys if values is None else values, dtype=np.float64)}
    truth = None if y is None else np.array(y)
    return HoldOut(np.array(keys, dtype=np.uint64), truth, Predictions(predictions))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.booleans(), st.floats(), st.floats()), max_size=6
    )
)
def test_a_holdout_is_read_back_bit_for_bit(tmp_path, rows):
    probabilities = np.array([[p, q] for *_, p, q in rows], dtype=np.float64).reshape(-1, 2)
    labels = np.array(["yes" if flag else "no" for _, flag, *_ in rows], dtype=object)
    outputs = {
        "prediction": labels,
        "probability": probabilities[:, 1],
        "probabilities": probabilities,
    }
    keys = np.array([key for key, *_ in rows], dtype=np.uint64)
    written = HoldOut(keys, labels[::-1], Predictions(outputs, ("no", "yes")))
    write_holdout(tmp_path / "holdout.parquet", written)
    read = read_holdout(tmp_path / "holdout.parquet", ("no", "yes"))
    assert same_bits(read.keys, keys)
    assert same_bits(read.y, written.y)
    assert read.predictions.classes == ("no", "yes")
    for name, values in outputs.items():
        assert same_bits(read.predictions.outputs[name], np.ascontiguousarray(values))


@pytest.mark.parametrize(
    "y", [None, np.array([1, 0, 1, 0]), np.array([1.5, 2, 3, 4]), np.array([True, False] * 2)]
)
def test_a_reference_sample_is_read_back_bit_for_bit(tmp_path, y):
    times = np.array(["2021-03-01T10:00", "NaT", "1969-12-31", "2300-01-01"], "datetime64[us]")
    texts = np.array(["x", None, "", "ü"], dtype=object)
    columns = {"a": ODD_NUMBERS, "t": texts, "at": times}
    reasons = np.empty(4, dtype=object)
    reasons[:] = [["high", "late"], [], ["odd"], []]
    outputs = {
        "prediction": np.array([True, False, True, False]),
        "score": ODD_NUMBERS,
        "reasons": reasons,
    }
    path = tmp_path / "greenroom" / "reference.parquet"
    write_reference(path, columns, y, Predictions(outputs))
    read, truth, predictions = read_reference(path, SCHEMA)
    assert list(read) == ["a", "t", "at"]
    for name, values in columns.items():
        assert same_bits(read[name], values)
    for name, values in outputs.items():
        assert same_bits(predictions.outputs[name], values)
    assert truth is None if y is None else same_bits(truth, y)


def test_what_was_read_can_be_written_to(tmp_path):
    write_holdout(tmp_path / "h.parquet", hold([1, 2], [0, 1]))
    read = read_holdout(tmp_path / "h.parquet")
    read.predictions.outputs["prediction"][0] = 7


def test_a_missing_or_broken_file_is_a_corrupt_version(tmp_path):
    with pytest.raises(VersionCorrupt, match=r"holdout\.parquet is missing or cannot be read"):
        read_holdout(tmp_path / "holdout.parquet")
    (tmp_path / "holdout.parquet").write_bytes(b"PAR1")
    with pytest.raises(VersionCorrupt, match=r"holdout\.parquet is missing or cannot be read"):
        read_holdout(tmp_path / "holdout.parquet")


def test_a_lacking_column_is_named(tmp_path):
    path = tmp_path / "reference.parquet"
    write_reference(path, {"a": np.zeros(1)}, None, Predictions({"prediction": np.zeros(1)}))
    with pytest.raises(VersionCorrupt, match=r"lacks input\.t, input\.at"):
        read_reference(path, SCHEMA)


def test_reading_evidence_does_not_import_pandas(tmp_path):
    path = tmp_path / "holdout.parquet"
    write_holdout(path, hold([1, 2], [0, 1]))
    script = (
        "import sys; from pathlib import Path;"
        "from greenroom.evaluation.evidence import read_holdout;"
        f"read_holdout(Path({str(path)!r})); sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_holdout_of_uneven_lengths_is_refused():
    with pytest.raises(ValueError, match="different lengths"):
        hold([1, 2], [1])


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 9))
def test_a_sample_has_the_rows_asked_for_in_order_and_without_doubles(total, n_rows, seed):
    for y in (None, np.arange(total) % 3):
        chosen = reference_sample(y, n_rows, seed, y is not None, n_samples=total)
        assert len(chosen) == min(n_rows, total)
        assert (np.diff(chosen) > 0).all()
        again = reference_sample(y, n_rows, seed, y is not None, n_samples=total)
        assert (chosen == again).all()


def test_a_stratified_sample_has_the_shares_of_the_classes_and_each_of_them():
    y = np.array(["a"] * 9_000 + ["b"] * 990 + ["c"] * 10, dtype=object)
    chosen = y[reference_sample(y, 100, 3, stratify=True)]
    counts = {label: int((chosen == label).sum()) for label in "abc"}
    assert counts["c"] >= 1
    assert counts["a"] == pytest.approx(90, abs=2)
    assert counts["b"] == pytest.approx(10, abs=2)


def test_a_sample_without_truth_needs_the_number_of_rows():
    with pytest.raises(ValueError, match="n_samples"):
        reference_sample(None, 3, 0, stratify=False)


@given(st.lists(st.integers(0, 9), max_size=12), st.lists(st.integers(0, 9), max_size=12))
def test_common_rows_are_those_of_both_as_often_as_both_hold_them(left, right):
    a, b = common(hold(left, left), hold(right, right))
    assert a.keys.tolist() == b.keys.tolist()
    assert a.predictions.outputs["prediction"].tolist() == a.keys.tolist()
    expected = [key for key in range(10) for _ in range(min(left.count(key), right.count(key)))]
    assert a.keys.tolist() == expected


def test_equal_rows_with_different_truths_are_matched_by_truth():
    a, b = common(hold([5, 5], [0, 1], [0.1, 0.2]), hold([5, 5], [1, 0], [0.3, 0.4]))
    assert a.y.tolist() == [0, 1]
    assert b.predictions.outputs["prediction"].tolist() == [0.4, 0.3]


def test_a_corrected_truth_judges_both():
    a, b = common(hold([1, 2], [0, 1]), hold([1, 2], [0, 0]))
    assert a.y.tolist() == b.y.tolist() == [0, 1]


def test_rows_without_truth_have_common_rows_too():
    a, b = common(hold([1, 2]), hold([2, 3]))
    assert (a.keys.tolist(), b.keys.tolist(), a.y) == ([2], [2], None)
