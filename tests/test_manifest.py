"""What a version carries about itself is written and read back whole, and never guessed at."""

from __future__ import annotations

import json

import pytest

from greenroom.errors import VersionCorrupt
from greenroom.gate import Gate
from greenroom.schema import Column
from greenroom.split import Split
from greenroom.versions.manifest import (
    MANIFEST_FILE,
    Code,
    Data,
    Environment,
    Manifest,
    read_manifest,
    write_manifest,
)

MANIFEST = Manifest(
    app="a",
    model="m",
    task="classification",
    candidate="boosting",
    columns=(
        Column("late-30", "integer", request_name="late_30", minimum=0, nullable=True, example=1),
        Column("kind", "category", categories=("x", "y")),
    ),
    target="bad",
    inputs=("late", "kind"),
    classes=(0, 1),
    gate=Gate("roc_auc", minimum=0.8),
    split=Split(group="kind"),
    folds=5,
    seed=42,
    data=Data(name="d", source="d.csv", dataset_hash="1", content_hash="2", n_rows=3),
    code=Code(code_hash="3", files={"app/app.py": "4"}),
    environment=Environment(python="3.11", packages={"numpy": "2"}),
    metrics={"roc_auc": 0.1 + 0.2},
)


def test_a_manifest_is_read_back_as_it_was_written(tmp_path):
    write_manifest(tmp_path, MANIFEST)

    assert read_manifest(tmp_path) == MANIFEST


def test_people_can_read_it_too(tmp_path):
    write_manifest(tmp_path, MANIFEST)

    text = (tmp_path / MANIFEST_FILE).read_text()
    assert len(text.splitlines()) > 20
    assert json.loads(text)["columns"][0]["request_name"] == "late_30"


def test_a_version_that_greenroom_did_not_train_has_none(tmp_path):
    assert read_manifest(tmp_path) is None


def test_a_later_format_is_refused_with_what_to_do(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    path = tmp_path / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))

    with pytest.raises(VersionCorrupt, match="format 99") as caught:
        read_manifest(tmp_path)
    assert "upgrade" in caught.value.advice


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": "one"}'])
def test_a_manifest_that_is_not_one_is_corrupt(tmp_path, text):
    path = tmp_path / MANIFEST_FILE
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(VersionCorrupt, match=r"version\.json"):
        read_manifest(tmp_path)
