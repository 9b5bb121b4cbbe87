"""Performance: a window of the log judged by its feedback, and estimated by its probabilities."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pytest
from worlds import binary, holdout, numbers, several

from greenroom.errors import LogError, RegistryError
from greenroom.evaluation.evidence import write_holdout
from greenroom.evaluation.metrics import evaluate
from greenroom.evaluation.predictions import Predictions
from greenroom.log.log_reading import PredictionLogReader, Window
from greenroom.log.log_records import Answers, Observation, Observations, Request, Version
from greenroom.log.log_tables import LogTables
from greenroom.log.shipping import ship_all
from greenroom.monitoring.comparison import Bounds
from greenroom.monitoring.performance import judge_performance, observe_performance
from greenroom.prediction_id import PredictionIds
from greenroom.schema import Column, Schema
from greenroom.split import Split
from greenroom.task import TASKS
from greenroom.tracing.lineage import Lineage
from greenroom.tracing.outcomes import join_feedback
from greenroom.versions.manifest import HOLDOUT_FILE, write_manifest
from greenroom.versions.model_store import ModelStore, Provenance
from servers import manifest
from test_shipping import NOON_US, spooled

HOUR_US = 3_600_000_000
NOON = dt.datetime.fromtimestamp(NOON_US / 1e6, dt.UTC)
DAY = Window(NOON - dt.timedelta(hours=1), NOON + dt.timedelta(hours=23))
SCHEMA = Schema((Column("x"),))


class Away:
    """A registry that is not there."""

    def version(self, name, version):
        raise RegistryError("the registry is away")


def stored(tmp_path, held, **changes):
    """Put a version into a model store; return the lineage and the digest."""
    store = ModelStore(tmp_path / "store")
    with store.staging() as folder:
        told = evaluate(
            TASKS[changes.get("task", "classification")].metrics, held.y, held.predictions
        )
        described = {"classes": held.predictions.classes, "metrics": told, **changes}
        write_manifest(folder, manifest(SCHEMA, **described))
        write_holdout(folder / HOLDOUT_FILE, held)
        digest = store.add(folder, Provenance(uri="r", name="m", version="3"))
    return Lineage(Away(), store), digest


def logged(folder, digest, predictions, truth, *, task="classification", at_us=NOON_US, known=None):
    """Answer, and report what was the case for the first ``known`` rows; return the spool."""
    n_rows = len(predictions)
    ids = PredictionIds(clock_ns=lambda: at_us * 1_000).take(n_rows)
    outputs = {name: values.tolist() for name, values in predictions.outputs.items()}
    described = Version(
        number=1,
        model="m",
        name="m",
        version="3",
        digest=digest,
        task=task,
        columns=SCHEMA.columns,
        outputs=tuple(outputs),
        classes=predictions.classes,
        process="p",
    )
    body = json.dumps([{"x": 1.0}] * n_rows).encode()
    asked = Request(ids, 0, False, 1_500, "me", "/predict", "r1", "body", body)
    answered = Answers(1, 7, n_rows, at_us, [asked], list(outputs.values()))
    told = [
        Observation(one, actual)
        for one, actual in zip(ids[:known], truth[:known].tolist(), strict=True)
    ]
    later = at_us + 48 * HOUR_US
    return spooled(folder, (described, answered), (None, Observations(later, "me", told)))


def judged(tmp_path, world, held, *, task="classification", known=None, **options):
    lineage, digest = stored(tmp_path, held, task=task)
    truth, predictions = world
    spool = logged(tmp_path, digest, predictions, truth, task=task, known=known)
    reader = PredictionLogReader(LogTables(str(tmp_path / "log")), spool)
    return judge_performance(reader, lineage, "m", "3", digest, DAY, **options)


def values(found):
    return {one.name: one.value for one in found.metrics}


def test_a_window_is_judged_by_its_labels_and_estimated_on_all_rows(tmp_path):
    held, world = holdout(binary(1_200, 1)), binary(400, 2)
    observed, estimate, notes = judged(tmp_path, world, held, known=300)
    truth, predictions = world
    first = np.arange(300)
    expected = evaluate(
        TASKS["classification"].metrics, truth[first], predictions.take(first), intervals=False
    )
    assert values(observed) == pytest.approx(expected)
    assert all(one.low <= one.value <= one.high for one in observed.metrics)
    trained = evaluate(TASKS["classification"].metrics, held.y, held.predictions)
    assert {one.name: one.training for one in observed.metrics} == pytest.approx(
        {name: trained[name] for name in expected}
    )
    assert (observed.n_scored, observed.estimated, observed.concept_drifted) == (300, False, False)
    assert (estimate.n_scored, estimate.estimated, estimate.concept_drifted) == (400, True, None)
    assert not observed.degraded
    assert notes == ()
    (curve,) = observed.calibration
    assert (curve.label, sum(curve.current.n_rows), sum(curve.reference.n_rows)) == (
        "1",
        300,
        1_200,
    )


def test_flipped_labels_are_found_by_performance_and_not_by_the_estimate(tmp_path):
    held, world = holdout(binary(1_200, 1)), binary(400, 2, flipped=0.4)
    observed, estimate, _ = judged(tmp_path, world, held)
    assert observed.degraded
    assert observed.concept_drifted
    assert any(reason.startswith("roc_auc is ") for reason in observed.reasons)
    assert not estimate.degraded


def test_what_is_shipped_is_judged_as_what_waits_and_other_versions_and_days_are_left_out(tmp_path):
    held, (truth, predictions) = holdout(binary(1_200, 1)), binary(200, 2)
    lineage, digest = stored(tmp_path, held)
    tables = LogTables(str(tmp_path / "log"))
    ship_all(logged(tmp_path / "a", digest, predictions, truth), tables)
    ship_all(logged(tmp_path / "b", "e" * 64, predictions, 1 - truth), tables)
    week_us = 7 * 24 * HOUR_US
    old = logged(tmp_path / "c", digest, predictions, 1 - truth, at_us=NOON_US - week_us)
    ship_all(old, tables)
    spool = logged(tmp_path / "d", digest, predictions, truth)
    reader = PredictionLogReader(tables, spool)
    feedback = join_feedback(reader.feedback())
    found = judge_performance(reader, lineage, "m", "3", digest, DAY, feedback=feedback)
    expected = evaluate(TASKS["classification"].metrics, truth, predictions, intervals=False)
    assert found.observed.n_scored == found.estimate.n_scored == 400
    assert values(found.observed)["accuracy"] == pytest.approx(expected["accuracy"])


def test_without_feedback_there_is_an_estimate_and_a_note(tmp_path):
    held, world = holdout(several(1_200, 1)), several(200, 2)
    observed, estimate, notes = judged(tmp_path, world, held, known=0)
    assert observed is None
    assert estimate.n_scored == 200
    assert values(estimate)["accuracy"] == pytest.approx(
        evaluate(TASKS["classification"].metrics, *world)["accuracy"], abs=0.1
    )
    assert notes == ("nothing is known of what was the case for the answers of version 3",)


def test_numbers_are_judged_and_have_no_estimate(tmp_path):
    held, world = holdout(numbers(1_200, 1)), numbers(300, 2, added=2.0)
    observed, estimate, notes = judged(tmp_path, world, held, task="regression")
    assert estimate is None
    assert observed.degraded
    assert observed.concept_drifted
    assert observed.calibration == ()
    assert notes == ("no estimate without labels: only classifiers with a hold-out have one",)


def test_few_labels_are_shown_and_not_judged(tmp_path):
    held, world = holdout(binary(1_200, 1)), binary(400, 2, flipped=1.0)
    observed, _, _ = judged(tmp_path, world, held, known=40)
    assert (observed.n_scored, observed.degraded, observed.concept_drifted) == (40, False, None)
    assert observed.metrics
    assert "40" in observed.notes[0]
    assert "too few" in observed.notes[0]
    assert observed.notes[1] == "concept drift: 50 rows with a truth are needed"


def test_a_rare_class_keeps_figures_of_single_classes_from_being_judged():
    truth, predictions = binary(3_000, 2, flipped=1.0)
    few = np.concatenate([np.flatnonzero(truth == 1)[:500], np.flatnonzero(truth == 0)[:5]])
    found = observe_performance(
        TASKS["classification"], truth[few], predictions.take(few), holdout=holdout(binary(900, 1))
    )
    assert {one.name for one in found.metrics if one.worse} <= {
        "accuracy",
        "log_loss",
        "brier_score_loss",
    }
    assert found.degraded
    assert "5 rows" in found.notes[0]
    fewer = Bounds(minimum_of_class=2)
    again = observe_performance(
        TASKS["classification"],
        truth[few],
        predictions.take(few),
        holdout=holdout(binary(900, 1)),
        bounds=fewer,
    )
    assert not any("5 rows" in note for note in again.notes)


def test_rows_in_the_order_of_time_have_wider_intervals(tmp_path):
    random = np.random.default_rng(0)
    truth, predictions = numbers(400, 3)
    walk = truth + np.repeat(3 * random.normal(size=20), 20)
    task, held = TASKS["forecast"], holdout(numbers(900, 1))
    ends = {"lower": truth - 3, "upper": truth + 3}
    predictions.outputs.update(ends)
    held.predictions.outputs.update(lower=held.y - 3, upper=held.y + 3)
    wide = observe_performance(task, walk, predictions, holdout=held, ordered=True)
    tight = observe_performance(task, walk, predictions, holdout=held)
    for one, other in zip(wide.metrics, tight.metrics, strict=True):
        assert one.value == other.value
        assert one.high - one.low >= other.high - other.low


def test_a_version_that_is_not_known_is_judged_without_comparison(tmp_path):
    truth, predictions = binary(200, 2)
    spool = logged(tmp_path, "f" * 64, predictions, truth)
    reader = PredictionLogReader(LogTables(str(tmp_path / "log")), spool)
    lineage = Lineage(Away(), ModelStore(tmp_path / "store"))
    observed, estimate, notes = judge_performance(reader, lineage, "m", "3", "f" * 64, DAY)
    assert estimate is None
    assert (observed.n_scored, observed.degraded, observed.concept_drifted) == (200, False, None)
    assert "accuracy" in values(observed)
    assert any("the registry is away" in note for note in notes)


def test_a_hold_out_away_from_the_store_is_fetched(tmp_path):
    held, (truth, predictions) = holdout(binary(1_200, 1)), binary(200, 2)
    original, digest = stored(tmp_path, held)

    class There:
        """A registry with that version, whose files it counts."""

        def __init__(self):
            self.fetched = []

        def version(self, name, version):
            return type("Registered", (), {"tags": {"greenroom.digest": digest}})()

        def files(self, version, folder=""):
            names = ["greenroom/version.json", HOLDOUT_FILE]
            return [type("File", (), {"path": name})() for name in names]

        def download(self, version, path, destination):
            self.fetched.append(path)
            with original.files("m", "3", digest, path) as folder:
                (destination / path).parent.mkdir(parents=True, exist_ok=True)
                (destination / path).write_bytes((folder / path).read_bytes())

    registry = There()
    lineage = Lineage(registry, ModelStore(tmp_path / "empty"))
    spool = logged(tmp_path, digest, predictions, truth)
    reader = PredictionLogReader(LogTables(str(tmp_path / "log")), spool)
    found = judge_performance(reader, lineage, "m", "3", digest, DAY)
    assert found.observed.metrics[0].training is not None
    assert found.estimate.n_scored == 200
    assert registry.fetched == ["greenroom/version.json", HOLDOUT_FILE]


def test_what_was_observed_in_another_kind_is_counted_in_a_note(tmp_path):
    lineage, digest = stored(tmp_path, holdout(binary(1_200, 1)))
    truth, predictions = binary(100, 2)
    strange = np.array([*truth[:90].tolist(), *["high"] * 10], dtype=object)
    spool = logged(tmp_path, digest, predictions, strange)
    reader = PredictionLogReader(LogTables(str(tmp_path / "log")), spool)
    observed, _, _ = judge_performance(reader, lineage, "m", "3", digest, DAY)
    assert observed.n_scored == 90
    assert observed.notes[0] == "10 observations are of another kind than the answers"


def test_a_model_of_which_nothing_is_logged_is_named(tmp_path):
    lineage, digest = stored(tmp_path, holdout(binary(300, 1)))
    reader = PredictionLogReader(LogTables(str(tmp_path / "log")))
    with pytest.raises(LogError, match="no prediction of 'm'"):
        judge_performance(reader, lineage, "m", "3", digest, DAY)


def test_rows_that_are_divided_by_time_are_taken_as_ordered(tmp_path, monkeypatch):
    asked = []
    real = observe_performance

    def spy(*args, **options):
        asked.append(options["ordered"])
        return real(*args, **options)

    monkeypatch.setattr("greenroom.monitoring.performance.observe_performance", spy)
    held, (truth, predictions) = holdout(binary(300, 1)), binary(60, 2)
    for place, split in enumerate([Split(), Split(time="at")]):
        lineage, digest = stored(tmp_path / str(place), held, split=split)
        spool = logged(tmp_path / str(place), digest, predictions, truth)
        reader = PredictionLogReader(LogTables(str(tmp_path / str(place) / "log")), spool)
        judge_performance(reader, lineage, "m", "3", digest, DAY)
    assert asked == [False, True]


@pytest.mark.parametrize("n_known", [0, 1_000])
def test_held_out_rows_without_a_truth_are_nothing_to_compare_with(tmp_path, n_known):
    random = np.random.default_rng(0)
    score = random.normal(size=2_000)
    y = (random.random(2_000) < 1 / (1 + np.exp(1 - 2 * score))).astype(np.float64)
    answered = Predictions({"prediction": score > 1, "score": score})
    held = holdout((np.where(np.arange(2_000) < n_known, y, np.nan), answered))
    window = np.arange(1_500, 1_900)
    world = (y[window] == 1, answered.take(window))
    observed, _, _ = judged(tmp_path, world, held, task="anomaly")
    assert not observed.degraded
    assert observed.concept_drifted == (False if n_known else None)
    trained = {one.name: one.training for one in observed.metrics}
    assert (trained["recall"] is not None) == bool(n_known)


def test_a_version_that_answered_nothing_in_the_window_has_no_performance(tmp_path):
    held, (truth, predictions) = holdout(binary(300, 1)), binary(60, 2)
    lineage, digest = stored(tmp_path, held)
    tables = LogTables(str(tmp_path / "log"))
    ship_all(logged(tmp_path, "e" * 64, predictions, truth), tables)
    reader = PredictionLogReader(tables)
    observed, estimate, notes = judge_performance(reader, lineage, "m", "3", digest, DAY)
    assert (observed, estimate) == (None, None)
    assert notes == (
        "nothing is known of what was the case for the answers of version 3",
        "no estimate without labels: the window holds no answer with probabilities",
    )


@pytest.mark.parametrize(
    ("made", "task"),
    [(binary, "classification"), (several, "classification"), (numbers, "regression")],
)
def test_windows_that_nothing_has_happened_to_raise_hardly_an_alarm(made, task):
    held = holdout(made(3_000, 1))
    found = [
        observe_performance(TASKS[task], *made(300, 50 + seed), holdout=held) for seed in range(15)
    ]
    assert sum(one.degraded for one in found) <= 1
    assert sum(bool(one.concept_drifted) for one in found) <= 1
