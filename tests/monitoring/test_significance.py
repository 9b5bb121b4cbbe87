"""Significance: SciPy's and simulated values, and what holds for any counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from greenroom.monitoring.significance import (
    benjamini_hochberg,
    chi_squared,
    kolmogorov_smirnov_p,
    outside_p,
    pooled,
    rates_p,
)

COUNTS = arrays(np.int64, st.shared(st.integers(2, 8), key="n"), elements=st.integers(0, 500))


def test_the_p_value_of_kolmogorov_smirnov_is_scipys():
    rng = np.random.default_rng(0)
    for n, m, shift in ((100, 300, 0.0), (1_000, 200, 0.1), (1_000, 50_000, 0.05)):
        found = stats.ks_2samp(rng.normal(size=n), rng.normal(shift, size=m), method="asymp")
        assert kolmogorov_smirnov_p(found.statistic, n, m) == pytest.approx(found.pvalue, rel=1e-9)


@given(COUNTS, COUNTS)
def test_chi_squared_of_two_samples_is_scipys(r, c):
    there = (r + c) > 0
    if there.sum() < 2 or not r.sum() or not c.sum():
        assert chi_squared(r, c)[2] == 1
        return
    wanted = stats.chi2_contingency(np.array([r[there], c[there]]), correction=False)
    statistic, freedom, p_value = chi_squared(r, c)
    assert statistic == pytest.approx(wanted.statistic, rel=1e-6, abs=1e-9)
    assert freedom == wanted.dof
    assert p_value == pytest.approx(wanted.pvalue, rel=1e-6, abs=1e-12)


@given(COUNTS, COUNTS)
def test_pooling_loses_no_row(r, c):
    before, after = pooled(r, c)
    assert (before.sum(), after.sum()) == (r.sum(), c.sum())
    assert len(before) == len(after) <= len(r)


def test_rare_rates_are_compared_exactly_and_others_by_chi_squared():
    assert rates_p(0, 100, 3, 100) == pytest.approx(stats.fisher_exact([[0, 100], [3, 97]]).pvalue)
    table = np.array([[30, 70], [50, 50]])
    wanted = stats.chi2_contingency(table, correction=False).pvalue
    assert rates_p(30, 100, 50, 100) == pytest.approx(wanted)
    assert rates_p(0, 0, 5, 10) == 1


def test_how_many_lie_outside_by_chance_is_the_beta_binomial():
    # Of a continuous distribution the share beyond both ends of n values is Beta(2, n - 1).
    for k, n, m in ((1, 10, 20), (5, 100, 300), (12, 1_000, 1_000)):
        assert outside_p(k, n, m) == pytest.approx(stats.betabinom.sf(k - 1, m, 2, n - 1), rel=1e-6)


def test_how_many_lie_outside_by_chance_is_what_is_drawn():
    rng = np.random.default_rng(2)
    n, m, k = 30, 50, 6
    reference = rng.normal(size=(20_000, n))
    window = rng.normal(size=(20_000, m))
    low, high = reference.min(axis=1)[:, None], reference.max(axis=1)[:, None]
    drawn = (((window < low) | (window > high)).sum(axis=1) >= k).mean()
    assert outside_p(k, n, m) == pytest.approx(drawn, abs=0.01)


def test_none_outside_is_certain_and_millions_of_rows_are_borne():
    assert outside_p(0, 100, 100) == 1
    assert outside_p(11, 10, 10) == 0
    for share in (0.002, 0.02):
        found = outside_p(round(share * 10_000_000), 1_000, 10_000_000)
        assert found == pytest.approx(stats.beta.sf(share, 2, 999), rel=0.01)


@given(st.lists(st.floats(0, 1), max_size=30))
def test_false_discoveries_are_controlled_as_scipy_does(p_values):
    wanted = stats.false_discovery_control(p_values).tolist() if p_values else []
    assert benjamini_hochberg(p_values) == pytest.approx(wanted)


def test_the_example_of_benjamini_and_hochberg_rejects_its_four():
    # Their paper's section 4: fifteen p-values, of which the first four count at 0.05.
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p_values += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert sum(q <= 0.05 for q in benjamini_hochberg(p_values)) == 4
