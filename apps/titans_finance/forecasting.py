"""Forecasters of a day's net cashflow, with intervals of a stated coverage.

Both take what ``features/cashflow.py`` makes, in units of the history's size, and answer in money:
``predict`` gives prediction, lower and upper, shape (n_samples, 3). They travel inside a version.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, clone

Array = npt.NDArray[Any]

CALIBRATED_SHARE = 0.3
"""The last part of the rows fitted on, whose errors the intervals are made of."""

N_GROUPS = 4
LEAST_IN_GROUP = 60


class Conformal(BaseEstimator):
    """Put intervals around a regressor's predictions, of the errors it made on later rows.

    Split conformal prediction (Lei et al., "Distribution-free predictive inference for regression",
    JASA 113, 2018), each tail by itself, and within groups of predictions of like magnitude
    (Mondrian conformal: Vovk et al., "Algorithmic Learning in a Random World", 2005, section 4.5),
    because a day on which a salary comes is less certain than one without. The regressor is then
    fitted once more, on all rows. The coverage holds as long as errors go on as they were.

    Parameters
    ----------
    regressor : estimator
        Of targets in units of the history's size.
    coverage : float
        The share of days whose net is to lie within.
    """

    def __init__(self, regressor: Any = None, coverage: float = 0.9) -> None:
        self.regressor = regressor
        self.coverage = coverage

    def fit(self, X: Any, y: Array) -> Conformal:
        """Fit on rows in order of time; the later ones say how far it is off."""
        size = X["size"].to_numpy(dtype=float)
        target = np.asarray(y, dtype=float) / size
        cut = round(len(target) * (1 - CALIBRATED_SHARE))
        # A column that is not known of any row, as a year before in a short history, stops trees.
        known = X.iloc[:cut].notna().any()
        self.columns_ = [name for name in X if name != "size" and known[name]]
        inner = X[self.columns_]
        first = clone(self.regressor).fit(inner.iloc[:cut], target[:cut])
        expected = np.asarray(first.predict(inner.iloc[cut:]), dtype=float)
        self._calibrate(expected, target[cut:] - expected)
        self.regressor_ = clone(self.regressor).fit(inner, target)
        naive = np.nan_to_num(X["naive"].to_numpy(dtype=float)) * size
        self.scale_ = float(np.abs(np.asarray(y) - naive).mean())
        return self

    def predict(self, X: Any) -> Array:
        """Return prediction, lower and upper of each row, shape (n_samples, 3)."""
        size = X["size"].to_numpy(dtype=float)
        expected = np.asarray(self.regressor_.predict(X[self.columns_]), dtype=float)
        group = np.searchsorted(self.edges_, np.abs(expected))
        ends = expected[:, None] + self.errors_[group]
        return np.column_stack([expected, ends]) * size[:, None]

    def scale(self, X: Any) -> Array:
        """Return what errors are divided by: the naive forecast's, among the rows fitted on."""
        return np.full(len(X), self.scale_)

    def _calibrate(self, expected: Array, errors: Array) -> None:
        """Take the quantiles of the errors, in groups by how large the expected net is."""
        n_groups = max(1, min(N_GROUPS, len(errors) // LEAST_IN_GROUP))
        shares = np.linspace(0, 1, n_groups + 1)[1:-1]
        self.edges_ = np.unique(np.quantile(np.abs(expected), shares))
        group = np.searchsorted(self.edges_, np.abs(expected))
        found = []
        for one in range(len(self.edges_) + 1):
            own = errors[group == one]
            found.append(_ends(own if len(own) >= LEAST_IN_GROUP else errors, self.coverage))
        self.errors_ = np.array(found)


class Naive(BaseEstimator):
    """A baseline: the net of one earlier day, such as that of four weeks before.

    Parameters
    ----------
    column : str
        The column that holds it.
    """

    def __init__(self, column: str = "naive") -> None:
        self.column = column

    def fit(self, X: Any, y: Array) -> Naive:  # noqa: ARG002 - as scikit-learn's
        """Learn nothing."""
        self.fitted_ = True
        return self

    def predict(self, X: Any) -> Array:
        """Return that day's net, 0 where it is not known."""
        return np.nan_to_num(X[self.column].to_numpy(dtype=float))


def _ends(errors: Array, coverage: float) -> tuple[float, float]:
    """Return the errors between which ``coverage`` of them lie, a half of the rest on each side."""
    ordered = np.sort(errors)
    n = len(ordered)
    beyond = int(np.floor((n + 1) * (1 - coverage) / 2))
    low, high = ordered[max(0, beyond - 1)], ordered[min(n - 1, n - beyond)]
    return min(0.0, float(low)), max(0.0, float(high))
