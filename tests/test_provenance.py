"""What a training ran with: code file by file, packages, kernels."""

from __future__ import annotations

import subprocess

import pytest

from greenroom.training.provenance import loading_requirements, record_code, record_environment
from sample_app import write_app


def test_code_covers_the_app_and_greenroom_but_not_the_apps_tests_or_data(tmp_path):
    folder = write_app(tmp_path / "app", "m")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_it.py").write_text("")

    files = record_code(folder).files

    assert {"app/app.py", "app/features.py", "greenroom/schema.py"} <= files.keys()
    assert not any("test" in path or "rows.csv" in path for path in files if path[:3] == "app")


def test_one_changed_character_changes_the_code_hash_and_that_file_alone(tmp_path):
    folder = write_app(tmp_path / "app", "m")
    before = record_code(folder)
    (folder / "features.py").write_text((folder / "features.py").read_text() + "\n")
    after = record_code(folder)

    assert before.code_hash != after.code_hash
    changed = {path for path in before.files if before.files[path] != after.files[path]}
    assert changed == {"app/features.py"}


def _git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_the_git_commit_is_recorded_and_whether_the_app_differs_from_it(tmp_path):
    folder = write_app(tmp_path / "app", "m")
    assert record_code(folder).git_commit == ""
    _git(folder, "init")
    _git(folder, "add", ".")
    _git(folder, "commit", "-m", "x")

    clean = record_code(folder)
    (folder / "app.py").write_text("")
    dirty = record_code(folder)

    assert len(clean.git_commit) == 40
    assert (clean.git_dirty, dirty.git_dirty) == (False, True)


def test_an_image_that_has_no_repository_says_which_commit_it_was_built_from(tmp_path, monkeypatch):
    monkeypatch.setenv("GREENROOM_GIT_COMMIT", "b" * 40)
    folder = write_app(tmp_path / "app", "m")
    without = record_code(folder)
    _git(folder, "init")
    _git(folder, "add", ".")
    _git(folder, "commit", "-m", "x")

    assert without.git_commit == "b" * 40
    assert record_code(folder).git_commit not in {"", "b" * 40}


def test_the_environment_names_packages_kernels_and_threads_and_is_the_same_twice():
    environment = record_environment()

    assert environment.packages["scikit-learn"]
    assert any("openblas" in kernel or "mkl" in kernel for kernel in environment.blas)
    assert environment.n_threads >= 1
    assert record_environment() == environment


@pytest.mark.filterwarnings("error")
def test_requirements_name_what_loading_needs_and_no_more():
    from sklearn.ensemble import VotingClassifier
    from sklearn.linear_model import LogisticRegression

    names = {
        text.partition("==")[0]
        for text in loading_requirements(VotingClassifier([("a", LogisticRegression())]))
    }

    assert {"scikit-learn", "numpy", "mlflow", "cloudpickle"} <= names
    assert "xgboost" not in names
