"""What a forecast of a day's net cashflow looks at: the calendar, and what was known before.

Self-contained: this file travels inside each version, and training and serving run it alike. What
it says of a history is in units of that history's own size, so that what was learnt from one
account holds for another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_HORIZON_DAYS = 365
CONTEXT_DAYS = 400
LONGEST_HISTORY_DAYS = 3660

NAIVE_DAYS = 28
"""The season of the naive forecast: four weeks hold two of the fortnights that salaries come in."""


def expand(request: dict[str, Any], context: dict[str, Array]) -> dict[str, Array]:
    """Return a row for each day that is asked for, from the day after the history's last one on."""
    sent = request["history"]
    known = context if sent is None else sent
    dates = known["date"].astype("datetime64[D]")
    if (dates.max() - dates.min()).astype(int) >= LONGEST_HISTORY_DAYS:
        raise ValueError("history", f"spans more than {LONGEST_HISTORY_DAYS} days")
    days, net = daily(dates, known["amount"])
    first = days[-1] + 1
    return describe(days, net, np.arange(first, first + int(request["horizon_days"] or 30)))


def daily(dates: Array, amounts: Array) -> tuple[Array, Array]:
    """Return every day from the first to the last, and its sum of amounts, 0 where nothing was."""
    dates = dates.astype("datetime64[D]")
    days = np.arange(dates.min(), dates.max() + 1)
    return days, np.bincount((dates - days[0]).astype(int), amounts, len(days))


def describe(days: Array, net: Array, asked: Array) -> dict[str, Array]:
    """Return what a history without gaps says about days after it.

    Parameters
    ----------
    days, net : ndarray, shape (n_days,)
        The history, in order.
    asked : ndarray of datetime64[D], shape (n_asked,)

    Returns
    -------
    dict of str to ndarray, shape (n_asked,)
        Amounts of money; NaN where the history is too short to say.
    """
    last, n_days = days[-1], len(days)
    ahead = (asked - last).astype(int)
    by_month = _same_day_of_month(days, net, asked)
    return {
        "date": asked,
        "horizon": ahead.astype(np.float64),
        "size": np.full(len(asked), max(1.0, float(np.abs(net[-364:]).mean()))),
        "level": np.full(len(asked), float(net[-91:].mean())),
        "naive": _before(net, n_days, ahead, NAIVE_DAYS, 1)[:, 0],
        "fortnight": _mean(_before(net, n_days, ahead, 14, 4)),
        "weekday": _mean(_before(net, n_days, ahead, 7, 12)),
        "month_1": by_month[:, 0],
        "month_3": _mean(by_month),
        "year": _mean(_before(net, n_days, ahead, 364, 1)),
    }


def features(columns: dict[str, Array]) -> dict[str, Array]:
    """Return the estimator's columns, with as many rows as ``columns``."""
    days = columns["date"].astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    day = (days - months.astype("datetime64[D]")).astype(int) + 1
    length = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(int)
    weekday = (days.astype(int) + 3) % 7
    last_weekday = (weekday + length - day) % 7
    said = {name: values for name, values in columns.items() if name not in {"date", "size"}}
    size = columns["size"]
    money = {name: values / size for name, values in said.items() if name != "horizon"}
    return {
        "size": size,
        "horizon": columns["horizon"],
        **money,
        "day": day.astype(np.float64),
        "days_left": (length - day).astype(np.float64),
        "working_days_left": (length - day - np.maximum(0, last_weekday - 4)).astype(np.float64),
        "day_of_week": weekday.astype(np.float64),
        "month": (months.astype(int) % 12 + 1).astype(np.float64),
    }


def _before(net: Array, n_days: int, ahead: Array, season: int, most: int) -> Array:
    """Return the latest ``most`` values a whole number of seasons before, shape (n_asked, most)."""
    seasons = -(-ahead // season)  # as many as it takes to come into the history
    places = n_days - 1 + ahead[:, None] - season * (seasons[:, None] + np.arange(most))
    return np.where(places >= 0, net[np.maximum(places, 0)], np.nan)


def _same_day_of_month(days: Array, net: Array, asked: Array) -> Array:
    """Return the net of that day in each of the last three months known, shape (n_asked, 3)."""
    months = asked.astype("datetime64[M]")
    offset = (asked - months.astype("datetime64[D]")).astype(int)
    last = days[-1].astype("datetime64[M]")
    day_of_last = (days[-1] - last.astype("datetime64[D]")).astype(int)
    latest = np.minimum(months - 1, np.where(offset <= day_of_last, last, last - 1))
    found = np.full((len(asked), 3), np.nan)
    for back in range(3):
        month = latest - back
        end = (month + 1).astype("datetime64[D]") - 1
        places = (np.minimum(month.astype("datetime64[D]") + offset, end) - days[0]).astype(int)
        inside = (places >= 0) & (places < len(days))
        found[inside, back] = net[places[inside]]
    return found


def _mean(values: Array) -> Array:
    """Return each row's mean over what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
