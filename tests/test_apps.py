"""What holds of every application in ``apps/``, and the requests that their documents show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from greenroom.app import App
from greenroom.app_loading import APP_FILE, find_app, load_app
from greenroom.checking import check
from greenroom.data.examples import example_request
from greenroom.errors import RequestInvalid
from greenroom.payloads.request import RequestType
from greenroom.settings_sources import SETTINGS_FILE, load_settings

ROOT = Path(__file__).parent.parent
FOLDERS = sorted(path.parent for path in ROOT.glob(f"apps/*/{APP_FILE}"))
every_app = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)

# The two requests of the credit application's document, as they stand there.
DOCUMENTED_CREDIT_REQUESTS = (
    """{
    "RevolvingUtilizationOfUnsecuredLines": 0.5,
    "age": 40,
    "NumberOfTime30_59DaysPastDueNotWorse": 0,
    "DebtRatio": 0.3,
    "MonthlyIncome": 5000.0,
    "NumberOfOpenCreditLinesAndLoans": 5,
    "NumberOfTimes90DaysLate": 0,
    "NumberRealEstateLoansOrLines": 1,
    "NumberOfTime60_89DaysPastDueNotWorse": 0,
    "NumberOfDependents": 1
  }""",
    """{
    "RevolvingUtilizationOfUnsecuredLines": 0.766127,
    "age": 45,
    "NumberOfTime30_59DaysPastDueNotWorse": 2,
    "DebtRatio": 0.802982,
    "MonthlyIncome": 9120.0,
    "NumberOfOpenCreditLinesAndLoans": 13,
    "NumberOfTimes90DaysLate": 0,
    "NumberRealEstateLoansOrLines": 6,
    "NumberOfTime60_89DaysPastDueNotWorse": 0,
    "NumberOfDependents": 2
  }""",
)


def _app(name: str) -> App:
    return load_app(ROOT / "apps" / name)


def test_there_are_apps_to_hold_to_this():
    expected = {
        "breast_cancer",
        "california_housing",
        "credit_risk",
        "cyclist_traffic",
        "titans_finance",
    }
    assert {folder.name for folder in FOLDERS} == expected


@every_app
def test_an_app_is_found_by_its_folders_name_and_loads(folder):
    assert find_app(folder.name, ROOT) == folder.resolve()
    app = load_app(folder)
    assert app.models
    assert app.name.replace("-", "_") == folder.name


@every_app
def test_nothing_is_wrong_with_an_app_but_data_that_cannot_be_passed_on(folder):
    problems = check(folder)

    assert [str(problem) for problem in problems if problem.level == "error"] == []
    for problem in problems:
        assert "FileNotFoundError" in problem.what, str(problem)
        assert "--generated" in problem.advice


@every_app
def test_an_app_says_what_it_is_in_a_readme_that_names_how_to_start_it(folder):
    readme = (folder / "README.md").read_text(encoding="utf-8")

    assert readme.startswith("# ")
    assert "greenroom up" in readme or "make up" in readme


def _side_by_side(name: str) -> dict[str, str]:
    """Return what the table of all apps says of one."""
    lines = (ROOT / "apps" / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    place = rows[0].index(f"[{name}]({name})")
    return {row[0]: row[place] for row in rows[2:]}


@every_app
def test_the_table_of_all_apps_says_of_each_what_it_is(folder):
    app = load_app(folder)
    settings = load_settings(folder, environment={}, documented=app.environment)
    said = _side_by_side(folder.name)

    def listed(values):
        return ", ".join(f"`{value}`" for value in dict.fromkeys(values))

    assert said["models"] == listed(model.name for model in app.models)
    assert said["task"] == ", ".join(model.task.name for model in app.models)
    assert said["answers at"] == listed(model.route for model in app.models)
    assert said["port"] == str(settings.port)
    assert said["experiment"] == f"`{app.experiment}`"
    assert said["what is served"] == listed(model.serve for model in app.models)
    for model in app.models:
        assert f"`{model.gate.metric}`" in said["the gate asks for"]
        assert said["rows are held out"] == ("by time" if model.split.time else "at random")
    again = {"always": "each time", "when changed": "not"}
    assert said["trained again on the same data"] == again[app.retrain]
    assert ("`test-token`" in said["tokens"]) == bool(settings.development_tokens)


@every_app
def test_the_example_request_of_each_model_is_one_that_its_server_takes(folder):
    for model in load_app(folder).models:
        schema = model.request_schema
        body = json.dumps(example_request(schema)).encode()

        rows = RequestType.compile(schema).decode(body)

        assert rows.n_rows == 1
        assert list(rows.columns()) == list(schema.names)


@every_app
def test_every_column_of_an_app_says_what_it_is_and_gives_an_example(folder):
    for model in load_app(folder).models:
        silent = [
            column.name
            for column in model.request_schema
            if not column.description or column.example is None
        ]
        assert silent == []


@every_app
def test_an_apps_settings_can_be_read_with_its_documented_variables(folder):
    app = load_app(folder)

    assert (folder / SETTINGS_FILE).is_file()
    settings = load_settings(
        folder, environment={}, documented=app.environment, documented_file=app.settings_file
    )
    assert Path(settings.home).is_absolute()


@pytest.mark.parametrize(
    "folder",
    [
        # Those of the main job in the quick suite, all of them in `make test-slow`.
        pytest.param(
            one, id=one.name, marks=() if one.name == "breast_cancer" else pytest.mark.slow
        )
        for one in FOLDERS
    ],
)
def test_an_apps_own_tests_pass_and_warn_of_nothing(folder):
    tests = folder / "tests"
    if not any(tests.glob("**/test_*.py")):
        pytest.skip(f"{folder.name} has no tests of its own")
    # The app's own tests run by themselves, as they would where only the app is.
    options = ["-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider", "-q"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", *options, str(tests)],
        cwd=folder,
        env={name: text for name, text in os.environ.items() if "PYTEST" not in name},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("body", DOCUMENTED_CREDIT_REQUESTS, ids=["usage", "verification"])
def test_the_requests_of_the_credit_document_are_taken_as_they_stand(body):
    schema = _app("credit_risk").model("credit-risk-model").request_schema

    columns = RequestType.compile(schema).decode(body.encode()).columns()

    sent = list(json.loads(body).values())
    np.testing.assert_array_equal([values[0] for values in columns.values()], sent)
    assert "NumberOfTime30-59DaysPastDueNotWorse" in columns


def test_the_sample_input_of_the_credit_app_is_the_documents_first_request():
    sample = ROOT / "apps" / "credit_risk" / "tests" / "sample_input.json"

    assert json.loads(sample.read_text()) == json.loads(DOCUMENTED_CREDIT_REQUESTS[0])


def test_a_credit_request_with_every_field_wrong_names_every_field():
    schema = _app("credit_risk").model().request_schema
    body = json.dumps({column.request_name: "many" for column in schema}).encode()

    with pytest.raises(RequestInvalid) as refused:
        RequestType.compile(schema).decode(body)

    named = {problem.field for problem in refused.value.problems}
    assert named == {column.request_name for column in schema}


def test_the_apps_are_registered_and_selected_under_their_documented_names():
    cancer, credit = _app("breast_cancer").model(), _app("credit_risk").model()

    assert (cancer.name, cancer.serve, cancer.route) == (
        "ClassificationModel",
        "latest",
        "/predict",
    )
    assert (credit.name, credit.serve, credit.route) == (
        "credit-risk-model",
        "Production",
        "/predict",
    )
    assert _app("credit_risk").experiment == "credit-risk-prediction"
