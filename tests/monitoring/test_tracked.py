"""A monitoring run in MLflow: numbers over time in one run a version, the rest in its own."""

from __future__ import annotations

import pytest
from made_up import found, number

from fake_mlflow import fake_mlflow
from greenroom.errors import RegistryUnavailable
from greenroom.monitoring.conclusions import conclude
from greenroom.monitoring.tracked import MonitoringRuns
from greenroom.registry.mlflow_rest import MlflowRest

EXPERIMENT = "credit-monitoring"


@pytest.fixture
def mlflow():
    with fake_mlflow() as fake, MlflowRest(fake.uri, environment={}) as rest:
        yield fake, MonitoringRuns(rest, EXPERIMENT)


def record(runs, findings, **files):
    return runs.record(findings, conclude(findings), {"window": "24 h"}, files)


def at(hour, **changes):
    return found(at=f"2026-11-21T{hour:02}:00:00.000Z", **changes)


def tags_of(run):
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


def test_each_run_is_one_of_its_own_inside_the_versions_whose_metrics_go_on(mlflow):
    fake, runs = mlflow
    for hour in (1, 2, 3):
        address = record(runs, at(hour))
    assert list(fake.experiments) == [EXPERIMENT]
    steps = fake.points("credit-risk-model v3", "drift/age/psi")
    assert [(step, value) for step, _, value in steps] == [(0, 0.31), (1, 0.31), (2, 0.31)]
    assert steps[1][1] - steps[0][1] == 3_600_000
    parent = fake.run("credit-risk-model v3")
    children = [
        run for run in fake.runs.values() if tags_of(run).get("mlflow.parentRunId") == parent
    ]
    assert len(children) == 3
    assert {run["info"]["status"] for run in fake.runs.values()} == {"FINISHED"}
    assert address.endswith(f"/#/experiments/1/runs/{children[-1]['info']['run_id']}")


def test_a_run_says_in_tags_what_was_found_and_holds_its_files(mlflow):
    fake, runs = mlflow
    findings = at(1)
    record(runs, findings, **{"report.html": b"<html>", "figures/drift/age.svg": b"<svg>"})
    (run,) = (one for one in fake.runs.values() if one["info"]["run_name"].endswith("01:00"))
    tags = tags_of(run)
    assert tags["greenroom.data_drift"] == "found"
    assert tags["greenroom.prediction_drift"] == "not found"
    assert tags["greenroom.performance"] == "not known"
    assert (tags["greenroom.registered_model"], tags["greenroom.version"]) == (findings.model, "3")
    assert "found: data drift" in tags["mlflow.note.content"]
    assert fake.params[run["info"]["run_id"]] == {"window": "24 h"}
    assert sorted(path.partition("/artifacts/")[2] for path in fake.files) == [
        "figures/drift/age.svg",
        "report.html",
    ]


def test_versions_and_sources_have_runs_apart(mlflow):
    fake, runs = mlflow
    record(runs, at(1))
    record(runs, at(2, version="4"))
    record(runs, at(3, source="data/current.csv"))
    for name in ("", " on data/current.csv"):
        assert len(fake.points(f"credit-risk-model v3{name}", "rows")) == 1
    assert len(fake.points("credit-risk-model v4", "rows")) == 1


def test_no_call_holds_more_than_mlflow_takes(mlflow):
    fake, runs = mlflow
    columns = [number(f"column {n}") for n in range(700)]
    record(runs, at(1, drift=found(*columns).drift))
    assert fake.largest <= 1_000
    assert len(fake.points("credit-risk-model v3", "drift/column 699/psi")) == 1


def test_a_run_that_was_cut_off_stands_there_as_failed(mlflow, monkeypatch):
    fake, runs = mlflow

    def away(*_):
        raise RegistryUnavailable("gone")

    monkeypatch.setattr("greenroom.monitoring.tracked.upload_file", away)
    with pytest.raises(RegistryUnavailable):
        record(runs, at(1), **{"report.html": b"<html>"})
    states = {run["info"]["run_name"]: run["info"]["status"] for run in fake.runs.values()}
    assert states["credit-risk-model v3 2026-11-21 01:00"] == "FAILED"
    # The version's own run has no step of it, so that the next one takes its place.
    assert not fake.points("credit-risk-model v3", "rows")


@pytest.mark.slow
def test_a_real_mlflow_has_the_metrics_step_by_step_and_the_files(mlflow_server):
    with MlflowRest(mlflow_server, timeout_s=30, environment={}) as rest:
        runs = MonitoringRuns(rest, "real-monitoring")
        for hour in (1, 2):
            address = record(runs, at(hour), **{"figures/drift/age.svg": b"<svg>"})
        run_id = address.rpartition("/")[2]
        run = rest.get("runs/get", run_id=run_id)["run"]
        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        assert (run["info"]["status"], tags["greenroom.data_drift"]) == ("FINISHED", "found")
        parent = tags["mlflow.parentRunId"]
        told = rest.get("metrics/get-history", run_id=parent, metric_key="drift/age/psi")
        assert [(one["step"], one["value"]) for one in told["metrics"]] == [(0, 0.31), (1, 0.31)]
        files = rest.get("artifacts/list", run_id=run_id, path="figures/drift")["files"]
        assert [one["path"] for one in files] == ["figures/drift/age.svg"]
