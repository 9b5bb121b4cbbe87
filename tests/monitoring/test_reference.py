"""The reference: what travels inside a version, and what of the log can be held against it."""

from __future__ import annotations

import numpy as np
import pytest
from drifting import manifest

from greenroom.errors import MonitoringError, VersionCorrupt
from greenroom.evaluation.evidence import HoldOut, write_holdout, write_reference
from greenroom.evaluation.predictions import Predictions
from greenroom.monitoring.drift import as_batches, compare
from greenroom.monitoring.reference import read_reference_of
from greenroom.privacy import Privacy
from greenroom.schema import Column
from greenroom.split import Split
from greenroom.versions.manifest import HOLDOUT_FILE, REFERENCE_FILE, write_manifest

COLUMNS = (
    Column("Version", request_name="version"),
    Column("debt ratio", "number"),
    Column("name", "string"),
    Column("made", "number"),
)
N_ROWS = 200


@pytest.fixture
def directory(tmp_path):
    def write(**more):
        found = manifest(COLUMNS, **more)
        rng = np.random.default_rng(0)
        rows = {
            column.name: rng.choice(["a", "b"], N_ROWS).astype(object)
            if column.kind == "string"
            else rng.random(N_ROWS)
            for column in COLUMNS
        }
        write_manifest(tmp_path, found)
        known = Predictions({"prediction": np.zeros(N_ROWS)})
        write_reference(tmp_path / REFERENCE_FILE, rows, np.ones(N_ROWS), known)
        answers = Predictions({"prediction": np.arange(50.0)})
        keys = np.arange(50, dtype=np.uint64)
        write_holdout(tmp_path / HOLDOUT_FILE, HoldOut(keys, np.ones(50), answers))
        return tmp_path

    return write


def test_answers_are_those_to_rows_that_the_version_was_not_trained_on(directory):
    found = read_reference_of(directory())
    assert (len(found), len(found.answers), found.held_out) == (N_ROWS, 50, True)
    assert found.y.tolist() == [1.0] * N_ROWS


def test_where_rows_are_held_out_by_time_answers_are_those_to_training_rows(directory):
    found = read_reference_of(directory(split=Split(time="made")))
    assert (len(found.answers), found.held_out) == (N_ROWS, False)


def test_columns_are_found_in_the_log_under_the_names_that_they_have_there(directory):
    found = read_reference_of(directory()).in_log()
    assert found.names == {
        "Version": "input_Version",
        "debt ratio": "debt_ratio",
        "name": "name",
        "made": "made",
    }


def test_what_requests_do_not_hold_is_set_aside_with_its_reason(directory):
    request = (COLUMNS[0], Column("name", "category", categories=("a",)), Column("days", "integer"))
    found = read_reference_of(directory(request=request)).in_log()
    assert found.names == {"Version": "input_Version"}
    assert found.aside == {
        "debt ratio": "requests do not hold it: it is made of them",
        "name": "requests hold it as category, the model as string",
        "made": "requests do not hold it: it is made of them",
    }
    drift = compare(found, [])
    assert [one.verdict for one in drift.features] == [
        "too few rows",
        "not compared",
        "not compared",
        "not compared",
    ]


def test_what_the_log_does_not_keep_is_set_aside_and_what_it_rounds_is_rounded(directory):
    rules = Privacy(hashed=("name",), left_out=("debt ratio",), rounded={"version": 0.5})
    found = read_reference_of(directory()).in_log(rules)
    assert found.aside == {
        "debt ratio": "the log leaves it out",
        "name": "the log keeps hashes of it",
    }
    assert set(found.columns["Version"].tolist()) == {0.0, 0.5, 1.0}
    rows = {"input_Version": found.columns["Version"], "made": found.columns["made"]}
    drift = compare(found, as_batches(rows))
    assert drift.features[0].verdict == "stable"


def test_a_version_that_was_not_trained_here_has_no_reference(tmp_path):
    with pytest.raises(MonitoringError, match="not trained by Greenroom"):
        read_reference_of(tmp_path)


def test_a_reference_that_is_missing_is_a_corrupt_version(directory):
    folder = directory()
    (folder / REFERENCE_FILE).unlink()
    with pytest.raises(VersionCorrupt):
        read_reference_of(folder)
