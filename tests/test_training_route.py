"""Training over HTTP as an app declares it: what a declaration may be, and what a plan does."""

from __future__ import annotations

import pytest

import builders
from greenroom import App, Column, Gate, Model, TrainingPlan, TrainingRoute, classification
from greenroom.errors import AppError


def a_model(**changes):
    given = {
        "name": "m",
        "task": classification,
        "dataset": "data.csv",
        "dataset_name": "the data",
        "target": "y",
        "columns": builders.COLUMNS,
        "candidates": lambda seed: {"a": 1, "b": 2, "c": 3},
        "gate": Gate("roc_auc"),
    }
    return Model(**{**given, **changes})


def test_every_wrong_field_of_a_declaration_is_named_at_once():
    with pytest.raises(AppError) as refused:
        TrainingRoute(
            path="/train/{x}",
            request=(Column("wait", "boolean"),),
            environment="env",
            plan="no function",
        )
    assert refused.value.problems == (
        "training.request: 'wait' is a field that every request has",
        "training.environment: 'env' is not a field of the request",
        "training.plan: must be a function of the request's fields",
        "training.path: '/train/{x}' is not a path",
    )
    with pytest.raises(AppError, match=r"training\.request: columns: name 'a' is used twice"):
        TrainingRoute(request=(Column("a"), Column("a")), plan=lambda asked: None)


def test_a_request_may_have_no_fields_but_wait():
    route = TrainingRoute(request=(), plan=lambda asked: TrainingPlan(model="m"))
    assert route.schema.names == ("wait",)


@pytest.mark.parametrize("path", ["/predict", "/metrics"])
def test_a_training_route_is_nowhere_where_something_else_answers(path):
    training = TrainingRoute(path=path, request=(), plan=lambda asked: TrainingPlan(model="m"))
    with pytest.raises(AppError, match=path):
        App(name="x", experiment="e", models=[a_model(route="/predict")], training=training)


def test_a_plan_names_other_data_and_keeps_the_order_of_the_models_candidates():
    model = a_model()
    plan = TrainingPlan(model="m", candidates=("c", "a"), dataset="data/other.csv")
    planned = plan.applied_to(model)
    assert (planned.dataset, planned.dataset_name) == ("data/other.csv", "")
    assert planned.candidates(1) == {"a": 1, "c": 3}
    assert TrainingPlan(model="m").applied_to(model) is model


@pytest.mark.parametrize(
    ("plan", "trial"),
    [
        (TrainingPlan(model="m"), False),
        (TrainingPlan(model="m", dataset="d.csv"), False),
        (TrainingPlan(model="m", rows=10), True),
        (TrainingPlan(model="m", trial=True), True),
    ],
)
def test_a_plan_on_some_of_the_rows_is_a_trial(plan, trial):
    assert plan.is_trial == trial
