"""Fingerprints: equal for equal content, different for any other."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.data.fingerprint import (
    combined_digest,
    content_hash,
    file_digest,
    row_keys,
    tree_digests,
)
from greenroom.errors import DataError
from greenroom.schema import Column, take

CONTENT = "4e094947b8a0f6b59a027ffdea8bb2059b107b4b0de69456a326ef2335a91ddf"
KEYS = [11806291697321991423, 3938125608044981998]

SCHEMA = (Column("a"), Column("t", "string"), Column("d", "datetime"))

rows_of_data = st.lists(
    st.tuples(
        st.floats(width=64),
        st.one_of(st.none(), st.text(max_size=4)),
        st.one_of(st.none(), st.integers(-(10**15), 10**15)),
    ),
    min_size=1,
    max_size=8,
)


def columns_of(rows):
    texts = np.empty(len(rows), dtype=object)
    texts[:] = [text for _, text, _ in rows]
    times = ["NaT" if time is None else np.datetime64(time, "us") for *_, time in rows]
    return {
        "a": np.array([number for number, *_ in rows], dtype=np.float64),
        "t": texts,
        "d": np.array(times, dtype="datetime64[us]"),
    }


def test_a_file_digest_is_that_of_all_its_bytes():
    assert file_digest([b"a", b"", b"bc"]) == hashlib.sha256(b"abc").hexdigest()


@given(rows_of_data)
def test_every_nan_and_both_zeros_are_one_value(rows):
    columns = columns_of(rows)
    other = dict(columns)
    payload = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]
    other["a"] = np.where(np.isnan(columns["a"]), -payload, columns["a"])
    other["a"] = np.where(columns["a"] == 0, -columns["a"], other["a"])
    assert content_hash(columns, SCHEMA) == content_hash(other, SCHEMA)
    assert (row_keys(columns, SCHEMA) == row_keys(other, SCHEMA)).all()


@given(rows_of_data, st.data())
def test_one_changed_cell_changes_the_hash_and_the_key_of_its_row_alone(rows, data):
    columns = columns_of(rows)
    row = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(["a", "t", "d"]))
    changed = {key: values.copy() for key, values in columns.items()}
    if name == "a":
        changed["a"][row] = 1.0 if np.isnan(columns["a"][row]) else np.nan
    elif name == "t":
        changed["t"][row] = None if columns["t"][row] is not None else ""
    else:
        known = not np.isnat(columns["d"][row])
        changed["d"][row] = np.datetime64("NaT" if known else "2020-01-01", "us")
    assert content_hash(changed, SCHEMA) != content_hash(columns, SCHEMA)
    differs = row_keys(changed, SCHEMA) != row_keys(columns, SCHEMA)
    assert np.flatnonzero(differs).tolist() == [row]


@given(rows_of_data, st.randoms())
def test_a_row_has_its_key_wherever_it_stands(rows, random):
    columns = columns_of(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    moved = take(columns, np.array(order))
    assert row_keys(moved, SCHEMA).tolist() == row_keys(columns, SCHEMA)[order].tolist()


def test_the_order_of_rows_counts_for_the_content():
    one = {"a": np.array([1.0, 2.0])}
    other = {"a": np.array([2.0, 1.0])}
    assert content_hash(one, [Column("a")]) != content_hash(other, [Column("a")])


@pytest.mark.parametrize(("left", "right"), [(["ab", "c"], ["a", "bc"]), ([None], [""])])
def test_texts_are_told_apart_where_their_bytes_run_together(left, right):
    column = [Column("t", "string")]
    hashes = {content_hash({"t": np.array(texts, dtype=object)}, column) for texts in (left, right)}
    assert len(hashes) == 2


def test_names_and_kinds_count_for_the_content_and_ranges_do_not():
    ones = np.array([1.0])
    plain = content_hash({"a": ones}, [Column("a")])
    assert plain != content_hash({"b": ones}, [Column("b")])
    assert plain != content_hash({"a": ones}, [Column("a", "integer")])
    assert plain == content_hash({"a": ones}, [Column("a", maximum=9, unit="years")])


def test_the_hash_of_known_content_stays_what_it_is():
    # It is recorded in every version: another value here breaks `reproduce` for all of them.
    columns = columns_of([(1.5, "x", 0), (float("nan"), None, None)])
    assert content_hash(columns, SCHEMA) == CONTENT
    assert row_keys(columns, SCHEMA).tolist() == KEYS


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(DataError, match="'b'"):
        content_hash({"a": np.zeros(1)}, [Column("b")])


def test_no_rows_have_no_keys():
    assert row_keys({"a": np.zeros(0)}, [Column("a")]).shape == (0,)


def test_sources_are_digested_without_caches_data_and_state(tmp_path):
    for name in ("app.py", "lib/b.py", "README.md", "data/x.py", ".greenroom/y.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(name)
    for name in ("__pycache__/z.py", "mlruns_dev/features.py", "mlflow/features.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(name)
    digests = tree_digests(tmp_path, ("*.py",))
    assert list(digests) == ["app.py", "lib/b.py"]
    assert digests["app.py"] == hashlib.sha256(b"app.py").hexdigest()


def test_a_model_that_mlflow_stored_is_no_source_of_the_app_that_trained_it(tmp_path):
    for name in ("app.py", "models/m/model/MLmodel", "models/m/model/greenroom/features.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(name)

    assert list(tree_digests(tmp_path, ("*.py",))) == ["app.py"]


def test_a_moved_file_changes_the_combined_digest():
    assert combined_digest({"a": "1"}) != combined_digest({"b": "1"})
