"""Live scores: predictions joined with feedback, by version and day; misfits are counted."""

from __future__ import annotations

import datetime as dt

import pytest

from greenroom.cli.tracing import _score_rows
from greenroom.errors import LogError
from greenroom.log.log_reading import PredictionLogReader
from greenroom.log.log_records import Answers, Observation, Observations
from greenroom.log.log_tables import LogTables
from greenroom.log.shipping import ship_all
from greenroom.prediction_id import PredictionIds
from greenroom.schema import Schema
from greenroom.tracing.lineage import Origin
from greenroom.tracing.live_scores import LiveScore, ModelScores, score_log
from servers import COLUMNS, manifest
from test_shipping import NOON_US, ROW, answers, request, spooled, version

DAY_US = 24 * 3_600_000_000
NOON = dt.datetime.fromtimestamp(NOON_US / 1e6, dt.UTC)


class Made:
    """Says of every version what it is made of."""

    def __init__(self, found=None):
        self.found = found

    def origin(self, name, version, digest):
        return Origin(self.found, "" if self.found else "nobody knows")


TRAINED = Made(manifest(Schema(COLUMNS), metrics={"accuracy": 0.9}))


def ids_at(at_us, count):
    return PredictionIds(clock_ns=lambda: at_us * 1_000).take(count)


def logged(tmp_path, *frames):
    return PredictionLogReader(LogTables(str(tmp_path / "log")), spooled(tmp_path, *frames))


def predicted(one, at_us=NOON_US, **changes):
    return version(**changes), answers(request(ROW, [one]), at_us=at_us)


def observed(*observations, at_us=NOON_US + DAY_US):
    return None, Observations(at_us, "me", list(observations))


def test_each_version_and_day_is_judged_beside_its_training(tmp_path):
    first, second, third = ids = ids_at(NOON_US, 3)
    reader = logged(
        tmp_path,
        predicted(first),
        predicted(second),
        predicted(third, NOON_US + DAY_US),
        observed(*(Observation(one, actual) for one, actual in zip(ids, [1, 0, 1], strict=True))),
    )
    (found,) = score_log(reader, TRAINED, ["m"]).models
    by_day = {score.day: score for score in found.scores}
    days = [(NOON + dt.timedelta(days=n)).date().isoformat() for n in (0, 1)]
    assert list(by_day) == [*days, None]
    assert [by_day[day].n_scored for day in by_day] == [2, 1, 3]
    said = reader.predictions("m")["prediction"].to_pylist()
    right = sum(one == actual for one, actual in zip(said, [1, 0, 1], strict=True))
    assert by_day[None].metrics["accuracy"] == pytest.approx(right / 3)
    assert by_day[None].metrics["accuracy_low"] < by_day[None].metrics["accuracy"] + 1e-9
    assert found.training == {by_day[None].version: {"accuracy": 0.9}}


def test_the_table_has_an_interval_of_the_live_figure_and_of_the_trainings():
    live = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9, "recall": 0.5}
    trained = {"accuracy": 0.95, "accuracy_low": 0.94, "accuracy_high": 0.96, "recall": 0.6}
    score = LiveScore(version="3", day=None, n_predictions=30, n_scored=20, metrics=live)
    found = ModelScores(model="m", task="classification", scores=(score,), training={"3": trained})
    assert [row[-4:] for row in _score_rows(found)] == [
        ["accuracy", "0.8", "0.7 to 0.9", "0.95 (0.94 to 0.96)"],
        ["recall", "0.5", "-", "0.6"],
    ]


def test_repetitions_contradictions_unknown_and_earlier_ids_are_counted(tmp_path):
    known, silent = ids_at(NOON_US, 2)
    (unknown,) = ids_at(NOON_US + 5_000, 1)
    (earlier,) = ids_at(NOON_US - 3 * DAY_US, 1)
    reader = logged(
        tmp_path,
        predicted(known),
        predicted(silent),
        observed(Observation(known, 0, NOON_US), Observation(unknown, 1), Observation(earlier, 1)),
        observed(Observation(known, 1, NOON_US + 1), at_us=NOON_US + DAY_US + 1),
        observed(Observation(known, 0, NOON_US), at_us=NOON_US + DAY_US + 2),
    )
    found = score_log(reader, TRAINED, ["m"], since=NOON - dt.timedelta(days=1))
    assert (found.n_feedback, found.n_duplicates, found.n_contradictions) == (5, 1, 1)
    assert (found.n_unknown, found.n_earlier) == (1, 1)
    score = found.models[0].scores[-1]
    assert (score.n_predictions, score.n_scored) == (2, 1)
    # What was seen last counts, and not what was received last.
    (said,) = set(reader.predictions("m")["prediction"].to_pylist())
    assert score.metrics["accuracy"] == float(said == 1)


def test_feedback_of_another_kind_than_the_answers_is_not_judged(tmp_path):
    one, other = ids_at(NOON_US, 2)
    told = observed(Observation(one, "high"), Observation(other, True))
    reader = logged(tmp_path, predicted(one), predicted(other), told)
    score = score_log(reader, Made(), ["m"]).models[0].scores[-1]
    assert (score.n_scored, score.n_unusable) == (1, 1)


def test_feedback_of_another_model_is_not_unknown_and_what_is_shipped_counts_too(tmp_path):
    one, other = ids_at(NOON_US, 2)
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spooled(tmp_path, predicted(one)), tables)
    told = observed(Observation(one, 1), Observation(other, 1))
    spool = spooled(tmp_path, predicted(other, name="n"), told)
    reader = PredictionLogReader(tables, spool)
    assert score_log(reader, TRAINED, ["m"]).n_unknown == 1
    found = score_log(reader, TRAINED, ["m"], among=["m", "n"])
    assert (found.n_unknown, [model.model for model in found.models]) == (0, ["m"])
    assert found.models[0].scores[-1].n_scored == 1


def test_a_model_of_which_nothing_is_logged_is_named(tmp_path):
    with pytest.raises(LogError, match="no prediction of 'x'"):
        score_log(logged(tmp_path, observed()), TRAINED, ["x"])


def test_versions_whose_labels_are_of_different_types_are_each_judged_by_their_own(tmp_path):
    one, other = ids_at(NOON_US, 2)
    named = Answers(2, 8, 1, NOON_US + 1, [request(ROW, [other])], [["high"]])
    later = version(2, version="4", outputs=("prediction",), classes=("low", "high"))
    tables = LogTables(str(tmp_path / "log"))
    for frame in (predicted(one), (later, named)):
        ship_all(spooled(tmp_path, frame), tables)
    assert len(tables.predictions("m")) == 2
    told = spooled(tmp_path, observed(Observation(one, 0), Observation(other, "high")))
    found = score_log(PredictionLogReader(tables, told), Made(), ["m"]).models[0].scores
    scores = {score.version: score for score in found if score.day is None}
    assert [(score.n_scored, score.n_unusable) for score in scores.values()] == [(1, 0), (1, 0)]
    assert [score.metrics["accuracy"] for score in scores.values()] == [0.0, 1.0]
