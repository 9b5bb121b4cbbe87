"""Lineage: what a version that stands in the prediction log was made of.

A version says so itself, in its manifest, wherever its files are: in the model store, else in the
registry, of which only that one file is fetched. That the files are those that answered is told by
their digest. Who selected the version is :mod:`greenroom.promotion.history`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from greenroom.errors import GreenroomError, VersionCorrupt
from greenroom.registry.registered import ModelVersion
from greenroom.registry.registry import Registry
from greenroom.versions.manifest import FOLDER, MANIFEST_FILE, Manifest, read_manifest
from greenroom.versions.model_store import DIGEST_TAG, ModelStore

__all__ = ["Lineage", "Origin"]


class Origin(NamedTuple):
    """A version's manifest; without one, why there is none."""

    manifest: Manifest | None
    problem: str = ""


_NOT_OURS: Final = "the version was not trained by Greenroom: it does not say what it is made of"


class Lineage:
    """What finds manifests, each once.

    Parameters
    ----------
    registry : Registry
    store : ModelStore
    """

    def __init__(self, registry: Registry, store: ModelStore) -> None:
        self._registry: Final = registry
        self._store: Final = store
        self._found: dict[tuple[str, str, str], Origin] = {}

    def origin(self, name: str, version: str, digest: str) -> Origin:
        """Return the manifest of a version.

        Parameters
        ----------
        name, version : str
            The registered model and its version.
        digest : str
            Of the files that answered.
        """
        key = (name, version, digest)
        if key not in self._found:
            try:
                self._found[key] = self._look(name, version, digest)
            except GreenroomError as error:
                problem = f"what version {version} of {name} is made of is not known: {error}"
                self._found[key] = Origin(None, problem)
        return self._found[key]

    @contextmanager
    def files(self, name: str, version: str, digest: str, *paths: str) -> Iterator[Path]:
        """Yield a folder that holds some files of a version, for as long as it is needed.

        Parameters
        ----------
        name, version : str
            The registered model and its version.
        digest : str
            Of the files that answered.
        *paths : str
            The files, as paths inside the version; those that it does not have are left out.

        Raises
        ------
        VersionCorrupt
            When the version has other files now than those that answered.
        RegistryError
            When they are not in the model store and the registry cannot give them.
        """
        if self._store.path(digest).is_dir():
            yield self._store.path(digest)
            return
        registered = self._registered(name, version, digest)
        folders = {path.rpartition("/")[0] for path in paths}
        there = {file.path for one in folders for file in self._registry.files(registered, one)}
        with self._store.staging() as folder:
            for path in paths:
                if path in there:
                    self._registry.download(registered, path, folder)
            yield folder

    def _registered(self, name: str, version: str, digest: str) -> ModelVersion:
        registered = self._registry.version(name, version)
        told = registered.tags.get(DIGEST_TAG, "")
        if told and told != digest:
            raise VersionCorrupt(f"version {version} of {name} has other files than those it had")
        return registered

    def _look(self, name: str, version: str, digest: str) -> Origin:
        if self._store.path(digest).is_dir():
            return _read(self._store.path(digest))
        return self._fetched(self._registered(name, version, digest))

    def _fetched(self, version: ModelVersion) -> Origin:
        if not any(file.path == MANIFEST_FILE for file in self._registry.files(version, FOLDER)):
            return Origin(None, _NOT_OURS)
        with self._store.staging() as folder:
            self._registry.download(version, MANIFEST_FILE, folder)
            return _read(folder)


def _read(directory: Path) -> Origin:
    manifest = read_manifest(directory)
    return Origin(manifest, "" if manifest is not None else _NOT_OURS)
