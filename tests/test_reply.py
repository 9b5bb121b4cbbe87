"""Replies: their fields, their order, and what JSON cannot hold."""

from __future__ import annotations

import json

import numpy as np
import pytest

from greenroom.errors import AppError
from greenroom.evaluation.predictions import Predictions
from greenroom.payloads.reply import ReplyType
from greenroom.task import anomaly, classification, classification_outputs, forecast, regression

CONSTANTS = {"model_name": "m", "model_version": "3", "model_stage": "Production"}


def encode(reply, predictions, *, single=True):
    body = reply.encode(
        predictions,
        single=single,
        ids=[f"id-{row}" for row in range(len(predictions))],
        timestamp="2026-11-21T10:30:00.000Z",
        processing_time_ms=1.23456,
    )
    return json.loads(body, parse_constant=pytest.fail)


def classified(probabilities, classes):
    return classification_outputs(np.array(probabilities), np.array(classes))


def test_a_single_row_is_one_flat_object_with_everything_there_is():
    reply = ReplyType.compile(classification, (0, 1), {}, CONSTANTS)
    got = encode(reply, classified([[0.25, 0.75]], [0, 1]))
    assert list(got.items()) == [
        ("prediction", 1),
        ("probability", 0.75),
        ("probabilities", {"0": 0.25, "1": 0.75}),
        ("model_name", "m"),
        ("model_version", "3"),
        ("model_stage", "Production"),
        ("prediction_id", "id-0"),
        ("timestamp", "2026-11-21T10:30:00.000Z"),
        ("processing_time_ms", 1.235),
    ]


def test_several_rows_are_a_list_with_what_they_share_beside_it():
    reply = ReplyType.compile(regression, (), {}, CONSTANTS)
    got = encode(reply, Predictions({"prediction": np.array([1.5, 2.0])}), single=False)
    assert got == {
        "predictions": [
            {"prediction": 1.5, "prediction_id": "id-0"},
            {"prediction": 2.0, "prediction_id": "id-1"},
        ],
        **CONSTANTS,
        "timestamp": "2026-11-21T10:30:00.000Z",
        "processing_time_ms": 1.235,
    }


def test_a_list_of_one_row_is_answered_with_a_list():
    reply = ReplyType.compile(regression, (), {}, CONSTANTS)
    got = encode(reply, Predictions({"prediction": np.array([1.5])}), single=False)
    assert len(got["predictions"]) == 1


@pytest.mark.parametrize("single", [True, False])
def test_an_app_names_and_orders_the_fields_itself(single):
    fields = {"version": "model_version", "price": "prediction", "id": "prediction_id"}
    reply = ReplyType.compile(regression, (), fields, CONSTANTS)
    got = encode(reply, Predictions({"prediction": np.array([1.5])}), single=single)
    if single:
        assert list(got.items()) == [("version", "3"), ("price", 1.5), ("id", "id-0")]
    else:
        assert got == {"predictions": [{"price": 1.5, "id": "id-0"}], "version": "3"}


@pytest.mark.parametrize("single", [True, False])
def test_an_output_that_the_model_has_not_is_left_out_or_null_where_it_was_asked_for(single):
    predictions = Predictions({"prediction": np.array(["high"], dtype=object)})
    every = ReplyType.compile(classification, (), {}, CONSTANTS)
    asked = ReplyType.compile(classification, (), {"p": "probability", "y": "prediction"}, {})
    for reply, there in ((every, False), (asked, True)):
        got = encode(reply, predictions, single=single)
        row = got if single else got["predictions"][0]
        assert ("p" in row or "probability" in row) == there
    assert row == {"p": None, "y": "high"}


def test_further_constants_are_in_every_reply():
    constants = {**CONSTANTS, "fallback": True}
    reply = ReplyType.compile(regression, (), {}, constants)
    got = encode(reply, Predictions({"prediction": np.array([1.0])}))
    assert list(got)[1:5] == ["model_name", "model_version", "model_stage", "fallback"]


@pytest.mark.parametrize(
    ("classes", "label", "names"),
    [
        ([0, 1], 1, ["0", "1"]),
        (["low", "high"], "high", ["low", "high"]),
        ([False, True], True, ["false", "true"]),
        ([0.5, 1.5], 1.5, ["0.5", "1.5"]),
        (np.array(["low", "high"], dtype=object), "high", ["low", "high"]),
        (np.array([3, 4], dtype=np.uint8), 4, ["3", "4"]),
    ],
)
def test_a_label_keeps_its_type_and_names_its_probability(classes, label, names):
    for spelled in (tuple(classes), tuple(np.asarray(classes).tolist())):
        reply = ReplyType.compile(classification, spelled, {}, {})
        got = encode(reply, classified([[0.25, 0.75]], classes))
        assert got["prediction"] == label
        assert type(got["prediction"]) is type(label)
        assert list(got["probabilities"]) == names


def test_numpy_scalars_inside_an_object_array_are_plain_numbers():
    values = np.empty(3, dtype=object)
    values[:] = [np.int64(4), np.bool_(True), np.float32(0.5)]
    reply = ReplyType.compile(regression, (), {}, {})
    got = encode(reply, Predictions({"prediction": values}), single=False)
    assert [row["prediction"] for row in got["predictions"]] == [4, True, 0.5]


def test_a_number_that_is_not_finite_is_null():
    reply = ReplyType.compile(forecast, (), {}, {})
    outputs = {
        "prediction": np.array([np.nan]),
        "lower": np.array([-np.inf]),
        "upper": np.array([np.inf]),
    }
    got = encode(reply, Predictions(outputs))
    assert (got["prediction"], got["lower"], got["upper"]) == (None, None, None)


def test_an_anomaly_is_answered_with_its_reasons():
    reasons = np.empty(1, dtype=object)
    reasons[:] = [["amount is far above what is usual"]]
    outputs = {"prediction": np.array([True]), "score": np.array([0.75]), "reasons": reasons}
    got = encode(ReplyType.compile(anomaly, (), {}, {}), Predictions(outputs))
    assert got["prediction"] is True
    assert got["reasons"] == ["amount is far above what is usual"]


def test_every_digit_of_a_float_is_in_the_reply():
    value = np.nextafter(0.1, 1.0)
    reply = ReplyType.compile(regression, (), {}, {})
    assert encode(reply, Predictions({"prediction": np.array([value])}))["prediction"] == value


def test_one_flat_object_is_not_made_of_several_rows():
    reply = ReplyType.compile(regression, (), {}, {})
    with pytest.raises(ValueError):
        encode(reply, Predictions({"prediction": np.array([1.0, 2.0])}))


def test_a_field_without_a_source_and_classes_spelled_alike_are_refused():
    with pytest.raises(AppError, match=r"reply\.x: there is no 'y', only"):
        ReplyType.compile(regression, (), {"x": "y"}, CONSTANTS)
    with pytest.raises(AppError, match="two are spelled alike"):
        ReplyType.compile(classification, (1, "1"), {}, CONSTANTS)


@pytest.mark.parametrize(
    ("times", "texts"),
    [
        (np.array(["2024-01-15", "NaT"], "datetime64[D]"), ["2024-01-15", None]),
        (np.array(["2024-01-15T10:30", "NaT"], "datetime64[us]"), ["2024-01-15T10:30:00Z", None]),
    ],
)
def test_a_forecast_says_which_day_or_instant_each_answer_is_of(times, texts):
    outputs = {"prediction": np.zeros(2), "lower": np.zeros(2), "upper": np.zeros(2), "time": times}
    reply = ReplyType.compile(forecast, (), {"date": "time", "net": "prediction"}, {})

    got = encode(reply, Predictions(outputs), single=False)["predictions"]

    assert got == [{"date": text, "net": 0.0} for text in texts]
