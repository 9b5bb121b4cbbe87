"""Fallback files: a whole version in three files, and a mixture of them that is refused."""

from __future__ import annotations

import os
import pickle

import msgspec
import pytest

import builders
from app_versions import fitted
from greenroom.data.frames import to_frame
from greenroom.deployment import fallback_file
from greenroom.deployment.fallback_file import (
    read_sidecar,
    rest_path,
    sidecar_path,
    unpack_fallback,
    write_fallback,
)
from greenroom.errors import ProcessError, VersionCorrupt
from greenroom.registry.registered import ModelVersion
from greenroom.versions.version_files import directory_digest, file_digests

VERSION = ModelVersion("m", "3", run_id="r3", source="models:/m-3", created_at_ms=1_000)


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    rows = builders.numbers()
    directory = tmp_path_factory.mktemp("version") / "3"
    return fitted(
        directory, builders.COLUMNS, rows, builders.classifier(rows), builders.labels(rows)
    )


@pytest.fixture
def path(tmp_path, version):
    path = tmp_path / "models" / "model.pkl"
    write_fallback(path, version, VERSION)
    return path


def test_a_whole_version_comes_out_of_it_again_graph_and_all(tmp_path, path, version):
    sidecar = read_sidecar(path)
    unpack_fallback(path, sidecar, tmp_path / "again")
    assert file_digests(tmp_path / "again") == file_digests(version)
    assert any((tmp_path / "again").rglob("*.onnx"))
    assert (sidecar.name, sidecar.version, sidecar.run_id) == ("m", "3", "r3")
    assert sidecar.digest == directory_digest(version)
    assert sidecar.written_at.endswith("Z")


def test_the_file_itself_is_the_estimator_as_anyone_unpickles_it(path):
    with path.open("rb") as file:
        estimator = pickle.load(file)
    assert estimator.predict(to_frame(builders.numbers(3))).shape == (3,)


def test_what_mlflow_writes_beside_a_download_is_no_part_of_it(tmp_path, version):
    meta = version / "registered_model_meta"
    meta.write_text("version: 3")
    try:
        sidecar = write_fallback(tmp_path / "model.pkl", version, VERSION)
    finally:
        meta.unlink()
    unpack_fallback(tmp_path / "model.pkl", sidecar, tmp_path / "again")
    assert not (tmp_path / "again" / "registered_model_meta").exists()


@pytest.mark.parametrize("which", [lambda path: path, rest_path])
def test_a_file_that_was_changed_is_refused_by_name_before_it_is_read(path, which):
    harmed = which(path)
    harmed.write_bytes(harmed.read_bytes() + b"x")
    with pytest.raises(VersionCorrupt, match="SHA-256 differs") as refused:
        read_sidecar(path)
    assert str(harmed) in refused.value.message


def test_nothing_of_a_file_that_was_changed_is_unpickled(tmp_path, path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(VersionCorrupt, match="SHA-256 differs"):
        read_sidecar(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("which", "said"),
    [
        (lambda path: path, "is not there"),
        (sidecar_path, "has no sidecar"),
        (rest_path, "cannot be read"),
    ],
)
def test_each_of_the_three_files_is_needed_and_a_missing_one_is_named(path, which, said):
    which(path).unlink()
    with pytest.raises(VersionCorrupt, match=said) as refused:
        read_sidecar(path)
    assert which(path).name in refused.value.message
    assert refused.value.advice


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"version": 3}'])
def test_a_sidecar_that_makes_no_sense_is_refused(path, content):
    sidecar_path(path).write_bytes(content)
    with pytest.raises(VersionCorrupt, match=r"the sidecar .* cannot be read"):
        read_sidecar(path)


def test_a_sidecar_of_a_later_format_is_refused(path):
    later = msgspec.structs.replace(read_sidecar(path), format=fallback_file.FORMAT + 1)
    sidecar_path(path).write_bytes(msgspec.json.encode(later))
    with pytest.raises(VersionCorrupt, match="format 2"):
        read_sidecar(path)


def test_a_sidecar_that_names_another_version_than_comes_out_is_refused(tmp_path, path):
    other = msgspec.structs.replace(read_sidecar(path), digest="0" * 64)
    with pytest.raises(VersionCorrupt, match="does not hold the files of m version 3"):
        unpack_fallback(path, other, tmp_path / "again")


@pytest.mark.parametrize("n_written", [0, 1, 2])
def test_writing_that_is_cut_off_leaves_the_old_one_or_what_is_refused(
    monkeypatch, path, tmp_path, n_written
):
    before = read_sidecar(path)
    other = builders.version(tmp_path / "4", estimator=builders.classifier(C=0.01))
    real, written = fallback_file.replace_file, []

    def cut_off(target, content):
        if len(written) == n_written:
            raise KeyboardInterrupt
        written.append(target)
        real(target, content)

    monkeypatch.setattr(fallback_file, "replace_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write_fallback(path, other, VERSION)
    if n_written == 0:
        assert read_sidecar(path) == before
    else:
        with pytest.raises(VersionCorrupt):
            read_sidecar(path)


def test_a_folder_that_cannot_be_written_says_that_the_version_is_registered(tmp_path, version):
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(ProcessError, match="m version 3 is registered, and the fallback file"):
        write_fallback(tmp_path / "models" / "model.pkl", version, VERSION)
