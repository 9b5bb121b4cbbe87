"""When and where a count was, or will be, made: what both models look at.

Self-contained: this file travels inside each version, and training and serving run it alike.

The counts are in UTC, and cyclists live by the clock of Paris, so hours and weekdays are taken
from that. A public holiday in France follows from the date; the school holidays of Paris are a
table, since a ministry sets them. A counter is known by its id, by its name, or, where it is a new
one, by where it stands.

Sources: the holidays of article L3133-1 of the Code du travail, with Easter after the anonymous
Gregorian algorithm ("Computus", J. Meeus, Astronomical Algorithms, 1991, chapter 8); the school
holidays of zone C as the Ministère de l'Éducation nationale decreed them for 2020 to 2027; summer
time after directive 2000/84/EC; the counters of Paris open data ("Comptage vélo", ODbL).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# fmt: off
COUNTERS = (
    ("100007049-101007049", "28 boulevard Diderot O-E", 48.846028, 2.375429),
    ("100007049-102007049", "28 boulevard Diderot E-O", 48.846028, 2.375429),
    ("100036718-103036718", "39 quai François Mauriac SE-NO", 48.83436, 2.377),
    ("100036718-104036718", "39 quai François Mauriac NO-SE", 48.83436, 2.377),
    ("100036719-103036719", "18 quai de l'Hôtel de Ville SE-NO", 48.85372, 2.35702),
    ("100036719-104036719", "18 quai de l'Hôtel de Ville NO-SE", 48.85372, 2.35702),
    ("100042374-109042374", "Voie Georges Pompidou SO-NE", 48.8484, 2.27586),
    ("100042374-110042374", "Voie Georges Pompidou NE-SO", 48.8484, 2.27586),
    ("100044493-SC", "67 boulevard Voltaire SE-NO", 48.86149, 2.37376),
    ("100047542-103047542", "Face au 48 quai de la marne NE-SO", 48.89172, 2.38531),
    ("100047542-104047542", "Face au 48 quai de la marne SO-NE", 48.89172, 2.38531),
    ("100047545-103047545", "Face 104 rue d'Aubervilliers N-S", 48.890457, 2.368852),
    ("100047545-104047545", "Face 104 rue d'Aubervilliers S-N", 48.890457, 2.368852),
    ("100047546-103047546", "Face au 70 quai de Bercy S-N", 48.829523, 2.38699),
    ("100047546-104047546", "Face au 70 quai de Bercy N-S", 48.829523, 2.38699),
    ("100047547-103047547", "6 rue Julia Bartet SO-NE", 48.82636, 2.30303),
    ("100047547-104047547", "6 rue Julia Bartet NE-SO", 48.82636, 2.30303),
    ("100047548-103047548", "Face au 25 quai de l'Oise NE-SO", 48.89141, 2.38482),
    ("100047548-104047548", "Face au 25 quai de l'Oise SO-NE", 48.89141, 2.38482),
    ("100049407-353255859", "152 boulevard du Montparnasse O-E", 48.840801, 2.333233),
    ("100049407-353255860", "152 boulevard du Montparnasse E-O", 48.840801, 2.333233),
    ("100050876-103050876", "Totem 64 Rue de Rivoli E-O", 48.85735, 2.35211),
    ("100050876-104050876", "Totem 64 Rue de Rivoli O-E", 48.85735, 2.35211),
    ("100056046-SC", "Pont des Invalides S-N", 48.86282, 2.31061),
    ("100056047-SC", "Pont de la Concorde S-N", 48.86378, 2.32003),
    ("100056223-SC", "Pont des Invalides N-S", 48.86284, 2.310345),
    ("100056226-103056226", "Face au 8 avenue de la porte de Charenton SE-NO", 48.830331, 2.400551),
    ("100056226-104056226", "Face au 8 avenue de la porte de Charenton NO-SE", 48.830331, 2.400551),
    ("100056327-103056327", "Face au 4 avenue de la porte de Bagnolet E-O", 48.86461, 2.40969),
    ("100056327-104056327", "Face au 4 avenue de la porte de Bagnolet O-E", 48.86461, 2.40969),
    ("100056329-103056329", "Pont Charles De Gaulle SO-NE", 48.84223, 2.36811),
    ("100056329-104056329", "Pont Charles De Gaulle NE-SO", 48.84223, 2.36811),
    ("100056330-103056330", "36 quai de Grenelle SO-NE", 48.85209, 2.28508),
    ("100056330-104056330", "36 quai de Grenelle NE-SO", 48.85209, 2.28508),
    ("100056331-103056331", "Face au 40 quai D'Issy SO-NE", 48.83421, 2.26542),
    ("100056331-104056331", "Face au 40 quai D'Issy NE-SO", 48.83421, 2.26542),
    ("100056332-103056332", "Pont de Bercy NE-SO", 48.83848, 2.37587),
    ("100056332-104056332", "Pont de Bercy SO-NE", 48.83848, 2.37587),
    ("100056334-103056334", "38 rue Turbigo NE-SO", 48.86502, 2.35387),
    ("100056334-104056334", "38 rue Turbigo SO-NE", 48.86502, 2.35387),
    ("100056335-103056335", "Quai d'Orsay O-E", 48.86288, 2.31179),
    ("100056335-104056335", "Quai d'Orsay E-O", 48.86288, 2.31179),
    ("100056336-105056336", "27 quai de la Tournelle SE-NO", 48.85013, 2.35423),
    ("100056336-106056336", "27 quai de la Tournelle NO-SE", 48.85013, 2.35423),
    ("100057329-103057329", "Totem 85 quai d'Austerlitz SE-NO", 48.84201, 2.36729),
    ("100057329-104057329", "Totem 85 quai d'Austerlitz NO-SE", 48.84201, 2.36729),
    ("100057380-103057380", "Totem Cours la Reine O-E", 48.86462, 2.31444),
    ("100057380-104057380", "Totem Cours la Reine E-O", 48.86462, 2.31444),
    ("100057445-103057445", "Totem 73 boulevard de Sébastopol N-S", 48.86377, 2.35096),
    ("100057445-104057445", "Totem 73 boulevard de Sébastopol S-N", 48.86377, 2.35096),
    ("100060178-101060178", "90 Rue De Sèvres SO-NE", 48.84638, 2.31529),
    ("100060178-102060178", "90 Rue De Sèvres NE-SO", 48.84638, 2.31529),
    ("100063175-353277233", "20 Avenue de Clichy NO-SE", 48.88529, 2.32666),
    ("100063175-353277235", "20 Avenue de Clichy SE-NO", 48.88529, 2.32666),
    ("300014702-353245971", "254 rue de Vaugirard SO-NE", 48.83977, 2.30198),
    ("300014702-353245972", "254 rue de Vaugirard NE-SO", 48.83977, 2.30198),
)
"""Each counter's id, name, latitude and longitude."""

SCHOOL_HOLIDAYS = (
    ("2020-07-04", "2020-08-31"), ("2020-10-17", "2020-11-01"), ("2020-12-19", "2021-01-03"),
    ("2021-02-13", "2021-02-28"), ("2021-04-10", "2021-04-25"), ("2021-07-07", "2021-09-01"),
    ("2021-10-23", "2021-11-07"), ("2021-12-18", "2022-01-02"), ("2022-02-19", "2022-03-06"),
    ("2022-04-23", "2022-05-08"), ("2022-07-08", "2022-08-31"), ("2022-10-22", "2022-11-06"),
    ("2022-12-17", "2023-01-02"), ("2023-02-18", "2023-03-05"), ("2023-04-22", "2023-05-08"),
    ("2023-07-08", "2023-09-03"), ("2023-10-21", "2023-11-05"), ("2023-12-23", "2024-01-07"),
    ("2024-02-10", "2024-02-25"), ("2024-04-06", "2024-04-21"), ("2024-07-06", "2024-09-01"),
    ("2024-10-19", "2024-11-03"), ("2024-12-21", "2025-01-05"), ("2025-02-15", "2025-03-02"),
    ("2025-04-12", "2025-04-27"), ("2025-07-05", "2025-08-31"), ("2025-10-18", "2025-11-02"),
    ("2025-12-20", "2026-01-04"), ("2026-02-21", "2026-03-08"), ("2026-04-18", "2026-05-03"),
    ("2026-07-04", "2026-08-31"), ("2026-10-17", "2026-11-01"), ("2026-12-19", "2027-01-03"),
    ("2027-02-06", "2027-02-21"), ("2027-04-03", "2027-04-18"), ("2027-07-03", "2027-08-31"),
)
"""First and last days in zone C; of other years only that schools are closed in high summer."""
# fmt: on

FIRST_YEAR, LAST_YEAR = 2000, 2099
"""Between which the rules for holidays and summer time are taken to hold."""

WORKDAY, SATURDAY, SUNDAY = 0.0, 1.0, 2.0
"""Kinds of a day; a public holiday is a Sunday."""

_BY_ID = {counter[0]: counter for counter in COUNTERS}
_BY_NAME = {counter[1].casefold(): counter for counter in COUNTERS}
_EPOCH = date(1970, 1, 1)
_THURSDAY = 3
"""1970-01-01 was one; Monday is 0."""


def features(columns: dict[str, Array]) -> dict[str, Array]:
    """Return the estimator's columns, with as many rows as ``columns``.

    Raises
    ------
    ValueError
        With the field, what is wrong with it, and in which row: where a counter is not known, or a
        date is of another time.
    """
    counter, latitude, longitude = _places(columns)
    _require_years(columns["date"])
    day, hour = _in_paris(columns["date"])
    days, of_row = np.unique(day, return_inverse=True)
    return {
        "counter": counter,
        "latitude": latitude,
        "longitude": longitude,
        "day": day.astype(np.float64),
        "hour": hour.astype(np.float64),
        "weekday": (day + _THURSDAY) % 7.0,
        **{name: values[of_row] for name, values in _calendar(days).items()},
    }


def counter_code(counter_id: str) -> float:
    """Return a number for a counter's id, the same everywhere; exact in a float64."""
    return float(zlib.crc32(counter_id.encode()))


def public_holidays(year: int) -> set[date]:
    """Return the eleven public holidays of metropolitan France."""
    fixed = ((1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25))
    easter = _easter(year)
    moving = (easter + timedelta(days=after) for after in (1, 39, 50))
    return {date(year, month, day) for month, day in fixed} | set(moving)


def _places(columns: dict[str, Array]) -> tuple[Array, Array, Array]:
    """Return each row's counter as a number, and where it stands."""
    ids, names = columns["counter_id"].tolist(), columns["counter_name"].tolist()
    given = zip(columns["latitude"].tolist(), columns["longitude"].tolist(), strict=True)
    found: dict[tuple[Any, ...], tuple[float, float, float]] = {}
    cells = []
    for row, (counter_id, name, place) in enumerate(zip(ids, names, given, strict=True)):
        # Rows of one counter are many; NaN is not equal to itself.
        key = (counter_id, name, *(None if part != part else part for part in place))
        if key not in found:
            found[key] = _place(*key, row)
        cells.append(found[key])
    counter, latitude, longitude = np.array(cells, dtype=np.float64).reshape(-1, 3).T.copy()
    return counter, latitude, longitude


def _place(
    counter_id: str | None,
    name: str | None,
    latitude: float | None,
    longitude: float | None,
    row: int,
) -> tuple[float, float, float]:
    by_id = _BY_ID.get(counter_id) if counter_id else None
    by_name = _BY_NAME.get(name.strip().casefold()) if name else None
    if by_id is not None and by_name is not None and by_id is not by_name:
        raise ValueError("counter_name", "is that of another counter than counter_id", row)
    # A name does not stand for a counter whose id is given and is another one, or a new one.
    known = by_id or (by_name if not counter_id else None)
    if latitude is None or longitude is None:
        if known is None:
            raise ValueError(*_unknown(counter_id, name, latitude, longitude), row)
        latitude, longitude = known[2:]
    identity = known[0] if known is not None else counter_id or name
    return counter_code(identity) if identity else -1.0, latitude, longitude


def _unknown(
    counter_id: str | None, name: str | None, latitude: float | None, longitude: float | None
) -> tuple[str, str]:
    """Return which field is to be mended, and what is wrong with it."""
    if latitude is not None or longitude is not None:
        missing = "latitude" if latitude is None else "longitude"
        return missing, "is missing: a counter that is not known needs both coordinates"
    if counter_id or name:
        field = "counter_id" if counter_id else "counter_name"
        return field, "is not a known counter: give its latitude and longitude too"
    return "counter_id", "is missing: give it, counter_name, or latitude and longitude"


def _require_years(times: Array) -> None:
    years = times.astype("datetime64[Y]").astype(np.int64) + 1970
    beyond = np.flatnonzero((years < FIRST_YEAR) | (years > LAST_YEAR))
    if len(beyond):
        raise ValueError("date", f"is not between {FIRST_YEAR} and {LAST_YEAR}", int(beyond[0]))


def _in_paris(times: Array) -> tuple[Array, Array]:
    """Return days since 1970-01-01 and hours by the clock of Paris, from times in UTC."""
    hours = times.astype("datetime64[h]").astype(np.int64)
    years = times.astype("datetime64[Y]").astype(np.int64) + 1970
    summer = np.zeros(len(hours), dtype=bool)
    for year in np.unique(years).tolist():
        begin, end = (_last_sunday(year, month) * 24 + 1 for month in (3, 10))
        summer |= (years == year) & (hours >= begin) & (hours < end)
    day, hour = np.divmod(hours + 1 + summer, 24)
    return day, hour


def _last_sunday(year: int, month: int) -> int:
    last = date(year, month, 31)
    return (last - _EPOCH).days - (last.weekday() + 1) % 7


def _calendar(days: Array) -> dict[str, Array]:
    """Return what each of the ``days`` is; ascending days since 1970-01-01."""
    dates = [_EPOCH + timedelta(days=int(day)) for day in days]
    years = {day.year for day in dates}
    holidays = {day for year in years for day in public_holidays(year)}
    # A 31st of December may be a bridge to the next year's holiday.
    holidays |= {date(year + 1, 1, 1) for year in years}
    begun = [_days_of_school_holiday(day) for day in dates]
    return {
        "day_kind": np.array([_kind(day, holidays) for day in dates]),
        "holiday": np.array([float(day in holidays) for day in dates]),
        "bridge": np.array([float(_is_bridge(day, holidays)) for day in dates]),
        "school_holiday": np.array([float(count > 0) for count in begun]),
        "school_holiday_day": np.array([float(min(count, 21)) for count in begun]),
    }


def _kind(day: date, holidays: Iterable[date]) -> float:
    if day in holidays or day.weekday() == 6:
        return SUNDAY
    return SATURDAY if day.weekday() == 5 else WORKDAY


def _is_bridge(day: date, holidays: set[date]) -> bool:
    """Whether a workday lies between a public holiday and a weekend, so that many take it off.

    A Tuesday's holiday has a Monday for a bridge, a Thursday's a Friday.
    """
    if _kind(day, holidays) != WORKDAY:
        return False
    before, after = day - timedelta(days=1), day + timedelta(days=1)
    off = _kind(before, holidays) != WORKDAY and _kind(after, holidays) != WORKDAY
    return off and (before in holidays or after in holidays)


def _days_of_school_holiday(day: date) -> int:
    """Return the how manieth day of school holidays it is; 0 for none."""
    text = day.isoformat()
    for first, last in SCHOOL_HOLIDAYS:
        if first <= text <= last:
            return (day - date.fromisoformat(first)).days + 1
    if SCHOOL_HOLIDAYS[0][0] <= text <= SCHOOL_HOLIDAYS[-1][1]:
        return 0
    summer = date(day.year, 7, 7)
    return (day - summer).days + 1 if summer <= day <= date(day.year, 8, 31) else 0


def _easter(year: int) -> date:
    a, (b, c) = year % 19, divmod(year, 100)
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    weekday = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * weekday) // 451
    month, day = divmod(h + weekday - 7 * m + 114, 31)
    return date(year, month, day + 1)
