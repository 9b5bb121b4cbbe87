"""One monitoring run: what it finds is kept, shown and reported, whatever else fails."""

from __future__ import annotations

import datetime as dt

import pytest
from made_up import found

from greenroom.errors import MonitoringError, NothingToCompare, RegistryUnavailable
from greenroom.findings import findings_file, read_findings
from greenroom.monitoring.measured import Measured, Subject
from greenroom.monitoring.monitor import Monitor
from greenroom.monitoring.served import Served
from greenroom.selector import Selector

NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
DRIFT = found().drift


def subjects(*names):
    return [Subject("credit", name, Selector.parse("Production")) for name in names]


def compared(problems=(), n_rows=5_000):
    """Compare every model with success, but for those that have a problem."""
    known = dict(problems)

    def compare(subject, served):
        if subject.name in known:
            raise known[subject.name]
        return Measured(n_rows=n_rows, drift=DRIFT, params={"threshold_psi": "0.2"})

    return compare


def monitor(home, compare=None, **changes):
    return Monitor(
        home,
        lambda subject: Served("3", "ab" * 32, "a note on the version"),
        compare or compared(),
        **({"now": lambda: NOON} | changes),
    )


class Runs:
    """Stands for MLflow."""

    def __init__(self, problem=None):
        self.problem = problem
        self.kept = {}

    def record(self, findings, conclusion, params, files):
        if self.problem:
            raise self.problem
        self.kept[findings.model] = (params, files)
        return f"http://mlflow/{findings.model}"


def test_what_is_found_is_in_the_file_the_trend_the_report_and_mlflow(tmp_path):
    runs = Runs()
    run = monitor(tmp_path, runs=runs).run(subjects("m"))
    (kept,) = read_findings(findings_file(tmp_path))
    assert (kept.model, kept.version, kept.at) == ("m", "3", "2026-11-21T12:00:00.000Z")
    assert kept.notes == ("a note on the version",)
    assert run.found
    assert run.report == tmp_path / "monitoring" / "report.html"
    assert "Found: data drift" in run.report.read_text(encoding="utf-8")
    params, files = runs.kept["m"]
    assert (params["model"], params["n_reference"], params["threshold_psi"]) == ("m", "1000", "0.2")
    assert sorted(files) == [
        "figures/drift/age.svg",
        "figures/drift/income.svg",
        "figures/prediction_drift/probability.svg",
        "report.html",
    ]
    assert run.addresses == {"m": "http://mlflow/m"}


def test_without_mlflow_everything_is_written_here_and_it_is_said(tmp_path):
    run = monitor(tmp_path, runs=Runs(RegistryUnavailable("MLflow is away"))).run(subjects("m"))
    assert run.report.is_file()
    assert read_findings(findings_file(tmp_path))
    assert run.notes == ["m: what was found is not in MLflow, but in the report (MLflow is away)"]


def test_from_the_second_run_on_the_report_shows_how_it_went(tmp_path):
    hours = iter((1, 2))
    made = monitor(tmp_path, now=lambda: NOON + dt.timedelta(hours=next(hours)))
    assert "Run by run" not in made.run(subjects("m")).report.read_text(encoding="utf-8")
    assert "Run by run" in made.run(subjects("m")).report.read_text(encoding="utf-8")


def test_one_model_of_several_that_cannot_be_looked_at_does_not_keep_the_others(tmp_path):
    problem = NothingToCompare("nothing is served")
    run = monitor(tmp_path, compared({"b": problem})).run(subjects("a", "b"))
    assert [one.model for one in run.findings] == ["a"]
    assert run.problems == {"b": problem}


def test_where_none_can_be_looked_at_the_first_reason_is_raised(tmp_path):
    problems = {"a": MonitoringError("first"), "b": MonitoringError("second")}
    with pytest.raises(MonitoringError, match="first"):
        monitor(tmp_path, compared(problems)).run(subjects("a", "b"))
    assert not findings_file(tmp_path).exists()


def test_findings_go_when_nothing_is_served_any_more_and_stay_when_it_cannot_be_told(tmp_path):
    monitor(tmp_path).run(subjects("gone", "unknown", "other"))
    gone, unknown = NothingToCompare("nothing is served"), RegistryUnavailable("away")
    again = monitor(tmp_path, compared({"gone": gone, "unknown": unknown}))
    with pytest.raises(NothingToCompare):
        again.run(subjects("gone", "unknown"))
    kept = [one.model for one in read_findings(findings_file(tmp_path))]
    assert kept == ["unknown", "other"]


def test_a_files_rows_are_reported_and_not_shown_as_what_is_served(tmp_path):
    run = monitor(tmp_path, source="data/current.csv").run(subjects("m"))
    assert run.findings[0].source == "data/current.csv"
    assert run.report.name == "report-data-current.csv.html"
    assert not findings_file(tmp_path).exists()


def test_a_report_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MonitoringError, match=r"report\.html cannot be written"):
        monitor(tmp_path).run(subjects("m"), report=tmp_path / "file" / "report.html")
