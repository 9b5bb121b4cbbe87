from __future__ import annotations

import pytest

from greenroom.deployment.deployments import (
    Target,
    chosen_version,
    deployment_of,
    no_deployment,
    nothing_selected,
    problems_of,
)
from greenroom.registry.registered import ModelVersion, RegisteredModel
from greenroom.selector import Selector


def target(selector="Production", name="credit model"):
    return Target("credit", name, Selector.parse(selector), "/predict")


def version(number, stage="Production", **fields):
    return ModelVersion(name="credit model", version=str(number), stage=stage, **fields)


MODEL = RegisteredModel("credit model", latest_versions=(version(3, "None"),))


@pytest.mark.parametrize(
    ("selector", "model", "reason", "advice"),
    [
        (
            "Production",
            MODEL,
            "No model in Production stage: credit model has no version there",
            "`greenroom promote 'credit model'`",
        ),
        (
            "Staging",
            None,
            "No model in Staging stage: credit model is not registered",
            "`greenroom train`",
        ),
        (
            "Production",
            RegisteredModel("credit model"),
            "No model in Production stage: credit model has no version there",
            "`greenroom train`",
        ),
        (
            "@champion",
            MODEL,
            "No model at alias @champion: credit model has no such alias",
            "`greenroom promote 'credit model'`",
        ),
        ("latest", None, "No model to serve: credit model is not registered", "`greenroom train`"),
        ("7", MODEL, "No model to serve: credit model has no version 7", "select another"),
    ],
)
def test_it_is_said_that_nothing_is_selected_and_how_to_go_on(selector, model, reason, advice):
    found = nothing_selected(target(selector), model)
    assert (found.serving, found.directory) == (None, "")
    assert found.reason == reason
    assert advice in found.advice


def test_of_several_versions_the_one_that_is_served_goes_on_else_the_first():
    several = (version(2), version(5))
    nothing = no_deployment(target(), "")
    assert chosen_version(nothing, several).version == "2"
    served = deployment_of(target(), version(5), "d", "/d", None)
    assert chosen_version(served, several).version == "5"
    assert chosen_version(served, (version(7),)).version == "7"
    assert chosen_version(served, ()) is None


def test_two_versions_in_the_stage_are_both_named():
    several = (version(10), version(2))
    (problem,) = problems_of(target(), MODEL, several, several[0])
    assert problem.startswith("versions 2 and 10 of credit model are in Production; version 10 is")


@pytest.mark.parametrize(
    ("selector", "aliases", "latest", "selected", "said"),
    [
        ("Production", {"production": "3"}, (), (version(3),), None),
        ("Production", {"Production": "2"}, (), (version(3),), None),
        (
            "Production",
            {"production": "2"},
            (),
            (version(3),),
            "alias @production names version 2 and stage Production version 3;"
            " stage Production is followed",
        ),
        (
            "Production",
            {"production": "2"},
            (),
            (),
            "alias @production names version 2 and stage Production nothing;"
            " stage Production is followed",
        ),
        (
            "@production",
            {"production": "2"},
            (version(3),),
            (version(2, "None"),),
            "stage Production names version 3 and alias @production version 2;"
            " alias @production is followed",
        ),
        ("@production", {}, (version(3, "Staging"),), (version(2),), None),
        ("@champion", {}, (version(3),), (version(2),), None),
        ("latest", {"latest": "1"}, (version(3),), (version(2),), None),
    ],
)
def test_a_mirror_that_disagrees_is_reported_and_not_followed(
    selector, aliases, latest, selected, said
):
    model = RegisteredModel("credit model", aliases=aliases, latest_versions=latest)
    chosen = selected[0] if selected else None
    assert problems_of(target(selector), model, selected, chosen) == ((said,) if said else ())


def test_the_stage_is_what_the_selector_calls_it():
    one = version(3, "Staging", created_at_ms=1500, run_id="r", aliases=("champion",))
    shown = deployment_of(target("@champion"), one, "d", "/d", None).serving
    assert (shown.stage, shown.version, shown.run_id) == ("Staging", "3", "r")
    assert shown.model_uri == "models:/credit model/3"
    assert shown.registered_at == "1970-01-01T00:00:01.500Z"
    assert (shown.digest, shown.aliases, shown.metrics) == ("d", ("champion",), {})
