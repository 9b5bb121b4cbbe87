"""A stand-in for the data, for whoever wants to see the app run before getting the file.

Made up borrowers with the file's columns, its missing values and its codes, and roughly its shares
and correlations. A model that was trained on them says nothing about anybody.
"""

from __future__ import annotations

from typing import Any

import numpy as np

N_ROWS = 20_000


def generated(seed: int) -> dict[str, Any]:
    """Return 20,000 made up borrowers, 6.7 % of whom default; the same for the same seed."""
    random = np.random.default_rng(seed)
    strain = random.normal(size=N_ROWS)  # financial strain, which nobody sees
    age = np.clip(np.round(random.normal(52, 14.5, N_ROWS) - 3 * strain), 21, 100)
    lines = random.poisson(np.clip(8.5 - 0.8 * strain, 1, None))
    mortgages = np.minimum(random.poisson(1.0, N_ROWS), lines)
    dependents = random.poisson(np.where(age < 60, 1.0, 0.3)).astype(np.float64)
    income = np.round(np.exp(random.normal(8.6, 0.6, N_ROWS) - 0.1 * strain))
    utilization = _utilization(random, strain)
    debt = income * np.exp(random.normal(-1.1, 0.9, N_ROWS) + 0.1 * strain)
    late_30, late_60, late_90 = (
        random.poisson(np.exp(level + 1.1 * strain)).clip(0, 15) for level in (-2.2, -3.7, -3.5)
    )
    income_missing = random.random(N_ROWS) < 0.2
    coded = random.random(N_ROWS) < 0.0018
    code = random.choice([96, 98], size=N_ROWS, p=[0.02, 0.98])
    score = (
        -4.07
        + 0.55 * strain
        + 1.6 * np.minimum(utilization, 1.2)
        + 0.5 * np.minimum(late_30, 4)
        + 0.9 * np.minimum(late_60, 3)
        + 1.2 * np.minimum(late_90, 3)
        - 0.02 * (age - 52)
        + 4.0 * coded
    )
    return {
        "SeriousDlqin2yrs": (random.random(N_ROWS) < 1 / (1 + np.exp(-score))).astype(np.int64),
        "RevolvingUtilizationOfUnsecuredLines": utilization,
        "age": age,
        "NumberOfTime30-59DaysPastDueNotWorse": np.where(coded, code, late_30),
        # Without an income the file gives the debt itself in the place of the ratio.
        "DebtRatio": np.where(income_missing, np.round(debt), debt / income),
        "MonthlyIncome": np.where(income_missing, np.nan, income),
        "NumberOfOpenCreditLinesAndLoans": lines,
        "NumberOfTimes90DaysLate": np.where(coded, code, late_90),
        "NumberRealEstateLoansOrLines": mortgages,
        "NumberOfTime60-89DaysPastDueNotWorse": np.where(coded, code, late_60),
        "NumberOfDependents": np.where(
            income_missing & (random.random(N_ROWS) < 0.13), np.nan, dependents
        ),
    }


def _utilization(random: np.random.Generator, strain: Any) -> Any:
    """Shares of the limit, rising with strain, and the file's three kinds of codes."""
    share = 1 / (1 + np.exp(-(1.3 * strain + random.normal(-1.6, 1.4, N_ROWS))))
    share = np.where(random.random(N_ROWS) < 0.02, 1.0 + random.exponential(0.15, N_ROWS), share)
    kind = random.random(N_ROWS)
    share = np.where(kind < 0.07, 0.0, share)
    share = np.where((kind >= 0.07) & (kind < 0.07 + 0.06 * (strain > 0)), 0.9999999, share)
    amount = np.round(random.uniform(100, 5_000, N_ROWS))
    return np.where(kind > 0.9985, amount, share)
