"""Comparison: worse is what neither chance, on both sides, nor the margin explains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.evaluation.metrics import (
    ANOMALY_METRICS,
    CLASSIFICATION_METRICS,
    REGRESSION_METRICS,
    evaluate,
)
from greenroom.evaluation.predictions import Predictions
from greenroom.monitoring.comparison import (
    BOUNDS,
    compare_metrics,
    dependence,
    stretched,
    worse_in_words,
)

ACCURACY = frozenset({"accuracy"})


def figures(right, of):
    y = np.arange(of) < right
    p = Predictions({"prediction": np.ones(of, np.int64)}, (0, 1))
    return evaluate(CLASSIFICATION_METRICS[:1], y.astype(np.int64), p)


def compared(live, trained, judged=ACCURACY):
    (found,) = compare_metrics(
        CLASSIFICATION_METRICS[:1], live, trained, bounds=BOUNDS, judged=judged
    )
    return found


def test_a_figure_is_worse_by_more_than_chance_and_margin_alone():
    trained = figures(950, 1_000)
    assert compared(figures(800, 1_000), trained).worse
    assert not compared(figures(8, 10), trained).worse, "ten rows say nothing"
    assert not compared(figures(93_500, 100_000), figures(95_000, 100_000)).worse, "by the margin"
    assert not compared(figures(990, 1_000), trained).worse, "it is better"


def test_a_hold_out_that_says_little_makes_nothing_worse():
    live = figures(800, 1_000)
    assert compared(live, figures(900, 1_000)).worse
    assert not compared(live, figures(18, 20)).worse


def test_without_an_interval_on_both_sides_or_a_judgement_nothing_is_worse():
    live = figures(500, 1_000)
    assert compared(live, {"accuracy": 0.95}).worse is None
    assert compared(live, {"accuracy": 0.95}).training == 0.95
    assert compared(live, {}).worse is None
    assert compared(live, figures(950, 1_000), frozenset()).worse is None


def test_an_error_is_worse_where_it_is_larger_and_words_say_by_how_much():
    random = np.random.default_rng(0)
    y = random.normal(size=800)
    trained = evaluate(
        REGRESSION_METRICS, y, Predictions({"prediction": y + random.normal(size=800)})
    )
    live = evaluate(
        REGRESSION_METRICS, y, Predictions({"prediction": y + 1.5 * random.normal(size=800)})
    )
    names = frozenset(metric.name for metric in REGRESSION_METRICS)
    found = compare_metrics(REGRESSION_METRICS, live, trained, bounds=BOUNDS, judged=names)
    worse = {one.name for one in found if one.worse}
    assert {"root_mean_squared_error", "mean_absolute_error", "r2_score"} <= worse
    assert any(line.startswith("mean_absolute_error is 1.") for line in worse_in_words(found))
    again = compare_metrics(REGRESSION_METRICS, trained, trained, bounds=BOUNDS, judged=names)
    assert not any(one.worse for one in again)


def test_a_figure_of_the_answers_alone_is_never_worse():
    p = Predictions({"prediction": np.ones(1_000, np.bool_), "score": np.ones(1_000)})
    live = evaluate(ANOMALY_METRICS, None, p)
    trained = {"anomaly_rate": 0.01, "anomaly_rate_low": 0.005, "anomaly_rate_high": 0.02}
    (found,) = compare_metrics(
        ANOMALY_METRICS, live, trained, bounds=BOUNDS, judged=frozenset({"anomaly_rate"})
    )
    assert (found.value, found.worse) == (1.0, None)


def test_rows_that_follow_each_other_alike_say_less():
    random = np.random.default_rng(3)
    independent = random.normal(size=5_000)
    walk = np.zeros(5_000)
    for place in range(1, 5_000):
        walk[place] = 0.8 * walk[place - 1] + independent[place]
    assert dependence(independent) == pytest.approx(1, abs=0.1)
    assert dependence(walk) == pytest.approx((1 + 0.8) / (1 - 0.8), rel=0.15)


@given(st.floats(1, 50))
def test_an_interval_is_stretched_about_its_figure(factor):
    found = stretched({"a": 2.0, "a_low": 1.0, "a_high": 4.0, "b": 1.0}, factor)
    assert found == {"a": 2.0, "a_low": 2 - factor, "a_high": 2 + 2 * factor, "b": 1.0}
