"""A training in a folder: written whole or not at all, and read back."""

from __future__ import annotations

import os
import time

import msgspec
import pytest

from greenroom.errors import ProcessError, VersionCorrupt
from greenroom.training.run_folder import RunFolder, read_training


def _keep(target, text: str = "weights", **tags: str):
    journal = RunFolder(target)
    with journal.run("a training", tags={"by": "a test"}) as run:
        run.log_params({"C": 1.0})
        run.log_files({"reports/summary.txt": b"good"})
        with journal.run("tree", tags={}, parent=run) as below:
            below.log_metrics({"roc_auc": 0.8})
    model = next(target.parent.glob(".training-*")) / "model"
    model.mkdir()
    (model / "MLmodel").write_text(text)
    return journal.keep("app", target.name, "digest", tags)


def test_what_was_kept_is_read_back_with_its_candidates(tmp_path):
    kept = _keep(tmp_path / "model", candidate="tree")

    assert read_training(tmp_path / "model") == kept
    assert kept.run.params == {"C": "1.0"}
    assert [(one.title, one.metrics) for one in kept.candidates] == [("tree", {"roc_auc": 0.8})]
    assert (tmp_path / "model" / "run" / "reports" / "summary.txt").read_bytes() == b"good"
    assert kept.run.started_at_ms <= kept.run.ended_at_ms


def test_a_second_training_takes_the_place_of_the_first_and_leaves_nothing_beside_it(tmp_path):
    first = _keep(tmp_path / "model")
    second = _keep(tmp_path / "model", "other weights")

    assert first.digest != second.digest == read_training(tmp_path / "model").digest
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_training_that_fails_leaves_what_was_there_before(tmp_path):
    kept = _keep(tmp_path / "model")
    journal = RunFolder(tmp_path / "model")
    journal.discard()

    assert read_training(tmp_path / "model") == kept
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_training_left_is_removed_a_day_later(tmp_path):
    RunFolder(tmp_path / "model")
    (left,) = tmp_path.glob(".training-*")
    day_before_s = time.time() - 25 * 3600
    os.utime(left, (day_before_s, day_before_s))
    RunFolder(tmp_path / "model").discard()

    assert not left.exists()


def test_files_of_somebody_else_are_not_trained_over(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")

    with pytest.raises(ProcessError, match="no training wrote"):
        RunFolder(tmp_path / "model")
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "models").write_text("a file")

    with pytest.raises(ProcessError, match="models"):
        RunFolder(tmp_path / "models" / "model")


@pytest.mark.parametrize(
    ("text", "reason"),
    [(b"{", "cannot be read"), (b"{}", "cannot be read"), (b'{"format": 2}', "later Greenroom")],
)
def test_a_record_that_cannot_be_understood_is_refused(tmp_path, text, reason):
    (tmp_path / "training.json").write_bytes(text)

    with pytest.raises(VersionCorrupt, match=reason):
        read_training(tmp_path)


def test_a_folder_without_a_record_was_not_trained_into(tmp_path):
    assert read_training(tmp_path) is None
    assert read_training(tmp_path / "absent") is None


def test_a_record_is_readable_by_people(tmp_path):
    _keep(tmp_path / "model")
    text = (tmp_path / "model" / "training.json").read_text()

    assert len(text.splitlines()) > 10
    assert msgspec.json.decode(text)["app"] == "app"
