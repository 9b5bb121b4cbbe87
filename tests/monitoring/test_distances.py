"""Distances: published and independently computed values, and what holds for any counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.spatial.distance import jensenshannon

from greenroom.monitoring.distances import (
    cohens_h,
    expected_psi,
    jensen_shannon,
    kolmogorov_smirnov,
    psi,
    shares,
    wasserstein,
)
from greenroom.monitoring.number_counts import Cuts, NumberCounts, cut_values

COUNTS = arrays(np.int64, st.shared(st.integers(2, 12), key="n"), elements=st.integers(0, 10_000))


def counted(values, cuts):
    found = NumberCounts(cuts)
    found.add(np.asarray(values, dtype=np.float64))
    return found


def distances_of(reference, current):
    """Return both distances of raw numbers, as a window's are computed."""
    reference = np.asarray(reference, dtype=np.float64)
    cuts = Cuts(cut_values(reference, np.empty(0)))
    r, c = counted(reference, cuts), counted(current, cuts)
    moved = wasserstein(cuts.values, (r.counts, r.sums), (c.counts, c.sums))
    return kolmogorov_smirnov(r.counts, c.counts), moved


def test_psi_is_what_is_computed_by_hand_from_shares():
    # (0.4 - 0.5) ln(0.4 / 0.5) + (0.6 - 0.5) ln(0.6 / 0.5) and a score table of five bands.
    r = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    c = np.array([0.2, 0.2, 0.3, 0.2, 0.1])
    by_hand = 0.1 * np.log(2) - 0.1 * np.log(0.75)
    assert psi(r * 1e9, c * 1e9) == pytest.approx(by_hand, abs=1e-6)


def test_psi_is_the_symmetric_divergence_of_kullback_and_leibler():
    r, c = np.array([30.5, 60.5, 10.5]), np.array([50.5, 20.5, 40.5])
    both = stats.entropy(r, c) + stats.entropy(c, r)
    assert psi(r - 0.5, c - 0.5) == pytest.approx(both, rel=1e-12)


def test_psi_of_a_normal_distribution_that_moves_is_the_square_of_how_far():
    # Kullback and Leibler: (mean difference / sd)^2; tenths lose some of it.
    edges = np.concatenate([[-np.inf], stats.norm.ppf(np.linspace(0.1, 0.9, 9)), [np.inf]])
    r = np.diff(stats.norm.cdf(edges)) * 1e9
    c = np.diff(stats.norm.cdf(edges, loc=0.45)) * 1e9
    assert psi(r, c) == pytest.approx(0.45**2, rel=0.07)


def test_an_empty_bin_does_not_make_psi_infinite():
    assert np.isfinite(psi(np.array([100, 0]), np.array([0, 100])))


def test_psi_of_two_samples_of_one_distribution_is_what_is_expected_of_it():
    rng = np.random.default_rng(0)
    p = np.full(10, 0.1)
    drawn = [psi(rng.multinomial(2_000, p), rng.multinomial(1_000, p)) for _ in range(2_000)]
    assert np.mean(drawn) == pytest.approx(expected_psi(10, 2_000, 1_000), rel=0.05)


@given(COUNTS, COUNTS)
def test_psi_and_jensen_shannon_are_symmetric_not_negative_and_zero_for_the_same(r, c):
    for distance in (psi, jensen_shannon):
        assert distance(r, c) == pytest.approx(distance(c, r), abs=1e-9)
        assert distance(r, c) >= 0
        assert distance(r, r) == pytest.approx(0, abs=1e-6)
    assert jensen_shannon(r, c) <= 1


@given(COUNTS, COUNTS)
def test_jensen_shannon_is_scipys(r, c):
    if r.any() and c.any():
        wanted = np.nan_to_num(jensenshannon(r, c, base=2))
        assert jensen_shannon(r, c) == pytest.approx(wanted, abs=1e-6)


NUMBERS = st.lists(
    st.one_of(st.integers(-20, 20).map(float), st.floats(-1e6, 1e6)), min_size=3, max_size=40
)


@given(NUMBERS, NUMBERS)
def test_kolmogorov_smirnov_of_counts_is_exactly_that_of_the_values(reference, current):
    wanted = stats.ks_2samp(reference, current, method="asymp").statistic
    assert distances_of(reference, current)[0] == pytest.approx(wanted, abs=1e-12)


@given(NUMBERS, NUMBERS)
def test_wasserstein_of_counts_is_scipys_but_for_pieces_in_which_the_curves_cross(
    reference, current
):
    wanted = stats.wasserstein_distance(reference, current)
    gaps = np.diff(np.unique(reference))
    bound = gaps.max(initial=0.0)
    assert distances_of(reference, current)[1] == pytest.approx(wanted, rel=1e-6, abs=bound + 1e-6)


def test_wasserstein_of_two_large_samples_is_scipys_to_a_hundredth():
    rng = np.random.default_rng(1)
    for reference, current in (
        (rng.normal(size=1_000), rng.normal(0.3, 1.4, size=5_000)),
        (rng.lognormal(0, 2, size=1_000), rng.lognormal(0.5, 2, size=5_000)),
        (rng.poisson(3, size=1_000), rng.poisson(4, size=5_000)),
    ):
        wanted = stats.wasserstein_distance(reference, current)
        assert distances_of(reference, current)[1] == pytest.approx(wanted, rel=0.01)


def test_a_shift_beyond_the_reference_is_as_far_as_it_goes():
    values = np.linspace(0, 1, 50)
    assert distances_of(values, values + 100) == (1.0, pytest.approx(100))


def test_cohens_h_is_what_his_table_says():
    # Cohen 1988, table 6.2.2: phi = 2 arcsin sqrt(P) is 0.644 for 0.10 and 1.571 for 0.50.
    assert cohens_h(0.10, 0.50) == pytest.approx(1.571 - 0.644, abs=1e-3)


def test_shares_of_nothing_are_zero():
    assert shares(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert jensen_shannon(np.zeros(2), np.ones(2)) == 0
    assert kolmogorov_smirnov(np.zeros(2), np.ones(2)) == 0
    assert expected_psi(3, 0, 5) == 0
