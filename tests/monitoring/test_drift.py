"""Drift: a planted change of each kind is found by name, and what cannot be compared is said."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from drifting import drift_of, drifted, reference

from greenroom.monitoring.drift import DriftMeter, as_batches, compare
from greenroom.monitoring.verdict import DriftThresholds
from greenroom.schema import Column

COLUMNS = (
    Column("amount"),
    Column("visits", "integer"),
    Column("member", "boolean"),
    Column("colour", "category", categories=("blue", "green", "red", "white")),
    Column("city", "string", nullable=True),
    Column("remark", "string"),
    Column("day", "date"),
    Column("at", "datetime"),
)
HOUR = np.timedelta64(1, "h")
NEW_YEAR = np.datetime64("2025-01-01", "us")


def made(n_rows: int, seed: int, *, since=NEW_YEAR, hours=24 * 365) -> dict[str, np.ndarray]:
    """Return rows of a column of every kind."""
    rng = np.random.default_rng(seed)
    at = since + rng.integers(0, hours, n_rows) * HOUR
    city = rng.choice(["Bonn", "Kiel", "Ulm"], n_rows).astype(object)
    city[rng.random(n_rows) < 0.02] = None
    remark = np.array([f"{seed} {row} " + "x" * rng.poisson(8) for row in range(n_rows)])
    return {
        "amount": rng.lognormal(0, 1, n_rows),
        "visits": rng.poisson(2.0, n_rows).astype(np.float64),
        "member": (rng.random(n_rows) < 0.3).astype(np.float64),
        "colour": rng.choice(["blue", "green", "red"], n_rows).astype(object),
        "city": city,
        "remark": remark.astype(object),
        "day": at.astype("datetime64[D]").astype("datetime64[us]"),
        "at": at,
    }


REFERENCE = reference(COLUMNS, made(1_000, 0), {"prediction": np.arange(1_000.0)})
LATER = NEW_YEAR + 24 * 400 * HOUR


def window(n_rows=2_000, **changed):
    """Return a later fortnight, in which nothing else has changed."""
    return {**made(n_rows, 1, since=LATER, hours=24 * 14), **changed}


def of(found, column):
    return next(one for one in (*found.features, *found.predictions) if one.column == column)


def test_rows_of_the_same_kind_have_not_drifted_whenever_they_came():
    found = drift_of(REFERENCE, window(), {"prediction": np.arange(2_000) / 2})
    assert [one.verdict for one in found.features] == ["stable"] * len(COLUMNS)
    assert not found.data_drifted
    assert not found.predictions_drifted
    assert (found.n_reference, found.n_current) == (1_000, 2_000)


def with_missing(values, share):
    values = values.copy()
    values[np.random.default_rng(5).random(len(values)) < share] = (
        None if values.dtype == object else np.nan
    )
    return values


def mostly(value, values):
    return np.where(np.random.default_rng(6).random(len(values)) < 0.6, value, values)


PLANTED = {
    "mean": ("amount", lambda v: v * 2, "psi"),
    "variance": ("amount", lambda v: np.exp(2 * np.log(v)), "psi"),
    "another sign": ("amount", lambda v: np.where(np.arange(len(v)) % 20, v, -v), "outside_rate"),
    "a wrong unit": (
        "amount",
        lambda v: np.where(np.arange(len(v)) % 20, v, v * 1e6),
        "outside_rate",
    ),
    "infinite": ("amount", lambda v: np.where(np.arange(len(v)) % 20, v, np.inf), "outside_rate"),
    "missing numbers": ("visits", lambda v: with_missing(v, 0.05), "missing_rate"),
    "counts": ("visits", lambda v: v + 2, "psi"),
    "constant": ("visits", lambda v: np.full(len(v), 2.0), "psi"),
    "booleans": ("member", lambda v: 1 - v, "psi"),
    "category": ("colour", lambda v: mostly("red", v), "psi"),
    "a category never seen": (
        "colour",
        lambda v: np.where(np.arange(len(v)) % 20, v, "white"),
        "unseen_rate",
    ),
    "all missing": ("city", lambda v: np.full(len(v), None), "missing_rate"),
    "a text never seen": (
        "city",
        lambda v: np.where(np.arange(len(v)) % 20, v, "Trier"),
        "unseen_rate",
    ),
    "longer texts": ("remark", lambda v: v + " and so on", "psi"),
    "night": ("at", lambda v: (v.astype("datetime64[D]") + 3 * HOUR).astype(v.dtype), "hour_psi"),
    "weekends": (
        "day",
        lambda v: np.where(
            (v.astype("datetime64[D]").astype(int) + 3) % 7 < 3, v + 24 * 3 * HOUR, v
        ),
        "weekday_psi",
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_change_is_found_by_name_and_nothing_else(kind):
    column, change, statistic = PLANTED[kind]
    rows = window()
    found = drift_of(REFERENCE, window(**{column: change(rows[column])}))
    assert drifted(found) == [column]
    assert statistic in of(found, column).statistics
    assert of(found, column).reasons


def test_a_label_flip_or_any_other_change_of_the_answers_is_not_drift_of_data():
    found = drift_of(REFERENCE, window(), {"prediction": np.arange(2_000.0) * 3})
    assert (found.data_drifted, found.predictions_drifted) == (False, True)
    assert of(found, "prediction").role == "prediction"


def test_a_month_that_the_reference_has_not_seen_is_named():
    spring = reference(COLUMNS, made(1_000, 0, hours=24 * 150))
    found = of(drift_of(spring, made(1_000, 1, since=NEW_YEAR + 24 * 200 * HOUR, hours=24)), "at")
    assert found.verdict == "drift"
    assert found.reasons == (
        "100.0% of the values are times in a month that the reference does not have",
    )
    assert found.distribution.labels[:2] == ("Jan", "Feb")


def test_parts_of_times_whose_cycle_the_window_does_not_hold_are_not_compared():
    found = drift_of(REFERENCE, made(2_000, 1, since=LATER, hours=12))
    assert not found.data_drifted
    assert "hour_psi" not in of(found, "at").statistics
    assert "weekday_psi" not in of(found, "day").statistics


def test_of_too_few_rows_nothing_is_said():
    found = drift_of(REFERENCE, window(99, amount=np.full(99, 1e9)))
    assert {one.verdict for one in found.features} == {"too few rows"}
    few = drift_of(REFERENCE, window(99), thresholds=DriftThresholds(min_rows=50))
    assert {one.verdict for one in few.features} == {"stable"}


def test_a_window_without_rows_is_too_few():
    found = drift_of(REFERENCE, {name: values[:0] for name, values in window().items()})
    assert found.n_current == 0
    assert {one.verdict for one in (*found.features, *found.predictions)} == {"too few rows"}


def test_a_constant_or_wholly_missing_reference_is_borne():
    columns = (
        Column("one"),
        Column("none", nullable=True),
        Column("text", "string", nullable=True),
    )
    rows = {
        "one": np.full(500, 7.0),
        "none": np.full(500, np.nan),
        "text": np.full(500, None, dtype=object),
    }
    known = reference(columns, rows)
    assert drifted(drift_of(known, rows)) == []
    huge = {"one": np.full(500, 2.0**70), "none": np.zeros(500), "text": np.full(500, "a", object)}
    assert drifted(drift_of(known, huge)) == ["one", "none", "text"]


def test_integers_beyond_what_floats_hold_are_counted():
    known = reference((Column("n", "integer"),), {"n": np.arange(500.0) + 2.0**60})
    batch = pa.RecordBatch.from_pydict({"n": pa.array([2**62 + n for n in range(500)])})
    assert drifted(compare(known, [batch])) == ["n"]


def test_each_column_says_how_both_samples_are_spread():
    found = drift_of(REFERENCE, window(), {"prediction": np.arange(2_000.0)})
    for one in (*found.features, *found.predictions):
        shown = one.distribution
        n_bins = len(shown.labels) or len(shown.edges) - 1
        assert n_bins == len(shown.reference) == len(shown.current) <= 24
        assert sum(shown.reference) == pytest.approx(1)
        assert sum(shown.current) == pytest.approx(1)
        assert list(shown.edges) == sorted(shown.edges)
    assert set(of(found, "colour").distribution.labels) == {"blue", "green", "red", "white"}


def test_texts_that_nobody_declared_are_not_shown():
    rows = window()
    found = drift_of(REFERENCE, {**rows, "city": np.full(len(rows["at"]), "secret", object)})
    assert "secret" not in str(found)
    assert of(found, "city").distribution.labels[-1] == "(not in the reference)"


def test_what_cannot_be_compared_is_said_with_its_reason():
    rows = window()
    batch = next(as_batches(rows)).drop_columns(["visits"])
    hashes = pa.array(["ab" * 32] * len(rows["at"]))
    place = batch.schema.get_field_index("amount")
    found = compare(REFERENCE, [batch.set_column(place, "amount", hashes)])
    assert of(found, "amount").verdict == of(found, "visits").verdict == "not compared"
    assert of(found, "amount").reasons == ("the window holds it as string",)
    assert of(found, "visits").reasons == ("the window does not have it",)
    assert of(found, "prediction").verdict == "not compared"


def test_outputs_are_compared_by_their_kind():
    rng = np.random.default_rng(0)
    labels = rng.choice(["no", "yes"], 1_000).astype(object)
    outputs = {
        "prediction": labels,
        "probability": rng.random(1_000),
        "probabilities": rng.random((1_000, 2)),
    }
    known = reference(
        COLUMNS[:1], {"amount": rng.random(1_000)}, outputs, "classification", classes=("no", "yes")
    )
    now = {"prediction": np.full(1_000, "yes", object), "probability": rng.random(1_000)}
    found = drift_of(known, {"amount": rng.random(1_000)}, now)
    verdicts = {one.column: one.verdict for one in found.predictions}
    assert verdicts == {
        "prediction": "drift",
        "probability": "stable",
        "probabilities": "not compared",
    }


def test_labels_that_are_integers_or_booleans_are_counted_one_by_one():
    for labels in (np.array([0, 1] * 500), np.array([False, True] * 500)):
        known = reference(
            COLUMNS[:1],
            {"amount": np.arange(1_000.0)},
            {"prediction": labels},
            "classification",
            classes=tuple(np.unique(labels).tolist()),
        )
        same = drift_of(known, {"amount": np.arange(1_000.0)}, {"prediction": labels[::-1]})
        assert drifted(same) == []
        one = drift_of(known, {"amount": np.arange(1_000.0)}, {"prediction": labels | labels[1]})
        assert drifted(one) == ["prediction"]


def test_texts_as_dictionaries_and_plain_are_counted_alike_and_threads_change_nothing():
    rows = window(20_000)
    plain = next(as_batches(rows))
    encoded = plain
    with DriftMeter(REFERENCE, n_threads=1) as meter:
        assert meter.texts == ("colour", "city")
        for name in meter.texts:
            place = plain.schema.get_field_index(name)
            encoded = encoded.set_column(place, name, plain.column(place).dictionary_encode())
        meter.add(encoded)
        assert meter.drift() == compare(REFERENCE, [plain], n_threads=2)


def test_days_and_instants_of_any_unit_are_counted_alike():
    columns = (Column("at", "datetime"),)
    rows = made(1_000, 0)
    known = reference(columns, {"at": rows["at"]})
    wanted = drift_of(known, {"at": rows["at"]}).features
    for kind in (
        pa.timestamp("s"),
        pa.timestamp("ms", tz="UTC"),
        pa.timestamp("ns", tz="Europe/Paris"),
    ):
        batch = pa.RecordBatch.from_pydict({"at": pa.array(rows["at"]).cast(kind, safe=False)})
        assert compare(known, [batch]).features == wanted
    early = pa.array([dt.date(1890, 3, 1)] * 200)
    assert compare(known, [pa.RecordBatch.from_pydict({"at": early})]).n_current == 200
