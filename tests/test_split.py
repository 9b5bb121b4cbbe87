"""Splits: a row's side is its own, and no fold or group is torn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.data.fingerprint import row_keys
from greenroom.errors import AppError, DataError
from greenroom.schema import Column
from greenroom.split import Split, fold_indices, holdout_mask, side_keys

HELD_OUT = [7, 20, 29]

keys_of_rows = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50)
splits = st.builds(Split, holdout=st.floats(0.01, 0.99), seed=st.integers(-(2**70), 2**70))


def days(*numbers):
    return np.datetime64("2021-01-01", "us") + np.array(numbers) * np.timedelta64(1, "D")


@given(keys_of_rows, keys_of_rows, splits)
def test_a_row_never_changes_side_when_rows_are_added(keys, added, split):
    before = holdout_mask(np.array(keys, dtype=np.uint64), split)
    after = holdout_mask(np.array(added + keys, dtype=np.uint64), split)
    assert after[len(added) :].tolist() == before.tolist()


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=20), st.floats())
def test_a_row_of_numbers_keeps_its_side_when_rows_are_added(numbers, added):
    column, split = [Column("a")], Split(holdout=0.5)
    before = holdout_mask(row_keys({"a": np.array(numbers)}, column), split)
    after = holdout_mask(row_keys({"a": np.array([*numbers, added])}, column), split)
    assert after[:-1].tolist() == before.tolist()


@given(keys_of_rows, st.floats(0.01, 0.98))
def test_a_larger_share_holds_out_the_same_rows_and_more(keys, share):
    rows = np.array(keys, dtype=np.uint64)
    smaller = holdout_mask(rows, Split(holdout=share))
    larger = holdout_mask(rows, Split(holdout=share + 0.01))
    assert larger[smaller].all()


@pytest.mark.parametrize("holdout", [0.05, 0.2, 0.5])
def test_the_share_held_out_is_the_one_asked_for(holdout):
    mask = holdout_mask(np.arange(100_000, dtype=np.uint64), Split(holdout=holdout))
    assert mask.mean() == pytest.approx(holdout, abs=0.005)


def test_another_seed_holds_out_other_rows():
    keys = np.arange(10_000, dtype=np.uint64)
    both = holdout_mask(keys, Split(seed=1)) & holdout_mask(keys, Split(seed=2))
    assert both.mean() == pytest.approx(0.04, abs=0.01)


def test_the_side_of_known_keys_stays_what_it_is():
    # Versions in a registry are compared by it: another rule here would mix their sides.
    mask = holdout_mask(np.arange(30, dtype=np.uint64), Split())
    assert np.flatnonzero(mask).tolist() == HELD_OUT


def test_rows_of_a_group_stay_together():
    customers = np.array(["x", "y", "z", None] * 50, dtype=object)
    columns = {"a": np.arange(200.0), "customer": customers}
    schema = [Column("a"), Column("customer", "string", nullable=True)]
    split = Split(holdout=0.5, group="customer")
    mask = holdout_mask(side_keys(columns, schema, split), split)
    for customer in ("x", "y", "z", None):
        assert len(set(mask[customers == customer].tolist())) == 1


def test_a_group_that_is_no_column_is_named():
    with pytest.raises(AppError, match=r"split\.group: 'b'"):
        side_keys({"a": np.zeros(1)}, [Column("a")], Split(group="b"))


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), st.floats(0.05, 0.95))
def test_a_split_by_time_holds_out_the_latest_and_tears_no_instant(numbers, holdout):
    times = days(*numbers)
    split = Split(holdout=holdout, time="day")
    keys = np.zeros(len(times), dtype=np.uint64)
    if len(set(numbers)) == 1:
        with pytest.raises(DataError, match="fewer than two instants"):
            holdout_mask(keys, split, times)
        return
    mask = holdout_mask(keys, split, times)
    assert 0 < mask.sum() < len(mask)
    assert times[mask].min() > times[~mask].max()


def test_a_row_without_a_time_is_trained_on():
    times = np.append(days(*range(9)), np.datetime64("NaT"))
    mask = holdout_mask(np.zeros(10, dtype=np.uint64), Split(time="day"), times)
    assert np.flatnonzero(mask).tolist() == [7, 8]


def test_a_split_by_time_needs_times():
    with pytest.raises(DataError, match="'day'"):
        holdout_mask(np.zeros(1, dtype=np.uint64), Split(time="day"))


@pytest.mark.parametrize("kind", ["stratified", "random"])
@pytest.mark.parametrize(
    "groups", [None, np.arange(100) // 4, np.array(list("abcde") * 20, object)]
)
def test_each_row_is_validated_once_and_groups_are_not_torn(kind, groups):
    y = np.arange(100) % 2
    folds = fold_indices(kind, y, 5, 42, groups)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(100))
    for train, test in folds:
        assert not set(train.tolist()) & set(test.tolist())
        if groups is not None:
            assert not set(groups[train].tolist()) & set(groups[test].tolist())


def test_a_missing_group_is_a_group():
    groups = np.array(["a", None, "b", np.nan] * 5, dtype=object)
    for train, test in fold_indices("random", np.zeros(20), 3, 0, groups):
        assert len(train) + len(test) == 20


def test_stratified_folds_keep_the_shares_of_the_classes():
    y = np.array([0] * 80 + [1] * 20)
    assert [y[test].sum() for _, test in fold_indices("stratified", y, 5, 0)] == [4] * 5


def test_folds_are_the_same_for_the_same_seed():
    y = np.arange(40) % 2
    first, second = (fold_indices("stratified", y, 4, 7) for _ in range(2))
    assert all((a[1] == b[1]).all() for a, b in zip(first, second, strict=True))


def test_folds_by_time_validate_on_what_comes_after_whatever_the_order_of_rows():
    times = days(*np.random.default_rng(0).integers(0, 40, 200).tolist())
    folds = fold_indices("time", np.zeros(200), 4, 0, times=times)
    assert len(folds) == 4
    for train, test in folds:
        assert times[train].max() < times[test].min()


def test_folds_by_time_take_the_rows_in_order_when_there_are_no_times():
    for train, test in fold_indices("time", np.zeros(50), 4, 0):
        assert train.max() < test.min()


@pytest.mark.parametrize(
    ("kind", "y", "groups"),
    [
        ("stratified", np.array([0] * 10 + [1] * 3), None),
        ("random", np.zeros(4), None),
        ("random", np.zeros(50), np.arange(50) % 4),
        ("time", np.zeros(5), None),
    ],
)
def test_too_little_for_so_many_folds_is_said(kind, y, groups):
    with pytest.raises(DataError, match="too few for 5 folds"):
        fold_indices(kind, y, 5, 0, groups)


def test_every_bad_field_of_a_split_is_named():
    with pytest.raises(AppError) as caught:
        Split(holdout=1.0, group="a", time="b")
    assert len(caught.value.problems) == 2
