"""Detectors of unusual transactions: how each is surprising, and the reasons in words.

Both take what ``features/anomaly.py`` makes: ``category``, ``amount``, ``day`` (of the month) and
``weekday``. They have scikit-learn's outlier interface, and ``explain`` besides. They are fitted on
what is not known to be an anomaly, and travel inside a version, so that its reasons stay its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

Array = npt.NDArray[Any]

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ALL = ""
"""The name under which all categories together stand, for one that has not been seen."""


LEAST_AMOUNT = 0.01
UNKNOWN_SPREAD = 1.0
"""Of the logarithm of amounts, where nothing is known: two thirds within 2.7 times."""

LEAST_ROWS = 6
"""With fewer, a category's days say nothing."""

MIXTURES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98)

REASON = 0.5
"""From which logarithm of a ratio on something is a reason: three times likelier."""


class Usual(NamedTuple):
    """What is usual in a category: of the logarithm of amounts, and how often each day is."""

    centre: float
    spread: float
    days: Array
    weekdays: Array


class SurprisingTransactions(BaseEstimator):
    """How much likelier a transaction is as an odd one than as one of its category.

    The score is the decimal logarithm of a likelihood ratio, the test that finds most at any rate
    of false alarms (J. Neyman and E. S. Pearson, "On the problem of the most efficient tests of
    statistical hypotheses", Phil. Trans. R. Soc. A 231, 1933). Usual are the amounts of the
    category, as a Student distribution of their logarithms, and its days of month and week. An odd
    transaction is odd in one of the three, each as likely as the others, and usual in the rest:
    its amount lies anywhere within ``reach`` of the category's, or its day is any day. So the score
    is the logarithm of the mean of three ratios, and 2 stands for a hundred times likelier. A
    category whose days vary says nothing by its days.

    Parameters
    ----------
    flagged : float
        The share of the transactions fitted on that are to be called anomalies.
    degrees : float
        Of the Student distribution: few, since now and then people do buy something dear.
    least_spread : float
        Of the logarithm of an amount: a tenth, so that a bill that has risen is no surprise.
    reach : float
        How far the logarithm of an odd amount may lie off the usual one: 4 are 55 times.
    """

    def __init__(
        self,
        flagged: float = 0.005,
        degrees: float = 5.0,
        least_spread: float = 0.1,
        reach: float = 4.0,
    ) -> None:
        self.flagged = flagged
        self.degrees = degrees
        self.least_spread = least_spread
        self.reach = reach

    def fit(self, X: Any, y: Array | None = None) -> SurprisingTransactions:
        """Learn what is usual, from the rows that ``y`` does not call anomalies."""
        rows = X if y is None else X[np.asarray(y) != 1]
        categories = rows["category"].to_numpy(dtype=object)
        self.usual_ = {ALL: self._usual(rows)}
        for category in sorted(set(categories)):
            self.usual_[category] = self._usual(rows[categories == category])
        self.threshold_ = float(np.quantile(-self.score_samples(rows), 1 - self.flagged))
        return self

    def score_samples(self, X: Any) -> Array:
        """Return minus the score of each row, shape (n_samples,): lower is more unusual."""
        scores: Array = -np.log10(np.power(10.0, self._parts(X)).mean(axis=1))
        return scores

    def predict(self, X: Any) -> Array:
        """Return -1 for each row that is an anomaly and 1 for the others."""
        return np.where(-self.score_samples(X) > self.threshold_, -1, 1)

    def explain(self, X: Any) -> list[list[str]]:
        """Return the reasons of each row that is called an anomaly, the strongest first."""
        flagged = self.predict(X) == -1
        parts = self._parts(X)
        return [
            list(self._reasons(row, own)) if anomaly else []
            for row, own, anomaly in zip(X.itertuples(index=False), parts, flagged, strict=True)
        ]

    def _usual(self, rows: Any) -> Usual:
        logs = np.log(np.maximum(rows["amount"].to_numpy(dtype=float), LEAST_AMOUNT))
        centre = float(np.median(logs))
        # 1.4826: the median absolute deviation of a normal distribution, as a standard deviation.
        spread = 1.4826 * float(np.median(np.abs(logs - centre)))
        # Two more rows of a category of which nothing is known, so that few rows say little.
        spread = float(np.sqrt((len(logs) * spread**2 + 2 * UNKNOWN_SPREAD**2) / (len(logs) + 2)))
        return Usual(
            centre=centre,
            spread=max(self.least_spread, spread),
            days=_likelihood(rows["day"].to_numpy(dtype=int) - 1, 31, neighbours=2),
            weekdays=_likelihood(rows["weekday"].to_numpy(dtype=int), 7, neighbours=0),
        )

    def _parts(self, X: Any) -> Array:
        """Return the decimal logarithm of the ratio of amount, day and weekday, (n_samples, 3)."""
        from scipy.stats import t

        usual = [self.usual_.get(category, self.usual_[ALL]) for category in X["category"]]
        logs = np.log(np.maximum(X["amount"].to_numpy(dtype=float), LEAST_AMOUNT))
        spread = np.array([one.spread for one in usual])
        distance = (logs - np.array([one.centre for one in usual])) / spread
        log_usual = t.logpdf(distance, self.degrees) - np.log(spread)
        days = zip(usual, X["day"].astype(int), X["weekday"].astype(int), strict=True)
        by_day = [(one.days[day - 1] * 31, one.weekdays[weekday] * 7) for one, day, weekday in days]
        natural = np.column_stack([-np.log(2 * self.reach) - log_usual, -np.log(by_day)])
        parts: Array = natural / np.log(10)
        return parts

    def _reasons(self, row: Any, parts: Array) -> Iterator[str]:
        known = row.category in self.usual_
        name = row.category if known else "any category"
        usual = self.usual_[row.category if known else ALL]
        texts = (
            amount_reason(row.amount, float(np.exp(usual.centre)), name),
            f"day {int(row.day)} of the month is unusual for {name}",
            f"{WEEKDAYS[int(row.weekday)]} is unusual for {name}",
        )
        if not known:
            yield f"no transaction of {row.category} has been seen"
        for place in np.argsort(-parts):
            if parts[place] >= REASON or parts[place] == parts.max():
                yield texts[place]


class ZScores(BaseEstimator):
    """The baseline: how many standard deviations an amount lies off the mean of its category.

    Parameters
    ----------
    most : float
        From how many on it is an anomaly.
    """

    def __init__(self, most: float = 3.0) -> None:
        self.most = most

    def fit(self, X: Any, y: Array | None = None) -> ZScores:
        """Take the mean and the standard deviation of the rows that are no known anomalies."""
        rows = X if y is None else X[np.asarray(y) != 1]
        amounts = rows["amount"].astype(float).groupby(rows["category"].to_numpy())
        spread = float(rows["amount"].std())
        self.mean_ = {ALL: float(rows["amount"].mean()), **amounts.mean().to_dict()}
        self.spread_ = {ALL: spread, **amounts.std().fillna(spread).to_dict()}
        return self

    def score_samples(self, X: Any) -> Array:
        """Return minus the distance of each row, shape (n_samples,)."""
        names = [name if name in self.mean_ else ALL for name in X["category"]]
        means = np.array([self.mean_[name] for name in names])
        spreads = np.array([max(self.spread_[name], 0.01) for name in names])
        distances: Array = -np.abs(X["amount"].to_numpy(dtype=float) - means) / spreads
        return distances

    def predict(self, X: Any) -> Array:
        """Return -1 for each row that is an anomaly and 1 for the others."""
        return np.where(-self.score_samples(X) > self.most, -1, 1)

    def explain(self, X: Any) -> list[list[str]]:
        """Return the reason of each row that is called an anomaly."""
        flagged = self.predict(X) == -1
        return [
            [amount_reason(row.amount, self.mean_.get(row.category, self.mean_[ALL]), row.category)]
            if anomaly
            else []
            for row, anomaly in zip(X.itertuples(index=False), flagged, strict=True)
        ]


def amount_reason(amount: float, usual: float, category: str) -> str:
    """Say how an amount compares with the usual one of its category.

    Examples
    --------
    >>> amount_reason(700.0, 50.0, "Shopping")
    'amount is 14 times the usual for Shopping'
    >>> amount_reason(2.0, 50.0, "Shopping")
    'amount is 0.04 of the usual for Shopping'
    """
    times = amount / max(usual, 0.01)
    if times >= 1:
        return f"amount is {_short(times)} times the usual for {category}"
    return f"amount is {times:.2g} of the usual for {category}"


def _short(times: float) -> str:
    return f"{times:.0f}" if times >= 10 else f"{times:.2g}"


def _likelihood(places: Array, n_places: int, neighbours: int) -> Array:
    """Return how likely each place is, shape (n_places,), sum 1.

    Counts are spread to neighbours, since a bill moves by a weekend; a month ends, and the first
    follows. They are mixed with a uniform distribution, by the share that makes each row the
    likeliest when it is left out itself: so only where days mean something do they count.
    """
    n_rows = len(places)
    uniform = 1.0 / n_places
    if n_rows < LEAST_ROWS:
        return np.full(n_places, uniform)
    counts = np.bincount(places, minlength=n_places).astype(float)
    weights = {
        step: 1 - abs(step) / (neighbours + 1) for step in range(-neighbours, neighbours + 1)
    }
    smooth = sum(weight * np.roll(counts, step) for step, weight in weights.items())
    total = sum(weights.values())
    others = (smooth[places] - 1.0) / (total * (n_rows - 1))
    gains = [np.log(share * others + (1 - share) * uniform).sum() for share in MIXTURES]
    share = MIXTURES[int(np.argmax(gains))]
    found: Array = share * smooth / (total * n_rows) + (1 - share) * uniform
    return found
