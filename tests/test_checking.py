"""``check``: every way of breaking an app is named, all at once, and a whole app is quiet."""

from __future__ import annotations

from pathlib import Path

import pytest

from greenroom.app_loading import load_app
from greenroom.checking import check
from greenroom.errors import AppError
from sample_app import write_app

MODEL = """
        Model(
            name="other",
            route="/other",
            task=classification,
            dataset="data/rows.csv",
            target="late",
            columns=[Column("amount", minimum=9, maximum=1)],
            candidates=candidates,
            gate=Gate("speed"),
        ),
    ],
)
"""
CANDIDATE = '"tree": DecisionTreeClassifier(max_depth=3, random_state=seed),'
GENERATED = """

import numpy as np


def generated(seed):
    rng = np.random.default_rng(SEED)
    rows = {
        "amount": rng.random(40),
        "visits-30d": rng.integers(0, 9, 40),
        "member": rng.random(40) < 0.5,
        "late": np.arange(40) % 2,
    }
    CHANGE
    return rows


app = App("""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An app with nothing wrong, for a test to break."""
    return write_app(tmp_path / "sample", "sample-model")


def _edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def _add_generated(folder: Path, *, seed: str = "seed", change: str = "pass") -> None:
    source = GENERATED.replace("SEED", seed).replace("CHANGE", change)
    _edit(folder, "app.py", "\n\napp = App(", source)
    _edit(folder, "app.py", "folds=3,", "folds=3,\n            generated=generated,")


def _found(folder: Path, level: str = "error") -> list[str]:
    return [str(problem) for problem in check(folder) if problem.level == level]


def test_nothing_is_found_where_nothing_is_wrong(folder):
    assert check(folder) == []


def test_a_problem_reads_as_level_place_what_is_wrong_and_what_to_do(folder):
    (folder / "features.py").unlink()

    (problem,) = check(folder)

    assert (problem.level, problem.where) == ("error", "features.py")
    assert str(problem) == f"error: features.py: {problem.what}; {problem.advice}"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("app = App(", "app = Ap(", "app.py:14: NameError: name 'Ap' is not defined"),
        ("def candidates(seed):", "def candidates(seed:", "app.py:4: SyntaxError"),
        ("from greenroom import", "import absent\nfrom greenroom import", "install absent"),
        ("app = App(", "thing = dict(", "holds no App; write `app = App(...)`"),
    ],
)
def test_an_app_that_cannot_be_imported_is_one_problem_with_its_line(folder, old, new, named):
    _edit(folder, "app.py", old, new)

    (problem,) = _found(folder)

    assert named in problem


def test_several_broken_models_are_all_named_and_a_broken_app_is_not_kept(folder):
    _edit(folder, "app.py", "        )\n    ],\n)\n", "        )," + MODEL)
    _edit(folder, "app.py", 'gate=Gate("roc_auc", minimum=0.6),', 'gate=Gate("beauty"),')

    problems = "\n".join(_found(folder))

    assert "'beauty'" in problems
    assert "'speed'" in problems
    assert "minimum: 9 is above maximum 1" in problems
    assert "sample-model.route: is needed where an app has several models" in problems
    with pytest.raises(AppError):
        load_app(folder)


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("params=3", "params: must be a function"),
        ("folds=2.5", "folds: must be an integer, and at least 2"),
        ("artifacts={'a': 1}", "artifacts: must be a function"),
        ("generated='rows.csv'", "generated: must be a function"),
        ("seed='42'", "seed: '42' is not an integer"),
        ("features='../features.py'", "is not a path inside the app's folder"),
        ("features='/features.py'", "is not a path inside the app's folder"),
        ("features=features", "NameError: name 'features' is not defined"),
        ("candidates={}", "candidates: must be a function of the seed"),
        ("task='classification'", "'classification' is not a task"),
    ],
)
def test_a_field_that_cannot_be_used_is_named_with_its_model(folder, field, named):
    name = field.partition("=")[0]
    text = (folder / "app.py").read_text(encoding="utf-8").splitlines()
    lines = [line for line in text if not line.startswith(f"            {name}=")]
    at = lines.index('            name="sample-model",')
    (folder / "app.py").write_text(
        "\n".join([*lines[: at + 1], f"            {field},", *lines[at + 1 :]])
    )

    (problem,) = _found(folder)

    assert named in problem
    assert "app.py" in problem


@pytest.mark.parametrize("name", ["features.py", "greenroom.yaml", "app.py", "data/rows.csv"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00"])
def test_a_file_that_is_no_text_is_a_problem_like_any_other(folder, name, content):
    (folder / name).write_bytes(content)

    assert any(name in problem for problem in _found(folder))


def test_a_mended_app_is_looked_at_anew_in_the_same_process(folder):
    _edit(folder, "app.py", '"roc_auc"', '"beauty"')
    assert "'beauty'" in "\n".join(_found(folder))

    _edit(folder, "app.py", '"beauty"', '"roc_auc"')
    assert check(folder) == []


def test_everything_is_found_at_once(folder):
    _edit(folder, "app.py", "example=12.5", "example=-1")
    _edit(folder, "app.py", CANDIDATE, '"tree": object(),')
    _edit(folder, "features.py", "def features(", "def feature(")
    (folder / "data" / "rows.csv").unlink()
    (folder / "greenroom.yaml").write_text("prot: 1\nworkers: none\n")

    problems = _found(folder)

    for named in (
        "example: ",
        "'tree' (object) has no fit, predict",
        "no function 'features'",
        "data/rows.csv",
        "prot",
        "workers",
    ):
        assert any(named in problem for problem in problems), named


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("import numpy as np", "import numpy as np\nimport gone", "cannot be imported"),
        ("def features(", "def features(:", "cannot be imported: SyntaxError"),
        ("def features(", "def feature(", "no function 'features'"),
        ("import numpy as np", "import numpy as np\nfrom . import app", "imports a neighbour"),
        ("import numpy as np", "import numpy as np\nimport app", "lies beside it"),
        ('visits = columns["visits-30d"]', 'visits = columns["calls"]', "KeyError: 'calls'"),
        ("    known =", '    columns["amount"] += 1\n    known =', "changes the columns"),
        (
            '"amount": columns["amount"],',
            '"amount": np.random.default_rng().random(len(visits)),',
            "gives something else when called again",
        ),
        (
            '"amount": columns["amount"],',
            '"amount": columns["amount"] - columns["amount"].mean(),',
            "gives a row something else when other rows are there",
        ),
        ('"amount": columns["amount"],', '"amount": visits[:-1],', "column 'amount' has 199 rows"),
        ('"amount": columns["amount"],', '"amount": list(visits),', "not a one-dimensional numpy"),
        ("return {", "return 3, {", "gives tuple, not a dict of columns"),
    ],
)
def test_features_that_would_fail_or_mislead_are_named(folder, old, new, named):
    _edit(folder, "features.py", old, new)

    problems = _found(folder)

    assert any(named in problem and "features.py" in problem for problem in problems), problems


def test_a_package_that_a_server_may_not_have_is_a_warning_with_its_line(folder):
    _edit(folder, "features.py", "import numpy as np", "import numpy as np\nimport pandas as pd")

    assert _found(folder) == []
    (problem,) = _found(folder, "warning")
    assert "features.py:4: imports pandas" in problem


@pytest.mark.parametrize(
    ("new", "named"),
    [
        ('"tree": undefined,', "NameError"),
        ('"tree": object(),', "'tree' (object) has no fit, predict"),
        ("__import__('uuid').uuid4().hex: LogisticRegression(),", "gives other names when called"),
        ('"tree": SHARED,', "one object for all folds"),
    ],
)
def test_candidates_that_would_fail_in_training_are_named(folder, new, named):
    shared = "from sklearn.linear_model import LogisticRegression\n\nSHARED = LogisticRegression()"
    _edit(folder, "app.py", "\n\napp = App(", f"\n{shared}\n\napp = App(")
    _edit(folder, "app.py", CANDIDATE, new)

    problems = _found(folder)

    assert any(named in problem and "candidates" in problem for problem in problems), problems


def test_a_function_of_candidates_that_gives_none_is_named(folder):
    _edit(folder, "app.py", "    return {", "    return {}\n    {")

    (problem,) = _found(folder)

    assert "gives none" in problem


def test_a_classifier_without_probabilities_is_a_warning(folder):
    _edit(folder, "app.py", CANDIDATE, '"tree": __import__("sklearn.svm").svm.LinearSVC(),')

    assert _found(folder) == []
    (problem,) = _found(folder, "warning")
    assert "'tree' (LinearSVC) has no predict_proba" in problem


def test_data_that_are_not_there_are_an_error_and_a_warning_where_others_stand_in(folder):
    (folder / "data" / "rows.csv").unlink()
    (problem,) = _found(folder)
    assert "FileNotFoundError: data/rows.csv" in problem

    _add_generated(folder)
    assert _found(folder) == []
    (problem,) = _found(folder, "warning")
    assert "--generated" in problem


def test_data_that_are_not_those_of_their_dvc_pointer_are_a_warning(folder):
    pointer = f"outs:\n- md5: {'ab' * 16}\n  hash: md5\n  path: rows.csv\n"
    (folder / "data" / "rows.csv.dvc").write_text(pointer)

    assert _found(folder) == []
    (problem,) = _found(folder, "warning")
    assert "data/rows.csv is not the file that data/rows.csv.dvc points to" in problem
    assert "dvc pull --force data/rows.csv.dvc" in problem


def test_columns_that_the_data_do_not_have_are_named_with_the_target(folder):
    _edit(folder, "data/rows.csv", "amount,visits-30d,member,late", "sum,visits-30d,member,paid")

    (problem,) = _found(folder)

    assert "no column 'amount', 'late'" in problem


def test_rows_that_do_not_fit_are_counted_and_their_values_not_shown(folder):
    path = folder / "data" / "rows.csv"
    path.write_text(path.read_text() + "-77.25,1,true,0\n")

    (problem,) = _found(folder)

    assert "column 'amount'" in problem
    assert "line 602" in problem
    assert "77.25" not in problem


@pytest.mark.parametrize(
    ("options", "level", "named"),
    [
        ({"change": "rows.pop('amount')"}, "error", "no column 'amount'"),
        ({"change": "rows['surplus'] = rows['late']"}, "warning", "'surplus' that is not declared"),
        ({"seed": ""}, "error", "gives other rows for the same seed"),
        ({"change": "rows['amount'] -= 9"}, "error", "column 'amount'"),
        ({"change": "1 / 0"}, "error", "ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize("data", ["there", "absent"])
def test_generated_data_that_could_not_stand_in_are_named(folder, options, level, named, data):
    _add_generated(folder, **options)
    if data == "absent":
        (folder / "data" / "rows.csv").unlink()

    problems = _found(folder, level)

    assert any(named in problem and ", generated" in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("example=12.5", "example=-12.5", "column 'amount'"),
        ("example=12.5", "example='much'", "column 'amount'"),
        ("example=12.5", "example=object()", "cannot be sent as JSON"),
        ('request_name="visits_30d"', "request_name='visits\"30d'", "quotes, backslashes"),
    ],
)
def test_an_example_or_a_name_that_no_request_could_hold_is_named(folder, old, new, named):
    _edit(folder, "app.py", old, new)

    (problem,) = _found(folder)

    assert named in problem


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot: 8000\nworkers: many\n", ["prot", "workers"]),
        ("port: [\n", ["cannot be read as YAML"]),
        ("- port\n", ["holds no settings"]),
        ("models:\n  nobody:\n    name: x\n", ["no model 'nobody'"]),
    ],
)
def test_settings_that_cannot_be_used_are_named_one_by_one(folder, text, named):
    (folder / "greenroom.yaml").write_text(text)

    problems = _found(folder)

    assert len(problems) == len(named)
    for problem, word in zip(problems, named, strict=True):
        assert "greenroom.yaml" in problem
        assert word in problem


def test_a_documented_variable_that_sets_nothing_is_named(folder):
    variables = {"PORT": "prot", "NAME": "models.nobody.name", "HOST": "host"}
    _edit(folder, "app.py", "    models=[", f"    environment={variables},\n    models=[")

    problems = _found(folder)

    assert len(problems) == 2
    assert "PORT: there is no setting 'prot'" in problems[0]
    assert "'models.nobody.name'" in problems[1]


def test_a_documented_key_that_sets_nothing_is_named(folder):
    keys = {"api.port": "prot", "api.host": "host"}
    declared = f'__import__("greenroom").SettingsFile("api.yaml", {keys})'
    _edit(folder, "app.py", "    models=[", f"    settings_file={declared},\n    models=[")

    (problem,) = _found(folder)

    assert "api.port: there is no setting 'prot'" in problem


def test_a_documented_file_that_cannot_be_used_is_named(folder):
    declared = '__import__("greenroom").SettingsFile("api.yaml", {"api.port": "port"})'
    _edit(folder, "app.py", "    models=[", f"    settings_file={declared},\n    models=[")
    assert _found(folder) == []

    (folder / "api.yaml").write_text("api: {prot: 1}\n")

    (problem,) = _found(folder)
    assert "there is no key api.prot" in problem


def test_errors_come_before_warnings(folder):
    _edit(folder, "features.py", "import numpy as np", "import numpy as np\nimport pandas as pd")
    (folder / "greenroom.yaml").write_text("prot: 8000\n")

    assert [problem.level for problem in check(folder)] == ["error", "warning"]


def _forecasts(folder: Path, expand: str) -> None:
    _edit(
        folder,
        "app.py",
        'features="features.py",',
        """features="features.py",
            request=[
                Column("visits", "integer", minimum=1),
                Column("past", "records", nullable=True, columns=[Column("amount")]),
            ],
            context=lambda table: {"latest": [float(text) for text in table["amount"][:3]]},""",
    )
    path = folder / "features.py"
    path.write_text(path.read_text(encoding="utf-8") + expand, encoding="utf-8")


def test_expand_is_tried_with_the_context_and_with_what_may_be_left_out(folder):
    _forecasts(
        folder,
        """
def expand(request, context):
    past = context["latest"] if request["past"] is None else request["past"]["amount"]
    return {"amount": past, "visits-30d": 0 * past, "member": 0 * past}
""",
    )

    assert check(folder) == []


@pytest.mark.parametrize(
    ("expand", "named"),
    [
        ("def expand(request):\n    return {}\n", "TypeError"),
        ("def expand(r, c):\n    return r['past'] / 2\n", "TypeError"),
        (
            "def expand(r, c):\n    return {'amount': c['latest']}\n",
            "makes no 'visits-30d', 'member'",
        ),
    ],
)
def test_an_expand_that_would_fail_is_named(folder, expand, named):
    _forecasts(folder, expand)

    (problem,) = check(folder)

    assert problem.where == "features.py, expand"
    assert named in problem.what


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ("log_leave_out: [name]", "'name' is none of the columns amount, visits-30d, member"),
        ("log_round: {member: 10}", "'member' is a boolean and cannot be rounded"),
        ("log_hash: [nobody]", "'nobody' is none of the columns"),
    ],
)
def test_a_rule_of_the_log_that_fits_no_column_is_named_with_its_model(folder, rules, named):
    (folder / "greenroom.yaml").write_text(f"models:\n  sample-model:\n    {rules}\n")
    (problem,) = _found(folder)
    assert problem.startswith("error: greenroom.yaml: models.sample-model: ")
    assert named in problem


def test_a_hash_without_a_key_is_a_warning_since_the_key_may_be_elsewhere(folder):
    (folder / "greenroom.yaml").write_text("models: {sample-model: {log_hash: [amount]}}\n")
    (problem,) = _found(folder, "warning")
    assert "hashes columns of sample-model and has no key" in problem
    (folder / "greenroom.yaml").write_text(
        "log_hash_key: 0123456789abcdef\nmodels: {sample-model: {log_hash: [amount]}}\n"
    )
    assert check(folder) == []


PLANNED = """
from greenroom import TrainingPlan, TrainingRoute

KINDS = Column("kind", "category", categories=("tree", "logistic"))
QUICK = Column("quick", "boolean", nullable=True)


def plan(asked):
    __PLAN__
"""


def _planned(folder: Path, plan: str) -> None:
    _edit(
        folder,
        "app.py",
        "\n\ndef candidates",
        PLANNED.replace("__PLAN__", plan) + "\n\ndef candidates",
    )
    route = "training=TrainingRoute(request=(KINDS, QUICK), plan=plan),"
    _edit(folder, "app.py", "    models=[", f"    {route}\n    models=[")


def test_a_plan_of_trainings_that_holds_for_every_request_is_no_problem(folder):
    _planned(folder, 'return TrainingPlan(model="sample-model", candidates=(asked["kind"],))')
    assert check(folder) == []


@pytest.mark.parametrize(
    ("plan", "named"),
    [
        ('return TrainingPlan(model="other")', "no model 'other'"),
        (
            'return TrainingPlan(model="sample-model", candidates=(asked["kind"][:4],))',
            "\"logistic\", \"quick\": false}: model 'sample-model' has no candidate 'logi'",
        ),
        (
            'return TrainingPlan(model="sample-model", rows=int(asked["quick"]))',
            '{"kind": "tree", "quick": null}: TypeError',
        ),
        ("return {}", "gave dict, and not a TrainingPlan"),
        ('raise ValueError("no")', "refused every request"),
    ],
)
def test_a_plan_of_trainings_that_some_request_would_fail_with_is_named(folder, plan, named):
    _planned(folder, plan)
    problems = _found(folder)
    assert problems
    assert all("app.py, training.plan" in problem for problem in problems)
    assert any(named in problem for problem in problems), problems


def test_fields_that_do_not_go_together_are_the_callers_business(folder):
    _planned(
        folder,
        'if asked["quick"] is None:\n        raise ValueError("quick?")\n'
        '    return TrainingPlan(model="sample-model")',
    )
    assert check(folder) == []
