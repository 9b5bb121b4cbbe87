"""What must stay true of this app, whatever it is trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from greenroom.app_loading import load_app
from greenroom.data.frames import to_frame
from greenroom.evaluation.evidence import HoldOut
from greenroom.evaluation.metrics import evaluate
from greenroom.monitoring.estimation import estimate_performance
from greenroom.monitoring.performance import observe_performance
from greenroom.schema import take
from greenroom.training.dataset import load_dataset
from greenroom.training.fitting import prepare, read_features

FOLDER = Path(__file__).resolve().parents[1]
REAL_FILE = FOLDER.parents[2] / "shared" / "data" / "credit_risk" / "cs-training.csv"
MODEL = load_app(FOLDER).model()
FEATURES = read_features(MODEL, FOLDER).features
LATE = (
    "NumberOfTime30-59DaysPastDueNotWorse",
    "NumberOfTime60-89DaysPastDueNotWorse",
    "NumberOfTimes90DaysLate",
)
UTILIZATION = "RevolvingUtilizationOfUnsecuredLines"


@pytest.fixture(scope="module")
def prepared():
    # Another path, so that these tests do the same where the real file is in data/.
    model = replace(MODEL, dataset="data/no-such-file.csv")
    return prepare(model, FOLDER, load_dataset(model, FOLDER, generated=True))


@pytest.fixture(scope="module")
def boosting(prepared):
    estimator = MODEL.candidates(42)["boosting, large steps"]
    return estimator.fit(prepared.train_inputs, prepared.train_y)


@pytest.fixture
def borrowers(prepared):
    """Rows without codes, on which a higher value has a meaning."""
    columns = prepared.dataset.columns
    plain = (columns[LATE[0]] < 90) & (columns[UTILIZATION] > 0) & (columns[UTILIZATION] < 0.99)
    return take(columns, np.flatnonzero(plain)[:2000])


def _risk(estimator, rows):
    return estimator.predict_proba(to_frame(FEATURES(rows)))[:, 1]


@pytest.mark.parametrize("column", LATE)
def test_one_more_late_payment_never_lowers_the_risk(boosting, borrowers, column):
    more = borrowers | {column: borrowers[column] + 1}

    assert (_risk(boosting, more) >= _risk(boosting, borrowers)).all()
    assert _risk(boosting, more).mean() > _risk(boosting, borrowers).mean()


def test_using_more_of_the_limit_never_lowers_the_risk(boosting, borrowers):
    more = borrowers | {UTILIZATION: borrowers[UTILIZATION] * 1.5 + 0.01}

    assert (_risk(boosting, more) >= _risk(boosting, borrowers)).all()


def test_a_higher_age_never_raises_the_risk(boosting, borrowers):
    older = borrowers | {"age": borrowers["age"] + 10}

    assert (_risk(boosting, older) <= _risk(boosting, borrowers)).all()


def test_every_boosted_candidate_is_constrained(prepared):
    for name, estimator in MODEL.candidates(1).items():
        if name.startswith("boosting"):
            constraints = estimator.monotonic_cst
            assert set(constraints) <= set(prepared.inputs.columns)
            assert sum(constraint != 0 for constraint in constraints.values()) == 12


def test_the_same_seed_gives_the_same_bits(prepared, boosting):
    again = MODEL.candidates(42)["boosting, large steps"]
    again.fit(prepared.train_inputs, prepared.train_y)
    held_out = prepared.inputs.iloc[prepared.holdout]

    assert again.predict_proba(held_out).tobytes() == boosting.predict_proba(held_out).tobytes()


def test_the_codes_for_late_payments_become_missing_and_a_flag(borrowers):
    two = take(borrowers, np.array([0, 0]))
    for column in LATE:
        two[column] = np.array([98.0, 1.0])
    made = FEATURES(two)

    assert made["late_coded"].tolist() == [1.0, 0.0]
    assert made["late"][1] == 3
    for name in ("late", "late_30", "late_60", "late_90", "late_weighted", "late_kinds"):
        assert np.isnan(made[name][0]), name


def test_the_codes_for_utilization_are_told_apart(borrowers):
    four = take(borrowers, np.zeros(4, dtype=int))
    four[UTILIZATION] = np.array([0.0, 0.9999999, 2500.0, 0.4])
    made = FEATURES(four)

    assert made["balance_code"].tolist() == [1.0, 2.0, 3.0, 0.0]
    assert np.isnan(made["utilization"]).tolist() == [True, True, True, False]


def test_without_an_income_the_debt_ratio_is_the_debt(borrowers):
    two = take(borrowers, np.array([0, 0]))
    two |= {"MonthlyIncome": np.array([np.nan, 4000.0]), "DebtRatio": np.array([900.0, 0.25])}
    made = FEATURES(two)

    assert made["debt"].tolist() == [900.0, 1000.0]
    assert np.isnan(made["debt_ratio"]).tolist() == [True, False]


def test_the_generated_data_resemble_the_file(prepared):
    columns, y = prepared.dataset.columns, prepared.y

    assert prepared.dataset.generated
    assert 0.05 < y.mean() < 0.085
    assert 0.15 < np.isnan(columns["MonthlyIncome"]).mean() < 0.25
    assert set(columns[LATE[2]][columns[LATE[2]] > 90]) <= {96.0, 98.0}


def test_the_generated_data_clear_the_gate(prepared, boosting):
    from sklearn.metrics import roc_auc_score

    held_out = prepared.inputs.iloc[prepared.holdout]
    score = roc_auc_score(prepared.y[prepared.holdout], boosting.predict_proba(held_out)[:, 1])

    assert score >= MODEL.gate.minimum


@pytest.fixture(scope="module")
def held_out_and_later(prepared, boosting):
    """Half of the rows that were held out, as the hold-out; the others, as those of a window."""
    rows = prepared.holdout
    answered = MODEL.task.predict(boosting, prepared.inputs.iloc[rows])
    all_rows = HoldOut(prepared.keys[rows], prepared.y[rows], answered)
    return all_rows.take(np.arange(0, len(rows), 2)), all_rows.take(np.arange(1, len(rows), 2))


def _watched(held_out, window):
    task = MODEL.task
    trained = evaluate(task.metrics, held_out.y, held_out.predictions)
    observed = observe_performance(task, window.y, window.predictions, holdout=held_out)
    return observed, estimate_performance(held_out, window.predictions, trained)


def test_rows_that_nothing_has_happened_to_are_answered_as_in_training(held_out_and_later):
    observed, estimate = _watched(*held_out_and_later)

    assert (observed.degraded, observed.concept_drifted, estimate.degraded) == (False, False, False)


def test_flipped_labels_are_found_by_performance_and_not_by_the_answers(held_out_and_later):
    held_out, window = held_out_and_later
    flipped = np.random.default_rng(0).random(len(window)) < 0.15
    now = replace(window, y=np.where(flipped, 1 - window.y, window.y))
    observed, estimate = _watched(held_out, now)

    assert observed.degraded
    assert observed.concept_drifted
    assert any("class 1 is more frequent" in reason for reason in observed.reasons)
    assert not estimate.degraded, "the answers are the same, and so are the rows"


def test_riskier_borrowers_are_answered_worse_without_another_concept(held_out_and_later):
    held_out, window = held_out_and_later
    random = np.random.default_rng(0)
    risk = window.predictions.outputs["probability"]
    riskier = window.take(random.choice(len(window), 500, replace=False, p=risk / risk.sum()))
    observed, estimate = _watched(held_out, riskier)

    assert observed.degraded
    assert observed.concept_drifted is False
    true = evaluate(MODEL.task.metrics, riskier.y, riskier.predictions, intervals=False)
    expected = {one.name: one.value for one in estimate.metrics}
    assert estimate.degraded
    assert expected["accuracy"] == pytest.approx(true["accuracy"], abs=0.04)
    assert expected["brier_score_loss"] == pytest.approx(true["brier_score_loss"], abs=0.03)


@pytest.mark.skipif(not REAL_FILE.exists(), reason="the real data file is not on this machine")
def test_every_row_of_the_real_file_fits_the_columns():
    dataset = load_dataset(replace(MODEL, dataset=str(REAL_FILE)), FOLDER)

    assert dataset.n_rows == 150_000
    assert dataset.target.sum() == 10_026
    assert np.isnan(dataset.columns["MonthlyIncome"]).sum() == 29_731
