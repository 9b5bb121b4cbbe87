"""What must stay true of this app, whatever it is trained on."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import r2_score

from greenroom.app_loading import load_app, package_name
from greenroom.data.frames import to_frame
from greenroom.training.dataset import load_dataset
from greenroom.training.fitting import prepare, read_features

FOLDER = Path(__file__).resolve().parents[1]
APP = load_app(FOLDER)
MODEL = APP.model("cyclist-traffic")
CLASSES = APP.model("cyclist-traffic-class")
MODULE = read_features(MODEL, FOLDER).module
KNOWN = "100057445-103057445"
NAME = "Totem 73 boulevard de Sébastopol N-S"


def usual_traffic():
    import importlib

    return importlib.import_module(f"{package_name(FOLDER)}.usual_traffic")


@pytest.fixture(scope="module")
def prepared():
    return prepare(MODEL, FOLDER, load_dataset(MODEL, FOLDER))


@pytest.fixture(scope="module")
def fitted(prepared):
    """Both candidates and the baseline, fitted on all but the last thirty days."""
    estimators = MODEL.candidates(42) | MODEL.baselines(42)
    for estimator in estimators.values():
        estimator.fit(prepared.train_inputs, prepared.train_y)
    return estimators


def row(**given):
    """One row of the data, or of a request, with what is not given missing."""
    filled = {"date": "2021-07-15T06:00", **given}
    return {
        "counter_id": np.array([filled.get("counter_id")], dtype=object),
        "counter_name": np.array([filled.get("counter_name")], dtype=object),
        "date": np.array([filled["date"]], dtype="datetime64[us]"),
        "latitude": np.array([filled.get("latitude", np.nan)], dtype=float),
        "longitude": np.array([filled.get("longitude", np.nan)], dtype=float),
    }


def made(**given):
    return {name: values[0] for name, values in MODULE.features(row(**given)).items()}


@pytest.mark.parametrize(
    ("utc", "hour", "weekday"),
    [
        ("2021-01-15T06:00", 7, 4),
        ("2021-07-15T06:00", 8, 3),
        ("2021-03-28T00:59", 1, 6),
        ("2021-03-28T01:00", 3, 6),
        ("2021-10-31T00:59", 2, 6),
        ("2021-10-31T01:00", 2, 6),
        ("2021-12-31T23:30", 0, 5),
    ],
)
def test_hours_and_weekdays_are_those_of_paris(utc, hour, weekday):
    found = made(counter_id=KNOWN, date=utc)

    assert (found["hour"], found["weekday"]) == (hour, weekday)


def test_the_clock_of_paris_is_that_of_the_time_zone_database():
    zoneinfo = pytest.importorskip("zoneinfo")
    try:
        paris = zoneinfo.ZoneInfo("Europe/Paris")
    except zoneinfo.ZoneInfoNotFoundError:
        pytest.skip("there is no time zone database on this machine")
    from datetime import UTC, datetime, timedelta

    instants = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=7 * n) for n in range(9_000)]
    times = np.array([one.replace(tzinfo=None) for one in instants], dtype="datetime64[us]")
    _, hours = MODULE._in_paris(times)

    assert hours.tolist() == [one.astimezone(paris).hour for one in instants]


def test_easter_and_what_hangs_on_it_is_where_the_calendar_has_it():
    holidays = MODULE.public_holidays(2021)

    assert len(holidays) == 11
    assert {date(2021, 4, 5), date(2021, 5, 13), date(2021, 5, 24)} <= holidays
    assert date(2024, 4, 1) in MODULE.public_holidays(2024)


@pytest.mark.parametrize(
    ("utc", "expected"),
    [
        ("2021-07-14T10:00", {"holiday": 1, "day_kind": 2, "school_holiday": 1}),
        ("2021-05-14T10:00", {"holiday": 0, "bridge": 1, "day_kind": 0}),
        ("2020-12-31T10:00", {"bridge": 0, "school_holiday": 1}),
        ("2021-06-12T10:00", {"day_kind": 1, "school_holiday": 0}),
        ("2021-02-28T10:00", {"school_holiday": 1, "school_holiday_day": 16}),
        ("2021-03-01T10:00", {"school_holiday": 0, "school_holiday_day": 0}),
        ("2035-08-01T10:00", {"school_holiday": 1}),
        ("2035-02-20T10:00", {"school_holiday": 0}),
    ],
)
def test_what_kind_of_a_day_it_is_follows_from_the_date(utc, expected):
    found = made(counter_id=KNOWN, date=utc)

    assert {name: found[name] for name in expected} == expected


def test_a_counter_is_known_by_id_or_by_name_and_its_coordinates_are_looked_up():
    by_id, by_name = made(counter_id=KNOWN), made(counter_name=f" {NAME.upper()} ")

    assert by_id == by_name
    assert (by_id["latitude"], by_id["longitude"]) == (48.86377, 2.35096)


@pytest.mark.parametrize(
    ("given", "field", "problem"),
    [
        ({}, "counter_id", "is missing"),
        ({"counter_id": "x"}, "counter_id", "is not a known counter"),
        ({"counter_name": "x"}, "counter_name", "is not a known counter"),
        ({"counter_id": "x", "latitude": 48.8}, "longitude", "needs both coordinates"),
        ({"counter_name": "x", "longitude": 2.3}, "latitude", "needs both coordinates"),
        (
            {"counter_id": KNOWN, "counter_name": "28 boulevard Diderot E-O"},
            "counter_name",
            "is that of another counter",
        ),
        ({"counter_id": KNOWN, "date": "1950-01-01T00:00"}, "date", "is not between 2000 and"),
        ({"counter_id": KNOWN, "date": "9999-12-31T23:00"}, "date", "is not between 2000 and"),
    ],
)
def test_a_row_that_cannot_be_placed_is_refused_by_the_field_that_mends_it(given, field, problem):
    with pytest.raises(ValueError, match=problem) as refused:
        MODULE.features(row(**given))

    assert refused.value.args[0] == field
    assert refused.value.args[2] == 0


def test_the_row_that_is_refused_is_named_among_several():
    several = {
        name: np.concatenate([values, row(counter_id="x")[name]])
        for name, values in row(counter_id=KNOWN).items()
    }
    with pytest.raises(ValueError, match="is not a known counter") as refused:
        MODULE.features(several)

    assert refused.value.args[2] == 1


def test_a_place_without_a_counter_is_taken_for_a_mean_of_its_neighbours(fitted):
    forest = fitted["rf"]
    at = {"latitude": 48.86377, "longitude": 2.35096}

    def bikes(**given):
        return forest.predict(to_frame(MODULE.features(row(**given))))[0]

    beside = [bikes(counter_id=one) for one in (KNOWN, "100057445-104057445")]
    assert min(beside) * 0.8 < bikes(**at) < max(beside)
    assert bikes(counter_id="new", **at) == bikes(**at)
    far = bikes(latitude=48.85, longitude=2.29)
    assert np.isfinite(far)
    assert far != bikes(**at)


def test_the_last_thirty_days_of_the_file_are_held_out(prepared):
    times = prepared.dataset.columns["date"]

    assert len(prepared.holdout) == 40_320
    assert times[prepared.holdout].min() == np.datetime64("2021-07-11T00:00")
    assert times[prepared.train].max() == np.datetime64("2021-07-10T23:00")


def test_both_candidates_clearly_beat_the_profile_where_the_holidays_begin(prepared, fitted):
    held_out, truth = prepared.inputs.iloc[prepared.holdout], prepared.y[prepared.holdout]
    scores = {name: r2_score(truth, one.predict(held_out)) for name, one in fitted.items()}

    assert scores["4-week profile"] == pytest.approx(0.60, abs=0.01)
    assert scores["rf"] > 0.75
    assert scores["nn"] > 0.75


def test_the_profile_is_the_mean_of_the_counters_last_four_weeks(prepared, fitted):
    import pandas as pd

    train = prepared.train_inputs.assign(y=prepared.train_y)
    recent = train[train["day"] > train["day"].max() - 28]
    means = recent.groupby(["counter", "weekday", "hour"])["y"].mean()
    cells = pd.DataFrame(list(means.index), columns=["counter", "weekday", "hour"])
    X = cells.reindex(columns=list(usual_traffic().INPUTS), fill_value=0.0)

    np.testing.assert_allclose(fitted["4-week profile"].predict(X), means.to_numpy())


def test_the_same_seed_gives_the_same_bits(prepared, fitted):
    again = MODEL.candidates(42)["rf"].fit(prepared.train_inputs, prepared.train_y)
    held_out = prepared.inputs.iloc[prepared.holdout]

    assert again.predict(held_out).tobytes() == fitted["rf"].predict(held_out).tobytes()


def test_a_counter_that_was_broken_for_weeks_is_expected_as_it_was_before():
    rows = usual_weeks(weeks=9)
    broken = rows["day"] >= rows["day"].max() - 20
    y = np.where(broken, 0.0, 10.0 + rows["hour"])
    estimator = MODEL.candidates(1)["rf"].fit(to_frame(rows), y)

    later = {name: values[:24].copy() for name, values in rows.items()}
    later["day"] += 7 * 9
    np.testing.assert_allclose(estimator.predict(to_frame(later)), 10.0 + later["hour"], rtol=0.05)


def usual_weeks(weeks):
    """Return a counter's hours, as features has them, none of them a holiday."""
    hours = np.arange(weeks * 7 * 24, dtype=float)
    day = 18_001.0 + hours // 24
    weekday = (day + 3) % 7
    zero = np.zeros(len(hours))
    return {
        "counter": zero + 5,
        "latitude": zero + 48.85,
        "longitude": zero + 2.35,
        "day": day,
        "hour": hours % 24,
        "weekday": weekday,
        "day_kind": np.maximum(weekday - 4, 0.0),
        **dict.fromkeys(usual_traffic().INPUTS[7:], zero),
    }


def test_an_array_in_the_order_of_the_inputs_gives_the_same_as_a_frame(prepared, fitted):
    assert tuple(prepared.inputs.columns) == usual_traffic().INPUTS
    some = prepared.inputs.iloc[prepared.holdout[:500]]

    for estimator in fitted.values():
        np.testing.assert_array_equal(estimator.predict(some), estimator.predict(some.to_numpy()))


def test_a_class_is_the_third_of_its_counters_counts_in_the_training_period():
    hours = np.datetime64("2021-01-01T00", "us") + np.arange(1000) * np.timedelta64(1, "h")
    counts = np.arange(1000.0)
    table = {
        "counter_id": np.array(["a"] * 1000, dtype=object),
        "counter_name": np.array(["A"] * 1000, dtype=object),
        "date": np.array([str(hour) for hour in hours], dtype=object),
        "latitude": np.full(1000, 48.8, dtype=object),
        "longitude": np.full(1000, 2.3, dtype=object),
        "bike_count": np.array([str(count) for count in counts], dtype=object),
    }
    classes = CLASSES.rows(table)["traffic"]

    # 89 of the 1,000 rows are held out: the thirds are those of the counts up to 910.
    assert [int((classes == name).sum()) for name in ("low", "medium", "high")] == [304, 303, 393]
    assert classes[303] == "low"
    assert classes[304] == "medium"
    assert classes[607] == "high"


def test_the_class_forest_beats_the_most_frequent_class_by_far():
    import pandas as pd

    counts = pd.read_parquet(FOLDER / "data" / "counts.parquet")
    few = counts[counts["counter_id"].isin(counts["counter_id"].unique()[:4])]
    model = replace(CLASSES, dataset=lambda: {name: few[name].to_numpy() for name in few})
    prepared = prepare(model, FOLDER, load_dataset(model, FOLDER))
    forest = model.candidates(42)["rf_class"].fit(prepared.train_inputs, prepared.train_y)
    said = forest.predict(prepared.inputs.iloc[prepared.holdout])
    truth = prepared.y[prepared.holdout]
    classes, n_rows = np.unique(prepared.train_y.astype(str), return_counts=True)

    assert (said == truth).mean() > (truth == classes[n_rows.argmax()]).mean() + 0.15
    assert set(forest.classes_) == {"low", "medium", "high"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("rf", "reference", False), ("cyclist-traffic", "rf", "data/reference_data.parquet", 0)),
        (("nn", "current", False), ("cyclist-traffic", "nn", "data/current_data.parquet", 0)),
        (("rf", "reference", True), ("cyclist-traffic", "rf", "data/test_sample.csv", 1000)),
        (("nn", "current", True), ("cyclist-traffic", "nn", "data/current_data.parquet", 1000)),
        (
            ("rf_class", None, None),
            ("cyclist-traffic-class", "rf_class", "data/reference_data.parquet", 0),
        ),
    ],
)
def test_what_is_asked_of_train_is_what_is_trained(asked, expected):
    names = ("model_type", "data_source", "test_mode")
    plan = APP.training.plan(dict(zip(names, asked, strict=True)))

    assert (plan.model, *plan.candidates, plan.dataset, plan.rows) == expected
    assert plan.is_trial == bool(asked[2])


@pytest.fixture(scope="module")
def pulled(tmp_path_factory):
    """The files behind the pointers, as ``dvc pull`` would put them."""
    folder = tmp_path_factory.mktemp("pulled")
    for pointer in sorted((FOLDER / "data").glob("*.dvc")):
        (out,) = yaml.safe_load(pointer.read_text())["outs"]
        stored = FOLDER / "dvc_store" / "files" / "md5" / out["md5"][:2] / out["md5"][2:]
        content = stored.read_bytes()
        assert hashlib.md5(content, usedforsecurity=False).hexdigest() == out["md5"]
        assert len(content) == out["size"]
        shutil.copy(stored, folder / out["path"])
    return folder


def test_the_pointers_stand_for_all_counts_up_to_may_and_from_june(pulled):
    import pandas as pd

    counts = pd.read_parquet(FOLDER / "data" / "counts.parquet")
    parts = [pd.read_parquet(pulled / f"{name}_data.parquet") for name in ("reference", "current")]

    assert [len(part) for part in parts] == [361_083, 94_080]
    assert parts[0]["date"].max() < pd.Timestamp("2021-06-01") <= parts[1]["date"].min()
    order = ["counter_id", "date"]
    whole = pd.concat(parts).sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(whole, counts.sort_values(order, ignore_index=True))


def test_a_trial_on_the_sample_is_good_enough_for_an_empty_registry(pulled):
    model = replace(MODEL, dataset=str(pulled / "test_sample.csv"))
    prepared = prepare(model, FOLDER, load_dataset(model, FOLDER))
    truth = prepared.y[prepared.holdout]

    assert len(prepared.y) == 1_000
    for estimator in MODEL.candidates(42).values():
        estimator.fit(prepared.train_inputs, prepared.train_y)
        said = estimator.predict(prepared.inputs.iloc[prepared.holdout])
        assert r2_score(truth, said) > MODEL.gate.minimum


def test_the_sample_can_be_read_for_the_classes_too(pulled):
    model = replace(CLASSES, dataset=str(pulled / "test_sample.csv"))
    prepared = prepare(model, FOLDER, load_dataset(model, FOLDER))
    forest = CLASSES.candidates(42)["rf_class"].fit(prepared.train_inputs, prepared.train_y)
    said = forest.predict(prepared.inputs.iloc[prepared.holdout])

    assert (said == prepared.y[prepared.holdout]).mean() > CLASSES.gate.minimum
