"""What must stay true of the four models, whatever they are trained on."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from greenroom.app_loading import load_app, package_name
from greenroom.data.frames import to_frame
from greenroom.errors import DataError
from greenroom.training.dataset import load_dataset
from greenroom.training.fitting import fit_candidate, prepare, read_features

FOLDER = Path(__file__).resolve().parents[1]
REAL_FILE = FOLDER.parents[2] / "shared" / "data" / "transactions" / "personal_transactions.csv"
APP = load_app(FOLDER)
CATEGORY, AMOUNT, ANOMALY, CASHFLOW = APP.models
real = pytest.mark.skipif(not REAL_FILE.exists(), reason="the real file is not on this machine")


def part(name):
    """Return one of the app's own modules."""
    return importlib.import_module(f"{package_name(FOLDER)}.{name}")


HOUSEHOLD = part("generated").generated(42)


@pytest.fixture(scope="module")
def prepared():
    """Return ``model -> prepared``, of generated data, even where a file is in ``data/``."""
    found = {}

    def of(model):
        if model.name not in found:
            absent = replace(model, dataset="data/none.csv", generated=lambda _: HOUSEHOLD)
            dataset = load_dataset(absent, FOLDER, generated=True)
            found[model.name] = prepare(absent, FOLDER, dataset)
        return found[model.name]

    return of


def metrics(prepared, candidate):
    return fit_candidate(prepared, candidate, reference_rows=50).metrics


def compared(prepared, candidate):
    """Return the hold-out figures of a candidate and of the model's first baseline."""
    baselines = replace(prepared.model, candidates=prepared.model.baselines)
    first = next(iter(baselines.candidates(42)))
    return metrics(prepared, candidate), metrics(replace(prepared, model=baselines), first)


def export(tmp_path, *rows):
    header = "Date,Description,Amount,Transaction Type,Category,Account Name"
    path = tmp_path / "transactions.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


# The data


def test_the_made_up_household_is_the_same_for_a_seed_and_another_for_another():
    generated = part("generated").generated

    assert generated(42) == HOUSEHOLD
    assert generated(43)["Amount"] != HOUSEHOLD["Amount"]


def test_the_household_has_salaries_rent_subscriptions_and_seasons():
    table = {name: np.array(values, dtype=object) for name, values in HOUSEHOLD.items()}
    day, category = table["Date"].astype("datetime64[D]"), table["Category"]
    month = day.astype("datetime64[M]").astype(int) % 12 + 1
    amount = table["Amount"].astype(float)

    assert 2_500 < len(day) < 5_000
    assert day[-1] - day[0] > np.timedelta64(4 * 365 - 10, "D")
    assert (category == "Mortgage & Rent").sum() == 48
    assert (category == "Television").sum() == 48
    assert (category == "Paycheck").sum() == 48 + 105
    gas = table["Description"] == "Northern Gas Company"
    assert amount[gas & (month == 1)].mean() > 3 * amount[gas & (month == 7)].mean()
    shopping = category == "Shopping"
    assert (shopping & (month == 12)).sum() > 1.5 * (shopping & (month == 2)).sum()
    earned = amount[category == "Paycheck"].sum()
    spent = amount[(table["Transaction Type"] == "debit") & (category != "Credit Card Payment")]
    assert 0.85 < spent.sum() / earned < 1.15, "a household that neither drowns nor swims"


@pytest.mark.parametrize("written", ["2024-01-05", "01/05/2024", "1/5/2024", "01-05-2024"])
def test_dates_are_read_year_first_or_month_first(tmp_path, written):
    rows = [
        f"{written},Cafe,4.50,debit,Coffee Shops,Card",
        '2024-01-06,Shop,"1,200",credit,Shopping,Card',
    ]
    dataset = load_dataset(replace(CATEGORY, dataset=export(tmp_path, *rows)), FOLDER)

    assert dataset.columns["Date"].astype("datetime64[D]").astype(str)[0] == "2024-01-05"
    assert dataset.columns["Amount"].tolist() == [4.5, 1200.0]
    assert dataset.target.tolist() == ["Coffee Shops", "Shopping"]
    assert not dataset.generated


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("30.02.2024,Cafe,4.50,debit,Shopping,Card", "Date"),
        ("2024-02-30,Cafe,4.50,debit,Shopping,Card", "Date"),
        ("2024-01-05,Cafe,-4.50,debit,Shopping,Card", "Amount"),
        ("2024-01-05,Cafe,inf,debit,Shopping,Card", "Amount"),
        ("2024-01-05,Cafe,much,debit,Shopping,Card", "Amount"),
        ("2024-01-05,Cafe,4.50,cash,Shopping,Card", "Transaction Type"),
    ],
)
def test_what_is_wrong_in_an_export_is_named_by_column_and_row(tmp_path, row, column):
    good = "2024-01-05,Cafe,4.50,debit,Shopping,Card"
    with pytest.raises(DataError, match=rf"column '{column}': .*\(rows 2\)") as refused:
        load_dataset(replace(CATEGORY, dataset=export(tmp_path, good, row)), FOLDER)
    assert "much" not in refused.value.message


def test_an_export_without_a_column_is_refused_by_its_name(tmp_path):
    path = tmp_path / "transactions.csv"
    path.write_text("Date,Amount\n2024-01-05,3\n", encoding="utf-8")

    with pytest.raises(DataError, match="no column 'Transaction Type'"):
        load_dataset(replace(CATEGORY, dataset=str(path)), FOLDER)


def test_transfers_between_own_accounts_are_no_cashflow_and_have_no_amount(prepared):
    transfer = part("generated").TRANSFER

    assert transfer in set(prepared(CATEGORY).y)
    assert transfer not in set(prepared(AMOUNT).dataset.columns["Category"])
    rows = [
        "2024-01-05,Card,400,debit,Credit Card Payment,Checking",
        "2024-01-05,Cafe,4,debit,Coffee Shops,Card",
        "2024-01-07,Pay,100,credit,Paycheck,Checking",
    ]
    columns = zip(*(row.split(",") for row in rows), strict=True)
    names = ("Date", "Description", "Amount", "Transaction Type", "Category", "Account Name")
    table = {n: np.array(c, dtype=object) for n, c in zip(names, columns, strict=True)}
    found = part("transactions").recent_cashflow(table)
    assert found["amount"].tolist() == [-4.0, 0.0, 100.0]


# Category


def test_categories_are_told_far_better_than_by_the_most_frequent_one(prepared):
    ours, majority = compared(prepared(CATEGORY), "characters")

    assert ours["accuracy"] > 0.9
    assert majority["accuracy"] < 0.3


def test_the_documents_request_is_groceries_and_numbers_of_branches_do_not_matter(prepared):
    estimator = fit_candidate(prepared(CATEGORY), "characters", reference_rows=50).estimator
    features = read_features(CATEGORY, FOLDER).features
    texts = ["Grocery shopping", "GREEN VALLEY GROCERY #4711", "station coffee #3"]
    rows = {
        "Description": np.array(texts, dtype=object),
        "Amount": np.array([50.0, 71.3, 4.2]),
        "Date": np.array(["2024-01-15"] * 3, dtype="datetime64[us]"),
    }

    assert estimator.predict(to_frame(features(rows))).tolist() == [
        "Groceries",
        "Groceries",
        "Coffee Shops",
    ]


@real
def test_on_the_real_file_categories_of_later_months_are_told_by_those_before():
    model = replace(CATEGORY, dataset=str(REAL_FILE))
    ready = prepare(model, FOLDER, load_dataset(model, FOLDER))
    dates = ready.dataset.columns["Date"]

    ours, majority = compared(ready, "characters")

    assert ready.dataset.n_rows == 806
    assert dates[ready.train].max() < dates[ready.holdout].min()
    assert ours["accuracy"] > 0.93
    assert majority["accuracy"] < 0.25


@real
@pytest.mark.parametrize("model", [AMOUNT, ANOMALY, CASHFLOW], ids=lambda model: model.name)
def test_every_row_of_the_real_file_fits_the_other_models_too(model):
    dataset = load_dataset(replace(model, dataset=str(REAL_FILE)), FOLDER)

    assert dataset.n_rows > 600
    assert not dataset.generated


# Amount


def test_a_description_says_more_of_an_amount_than_its_category_alone(prepared):
    ours, baseline = compared(prepared(AMOUNT), "characters")

    assert ours["mean_absolute_error"] < 0.9 * baseline["mean_absolute_error"]
    assert ours["r2_score"] > 0.9


# Anomaly


def test_planted_anomalies_are_found_better_than_by_z_scores(prepared):
    ours, baseline = compared(prepared(ANOMALY), "surprise")

    assert ours["average_precision"] > baseline["average_precision"] + 0.05
    assert ours["f1_score"] > baseline["f1_score"]
    assert ours["anomaly_rate"] < 0.08


def test_what_was_planted_is_marked_and_is_not_fitted_on(prepared):
    ready = prepared(ANOMALY)
    surprising = part("unusual").SurprisingTransactions

    fitted = surprising().fit(ready.train_inputs, ready.train_y)
    without = surprising().fit(ready.train_inputs[ready.train_y == 0])

    assert 0.02 < ready.y.mean() < 0.04
    assert fitted.threshold_ == without.threshold_


@pytest.mark.parametrize(
    ("amount", "category", "day", "reason"),
    [
        (10_000.0, "Shopping", "2024-01-15", r"amount is \d+ times the usual for Shopping"),
        (300.0, "Paycheck", "2024-01-12", r"amount is 0\.2\d* of the usual for Paycheck"),
        (1_500.0, "Mortgage & Rent", "2024-01-17", "day 17 of the month is unusual for Mortgage"),
        (90_000.0, "Gifts & Donations", "2024-01-15", "no transaction of Gifts & Donations"),
    ],
)
def test_an_anomaly_is_called_one_and_says_why(prepared, amount, category, day, reason):
    ready = prepared(ANOMALY)
    estimator = ANOMALY.candidates(42)["surprise"]
    estimator.fit(ready.train_inputs, ready.train_y)
    rows = {
        "Amount": np.array([amount]),
        "Category": np.array([category], dtype=object),
        "Date": np.array([day], dtype="datetime64[us]"),
    }
    entering = to_frame(read_features(ANOMALY, FOLDER).features(rows))

    found = ANOMALY.task.predict(estimator, entering).outputs

    assert found["prediction"].tolist() == [True]
    assert any(re.search(reason, one) for one in found["reasons"][0]), found["reasons"][0]


def test_what_is_usual_is_no_anomaly_and_has_no_reasons(prepared):
    ready = prepared(ANOMALY)
    estimator = ANOMALY.candidates(42)["surprise"].fit(ready.train_inputs, ready.train_y)
    rows = {
        "Amount": np.array([52.0, 1_584.5]),
        "Category": np.array(["Groceries", "Mortgage & Rent"], dtype=object),
        "Date": np.array(["2024-01-13", "2024-01-01"], dtype="datetime64[us]"),
    }
    entering = to_frame(read_features(ANOMALY, FOLDER).features(rows))

    found = ANOMALY.task.predict(estimator, entering).outputs

    assert found["prediction"].tolist() == [False, False]
    assert found["reasons"].tolist() == [[], []]


# Cashflow


def test_the_forecast_is_better_than_naive_ones_and_its_intervals_hold_what_they_state(prepared):
    ready = prepared(CASHFLOW)
    baselines = replace(ready, model=replace(CASHFLOW, candidates=CASHFLOW.baselines))

    ours = metrics(ready, "boosting")
    naive = [metrics(baselines, name) for name in CASHFLOW.baselines(42)]

    for baseline in naive:
        assert ours["mean_absolute_error"] < 0.6 * baseline["mean_absolute_error"]
        assert ours["interval_width"] < 0.5 * baseline["interval_width"]
    assert naive[0]["mean_absolute_scaled_error"] == pytest.approx(1.0, abs=0.15)
    assert 0.85 < ours["interval_coverage"] < 0.97


def test_what_is_known_of_a_day_does_not_depend_on_what_comes_after():
    transactions, cashflow = part("transactions"), part("features.cashflow")
    table = {name: np.array(values, dtype=object) for name, values in HOUSEHOLD.items()}
    rows = transactions.for_cashflow(table)
    cut = np.datetime64("2023-07-01")
    later = table["Date"].astype("datetime64[D]") >= cut
    changed = table | {"Amount": np.where(later, 9_999.0, table["Amount"])}
    changed_rows = transactions.for_cashflow(changed)
    before = rows["date"] < cut

    assert rows["horizon"].min() == 1
    assert 300 < rows["horizon"].max() <= cashflow.MAX_HORIZON_DAYS
    for name, values in rows.items():
        np.testing.assert_array_equal(values[before], changed_rows[name][before])


@pytest.fixture(scope="module")
def expand():
    return part("features.cashflow").expand


CONTEXT = {
    "date": np.arange("2024-01-01", "2024-12-31", dtype="datetime64[D]"),
    "amount": np.tile([100.0, *[-10.0] * 13], 27)[:365],
}


def test_a_forecast_begins_after_the_accounts_own_history_and_has_thirty_days(expand):
    rows = expand({"horizon_days": None, "history": None}, CONTEXT)

    assert rows["date"].astype(str)[[0, -1]].tolist() == ["2024-12-31", "2025-01-29"]
    assert rows["horizon"].tolist() == list(range(1, 31))
    fortnightly = (rows["date"] - CONTEXT["date"][0]).astype(int) % 14 == 0
    assert rows["fortnight"][fortnightly].tolist() == [100.0] * fortnightly.sum()


def test_a_history_that_is_sent_takes_the_place_of_the_accounts(expand):
    sent = {
        "date": np.array(["2020-02-03", "2020-02-01", "2020-02-03"], dtype="datetime64[us]"),
        "amount": np.array([-5.0, 100.0, -7.0]),
    }
    rows = expand({"horizon_days": 2, "history": sent}, CONTEXT)

    assert rows["date"].astype(str).tolist() == ["2020-02-04", "2020-02-05"]
    assert rows["size"].tolist() == [112 / 3] * 2
    assert rows["level"].tolist() == [88 / 3] * 2
    assert np.isnan(rows["month_1"]).all()


def test_a_history_of_centuries_is_refused_by_its_name(expand):
    sent = {
        "date": np.array(["1700-01-01", "2024-01-01"], dtype="datetime64[us]"),
        "amount": np.zeros(2),
    }
    with pytest.raises(ValueError, match="history") as refused:
        expand({"horizon_days": 2, "history": sent}, CONTEXT)
    assert refused.value.args[0] == "history"


def test_the_calendar_knows_the_last_working_day_and_leap_years():
    features = part("features.cashflow").features
    days = np.array(["2024-02-29", "2024-03-29", "2024-03-31", "2024-06-28"], "datetime64[us]")
    columns = {column.name: np.ones(4) for column in CASHFLOW.columns} | {"date": days}

    made = features(columns)

    assert made["days_left"].tolist() == [0.0, 2.0, 0.0, 2.0]
    assert made["working_days_left"].tolist() == [0.0, 0.0, -2.0, 0.0]
    assert made["day_of_week"].tolist() == [3.0, 4.0, 6.0, 4.0]
    assert made["month"].tolist() == [2.0, 3.0, 3.0, 6.0]
