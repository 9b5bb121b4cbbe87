from __future__ import annotations

import multiprocessing
import os
import time

import msgspec
import pytest

from greenroom.errors import ProcessError, VersionCorrupt
from greenroom.versions import model_store
from greenroom.versions.model_store import ModelStore, Provenance
from greenroom.versions.version_files import directory_digest


def origin(version="1", name="model"):
    return Provenance(uri="http://mlflow", name=name, version=version)


def fill(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def add(store, version="1", name="model", **files):
    with store.staging() as folder:
        fill(folder, **(files or {"MLmodel": f"{name} {version}", "greenroom__version": version}))
        return store.add(folder, origin(version, name))


def test_what_is_added_is_found_by_its_digest_and_verifies(tmp_path):
    store = ModelStore(tmp_path / "store")
    digest = add(store, MLmodel="x", greenroom__features="y")
    assert store.verify(digest) == store.path(digest)
    assert (store.path(digest) / "greenroom/features").read_text() == "y"
    assert digest == directory_digest(store.path(digest))
    assert store.find(origin()) == digest
    assert store.find(origin("2")) == ""
    assert list((tmp_path / "store/staging").iterdir()) == []


def test_a_second_process_opens_the_same_store(tmp_path):
    digest = add(ModelStore(tmp_path))
    assert ModelStore(tmp_path).verify(digest).is_dir()


def test_the_digest_leaves_out_what_mlflow_writes_on_download(tmp_path):
    one = fill(tmp_path / "one", MLmodel="x", sub__f="y")
    two = fill(tmp_path / "two", MLmodel="x", sub__f="y", registered_model_meta="version: 3")
    other = fill(tmp_path / "other", MLmodel="x", sub__g="y")
    assert directory_digest(one) == directory_digest(two) != directory_digest(other)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: (path / "MLmodel").write_text("other"), r"MLmodel is not the one"),
        (lambda path: (path / "MLmodel").unlink(), r"MLmodel is missing"),
        (lambda path: (path / "extra.py").write_text("x"), r"extra\.py is not the one"),
    ],
)
def test_a_harmed_version_does_not_verify_and_the_file_is_named(tmp_path, harm, said):
    store = ModelStore(tmp_path)
    digest = add(store)
    harm(store.path(digest))
    with pytest.raises(VersionCorrupt, match=said):
        store.verify(digest)


def test_a_version_that_is_not_there_does_not_verify(tmp_path):
    store = ModelStore(tmp_path)
    with pytest.raises(VersionCorrupt, match="no version"):
        store.verify("0" * 64)
    digest = add(store)
    store.discard(digest)
    store.discard(digest)
    with pytest.raises(VersionCorrupt, match="no version"):
        store.verify(digest)
    assert store.find(origin()) == ""


def test_staging_that_was_not_added_leaves_nothing(tmp_path):
    store = ModelStore(tmp_path)

    def fail():
        with store.staging() as folder:
            fill(folder, MLmodel="half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list((tmp_path / "staging").iterdir()) == []
    assert list((tmp_path / "versions").iterdir()) == []


def test_the_same_files_added_again_are_one_version(tmp_path):
    store = ModelStore(tmp_path)
    first = add(store, "1", MLmodel="same")
    again = add(store, "2", MLmodel="same")
    assert first == again
    assert store.find(origin("2")) == first
    assert len(list((tmp_path / "versions").iterdir())) == 1


def _add_many(root, barrier):
    store = ModelStore(root)
    barrier.wait()
    for number in range(20):
        store.verify(add(store, str(number % 5)))
        store.remember("/predict", origin(str(number)))
        assert store.recall("/predict", Provenance) is not None


def test_several_processes_add_the_same_versions_at_a_time(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [context.Process(target=_add_many, args=(tmp_path, barrier)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(list((tmp_path / "versions").iterdir())) == 5
    assert [path.name for path in (tmp_path / "records").iterdir() if path.name[0] == "."] == []


def test_what_is_remembered_is_recalled_and_what_cannot_be_read_is_nothing(tmp_path):
    store = ModelStore(tmp_path)
    assert store.recall("/predict", Provenance) is None
    store.remember("/predict", origin("1"))
    store.remember("/predict", origin("2"))
    store.remember("/a/b", origin("3"))
    assert ModelStore(tmp_path).recall("/predict", Provenance) == origin("2")
    assert store.recall("/a/b", Provenance) == origin("3")
    for path in (tmp_path / "selected").iterdir():
        path.write_text('{"of another": "release"}')
    assert store.recall("/predict", Provenance) is None


def test_pruning_keeps_the_last_of_each_model_and_what_is_in_use(tmp_path):
    store = ModelStore(tmp_path)
    digests = []
    for number in range(5):
        digests.append(add(store, str(number)))
        os.utime(tmp_path / f"records/{digests[-1]}.json", (number, number))
    other = add(store, name="other")
    assert set(store.prune(2, {digests[0]})) == {digests[1], digests[2]}
    assert {path.name for path in (tmp_path / "versions").iterdir()} == {
        digests[0],
        digests[3],
        digests[4],
        other,
    }


def test_pruning_clears_what_a_killed_process_left(tmp_path):
    store = ModelStore(tmp_path)
    fill(tmp_path / "staging/old", MLmodel="half")
    fill(tmp_path / "staging/young", MLmodel="half")
    past = time.time() - model_store.ABANDONED_AFTER_S - 60
    os.utime(tmp_path / "staging/old", (past, past))
    store.prune(1, ())
    assert [path.name for path in (tmp_path / "staging").iterdir()] == ["young"]


def test_a_store_of_a_later_format_is_refused_by_name(tmp_path):
    ModelStore(tmp_path)
    (tmp_path / "store.json").write_bytes(msgspec.json.encode({"format": 99}))
    with pytest.raises(ProcessError, match=r"has format 99, this Greenroom reads up to 1; upgrade"):
        ModelStore(tmp_path)
    (tmp_path / "store.json").write_text("[]")
    with pytest.raises(ProcessError, match=r"store\.json is not a model store's"):
        ModelStore(tmp_path)


def test_a_folder_that_cannot_be_written_is_named_in_one_line(tmp_path, monkeypatch):
    # Folders refuse nobody who runs as root, so that the system's answer is put in its place.
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(ProcessError) as raised:
        ModelStore(tmp_path / "home/store")
    assert raised.value.message == f"the folder {tmp_path} cannot be written: Permission denied"
    assert "chown" in raised.value.advice


def test_a_file_in_the_place_of_the_folder_is_named_too(tmp_path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(ProcessError, match="cannot be written: Not a directory"):
        ModelStore(tmp_path / "home/store")


@pytest.mark.parametrize("digest", ["", "..", "../../etc", "0" * 63, "A" * 64])
def test_what_is_no_digest_never_becomes_a_path(tmp_path, digest):
    store = ModelStore(tmp_path / "store")
    for method in (store.path, store.verify, store.record, store.discard):
        with pytest.raises(VersionCorrupt, match="no digest"):
            method(digest)
