"""A training's report: what stands in the file however the training ends."""

from __future__ import annotations

import pytest

from greenroom.errors import DataMissing, ProcessError
from greenroom.training.training_report import ReportFile, TrainedModel, read_report


@pytest.mark.parametrize(
    ("error", "name", "problem"),
    [
        (DataMissing("x.csv is not there", advice="get it"), "DataMissing", "x.csv is not there"),
        (ValueError("line one\nline two"), "", "ValueError: line one line two"),
        (KeyboardInterrupt(), "", "it was stopped"),
        (MemoryError(), "", "MemoryError"),
    ],
)
def test_a_training_that_ends_in_an_error_says_so_in_one_line(tmp_path, error, name, problem):
    path = tmp_path / "report.json"

    def train():
        with ReportFile(path).kept() as file:
            file.on_progress("fitting", 0.5)
            raise error

    with pytest.raises(type(error)):
        train()
    report = read_report(path)
    assert (report.state, report.error) == ("failed", name)
    assert report.problem.startswith(problem)
    assert "\n" not in report.problem
    assert report.doing == "fitting"


def test_each_model_stands_there_as_soon_as_it_is_trained(tmp_path):
    path = tmp_path / "report.json"
    with ReportFile(path).kept() as file:
        for name in ("a", "b"):
            file.trained(TrainedModel(model=name, outcome="promoted"))
            assert read_report(path).models[-1].model == name
        assert read_report(path).state == "running"
    report = read_report(path)
    assert (report.state, [one.model for one in report.models]) == ("done", ["a", "b"])


def test_a_file_that_cannot_be_written_is_an_error_before_anything_is_done(tmp_path):
    file = ReportFile(tmp_path / "absent" / "report.json")
    with pytest.raises(ProcessError, match="cannot be written: No such file"), file.kept():
        raise AssertionError


def test_a_disk_that_fills_up_meanwhile_does_not_end_a_training(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    with ReportFile(folder / "report.json").kept() as file:
        (folder / "report.json").unlink()
        folder.rmdir()
        file.on_progress("fitting", None)


def test_what_is_no_report_is_none(tmp_path):
    (tmp_path / "half").write_bytes(b'{"state": "ru')
    assert read_report(tmp_path / "half") is None
    assert read_report(tmp_path / "absent") is None
