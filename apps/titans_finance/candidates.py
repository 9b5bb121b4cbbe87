"""What is tried for each model, and the baselines that it is shown beside.

Each function takes the seed and returns estimators by name, unfitted. Libraries are imported where
they are used, because a server imports this file too, and fits nothing.
"""

from __future__ import annotations

from typing import Any


def category_baselines(seed: int) -> dict[str, Any]:
    """Return the majority's category."""
    from sklearn.dummy import DummyClassifier

    return {"most frequent category": DummyClassifier(strategy="prior", random_state=seed)}


def category_candidates(_: int) -> dict[str, Any]:
    """Return linear models of words, and of groups of characters."""
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def linear(texts: TfidfVectorizer) -> Any:
        scaled = ("numbers", StandardScaler(), ["log_amount", "day", "weekend"])
        entering = ColumnTransformer([("text", texts, "description"), scaled])
        return make_pipeline(entering, LogisticRegression(C=30, max_iter=1000))

    return {
        "words": linear(TfidfVectorizer(sublinear_tf=True)),
        # Groups of 2 to 5 characters find "grocery" in "Groceries", and a shop in its abbreviation.
        "characters": linear(
            TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5), min_df=2)
        ),
    }


def amount_baselines(_: int) -> dict[str, Any]:
    """Return what a category usually costs, whatever the description says."""
    return {"usual for the category": _of_logarithms(alpha=0.1)}


def amount_candidates(_: int) -> dict[str, Any]:
    """Return linear models of category, season and words, or groups of characters."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    numbers = ("numbers", "passthrough", ["years", "winter", "weekend"])
    words = ("text", TfidfVectorizer(), "description")
    characters = ("text", TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)), "description")
    return {
        "words": _of_logarithms(words, numbers, alpha=0.5),
        "characters": _of_logarithms(characters, numbers, alpha=0.5),
    }


def _of_logarithms(*parts: Any, alpha: float) -> Any:
    """Return a ridge regression of an amount's logarithm on its category and ``parts``."""
    import numpy as np
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    category = ("category", OneHotEncoder(handle_unknown="ignore"), ["category"])
    pipeline = make_pipeline(ColumnTransformer([category, *parts]), Ridge(alpha=alpha))
    return TransformedTargetRegressor(pipeline, func=np.log1p, inverse_func=np.expm1)


def anomaly_baselines(_: int) -> dict[str, Any]:
    """Return the distance of an amount from the mean of its category."""
    from .unusual import ZScores

    return {"z-score of the category": ZScores()}


def anomaly_candidates(_: int) -> dict[str, Any]:
    """Return the surprise of amount and day, with heavier tails and with lighter ones."""
    from .unusual import SurprisingTransactions

    return {
        "surprise, heavy tails": SurprisingTransactions(degrees=3.0),
        "surprise": SurprisingTransactions(degrees=8.0),
    }


def cashflow_baselines(_: int) -> dict[str, Any]:
    """Return two seasonal-naive forecasts."""
    from .forecasting import Conformal, Naive

    return {
        "seasonal naive, four weeks": Conformal(Naive("naive")),
        "seasonal naive, one month": Conformal(Naive("month_1")),
    }


def cashflow_candidates(seed: int) -> dict[str, Any]:
    """Return a linear model, for short histories, and boosted trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from .forecasting import Conformal

    unknown_as_nothing = SimpleImputer(strategy="constant", fill_value=0.0)
    return {
        "linear": Conformal(make_pipeline(unknown_as_nothing, StandardScaler(), Ridge())),
        "boosting": Conformal(
            HistGradientBoostingRegressor(
                learning_rate=0.04,
                max_iter=200,
                max_leaf_nodes=12,
                min_samples_leaf=30,
                l2_regularization=1.0,
                random_state=seed,
            )
        ),
    }


def conformal_params(estimator: Any) -> dict[str, Any]:
    """Say which regressor stands inside the intervals, and how much they are to cover."""
    regressor = estimator.regressor
    last = regressor.steps[-1][1] if hasattr(regressor, "steps") else regressor
    named = {"learning_rate", "max_iter", "max_leaf_nodes", "min_samples_leaf", "alpha"}
    own = {name: value for name, value in last.get_params().items() if name in named}
    return {"regressor": type(last).__name__, "coverage": estimator.coverage, **own}
