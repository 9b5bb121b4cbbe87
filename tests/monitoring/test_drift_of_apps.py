"""Drift on the apps' data: real summer weeks, random windows, and a planted shift of each kind."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from drifting import drift_of, drifted, reference

from greenroom.app_loading import load_app
from greenroom.schema import take

ROOT = Path(__file__).parents[2]
CREDIT_FILE = ROOT.parent / "shared/data/credit_risk/cs-training.csv"
N_REFERENCE = 1_000
WEEK = np.timedelta64(7, "D")


@cache
def columns_of(app):
    return load_app(ROOT / "apps" / app).models[0].columns


@cache
def counts():
    """Return the counters' rows, which the app ships, and how many bicycles passed."""
    table = pq.read_table(ROOT / "apps/cyclist_traffic/data/counts.parquet")
    rows = {
        column.name: table[column.name].to_numpy(zero_copy_only=False)
        for column in columns_of("cyclist_traffic")
    }
    rows["date"] = rows["date"].astype("datetime64[us]")
    return rows, table["bike_count"].to_numpy().astype(np.float64)


@cache
def borrowers(source):
    """Return the borrowers' rows: the real file's, or the app's stand-in."""
    columns = columns_of("credit_risk")
    if source == "generated":
        found = load_app(ROOT / "apps/credit_risk").models[0].generated(7)
        return {column.name: np.asarray(found[column.name], np.float64) for column in columns}
    if not CREDIT_FILE.exists():
        pytest.skip("the real file cannot be redistributed, and no copy of it is here")
    convert = pyarrow.csv.ConvertOptions(null_values=["NA", ""])
    table = pyarrow.csv.read_csv(CREDIT_FILE, convert_options=convert)
    return {
        column.name: table[column.name].cast("float64").to_numpy(zero_copy_only=False)
        for column in columns
    }


def compared(rows, y, known, now, app="cyclist_traffic"):
    found = reference(columns_of(app), take(rows, known), {"prediction": y[known]})
    return drift_of(found, take(rows, now), {"prediction": y[now]})


def test_none_of_a_hundred_random_windows_of_the_reference_has_drifted():
    rows, y = counts()
    rng = np.random.default_rng(0)
    known = rng.choice(len(y), N_REFERENCE, replace=False)
    alarms = [drifted(compared(rows, y, known, rng.integers(0, len(y), 1_000))) for _ in range(100)]
    assert sum(map(bool, alarms)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [200, 1_000, 10_000])
def test_hardly_any_of_random_windows_of_random_references_has_drifted(n_rows):
    rows, y = counts()
    rng = np.random.default_rng(n_rows)
    n_alarms = 0
    for _ in range(300):
        drawn = rng.permutation(len(y))
        known, now = drawn[:N_REFERENCE], drawn[N_REFERENCE : N_REFERENCE + n_rows]
        n_alarms += bool(drifted(compared(rows, y, known, now)))
    assert n_alarms <= 3


def test_summer_weeks_have_drifted_where_the_year_before_had_nothing_like_them():
    rows, y = counts()
    before = np.flatnonzero(rows["date"] < np.datetime64("2021-07-01"))
    known = np.random.default_rng(0).choice(before, N_REFERENCE, replace=False)
    for first in np.arange(np.datetime64("2021-07-05", "us"), np.datetime64("2021-08-08"), WEEK):
        now = np.flatnonzero((rows["date"] >= first) & (rows["date"] < first + WEEK))
        found = compared(rows, y, known, now)
        date = next(one for one in found.features if one.column == "date")
        # The same counters, hours and weekdays: only the season is new.
        assert drifted(found) == ["date"]
        assert "a month that the reference does not have" in date.reasons[0]
        assert len(date.reasons) == 1


def test_a_counter_that_fails_and_one_that_is_new_are_found():
    rows, y = counts()
    rng = np.random.default_rng(0)
    known = rng.choice(len(y), N_REFERENCE, replace=False)
    some = rng.choice(len(y), 5_000, replace=False)
    away = some[rows["longitude"][some] < 2.35]
    found = compared(rows, y, known, away)
    assert {"counter_id", "counter_name", "longitude"} <= set(drifted(found))
    now = take(rows, some)
    now["counter_id"] = np.where(np.arange(len(some)) % 30, now["counter_id"], "a new one")
    known_rows = reference(columns_of("cyclist_traffic"), take(rows, known))
    assert drifted(drift_of(known_rows, now)) == ["counter_id"]


def _missing(values):
    return np.where(np.random.default_rng(1).random(len(values)) < 0.15, np.nan, values)


SHIFTS = {
    "mean": ("age", lambda v: v + 10),
    "variance": ("age", lambda v: np.round((v - np.nanmean(v)) * 1.6 + np.nanmean(v))),
    "category": ("NumberRealEstateLoansOrLines", lambda v: np.where(v == 0, 1.0, v)),
    "missing": ("MonthlyIncome", _missing),
    "missing where hardly any was": ("NumberOfDependents", _missing),
    "codes": ("NumberOfTimes90DaysLate", lambda v: np.where(np.arange(len(v)) % 20, v, 98.0)),
}


@pytest.mark.parametrize("source", ["generated", "real"])
@pytest.mark.parametrize("kind", SHIFTS)
def test_a_planted_shift_of_borrowers_is_found_by_name_and_no_other_column(source, kind):
    rows = borrowers(source)
    column, shift = SHIFTS[kind]
    drawn = np.random.default_rng(3).permutation(len(rows["age"]))
    known, now = take(rows, drawn[:N_REFERENCE]), take(rows, drawn[N_REFERENCE:11_000])
    found = reference(columns_of("credit_risk"), known)
    assert drifted(drift_of(found, now)) == []
    assert drifted(drift_of(found, {**now, column: shift(now[column])})) == [column]
