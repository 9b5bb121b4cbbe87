"""Numbers counted at cuts: every value at its place, whatever cuts and values there are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.monitoring.number_counts import MAX_CUTS, Cuts, NumberCounts, cut_values

ANY = st.floats(allow_nan=False, allow_infinity=True)
FINITE = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-5, 5).map(float))


@given(st.lists(FINITE, min_size=1, max_size=40), st.lists(st.one_of(ANY, FINITE), max_size=40))
def test_every_value_is_counted_at_its_place_among_the_cuts(cuts, values):
    at = np.unique(np.array(cuts))
    found = np.array([*values, *cuts])
    places = Cuts(at).places(found)[0]
    wanted = np.searchsorted(at, found, side="left") + np.searchsorted(at, found, side="right")
    assert places.tolist() == wanted.tolist()


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_values_of_many_magnitudes_are_found_among_many_cuts(spread):
    rng = np.random.default_rng(0)
    cuts = np.unique(np.exp(spread * rng.normal(size=2_000)) - 1)
    values = np.concatenate([np.exp(spread * rng.normal(size=20_000)) - 1, cuts, [0.0, -0.0]])
    counts = NumberCounts(Cuts(cuts))
    counts.add(values)
    wanted = np.searchsorted(cuts, values, side="left") + np.searchsorted(cuts, values, "right")
    assert counts.counts.tolist() == np.bincount(wanted, minlength=2 * len(cuts) + 1).tolist()


def test_missing_and_infinite_values_are_told_apart():
    counts = NumberCounts(Cuts(np.array([0.0, 1.0])))
    counts.add(np.array([np.nan, np.inf, -np.inf, 0.5, np.nan]), n_missing=2)
    assert (counts.n_missing, counts.n_infinite, counts.n_values) == (4, 2, 3)
    assert counts.counts.tolist() == [1, 0, 1, 0, 1]
    assert counts.sums.tolist() == [0, 0, 0.5, 0, 0]
    assert (counts.least, counts.most) == (0.5, 0.5)


def test_in_parts_and_at_once_is_the_same():
    rng = np.random.default_rng(1)
    values = rng.normal(size=50_000)
    cuts = Cuts(cut_values(values[:500], np.array([0.0])))
    whole, parts = NumberCounts(cuts), NumberCounts(cuts)
    whole.add(values)
    for part in np.array_split(values, 7):
        parts.add(part)
    assert whole.counts.tolist() == parts.counts.tolist()
    assert whole.sums == pytest.approx(parts.sums)


def test_of_many_distinct_values_quantiles_are_cuts_the_ends_among_them():
    values = np.arange(100_000.0)
    cuts = cut_values(values, np.empty(0))
    assert len(cuts) <= MAX_CUTS
    assert (cuts[0], cuts[-1]) == (0.0, 99_999.0)
