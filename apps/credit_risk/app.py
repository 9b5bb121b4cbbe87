"""Will a borrower be 90 days or more late within two years? A monotone boosted-trees classifier.

The rows are those of Kaggle's "Give Me Some Credit" (``data/README.md`` says where to get them).
``probability`` is that of serious delinquency, which befell 6.7 % of the borrowers.

A credit decision has to be defended, so what the model may say is constrained, not only measured:
more late payments, or more of the limit in use, never lower the risk, and a higher age never
raises it, everything else being equal. ``features.py`` says which values are codes, not amounts;
going from a code to a number is not covered by this.
"""

from __future__ import annotations

from typing import Any

from greenroom import App, Column, Gate, Model, Split, classification

from .generated import generated

# The most that is accepted lies well above the most in the file, and still catches a wrong unit.
COLUMNS = (
    Column(
        "RevolvingUtilizationOfUnsecuredLines",
        minimum=0,
        maximum=100_000,
        unit="share of the limit",
        description="Balance on credit cards and lines, divided by their limits.",
        example=0.5,
    ),
    Column(
        "age",
        "integer",
        minimum=0,
        maximum=120,
        unit="years",
        description="Age of the borrower; 0 where it is not known.",
        example=40,
    ),
    Column(
        "NumberOfTime30-59DaysPastDueNotWorse",
        "integer",
        request_name="NumberOfTime30_59DaysPastDueNotWorse",
        minimum=0,
        maximum=98,
        unit="times",
        description="How often 30-59 days late in two years; 96 and 98 are codes.",
        example=0,
    ),
    Column(
        "DebtRatio",
        minimum=0,
        maximum=1_000_000,
        unit="share of income",
        description="Monthly payments divided by monthly income; the payments where it is missing.",
        example=0.3,
    ),
    Column(
        "MonthlyIncome",
        minimum=0,
        maximum=10_000_000,
        nullable=True,
        unit="USD per month",
        description="Monthly income; missing where it is not known.",
        example=5000.0,
    ),
    Column(
        "NumberOfOpenCreditLinesAndLoans",
        "integer",
        minimum=0,
        maximum=200,
        unit="lines and loans",
        description="Open loans and lines of credit.",
        example=5,
    ),
    Column(
        "NumberOfTimes90DaysLate",
        "integer",
        minimum=0,
        maximum=98,
        unit="times",
        description="How often 90 days or more late; 96 and 98 are codes.",
        example=0,
    ),
    Column(
        "NumberRealEstateLoansOrLines",
        "integer",
        minimum=0,
        maximum=200,
        unit="lines and loans",
        description="Mortgages and home equity lines.",
        example=1,
    ),
    Column(
        "NumberOfTime60-89DaysPastDueNotWorse",
        "integer",
        request_name="NumberOfTime60_89DaysPastDueNotWorse",
        minimum=0,
        maximum=98,
        unit="times",
        description="How often 60-89 days late in two years; 96 and 98 are codes.",
        example=0,
    ),
    Column(
        "NumberOfDependents",
        "integer",
        minimum=0,
        maximum=50,
        nullable=True,
        unit="persons",
        description="Dependents in the family, the borrower not counted.",
        example=1,
    ),
)

RISING = (
    "utilization",
    "utilization_times_lines",
    "late_30",
    "late_60",
    "late_90",
    "late",
    "late_60_or_more",
    "late_weighted",
    "late_kinds",
    "late_per_line",
)
FALLING = ("age", "lines_less_late")
MONOTONE = dict.fromkeys(RISING, 1) | dict.fromkeys(FALLING, -1)
"""Which way the risk may go with a feature; each derived one follows what it is made of."""


def boosting(seed: int, *, learning_rate: float, max_iter: int, min_samples_leaf: int) -> Any:
    """Return boosted trees that see a fifth of the features at each split."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        learning_rate=learning_rate,
        max_iter=max_iter,
        max_leaf_nodes=16,
        min_samples_leaf=min_samples_leaf,
        max_features=0.2,
        monotonic_cst=MONOTONE,
        early_stopping=False,
        random_state=seed,
    )


def candidates(seed: int) -> dict[str, Any]:
    """Return a linear baseline, and constrained boosting in large steps and in small ones."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer

    return {
        "logistic regression": make_pipeline(
            SimpleImputer(strategy="median", add_indicator=True),
            # Amounts of money reach over six orders of magnitude; their ranks do not.
            QuantileTransformer(n_quantiles=100, random_state=seed),
            LogisticRegression(C=0.3, max_iter=500),
        ),
        "boosting, large steps": boosting(
            seed, learning_rate=0.07, max_iter=110, min_samples_leaf=300
        ),
        # Leaves of a thousand borrowers: a few odd ones decide nothing.
        "boosting, small steps": boosting(
            seed, learning_rate=0.03, max_iter=280, min_samples_leaf=1000
        ),
    }


app = App(
    name="credit-risk",
    experiment="credit-risk-prediction",
    models=(
        Model(
            name="credit-risk-model",
            task=classification,
            columns=COLUMNS,
            dataset="data/cs-training.csv",
            target="SeriousDlqin2yrs",
            features="features.py",
            candidates=candidates,
            # 22,500 rows with 1,500 events tell the gate's figure to 0.01; the rest trains.
            split=Split(holdout=0.15),
            gate=Gate("roc_auc", minimum=0.80, against="Production", tolerance=0.0),
            serve="Production",
            route="/predict",
            generated=generated,
            mlflow_log="each",
        ),
    ),
)
