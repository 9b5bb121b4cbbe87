import math
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from greenroom.errors import AppError
from greenroom.gate import Gate

figures = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)
tolerances = st.floats(min_value=0, max_value=1e6)
decimals = st.decimals(min_value=0, max_value=1, places=3)
directions = st.booleans()


@given(figures, directions)
def test_without_minimum_and_champion_any_figure_passes(challenger, greater):
    decision = Gate("metric").judge(challenger, greater_is_better=greater)
    assert decision.passed
    assert str(decision) == "no minimum and nothing to compare with"


@given(figures, figures, directions)
def test_the_minimum_is_the_worst_acceptable_value_and_acceptable(challenger, minimum, greater):
    gate = Gate("metric", minimum=minimum)
    better_or_equal = challenger >= minimum if greater else challenger <= minimum
    assert gate.judge(challenger, greater_is_better=greater).passed == better_or_equal
    assert gate.judge(minimum, greater_is_better=greater).passed


@given(figures, figures, directions)
def test_without_tolerance_the_better_one_passes_and_an_equal_one_too(a, b, greater):
    gate = Gate("metric")
    passed = gate.judge(a, champion=b, greater_is_better=greater).passed
    assert passed == (a >= b if greater else a <= b)
    assert gate.judge(a, champion=a, greater_is_better=greater).passed


@given(decimals, decimals, directions)
def test_the_tolerance_lets_pass_exactly_what_it_says(champion, tolerance, greater):
    gate = Gate("metric", tolerance=float(tolerance))
    sign = 1 if greater else -1
    just = float(champion - sign * tolerance)
    below = float(champion - sign * (tolerance + Decimal("0.000001")))
    assert gate.judge(just, champion=float(champion), greater_is_better=greater).passed
    assert not gate.judge(below, champion=float(champion), greater_is_better=greater).passed


def test_a_tolerance_of_one_hundredth_is_one_hundredth_in_decimals_too():
    assert 0.85 - 0.86 + 0.01 < 0, "which is why the gate does not compute in binary"
    assert Gate("roc_auc", tolerance=0.01).judge(0.85, champion=0.86).passed


@given(figures, figures, tolerances, directions)
def test_a_better_challenger_never_fails_where_a_worse_one_passes(a, b, tolerance, greater):
    worse, better = sorted((a, b), reverse=not greater)
    gate = Gate("metric", minimum=0.0, tolerance=tolerance)
    if gate.judge(worse, champion=1.0, greater_is_better=greater).passed:
        assert gate.judge(better, champion=1.0, greater_is_better=greater).passed


@given(figures, figures, tolerances)
def test_turning_the_metric_around_changes_nothing(challenger, champion, tolerance):
    gate = Gate("metric", tolerance=tolerance)
    mirrored = gate.judge(-challenger, champion=-champion, greater_is_better=False)
    assert gate.judge(challenger, champion=champion).passed == mirrored.passed


@given(figures, figures, figures, tolerances, directions)
def test_each_failed_comparison_is_named_with_its_figures(
    challenger, champion, minimum, tolerance, greater
):
    gate = Gate("m", minimum=minimum, tolerance=tolerance)
    decision = gate.judge(challenger, champion=champion, greater_is_better=greater)
    assert (decision.challenger, decision.champion, decision.metric) == (challenger, champion, "m")
    assert 1 <= len(decision.reasons) <= 2
    assert all(reason.startswith(f"m {challenger:.6g}, ") for reason in decision.reasons)
    failed = ["misses it by" in reason or "worse by" in reason for reason in decision.reasons]
    assert all(failed) if not decision.passed else not any(failed)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_finite_number_never_passes(bad):
    gate = Gate("metric", minimum=0.0, tolerance=1.0)
    for greater in (True, False):
        refused = gate.judge(bad, champion=0.5, greater_is_better=greater)
        assert not refused.passed
        assert refused.reasons == ("metric is not a finite number",)
        unknown = gate.judge(0.5, champion=bad, greater_is_better=greater)
        assert not unknown.passed
        assert unknown.reasons == ("the present version's metric is not a finite number",)


def test_a_refusal_says_by_how_much():
    decision = Gate("roc_auc", minimum=0.8, tolerance=0.005).judge(0.79, champion=0.85)
    assert decision.reasons == (
        "roc_auc 0.79, minimum 0.8: misses it by 0.01",
        "roc_auc 0.79, the present version's 0.85: worse by 0.06 (tolerance 0.005)",
    )


def test_a_metric_that_is_better_lower_has_a_maximum():
    decision = Gate("mean_absolute_error", minimum=5.0).judge(6.5, greater_is_better=False)
    assert str(decision) == "mean_absolute_error 6.5, maximum 5: misses it by 1.5"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"metric": ""}, "gate.metric"),
        ({"minimum": math.nan}, "gate.minimum"),
        ({"minimum": "0.8"}, "gate.minimum"),
        ({"minimum": True}, "gate.minimum"),
        ({"tolerance": -0.1}, "gate.tolerance"),
        ({"tolerance": math.inf}, "gate.tolerance"),
        ({"tolerance": None}, "gate.tolerance"),
    ],
)
def test_a_gate_that_makes_no_sense_names_the_field(wrong, field):
    with pytest.raises(AppError) as refused:
        Gate(**{"metric": "roc_auc", **wrong})
    assert [problem.split(":")[0] for problem in refused.value.problems] == [field]


@given(figures, figures)
def test_figures_of_numpy_are_judged_like_plain_ones(a, b):
    import numpy as np

    assume(a != b)
    gate = Gate("metric")
    assert gate.judge(np.float64(a), champion=np.float64(b)).passed == (a > b)
