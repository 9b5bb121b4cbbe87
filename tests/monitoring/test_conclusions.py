"""Conclusions: each question has an answer of its own, and an estimate is called one."""

from __future__ import annotations

from made_up import found, number, performance

from greenroom.findings import ColumnDrift, Drift
from greenroom.monitoring.conclusions import conclude

FEW = Drift(
    n_reference=9,
    n_current=3,
    features=(
        ColumnDrift(
            column="a",
            role="feature",
            kind="number",
            verdict="too few rows",
            n_reference=9,
            n_current=3,
        ),
    ),
    predictions=(),
)


def answers(findings):
    return {topic.name: topic for topic in conclude(findings).topics}


def test_data_drift_alone_is_not_called_anything_else():
    findings = found(performance=performance(0.86, concept_drifted=False))
    said = answers(findings)
    assert {name: topic.state for name, topic in said.items()} == {
        "data drift": "found",
        "prediction drift": "nothing",
        "performance": "nothing",
        "concept drift": "nothing",
    }
    assert said["data drift"].text.startswith("1 of 2 features has moved: age (5,000 rows")
    assert conclude(findings).headline == "found: data drift"
    assert any("nothing has to be done at once" in step for step in conclude(findings).steps)


def test_a_worse_performance_without_data_drift_is_concept_drift_and_asks_for_new_outcomes():
    worse = performance(
        0.7,
        worse=True,
        concept_drifted=True,
        reasons=("roc_auc is worse", "concept drift: far below"),
    )
    findings = found(number("age"), performance=worse)
    assert conclude(findings).headline == "found: worse performance and concept drift"
    assert answers(findings)["data drift"].state == "nothing"
    assert answers(findings)["concept drift"].text.endswith("in training: far below")
    assert "whether what was reported is right" in conclude(findings).steps[0]
    assert "newer outcomes" in conclude(findings).steps[0]


def test_an_estimate_is_called_one_and_performance_stays_unknown():
    findings = found(number("age"), estimate=performance(0.7, worse=True, estimated=True))
    said = answers(findings)
    assert said["performance"].state == "unsaid"
    assert said["estimated performance"].estimated
    assert "an estimate" in said["estimated performance"].text
    assert conclude(findings).headline == "found: worse performance by an estimate"
    assert any("/feedback" in step for step in conclude(findings).steps)


def test_figures_of_too_few_rows_are_not_called_as_good_as_in_training():
    vague = performance(0.05, worse=None, estimated=True, notes=("an estimate", "too vague"))
    few = performance(0.3, worse=None, notes=("too few to judge by",))
    findings = found(number("age"), performance=few, estimate=vague)
    said = answers(findings)
    assert (said["performance"].state, said["estimated performance"].state) == ("unsaid",) * 2
    assert said["performance"].text == "cannot be judged: too few to judge by"
    assert said["estimated performance"].text == "cannot be judged: too vague"
    drifted = found(performance=few)
    assert not any("as good as in training" in step for step in conclude(drifted).steps)


def test_what_nobody_could_compare_has_not_stood_still_because_answers_are_well():
    well = performance(0.86, estimated=True)
    unknown = conclude(found(drift=FEW, n_rows=3, estimate=well))
    assert unknown.state == "unsaid"
    assert unknown.headline == (
        "nothing was found, but data drift and prediction drift cannot be told"
    )
    told = conclude(found(number("age"), estimate=well))
    assert (told.state, told.headline) == ("nothing", "nothing has moved that matters")


def test_why_concept_drift_cannot_be_told_is_no_reason_of_the_performance():
    untold = performance(0.8, worse=None, notes=("concept drift: there is no hold-out",))
    said = answers(found(number("age"), performance=untold))
    assert said["concept drift"].text == "cannot be told: there is no hold-out"
    assert "no hold-out" not in said["performance"].text


def test_of_too_few_rows_nothing_is_said_but_that_a_longer_window_has_more():
    found_out = conclude(found(drift=FEW, n_rows=3))
    assert found_out.state == "unsaid"
    assert "too few rows to say: 3 rows" in found_out.topics[0].text
    assert "--window 7d" in found_out.steps[-1]
