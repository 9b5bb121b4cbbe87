"""A version's answers are found beside those of other versions, of whatever type they are."""

from __future__ import annotations

import json

from greenroom.log.log_reading import PredictionLogReader, Window
from greenroom.log.log_records import Answers, Observation, Observations
from greenroom.log.log_tables import LogTables
from greenroom.log.shipping import ship_all
from greenroom.monitoring.answers import Asked, labelled_rows
from greenroom.prediction_id import new_prediction_ids
from greenroom.tracing.outcomes import join_feedback
from test_shipping import NOON_US, ROW, answers, request, spooled, version


def test_rows_with_labels_are_found_where_another_version_has_labels_of_another_type(tmp_path):
    one, other = new_prediction_ids(2)
    named = Answers(2, 8, 1, NOON_US, [request(ROW, [other])], [["high"]])
    later = version(2, version="4", outputs=("prediction",), classes=("low", "high"))
    tables = LogTables(str(tmp_path / "log"))
    ship_all(spooled(tmp_path, (version(), answers(request(ROW, [one])))), tables)
    ship_all(spooled(tmp_path, (later, named)), tables)
    assert len(tables.predictions("m")) == 2
    told = Observations(NOON_US, "me", [Observation(one, 1), Observation(other, "low")])
    reader = PredictionLogReader(tables, spooled(tmp_path, (None, told)))
    feedback = join_feedback(reader.feedback())
    for number, label in (("3", 1), ("4", "high")):
        rows = labelled_rows(reader, Asked("m", number, "", Window()), feedback)
        assert json.dumps(rows["prediction"].to_pylist()) == json.dumps([label])
