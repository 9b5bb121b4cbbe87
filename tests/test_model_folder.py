"""What lies in a folder of models, and what stands in the way of registering it."""

from __future__ import annotations

import pytest

from greenroom.errors import DataError, DataMissing, VersionCorrupt
from greenroom.training.model_folder import find_models

MLMODEL = "flavors: {sklearn: {}}"


def _write(path, text: str = MLMODEL) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_each_model_has_a_folder_named_after_it(tmp_path):
    _write(tmp_path / "b" / "MLmodel")
    _write(tmp_path / "a" / "model" / "MLmodel")
    found, problems = find_models(tmp_path)

    assert [entry.name for entry in found] == ["a", "b"]
    assert [entry.directory for entry in found] == [tmp_path / "a" / "model", tmp_path / "b"]
    assert problems == []


def test_the_folder_of_one_model_is_that_model(tmp_path):
    _write(tmp_path / "a" / "MLmodel")
    _write(tmp_path / "a" / "model.pkl", "weights")
    ((entry,), problems) = find_models(tmp_path / "a")

    assert (entry.name, problems) == ("a", [])
    assert entry.sizes == {"MLmodel": len(MLMODEL), "model.pkl": 7}


def test_files_that_mlflow_writes_when_it_downloads_do_not_count(tmp_path):
    _write(tmp_path / "a" / "MLmodel")
    before = find_models(tmp_path)[0][0]
    sizes, digest = before.sizes, before.digest
    _write(tmp_path / "a" / "registered_model_meta", "version: 1")
    after = find_models(tmp_path)[0][0]

    assert (after.sizes, after.digest) == (sizes, digest)


@pytest.mark.parametrize("place", ["model.pkl", "a/model.joblib"])
def test_a_bare_model_is_named_with_both_ways_on(tmp_path, place):
    _write(tmp_path / place)
    found, (problem,) = find_models(tmp_path)

    assert found == []
    assert isinstance(problem, DataError)
    assert place in str(problem)
    assert "save_model" in problem.advice
    assert "greenroom train --into" in problem.advice


def test_other_files_and_hidden_folders_are_passed_over(tmp_path):
    _write(tmp_path / "README.md")
    _write(tmp_path / "notes" / "README.md")
    _write(tmp_path / ".training-1" / "model.pkl")

    assert find_models(tmp_path) == ([], [])


def test_a_record_without_its_model_is_a_problem(tmp_path):
    record = '{"format": 1, "app": "a", "model": "m", "digest": "", "training": "", "tags": {}, '
    _write(tmp_path / "m" / "training.json", record + '"run": {"title": "t"}}')
    _write(tmp_path / "n" / "training.json", "{")
    found, problems = find_models(tmp_path)

    assert found == []
    assert [type(problem) for problem in problems] == [VersionCorrupt, VersionCorrupt]
    assert "has lost its model" in str(problems[0])


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataMissing, match="there is no folder"):
        find_models(tmp_path / "absent")
