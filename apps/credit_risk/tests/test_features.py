"""What the features say of codes, missing incomes and amounts that look like shares."""

from pathlib import Path

import numpy as np
import pytest

from greenroom.features import load_features

FEATURES = load_features((Path(__file__).parents[1] / "features.py").read_text()).features


def borrower(**changes):
    row = {
        "RevolvingUtilizationOfUnsecuredLines": 0.5,
        "age": 40,
        "NumberOfTime30-59DaysPastDueNotWorse": 1,
        "DebtRatio": 0.3,
        "MonthlyIncome": 5000.0,
        "NumberOfOpenCreditLinesAndLoans": 5,
        "NumberOfTimes90DaysLate": 0,
        "NumberRealEstateLoansOrLines": 1,
        "NumberOfTime60-89DaysPastDueNotWorse": 2,
        "NumberOfDependents": 1,
    }
    return {name: np.array([float(value)]) for name, value in (row | changes).items()}


def test_late_payments_are_added_up():
    assert FEATURES(borrower())["late"][0] == 3


@pytest.mark.parametrize("code", [96, 98])
def test_codes_are_not_counts(code):
    made = FEATURES(borrower(NumberOfTimes90DaysLate=code))
    assert made["late_coded"][0] == 1
    assert np.isnan(made["late_90"][0])


def test_without_an_income_the_debt_ratio_is_the_monthly_debt():
    made = FEATURES(borrower(MonthlyIncome=np.nan, DebtRatio=1200))
    assert made["debt"][0] == 1200
    assert np.isnan(made["debt_ratio"][0])


def test_a_utilization_above_ten_is_an_amount():
    made = FEATURES(borrower(RevolvingUtilizationOfUnsecuredLines=2500))
    assert np.isnan(made["utilization"][0])
    assert made["balance_code"][0] == 3


def test_rows_do_not_influence_one_another():
    one, other = borrower(), borrower(age=70, MonthlyIncome=np.nan)
    both = {name: np.concatenate([one[name], other[name]]) for name in one}
    made = FEATURES(both)
    for name, values in FEATURES(other).items():
        np.testing.assert_array_equal(made[name][1:], values)
