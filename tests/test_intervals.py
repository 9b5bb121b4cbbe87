"""Confidence intervals: published values, and the coverage that they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from greenroom.evaluation import intervals, scores


@given(st.integers(1, 500), st.data())
def test_the_wilson_interval_is_that_of_scipy(n, data):
    successes = data.draw(st.integers(0, n))
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    found = intervals.wilson(successes, n)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_delong_agrees_with_its_definition_by_pairs():
    random = np.random.default_rng(0)
    positive = random.random(60) < 0.4
    values = np.round(random.normal(size=60) + positive, 1)
    events, others = values[positive], values[~positive]
    wins = (events[:, None] > others) + 0.5 * (events[:, None] == others)
    variance = wins.mean(axis=1).var(ddof=1) / len(events)
    variance += wins.mean(axis=0).var(ddof=1) / len(others)
    spread = 1.959963984540054 * math.sqrt(variance)
    found = intervals.delong(positive, values)
    assert found == pytest.approx((wins.mean() - spread, min(1.0, wins.mean() + spread)))


def share_covered(draw, truth, interval, *, n_trials=400):
    random = np.random.default_rng(1)
    found = [interval(draw(random)) for _ in range(n_trials)]
    return np.mean([low <= truth <= high for low, high in found])


def test_intervals_cover_the_truth_about_as_often_as_they_promise():
    def normals(random):
        positive = np.arange(300) % 3 == 0
        return positive, random.normal(size=300) + positive

    area = stats.norm.cdf(1 / math.sqrt(2))
    assert share_covered(normals, area, lambda d: intervals.delong(*d)) == pytest.approx(
        0.95, abs=0.03
    )

    def squares(random):
        return random.normal(scale=2, size=400) ** 2

    assert share_covered(squares, 2.0, intervals.root_interval) == pytest.approx(0.95, abs=0.03)

    def counts(random):
        return scores.Counts(*random.multinomial(200, [0.6, 0.25, 0.15]).tolist())

    truth = 2 * 0.6 / (2 * 0.6 + 0.4)
    assert share_covered(counts, truth, intervals.f1_interval) == pytest.approx(0.95, abs=0.03)


def test_the_intervals_of_numbers_cover_the_truth_as_often_as_they_promise():
    def errors(random):
        return random.standard_t(5, size=300)

    median = stats.t.ppf(0.75, 5)
    assert share_covered(errors, median, lambda d: intervals.median_interval(np.abs(d))) >= 0.93

    def explained(random):
        y = random.normal(size=500)
        return y, random.normal(scale=0.6, size=500) ** 2

    found = share_covered(explained, 1 - 0.36, lambda d: intervals.r2_interval(*d))
    assert found == pytest.approx(0.95, abs=0.03)


def test_the_interval_of_a_mean_of_proportions_covers_it_as_often_as_it_promises():
    def parts(random):
        return [(random.binomial(n, p), n) for n, p in ((400, 0.97), (40, 0.6))]

    found = share_covered(parts, (0.97 + 0.6) / 2, intervals.mean_of_proportions)
    assert found == pytest.approx(0.95, abs=0.03)


def test_the_interval_of_a_difference_covers_it_as_often_as_it_promises():
    def two(random):
        return random.binomial(60, 0.9), random.binomial(500, 0.95)

    def interval(drawn):
        live, trained = drawn
        of_live, of_trained = intervals.wilson(live, 60), intervals.wilson(trained, 500)
        return intervals.difference(live / 60, of_live, trained / 500, of_trained)

    assert share_covered(two, -0.05, interval) == pytest.approx(0.95, abs=0.03)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 5)), min_size=1, max_size=5))
def test_the_interval_of_a_mean_is_never_wider_than_its_parts_are(parts):
    found = intervals.mean_of([intervals.Interval(low, low + width) for low, width in parts])
    widths = [width for _, width in parts]
    assert min(widths) - 1e-9 <= found.high - found.low <= max(widths) + 1e-9


@given(st.floats(0.001, 0.999), st.integers(1, 10_000))
def test_the_interval_of_an_average_precision_holds_it_and_stays_within_bounds(value, n_positive):
    low, high = intervals.average_precision_interval(value, n_positive)
    assert 0 <= low <= value <= high <= 1


def test_too_little_to_say_anything_is_no_interval():
    one = np.array([True, False, False])
    assert intervals.wilson(0, 0) is None
    assert intervals.delong(one, np.zeros(3)) is None
    assert intervals.mean_interval(np.array([1.0])) is None
    assert intervals.mean_interval(np.array([1.0, np.nan])) is None
    assert intervals.root_interval(np.array([])) is None
    assert intervals.f1_interval(scores.Counts(0, 0, 0)) is None
    assert intervals.average_precision_interval(1.0, 5) is None
    assert intervals.median_interval(np.arange(3.0)) is None
    assert intervals.r2_interval(np.ones(5), np.ones(5)) is None
    assert intervals.mean_of_proportions([(3, 4), (0, 0)]) is None
    assert intervals.mean_of([intervals.Interval(0, 1), None]) is None


def test_a_perfect_ranking_has_an_interval_within_bounds():
    positive = np.array([False] * 5 + [True] * 5)
    assert intervals.delong(positive, np.arange(10.0)) == (1.0, 1.0)


def test_a_mean_of_losses_lies_not_below_zero_and_one_of_differences_may():
    losses = np.array([0.0, 0.0, 0.0, 1.0])
    assert intervals.mean_interval(losses).low == 0.0
    assert intervals.mean_interval(losses).high > 0.25
    assert intervals.mean_interval(losses - 0.1).low < -0.1
