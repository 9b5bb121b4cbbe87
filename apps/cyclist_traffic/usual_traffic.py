"""What is usual at a counter, and how a day differs from it: the estimators of this app.

Counts at one place differ from those at another by a factor of thirty, and change over the months
with weather, works and curfews. What a calendar does to them (a Sunday morning, a public holiday, a
week without school) is much the same everywhere. So the two are kept apart: for each counter, what
has been usual at each hour of each weekday of late, and for all of Paris, which share of the usual
there is in an hour of such a day. The first is carried inside the estimator, made of nothing but
the rows that it was fitted on; the second is learnt by a forest or a neural network.

All of them take what ``features.py`` makes, as a DataFrame or as an array in that order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone

Array = npt.NDArray[Any]

INPUTS = (
    "counter",
    "latitude",
    "longitude",
    "day",
    "hour",
    "weekday",
    "day_kind",
    "holiday",
    "bridge",
    "school_holiday",
    "school_holiday_day",
)
CALENDAR = slice(INPUTS.index("hour"), len(INPUTS))
"""What says of an hour how usual it is; the same for all counters."""

NEIGHBOURS = 3
"""A counter that is not known is taken for a mean of so many that are nearest."""

MISSING_SHARE = 0.02
"""A counter with less than this share of its median day counts nothing: it is broken."""

LEAST_HOURS = 12
"""Hours a day that have to be there before a counter can be said to be broken."""

UNUSUAL = 0.01
"""How much a holiday weighs beside an ordinary day, where its share of the usual is not known."""

LEAST_SHARE = 0.1
"""Below this share of the usual a day says next to nothing about what is usual."""

POOLED_ROWS = 1.0
"""How many rows the mean of the five workdays counts for, within that of one of them."""

ALL_COUNTERS_ROWS = 0.5
"""The same of the mean over all counters, at the counter's own level."""

LEVEL_ROWS = 2.0
"""How many rows the mean of the city counts for, within that of a counter."""

ROWS_OF_A_TREE = 20_000

LARGEST_RATIO = 4.0
"""Beyond this many times the usual a count is a fair, a march or a fault, and teaches nothing."""


@dataclass(frozen=True)
class Counts:
    """Rows laid out by counter, day and hour.

    Parameters
    ----------
    counters : ndarray, shape (n_counters,)
        Their codes, ascending.
    places : ndarray, shape (n_counters, 2)
        Latitudes and longitudes.
    first_day : int
    count : ndarray, shape (n_counters, n_days, 24)
        NaN where nothing was counted, or the counter was broken.
    ordinary : ndarray of bool, shape (n_days,)
        Whether a day is neither a holiday nor in school holidays.
    """

    counters: Array
    places: Array
    first_day: int
    count: Array
    ordinary: Array

    @property
    def n_days(self) -> int:
        """How many days there are, from the first to the last."""
        return int(self.count.shape[1])

    @property
    def weekdays(self) -> Array:
        """Each day's weekday, Monday 0."""
        return (np.arange(self.n_days) + self.first_day + 3) % 7


def lay_out(X: Array, y: Array) -> Counts:
    """Return rows of shape (n_samples, len(INPUTS)) and their counts as a :class:`Counts`."""
    counters, first_row, of_row = np.unique(X[:, 0], return_index=True, return_inverse=True)
    day = X[:, 3].astype(np.int64)
    first_day = int(day.min())
    n_days = int(day.max()) - first_day + 1
    total, rows = np.zeros((2, len(counters), n_days, 24))
    place = (of_row, day - first_day, X[:, 4].astype(np.int64))
    np.add.at(total, place, y)
    np.add.at(rows, place, 1.0)
    count = np.where(rows > 0, total / np.maximum(rows, 1.0), np.nan)
    count[_broken(count)] = np.nan
    ordinary = np.ones(n_days, dtype=bool)
    special = X[:, [7, 8, 9]].max(axis=1) > 0
    ordinary[np.unique(day[special]) - first_day] = False
    return Counts(counters, X[first_row, 1:3], first_day, count, ordinary)


def _broken(count: Array) -> Array:
    """Return for each counter and day whether it counted as good as nothing all day."""
    hours = (~np.isnan(count)).sum(axis=2)
    total = np.nansum(count, axis=2)
    days = np.ma.masked_array(total, hours < LEAST_HOURS)
    typical = np.ma.median(days, axis=1).filled(0.0)
    broken: Array = (total < MISSING_SHARE * typical[:, None]) & (hours >= LEAST_HOURS)
    return broken


def usual_at(
    counts: Counts, centre: float, half_life_days: float, shares: Array | None = None
) -> Array:
    """Return what is usual around a day.

    Each day weighs half as much for every ``half_life_days`` that it lies further from ``centre``
    than the counter's nearest day does. Of one weekday there are few, so a counter's cell leans on
    its other workdays, and on the mean of all counters where it has little of its own.

    Parameters
    ----------
    centre : float
        The day, counted from the first one of ``counts``.
    shares : ndarray, shape (n_days, 24), optional
        Which share of the usual there is in each hour, by the calendar; without them holidays are
        as good as left out.

    Returns
    -------
    ndarray, shape (n_counters, 7, 24)
    """
    known = ~np.isnan(counts.count)
    distance = np.abs(np.arange(counts.n_days) - centre)
    nearest = np.where(known.any(axis=2), distance, np.inf).min(axis=1)
    nearest = np.where(np.isfinite(nearest), nearest, 0.0)
    beyond = np.maximum(distance[None, :] - nearest[:, None], 0.0)
    weight = 0.5 ** (beyond / half_life_days)
    if shares is None:
        weight, shares = weight * np.where(counts.ordinary, 1.0, UNUSUAL), np.ones((1, 24))
    weighted = np.nan_to_num(counts.count) * weight[:, :, None]
    rows = known * weight[:, :, None] * shares
    by_weekday = np.zeros((2, len(counts.counters), 7, 24))
    for weekday in range(7):
        chosen = counts.weekdays == weekday
        by_weekday[0, :, weekday] = weighted[:, chosen].sum(axis=1)
        by_weekday[1, :, weekday] = rows[:, chosen].sum(axis=1)
    return _leaning(*by_weekday)


def _leaning(total: Array, rows: Array) -> Array:
    """Return each cell's mean, leaning on wider ones; arrays of shape (n_counters, 7, 24)."""
    city = total.sum() / max(rows.sum(), 1e-9)
    level = (total.sum(axis=(1, 2)) + LEVEL_ROWS * city) / (rows.sum(axis=(1, 2)) + LEVEL_ROWS)
    level = level[:, None, None]
    expected = _workdays_pooled((rows * level).sum(axis=0))
    everywhere = _workdays_pooled(total.sum(axis=0)) / np.maximum(expected, 1e-9)
    total = total + ALL_COUNTERS_ROWS * level * everywhere
    rows = rows + ALL_COUNTERS_ROWS
    pooled = _workdays_pooled(total) / _workdays_pooled(rows)
    usual: Array = (total + POOLED_ROWS * pooled) / (rows + POOLED_ROWS)
    return usual


def _workdays_pooled(cells: Array) -> Array:
    """Return cells of shape (..., 7, 24) with Monday to Friday each their mean."""
    pooled = cells.copy()
    pooled[..., :5, :] = cells[..., :5, :].mean(axis=-2, keepdims=True)
    return pooled


def plain(X: Any) -> Array:
    """Return inputs as an array of shape (n_samples, len(INPUTS)), in the order of INPUTS."""
    return np.asarray(X[list(INPUTS)] if hasattr(X, "columns") else X, dtype=np.float64)


def shares_of(X: Array, counters: Array, places: Array) -> tuple[Array, Array]:
    """Return for each row the counters it is made of, and how much of each.

    Returns
    -------
    positions : ndarray of int, shape (n_samples, NEIGHBOURS)
    shares : ndarray, shape (n_samples, NEIGHBOURS)
        One counter has all where the row's is known; else by the inverse of the distance.
    """
    n_near = min(NEIGHBOURS, len(counters))
    at = np.searchsorted(counters, X[:, 0]).clip(max=len(counters) - 1)
    positions = np.repeat(at[:, None], n_near, axis=1)
    shares = np.zeros(positions.shape)
    shares[:, 0] = 1.0
    unknown = np.flatnonzero(counters[at] != X[:, 0])
    if len(unknown):
        distance = _distance_km(X[unknown, 1:3], places)
        near = np.argsort(distance, axis=1, kind="stable")[:, :n_near]
        closeness = 1.0 / (np.take_along_axis(distance, near, axis=1) + 0.1)
        positions[unknown] = near
        shares[unknown] = closeness / closeness.sum(axis=1, keepdims=True)
    return positions, shares


def _distance_km(these: Array, those: Array) -> Array:
    """Return distances of shape (n, m) on a plane, which Paris is small enough for."""
    difference = (these[:, None, :] - those[None, :, :]) * (111.2, 73.2)
    distance: Array = np.sqrt((difference**2).sum(axis=2))
    return distance


class UsualTimesCalendar(RegressorMixin, BaseEstimator):
    """Bikes an hour: what is usual at a counter, times what the calendar makes of it.

    The calendar's part is fitted on hours of all counters together: the count over what was usual
    around that week, where what comes after a day may tell what was usual. For answers, the last
    weeks alone say what is usual, each hour's count over the share that its calendar leaves.

    Parameters
    ----------
    calendar : estimator
        A regressor, or a pipeline that ends in one, that takes ``sample_weight``.
    half_life_days : float
        How fast the last weeks are forgotten.
    smoothing_days : float
        The same, to both sides, where the calendar's part is learnt.
    """

    def __init__(
        self, calendar: Any, half_life_days: float = 10.0, smoothing_days: float = 21.0
    ) -> None:
        self.calendar = calendar
        self.half_life_days = half_life_days
        self.smoothing_days = smoothing_days

    def fit(self, X: Any, y: Array) -> UsualTimesCalendar:
        """Fit on inputs of shape (n_samples, 11) and their counts."""
        X = plain(X)
        counts = lay_out(X, np.asarray(y, dtype=np.float64))
        hours, ratio, weight = _hours_of_the_city(X, counts, self.smoothing_days)
        self.calendar_ = clone(self.calendar)
        name = "sample_weight"
        if hasattr(self.calendar_, "steps"):  # a pipeline takes it for its last step
            name = f"{self.calendar_.steps[-1][0]}__sample_weight"
        self.calendar_.fit(hours, ratio, **{name: weight / weight.mean()})
        self.counters_, self.places_ = counts.counters, counts.places
        shares = self._shares(X, counts)
        self.usual_ = usual_at(counts, counts.n_days, self.half_life_days, shares)
        self.n_features_in_ = X.shape[1]
        return self

    def _shares(self, X: Array, counts: Counts) -> Array:
        """Return which share of the usual the calendar leaves, for each day and hour there is."""
        shares = np.ones((counts.n_days, 24))
        day, hour = X[:, 3].astype(np.int64) - counts.first_day, X[:, 4].astype(np.int64)
        _, rows = np.unique(day * 24 + hour, return_index=True)
        share = np.maximum(self.calendar_.predict(X[rows, CALENDAR]), LEAST_SHARE)
        shares[day[rows], hour[rows]] = share
        return shares

    def predict(self, X: Any) -> Array:
        """Return bikes an hour, shape (n_samples,)."""
        X = plain(X)
        hours, of_row = np.unique(X[:, CALENDAR], axis=0, return_inverse=True)
        ratio = np.maximum(self.calendar_.predict(hours), 0.0)[of_row.reshape(-1)]
        bikes: Array = ratio * _usual_of(X, self.usual_, self.counters_, self.places_)
        return bikes


def _hours_of_the_city(
    X: Array, counts: Counts, half_life_days: float
) -> tuple[Array, Array, Array]:
    """Return each hour's calendar, the count of all counters over their usual, and the latter.

    With squared errors weighted by the usual, fitting on these sums is the same as fitting on
    every counter's row: the calendar is one for all of them.
    """
    counted, usual = np.zeros((2, counts.n_days, 24))
    weekdays = counts.weekdays
    for monday in range(0, counts.n_days, 7):
        days = slice(monday, min(monday + 7, counts.n_days))
        expected = usual_at(counts, monday + 3.0, half_life_days)[:, weekdays[days]]
        known = ~np.isnan(counts.count[:, days])
        counted[days] = np.where(known, counts.count[:, days], 0.0).sum(axis=0)
        usual[days] = (expected * known).sum(axis=0)
    day, hour = X[:, 3].astype(np.int64) - counts.first_day, X[:, 4].astype(np.int64)
    _, rows = np.unique(day * 24 + hour, return_index=True)
    rows = rows[usual[day[rows], hour[rows]] > 0]
    weight = usual[day[rows], hour[rows]]
    ratio = np.minimum(counted[day[rows], hour[rows]] / weight, LARGEST_RATIO)
    return X[rows, CALENDAR], ratio, weight


class WeeklyProfile(RegressorMixin, BaseEstimator):
    """The mean of each counter's hour and weekday over the last weeks: what there is to beat.

    Parameters
    ----------
    weeks : int
    """

    def __init__(self, weeks: int = 4) -> None:
        self.weeks = weeks

    def fit(self, X: Any, y: Array) -> WeeklyProfile:
        """Fit on inputs of shape (n_samples, 11) and their counts."""
        X, y = plain(X), np.asarray(y, dtype=np.float64)
        recent = X[:, 3] > X[:, 3].max() - 7 * self.weeks
        self.counters_, of_row = np.unique(X[:, 0], return_inverse=True)
        cells = (of_row[recent], *(X[recent, column].astype(np.int64) for column in (5, 4)))
        total, rows = np.zeros((2, len(self.counters_), 7, 24))
        np.add.at(total, cells, y[recent])
        np.add.at(rows, cells, 1.0)
        self.profile_ = np.where(rows > 0, total / np.maximum(rows, 1.0), y.mean())
        self.mean_ = float(y.mean())
        return self

    def predict(self, X: Any) -> Array:
        """Return bikes an hour; for a counter that is not known, the mean of all."""
        X = plain(X)
        at = np.searchsorted(self.counters_, X[:, 0]).clip(max=len(self.counters_) - 1)
        found = self.profile_[at, X[:, 5].astype(np.int64), X[:, 4].astype(np.int64)]
        return np.where(self.counters_[at] == X[:, 0], found, self.mean_)


class UsualClass(ClassifierMixin, BaseEstimator):
    """Low, medium or high traffic: from how high it usually is there, and from the calendar.

    A forest is given both for each row; the first is made of other weeks than the row's, so that it
    does not hold the answer.

    Parameters
    ----------
    forest : estimator
        A random forest classifier.
    order : tuple of str
        The classes from least to most.
    half_life_days : float
        How fast what is usual forgets.
    """

    def __init__(self, forest: Any, order: tuple[str, ...], half_life_days: float = 21.0) -> None:
        self.forest = forest
        self.order = order
        self.half_life_days = half_life_days

    def fit(self, X: Any, y: Array) -> UsualClass:
        """Fit on inputs of shape (n_samples, 11) and their classes."""
        X, y = plain(X), np.asarray(y)
        heights = np.select([y == name for name in self.order], list(range(len(self.order))))
        counts = lay_out(X, heights.astype(np.float64))
        self.counters_, self.places_ = counts.counters, counts.places
        usual = self._usual_around(X, counts)
        # Of 400,000 rows that are much alike each tree needs a few.
        share = min(1.0, ROWS_OF_A_TREE / len(X))
        self.forest_ = clone(self.forest).set_params(max_samples=share)
        self.forest_.fit(np.column_stack([usual, X[:, CALENDAR]]), y)
        self.classes_ = self.forest_.classes_
        self.usual_ = usual_at(counts, counts.n_days, self.half_life_days)
        self.n_features_in_ = X.shape[1]
        return self

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        X = plain(X)
        usual = _usual_of(X, self.usual_, self.counters_, self.places_)
        found: Array = self.forest_.predict_proba(np.column_stack([usual, X[:, CALENDAR]]))
        return found

    def predict(self, X: Any) -> Array:
        """Return the likeliest class of each row."""
        found: Array = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return found

    def _usual_around(self, X: Array, counts: Counts) -> Array:
        """Return what was usual around each row's week, made of the other weeks' rows."""
        week = (X[:, 3].astype(np.int64) - counts.first_day) // 7
        usual = np.empty(len(X))
        for number in range(int(week.max()) + 1):
            rows = np.flatnonzero(week == number)
            others = counts.count.copy()
            if number or counts.n_days > 7:
                others[:, 7 * number : 7 * number + 7] = np.nan
            made = usual_at(replace(counts, count=others), 7 * number + 3.0, self.half_life_days)
            usual[rows] = _usual_of(X[rows], made, counts.counters, counts.places)
        return usual


def _usual_of(X: Array, usual: Array, counters: Array, places: Array) -> Array:
    """Return what is usual in each row, by arrays of a fitted estimator."""
    positions, shares = shares_of(X, counters, places)
    weekday, hour = (X[:, [column]].astype(np.int64) for column in (5, 4))
    found: Array = (usual[positions, weekday, hour] * shares).sum(axis=1)
    return found
