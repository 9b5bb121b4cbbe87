"""An app is checked when it is built: every wrong field is named, all at once."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from greenroom import App, Column, Gate, Model, Route, Split, classification, forecast, regression
from greenroom.errors import AppError


def model(**options):
    given = {
        "name": "m",
        "task": regression,
        "columns": [Column("x")],
        "dataset": "data.csv",
        "target": "y",
        "candidates": lambda seed: {},
        "gate": Gate("r2_score"),
    }
    return Model(**(given | options))


def app(**options):
    given = {"name": "a", "experiment": "e", "models": [model()]}
    return App(**(given | options))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"name": "no/slash"}, "m.name|name"),
        ({"task": "classification"}, "task"),
        ({"target": ""}, "target"),
        ({"target": "x"}, "target"),
        ({"candidates": {}}, "candidates"),
        ({"gate": Gate("roc_auc")}, "gate.metric"),
        ({"gate": Gate("r2_score", against="yesterday")}, "gate.against"),
        ({"serve": "v3"}, "serve"),
        ({"serve": "@latest"}, "serve"),
        ({"route": "predict"}, "route"),
        ({"folds": 1}, "folds"),
        ({"split": Split(time="when")}, "split.time"),
        ({"split": Split(group="who")}, "split.group"),
        ({"reply": {"answer": "probability"}}, "reply.answer"),
        ({"request": [Column("horizon_days")]}, "request"),
        ({"promote": "never"}, "promote"),
        ({"mlflow_log": "all"}, "mlflow_log"),
        ({"columns": [Column("x"), Column("x")]}, "columns"),
    ],
)
def test_a_wrong_field_of_a_model_is_named(options, field):
    with pytest.raises(AppError, match=field):
        model(**options)


def test_all_wrong_fields_are_named_at_once():
    with pytest.raises(AppError) as caught:
        model(folds=0, route="x", serve="?")

    text = " ".join(caught.value.problems)
    assert all(field in text for field in ("folds", "route", "serve"))


def test_an_unknown_metric_is_refused_with_those_there_are():
    with pytest.raises(AppError, match="root_mean_squared_error"):
        model(gate=Gate("rmse"))


def test_the_only_model_answers_at_predict_and_several_need_routes():
    assert app().model().route == "/predict"
    with pytest.raises(AppError, match="route"):
        app(models=[model(), model(name="n")])


@pytest.mark.parametrize(
    "options",
    [
        {"models": []},
        {"experiment": ""},
        {"models": [model(route="/p"), model(route="/q")]},
        {"models": [model(route="/p"), model(name="n", route="/p")]},
        {"models": [model(route="/docs")]},
        {"metrics_prefix": "1st"},
        {"retrain": "sometimes"},
        {"routes": [Route("GET", "/predict", dict)]},
    ],
)
def test_an_app_that_makes_no_sense_is_refused(options):
    with pytest.raises(AppError):
        app(**options)


@pytest.mark.parametrize(
    ("method", "path", "view", "scope"),
    [
        ("POST", "/x", dict, "read"),
        ("GET", "x", dict, "read"),
        ("GET", "/x", {}, "read"),
        ("GET", "/x", dict, "admin"),
    ],
)
def test_a_route_that_makes_no_sense_is_refused(method, path, view, scope):
    with pytest.raises(AppError, match="route"):
        Route(method, path, view, scope=scope)


def test_a_model_is_found_by_name_and_an_unknown_one_is_answered_with_those_there_are():
    several = app(models=[model(route="/p"), model(name="n", route="/q")])

    assert several.model("n").route == "/q"
    with pytest.raises(AppError, match="m, n"):
        several.model("o")
    with pytest.raises(AppError, match="several"):
        several.model()


def test_values_are_frozen():
    with pytest.raises(FrozenInstanceError):
        app().name = "b"


def test_a_forecast_has_a_request_of_its_own_and_several_outputs():
    made = model(
        task=forecast,
        gate=Gate("mean_absolute_error"),
        columns=[Column("day", "date")],
        features="features.py",
        request=[Column("horizon_days", "integer", minimum=1, example=30)],
        reply={"values": "prediction", "low": "lower", "high": "upper"},
    )

    assert made.request_schema.names == ("horizon_days",)
    assert [output.name for output in forecast.outputs] == ["prediction", "lower", "upper", "time"]


def test_two_apps_with_the_same_model_value_do_not_change_each_other():
    shared = model(route="")
    first = app(models=[shared])

    assert first.model().route == "/predict"
    with pytest.raises(AppError, match="route"):
        app(models=[model(route=""), model(name="n", route="")])
    assert shared.route == ""


def test_classification_knows_its_metrics():
    assert {"accuracy", "precision", "recall", "f1_score", "roc_auc"} <= {
        metric.name for metric in classification.metrics
    }
