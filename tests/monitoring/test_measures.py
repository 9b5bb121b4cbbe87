"""Measures: every number of a run has one name, which MLflow takes."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from made_up import category, found, number, performance

from greenroom.monitoring.measures import measure_names, measures


def test_the_numbers_of_a_run_have_their_documented_names():
    findings = found(
        number("age", drifted=True),
        category("home/owner"),
        performance=performance(0.7, concept_drifted=True),
        estimate=performance(0.8, estimated=True),
    )
    numbers = measures(findings)
    assert numbers["drift/age/psi"] == 0.31
    assert numbers["drift/home_owner/chi_squared"] == 12.0
    assert numbers["prediction_drift/probability/psi"] == 0.004
    assert (numbers["drift/features_drifted"], numbers["drift/share_of_features"]) == (2.0, 1.0)
    assert (numbers["performance/roc_auc"], numbers["estimate/roc_auc"]) == (0.7, 0.8)
    assert numbers["performance/roc_auc_low"] < 0.7 < numbers["performance/roc_auc_high"]
    assert numbers["performance/concept_drift"] == 1.0


@given(st.lists(st.text(), unique=True))
def test_columns_of_any_name_have_names_of_their_own_that_mlflow_takes(columns):
    names = measure_names(columns)
    assert len(set(names.values())) == len(columns)
    for name in names.values():
        assert re.fullmatch(r"[\w.\- ]+", name)
        assert name.strip(".")
