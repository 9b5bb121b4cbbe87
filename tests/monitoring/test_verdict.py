"""Verdicts: enough rows, an effect, and no chance; never one of them alone."""

from __future__ import annotations

import pytest

from greenroom.monitoring.verdict import Check, DriftThresholds, judge, share_check
from greenroom.settings import Settings


def check(p_value: float, effect: float, **more) -> Check:
    return Check(p_value=p_value, effect=effect, threshold=0.2, reason=f"by {effect}", **more)


def drifted(*columns) -> list[bool]:
    return [one.drifted for one in judge(columns, DriftThresholds())]


def test_a_tiny_effect_is_no_drift_however_small_its_p_value():
    assert drifted([check(1e-300, 0.19)]) == [False]


def test_a_large_effect_that_chance_explains_is_no_drift():
    assert drifted([check(0.02, 5.0)]) == [False]


def test_too_few_values_are_no_drift_however_large_their_effect():
    assert drifted([check(1e-9, 1.0, n_values=9, n_needed=10)]) == [False]


def test_a_p_value_that_would_count_alone_does_not_among_many_columns():
    alone = [check(0.008, 1.0)]
    others = [[check(0.9, 0.0)] for _ in range(9)]
    assert drifted(alone) == [True]
    assert drifted(alone, *others) == [False] * 10


def test_reasons_come_the_strongest_first_and_the_values_are_of_that():
    (found,) = judge([[check(1e-5, 0.3), check(1e-4, 0.9), check(1e-9, 0.1)]], DriftThresholds())
    assert found.reasons == ("by 0.9", "by 0.3")
    assert found.p_value == 1e-4
    assert found.q_value == pytest.approx(1e-4)


def test_a_column_without_a_check_is_not_judged():
    assert judge([[]], DriftThresholds())[0].p_value is None


def test_a_share_counts_by_how_many_there_are_beyond_what_is_expected():
    thresholds = DriftThresholds()
    few = share_check((0, 1_000), (9, 100), thresholds, "{current:.0%}")
    many = share_check((0, 1_000), (20, 1_000), thresholds, "{current:.0%} and {reference:.0%}")
    assert (few.matters, many.matters) == (False, True)
    assert many.reason == "2% and 0%"
    assert not share_check((200, 1_000), (2_100, 10_000), thresholds, "").matters


def test_settings_say_how_many_rows_and_how_far():
    settings = Settings(drift_min_rows=50, drift_psi=0.1)
    found = DriftThresholds.of(settings)
    assert (found.min_rows, found.psi, found.cohens_h) == (50, 0.1, 0.2)
