"""What the credit model looks at, made from the columns of a row.

Self-contained: this file travels inside each version, and training and serving run it alike.

The file marks what it does not know with values that look like numbers. They become missing
values with a flag beside them, so that each column that is left grows or falls with risk:

- late payments of 96 and 98 are codes, not counts, and stand in all three columns at once;
- a utilization of 0 is a borrower without a balance, 0.9999999 one whose limit is not known, and
  above 10 an amount of money that was not divided by a limit;
- an age below 18 is an error;
- where the monthly income is missing, 0 or 1, the debt ratio is not a ratio but the monthly debt.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

FIRST_CODE = 96
LIMIT_UNKNOWN = 0.9999999
LARGEST_RATIO = 10.0
FULLY_OVERDRAWN = 2.0
"""Beyond this much of the limit, more of it says nothing further."""


def features(columns: dict[str, Array]) -> dict[str, Array]:
    """Return the estimator's columns, with as many rows as ``columns``."""
    late_30, late_60, late_90, coded = _late_payments(columns)
    utilization, balance = _utilization(columns["RevolvingUtilizationOfUnsecuredLines"])
    income, debt, ratio = _income_and_debt(columns)
    age = columns["age"]
    lines = columns["NumberOfOpenCreditLinesAndLoans"]
    mortgages = columns["NumberRealEstateLoansOrLines"]
    dependents = columns["NumberOfDependents"]
    late = late_30 + late_60 + late_90
    at_least_one_line = np.maximum(lines, 1.0)
    return {
        "utilization": utilization,
        "balance_code": balance,
        "age": np.where(age < 18, np.nan, age),
        "late_30": late_30,
        "late_60": late_60,
        "late_90": late_90,
        "late_coded": coded,
        "late": late,
        "late_60_or_more": late_60 + late_90,
        "late_weighted": late_30 + 2.0 * late_60 + 4.0 * late_90,
        "late_kinds": _one_if_any(late_30) + _one_if_any(late_60) + _one_if_any(late_90),
        "late_per_line": late / at_least_one_line,
        "lines_less_late": lines - late,
        "debt": debt,
        "debt_ratio": ratio,
        "debt_per_line": debt / at_least_one_line,
        "income": income,
        "income_per_head": income / (1.0 + np.nan_to_num(dependents)),
        "income_less_debt": income - debt,
        "lines": lines,
        "mortgages": mortgages,
        "unsecured_lines": lines - mortgages,
        "dependents": dependents,
        "utilization_times_lines": utilization * np.maximum(lines - mortgages, 0.0),
    }


def _late_payments(columns: dict[str, Array]) -> tuple[Array, Array, Array, Array]:
    """Return the three counts, missing where any is a code, and 1 where that is so."""
    counts = [
        columns["NumberOfTime30-59DaysPastDueNotWorse"],
        columns["NumberOfTime60-89DaysPastDueNotWorse"],
        columns["NumberOfTimes90DaysLate"],
    ]
    coded = np.maximum.reduce(counts) >= FIRST_CODE
    late_30, late_60, late_90 = (np.where(coded, np.nan, count) for count in counts)
    return late_30, late_60, late_90, coded.astype(np.float64)


def _utilization(given: Array) -> tuple[Array, Array]:
    """Return the share of the limit in use, missing where it is none, and why: 1, 2 or 3."""
    empty = given == 0.0
    unknown = np.abs(given - LIMIT_UNKNOWN) < 1e-8
    amount = given > LARGEST_RATIO
    share = np.where(empty | unknown | amount, np.nan, np.minimum(given, FULLY_OVERDRAWN))
    return share, 1.0 * empty + 2.0 * unknown + 3.0 * amount


def _income_and_debt(columns: dict[str, Array]) -> tuple[Array, Array, Array]:
    """Return monthly income, monthly debt, and their ratio where there is an income."""
    income, ratio = columns["MonthlyIncome"], columns["DebtRatio"]
    earns = income > 1.0
    return income, np.where(earns, ratio * income, ratio), np.where(earns, ratio, np.nan)


def _one_if_any(count: Array) -> Array:
    """Return 1 for a count above 0, else 0; a missing one stays missing."""
    return np.where(np.isnan(count), np.nan, np.minimum(count, 1.0))
