"""What was compiled of a version: beside it, verified, kept and removed with it."""

from __future__ import annotations

import os

import pytest

from greenroom.errors import VersionCorrupt
from greenroom.versions.model_store import ModelStore
from greenroom.versions.version_files import directory_digest
from test_model_store import add, fill


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "store")


def keep(store, digest, content="graph"):
    with store.staging() as folder:
        return store.keep_compiled(digest, fill(folder, greenroom__graph=content))


def test_what_is_kept_is_found_after_a_restart_and_the_version_verifies_as_before(store):
    digest = add(store)
    assert store.compiled.find(digest) is None
    assert store.compiled.verify(digest) is None
    path = keep(store, digest)
    again = ModelStore(store.root)
    assert again.compiled.find(digest) == again.compiled.verify(digest) == path
    assert (path / "greenroom/graph").read_text() == "graph"
    assert path.name == directory_digest(path)
    assert again.verify(digest).is_dir()


def test_what_is_kept_anew_takes_the_place_of_what_was(store):
    digest = add(store)
    before, after = keep(store, digest), keep(store, digest, "another graph")
    assert before != after == store.compiled.find(digest)
    assert not before.exists()
    assert keep(store, digest, "another graph") == after
    assert store.compiled.verify(digest) == after


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: (path / "greenroom/graph").write_text("other"),
        lambda path: (path / "greenroom/graph").unlink(),
        lambda path: (path / "more").write_text(""),
    ],
)
def test_what_is_harmed_does_not_verify(store, harm):
    digest = add(store)
    harm(keep(store, digest))
    with pytest.raises(VersionCorrupt, match=r"compiled/.* is not what was compiled"):
        store.compiled.verify(digest)


def test_it_outlives_a_version_that_is_removed_and_downloaded_again(store):
    digest = add(store)
    path = keep(store, digest)
    store.discard(digest)
    with pytest.raises(VersionCorrupt):
        store.verify(digest)
    assert add(store) == digest
    assert store.compiled.verify(digest) == path


def test_it_goes_when_its_version_goes(store):
    old, new = add(store, "1"), add(store, "2")
    os.utime(store.root / f"records/{old}.json", (1, 1))
    kept = keep(store, new)
    keep(store, old)
    assert store.prune(1, ()) == [old]
    assert store.compiled.find(old) is None
    assert store.compiled.find(new) == kept


def test_it_goes_also_when_its_version_was_removed_and_never_came_back(store):
    old, _ = add(store, "1"), add(store, "2")
    keep(store, old)
    store.discard(old)
    os.utime(store.root / f"records/{old}.json", (1, 1))
    store.prune(1, ())
    assert list((store.root / "compiled").iterdir()) == []
    assert not (store.root / f"records/{old}.json").exists()


def test_nothing_is_kept_of_a_version_that_is_gone(store):
    digest = add(store)
    store.discard(digest)
    with pytest.raises(VersionCorrupt, match="in the meantime"):
        keep(store, digest)
    assert list((store.root / "compiled").iterdir()) == []


def test_what_is_discarded_is_gone_once(store):
    digest = add(store)
    keep(store, digest)
    assert store.compiled.discard(digest)
    assert not store.compiled.discard(digest)
    assert store.compiled.find(digest) is None
