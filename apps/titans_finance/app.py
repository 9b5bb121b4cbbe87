"""A household's money: what a transaction is, what it costs, whether it is odd, what comes next.

Four models of one file, a bank's export of transactions (``data/README.md``): each is made of it by
a function in ``transactions.py``. Where there is no such file, a made up household stands in for it
(``generated.py``), and every version that was trained on it says so.
"""

from __future__ import annotations

from greenroom import (
    App,
    Column,
    Gate,
    Model,
    Route,
    Split,
    anomaly,
    classification,
    forecast,
    regression,
)

from .candidates import (
    amount_baselines,
    amount_candidates,
    anomaly_baselines,
    anomaly_candidates,
    cashflow_baselines,
    cashflow_candidates,
    category_baselines,
    category_candidates,
    conformal_params,
)
from .features.cashflow import MAX_HORIZON_DAYS
from .generated import TRANSFER, generated
from .model_status import model_status
from .transactions import (
    for_amount,
    for_anomaly,
    for_cashflow,
    for_category,
    recent_cashflow,
)

EXPORT = "data/transactions.csv"
CURRENCY = "USD"

CATEGORIES = (
    "Alcohol & Bars",
    "Auto Insurance",
    "Coffee Shops",
    "Electronics & Software",
    "Entertainment",
    "Fast Food",
    "Food & Dining",
    "Gas & Fuel",
    "Gifts & Donations",
    "Groceries",
    "Haircut",
    "Health & Fitness",
    "Home Improvement",
    "Internet",
    "Mobile Phone",
    "Mortgage & Rent",
    "Movies & DVDs",
    "Music",
    "Paycheck",
    "Restaurants",
    "Shopping",
    "Television",
    "Travel",
    "Utilities",
)
"""What a bank's export calls them. One that is not here has to be added before it is trained on."""

DATE = Column(
    "Date",
    "date",
    request_name="date",
    description="The day of the transaction.",
    example="2024-01-15",
)
DESCRIPTION = Column(
    "Description",
    "string",
    request_name="description",
    description="What the bank writes beside the amount.",
    example="Grocery shopping",
)
AMOUNT = Column(
    "Amount",
    request_name="amount",
    minimum=0,
    maximum=1_000_000,
    unit=CURRENCY,
    description="How much, whichever way the money went.",
    example=50.0,
)


def category_column(*names: str) -> Column:
    """Return the column of categories."""
    return Column(
        "Category",
        "category",
        request_name="category",
        categories=names,
        description="What kind of transaction it is.",
        example="Shopping",
    )


# What a history says about a day, as `features/cashflow.py` makes it; nobody has to send these.
CASHFLOW_COLUMNS = (
    Column("date", "date", description="The day that is forecast.", example="2025-01-15"),
    Column("horizon", minimum=1, maximum=MAX_HORIZON_DAYS, unit="days", description="How far on."),
    Column("size", minimum=0, unit=CURRENCY, description="Mean of the absolute daily net."),
    Column("level", unit=CURRENCY, description="Mean net of the last 91 days."),
    *(
        Column(name, nullable=True, unit=CURRENCY, description=f"Net {when}.")
        for name, when in (
            ("naive", "of the latest day that lies whole four weeks before"),
            ("fortnight", "of the latest four days that lie whole fortnights before, their mean"),
            ("weekday", "of the latest twelve days of that weekday, their mean"),
            ("month_1", "of that day in the last month known"),
            ("month_3", "of that day in the last three months known, their mean"),
            ("year", "of the latest day that lies 52 weeks before"),
        )
    ),
)

FORECAST_REQUEST = (
    Column(
        "horizon_days",
        "integer",
        nullable=True,
        minimum=1,
        maximum=MAX_HORIZON_DAYS,
        unit="days",
        description="How many days to forecast; 30 where it is left out.",
        example=30,
    ),
    Column(
        "history",
        "records",
        nullable=True,
        columns=(
            Column("date", "date", description="A day.", example="2024-12-31"),
            Column(
                "amount",
                minimum=-1_000_000_000,
                maximum=1_000_000_000,
                unit=CURRENCY,
                description="What came in, or, negative, what went out.",
                example=-54.0,
            ),
        ),
        description="Past transactions, in any order: the forecast begins on the day after the "
        "last one. The account's own, where it is left out.",
        example=[
            {"date": "2024-12-27", "amount": 1253.4},
            {"date": "2024-12-28", "amount": -86.2},
            {"date": "2024-12-31", "amount": -54.0},
        ],
    ),
)


ABOUT = {
    name: name
    for name in ("prediction_id", "model_name", "model_version", "timestamp", "processing_time_ms")
}
"""What stands in every reply."""

app = App(
    name="titans-finance",
    experiment="titans-finance",
    models=(
        Model(
            name="titans-finance-category-prediction",
            task=classification,
            columns=(DESCRIPTION, AMOUNT, DATE),
            dataset=EXPORT,
            rows=for_category,
            target="Category",
            features="features/category.py",
            candidates=category_candidates,
            baselines=category_baselines,
            split=Split(holdout=0.2, time="Date"),
            gate=Gate("accuracy", minimum=0.7),
            route="/predict/category",
            reply={
                "category": "prediction",
                "probability": "probability",
                "probabilities": "probabilities",
                **ABOUT,
            },
            generated=generated,
        ),
        Model(
            name="titans-finance-amount-prediction",
            task=regression,
            columns=(DESCRIPTION, category_column(*CATEGORIES), DATE),
            dataset=EXPORT,
            rows=for_amount,
            target="Amount",
            features="features/amount.py",
            candidates=amount_candidates,
            baselines=amount_baselines,
            split=Split(holdout=0.2, time="Date"),
            gate=Gate("mean_absolute_error"),
            route="/predict/amount",
            reply={"amount": "prediction", **ABOUT},
            generated=generated,
        ),
        Model(
            name="titans-finance-anomaly-detection",
            task=anomaly,
            columns=(AMOUNT, category_column(*CATEGORIES, TRANSFER), DATE),
            dataset=EXPORT,
            rows=for_anomaly,
            target="Anomaly",
            features="features/anomaly.py",
            candidates=anomaly_candidates,
            baselines=anomaly_baselines,
            split=Split(holdout=0.2, time="Date"),
            gate=Gate("average_precision", minimum=0.3),
            route="/predict/anomaly",
            reply={"is_anomaly": "prediction", "score": "score", "reasons": "reasons", **ABOUT},
            generated=generated,
        ),
        Model(
            name="titans-finance-cashflow-forecasting",
            task=forecast,
            columns=CASHFLOW_COLUMNS,
            dataset=EXPORT,
            rows=for_cashflow,
            target="net",
            features="features/cashflow.py",
            request=FORECAST_REQUEST,
            context=recent_cashflow,
            candidates=cashflow_candidates,
            baselines=cashflow_baselines,
            params=conformal_params,
            split=Split(holdout=0.2, time="date"),
            # 1 is what a seasonal-naive forecast does.
            gate=Gate("mean_absolute_scaled_error", minimum=1.0),
            route="/predict/cashflow",
            reply={
                "date": "time",
                "prediction": "prediction",
                "lower": "lower",
                "upper": "upper",
                **{name: name for name in ABOUT if name != "prediction_id"},
            },
            generated=generated,
        ),
    ),
    routes=(
        Route(
            "GET",
            "/models/status",
            model_status,
            summary="Each model in detail.",
            scope="open",
        ),
    ),
    retrain="when changed",
)
