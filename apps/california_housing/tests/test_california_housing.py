"""What must stay true of this app, whatever it is trained on."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from greenroom.app_loading import load_app
from greenroom.payloads.request import RequestType
from greenroom.schema import take
from greenroom.settings_sources import load_settings
from greenroom.training.dataset import load_dataset
from greenroom.training.fitting import prepare, read_features

FOLDER = Path(__file__).resolve().parents[1]
DOCUMENT = FOLDER.parents[2] / "shared" / "systems" / "california_housing.md"
APP = load_app(FOLDER)
MODEL = APP.model()
FEATURES = read_features(MODEL, FOLDER).features


@pytest.fixture(scope="module")
def prepared():
    return prepare(MODEL, FOLDER, load_dataset(MODEL, FOLDER))


@pytest.fixture(scope="module")
def boosting(prepared):
    """The stack, of a tenth of the trees and a third of the rows."""
    estimator = MODEL.candidates(42)["boosting with neighbours"]
    estimator.set_params(final_estimator__max_iter=80, neighbours__forest__n_estimators=5)
    return estimator.fit(prepared.train_inputs[::3], prepared.train_y[::3])


def _error(estimator, prepared) -> float:
    found = estimator.predict(prepared.inputs.iloc[prepared.holdout])
    return float(np.sqrt(np.mean((found - prepared.y[prepared.holdout]) ** 2)))


def test_the_file_is_the_one_that_the_figures_are_from():
    digest = hashlib.sha256((FOLDER / "data" / "housing.csv").read_bytes()).hexdigest()

    assert digest in (FOLDER / "data" / "README.md").read_text(encoding="utf-8")


def test_every_row_of_the_file_fits_the_columns(prepared):
    assert prepared.dataset.n_rows == 20_640
    assert np.isnan(prepared.dataset.columns["total_bedrooms"]).sum() == 207
    assert prepared.y.max() == 500_001


def test_the_gates_minimum_is_beyond_a_line_and_within_reach_of_a_few_trees(prepared, boosting):
    line = MODEL.candidates(42)["linear regression"]
    line.fit(prepared.train_inputs, prepared.train_y)

    assert _error(line, prepared) > MODEL.gate.minimum
    assert _error(boosting, prepared) < MODEL.gate.minimum


def test_the_forest_of_the_neighbourhood_knows_nothing_but_the_place(prepared, boosting):
    (forest,) = boosting.estimators_
    elsewhere = prepared.inputs.iloc[:50].copy()
    others = [name for name in elsewhere if not name.startswith(("north", "east"))]
    elsewhere[others] = elsewhere[others].to_numpy()[::-1]

    here = forest.predict(prepared.inputs.iloc[:50])
    assert forest.predict(elsewhere).tolist() == here.tolist()
    assert forest.named_steps["forest"].n_features_in_ == 12


def test_boosted_trees_are_fitted_on_answers_for_rows_that_the_forest_did_not_see(prepared):
    """A column that says nothing must not come to say something through the stack."""
    rng = np.random.default_rng(1)
    estimator = MODEL.candidates(42)["boosting with neighbours"]
    estimator.set_params(final_estimator__max_iter=20, neighbours__forest__n_estimators=5)
    inputs, noise = prepared.train_inputs[:2000], rng.normal(size=2000)
    estimator.fit(inputs[:1000], noise[:1000])

    # With leaked answers it would trust the forest, and err by 6 % more than the noise itself.
    error = np.sqrt(np.mean((estimator.predict(inputs[1000:]) - noise[1000:]) ** 2))
    assert error < 1.03 * np.sqrt(np.mean(noise[1000:] ** 2))


def test_the_same_seed_gives_the_same_bits(prepared, boosting):
    again = MODEL.candidates(42)["boosting with neighbours"]
    again.set_params(final_estimator__max_iter=80, neighbours__forest__n_estimators=5)
    again.fit(prepared.train_inputs[::3], prepared.train_y[::3])
    held_out = prepared.inputs.iloc[prepared.holdout]

    assert again.predict(held_out).tobytes() == boosting.predict(held_out).tobytes()


def test_features_of_a_row_do_not_depend_on_the_rows_beside_it(prepared):
    rows = prepared.dataset.columns
    together = FEATURES(take(rows, np.arange(20)))

    for place in range(20):
        alone = FEATURES(take(rows, np.array([place])))
        for name, values in together.items():
            np.testing.assert_array_equal(alone[name], values[place : place + 1], err_msg=name)


def test_distances_are_in_miles_and_turned_axes_keep_them():
    one = take(load_dataset(MODEL, FOLDER).columns, np.array([0, 0]))
    one |= {"latitude": np.array([37.77, 34.05]), "longitude": np.array([-122.42, -118.24])}
    made = FEATURES(one)

    assert made["to_san_francisco"][0] == pytest.approx(0, abs=1e-9)
    assert made["to_los_angeles"][0] == pytest.approx(347, rel=0.03)  # by air
    for degrees in (15, 45, 75):
        north, east = (
            np.diff(made[f"north_turned_{degrees}"]),
            np.diff(made[f"east_turned_{degrees}"]),
        )
        assert np.hypot(north, east) == pytest.approx(made["to_los_angeles"][0])


def test_a_missing_count_of_bedrooms_is_answered(prepared, boosting):
    missing = np.flatnonzero(np.isnan(prepared.dataset.columns["total_bedrooms"]))

    assert np.isfinite(boosting.predict(prepared.inputs.iloc[missing])).all()


def test_every_candidate_says_what_it_is():
    told = {name: MODEL.params(estimator) for name, estimator in MODEL.candidates(1).items()}

    assert told["linear regression"] == {"estimator": "LinearRegression"}
    assert told["decision tree"]["min_samples_leaf"] == 15
    assert told["boosting"]["max_iter"] == told["boosting with neighbours"]["max_iter"] == 800


def test_the_documented_request_is_taken_as_it_stands():
    body = (FOLDER / "tests" / "sample_input.json").read_bytes()

    assert RequestType.compile(MODEL.schema).decode(body).n_rows == 1


def test_the_documented_file_sets_what_it_says():
    settings = load_settings(FOLDER, environment={}, documented_file=APP.settings_file)
    deployed = settings.models[MODEL.name]

    assert (settings.mlflow_enabled, settings.tracking_uri) == (True, "http://localhost:5000")
    assert (deployed.name, deployed.serve) == (MODEL.name, "Production")
    assert deployed.fallback_path == str(FOLDER / "models" / "model.pkl")
    assert settings.poll_interval_s == 3600
    assert settings.mlflow_log_experiment == "california_housing_api"
    assert (settings.mlflow_log, settings.mlflow_batch_size) == (True, 10)
    assert settings.track_drift is True
    assert (settings.alert_response_time_ms, settings.alert_error_rate_percent) == (1000, 5.0)
    assert settings.port == 5001


@pytest.mark.parametrize(
    ("variable", "text", "read"),
    [
        ("MLFLOW_TRACKING_URI", "http://other:5000", lambda one: one.tracking_uri),
        ("MLFLOW_ENABLED", False, lambda one: one.mlflow_enabled),
        ("MLFLOW_MODEL_NAME", "another", lambda one: one.models[MODEL.name].name),
        ("MLFLOW_MODEL_STAGE", "Staging", lambda one: one.models[MODEL.name].serve),
        ("MLFLOW_BATCH_SIZE", 25, lambda one: one.mlflow_batch_size),
        ("MODEL_PATH", "/srv/m.pkl", lambda one: one.models[MODEL.name].fallback_path),
        ("PORT", 5002, lambda one: one.port),
        ("LOG_LEVEL", "DEBUG", lambda one: one.log_level),
    ],
)
def test_each_documented_variable_sets_what_it_says(variable, text, read):
    settings = load_settings(
        FOLDER,
        environment={variable: str(text).lower() if text is False else str(text)},
        documented=APP.environment,
        documented_file=APP.settings_file,
    )

    assert read(settings) == text


@pytest.mark.skipif(not DOCUMENT.exists(), reason="the document is not on this machine")
def test_the_documented_file_stands_there_word_for_word():
    document = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n# config/mlflow_config.yaml\n(.*?)```", document, re.DOTALL)
    shipped = yaml.safe_load((FOLDER / "config" / "mlflow_config.yaml").read_text())

    assert shipped == yaml.safe_load(blocks[-1])
