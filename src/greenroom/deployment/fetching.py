"""Fetching: a version's files, out of the registry into the model store, verified on the way.

Which version is fetched, and what happens where that fails, is
:mod:`greenroom.deployment.following`'s business.
"""

from __future__ import annotations

from pathlib import Path

from greenroom.data.object_stores import lies_in, shown
from greenroom.errors import VersionCorrupt, VersionUnloadable
from greenroom.registry.registered import READY, ModelVersion
from greenroom.registry.registry import Registry
from greenroom.versions.model_store import DIGEST_TAG, ModelStore, Provenance
from greenroom.versions.version_files import LEFT_OUT, directory_digest


def fetch(registry: Registry, store: ModelStore, version: ModelVersion) -> str:
    """Bring a version's files into the store, verified, and return their digest.

    A version of Greenroom's own says which digest its files must have; one of another trainer is
    checked by the sizes that the registry names. What the store has already is read again instead
    of downloaded.

    Raises
    ------
    VersionCorrupt
        When files are missing, cut off, or not the ones that were registered.
    VersionUnloadable
        When the registration is not complete.
    RegistryError
        When the files cannot be had.
    ProcessError
        When the store cannot be written.
    """
    if version.status != READY:
        raise VersionUnloadable(
            f"its registration is not complete: {version.status}", advice="register it anew"
        )
    expected = version.tags.get(DIGEST_TAG, "")
    provenance = provenance_of(registry, version)
    known = expected or store.find(provenance)
    if known and verified(store, known):
        return known
    with store.staging() as folder:
        _download(registry, version, folder)
        if expected and directory_digest(folder) != expected:
            raise VersionCorrupt(
                "its files are not the ones that were registered",
                advice="look at MLflow's artifact store, or train it again",
            )
        return store.add(folder, provenance)


def require_whole(registry: Registry, version: ModelVersion, preprocessing: str) -> None:
    """Refuse a version of another trainer that left part of the model behind in its run.

    Served by itself such a version would answer, and wrongly: its inputs were scaled before.

    Parameters
    ----------
    registry : Registry
        Where its run is.
    version : ModelVersion
        One that Greenroom did not train.
    preprocessing : str
        The artifact that its run has if that is so; empty where there is no such thing.

    Raises
    ------
    VersionUnloadable
        Naming the artifact.
    RegistryError
        When the run cannot be asked.
    """
    if preprocessing and version.run_id and registry.run_has(version.run_id, preprocessing):
        raise VersionUnloadable(
            f"it is a bare model, whose trainer kept {preprocessing} in the run {version.run_id}"
            " and not in the version: without it the answers would be wrong",
            advice="train it again with `greenroom train`, or register both as one pipeline",
        )


def require_place(registry: Registry, version: ModelVersion, place: str) -> None:
    """Refuse a version whose files are not where this server takes versions from.

    Parameters
    ----------
    registry : Registry
        Knows where they are.
    version : ModelVersion
        The one that is selected.
    place : str
        The address that its files have to lie under; empty for anywhere.

    Raises
    ------
    VersionUnloadable
        Naming both places.
    RegistryError
        When the registry cannot be asked.
    """
    if place and not lies_in(found := registry.location(version), place):
        raise VersionUnloadable(
            f"its files are at {shown(found)}, and this server takes versions from {shown(place)}",
            advice="train it again in prod, or set GREENROOM_PROD_ARTIFACTS",
        )


def provenance_of(registry: Registry, version: ModelVersion) -> Provenance:
    """Return where a version's files come from."""
    return Provenance(
        uri=registry.uri,
        name=version.name,
        version=version.version,
        source=version.source,
        created_at_ms=version.created_at_ms,
    )


def verified(store: ModelStore, digest: str) -> bool:
    """Whether the store has a version as it was downloaded; one that is not so is removed."""
    try:
        store.verify(digest)
    except VersionCorrupt:
        store.discard(digest)
        return False
    return True


def _download(registry: Registry, version: ModelVersion, folder: Path) -> None:
    files = [file for file in registry.files(version) if file.path not in LEFT_OUT]
    if not files:
        raise VersionCorrupt("it has no files", advice="look at MLflow's artifact store")
    for file in files:
        size = registry.download(version, file.path, folder).stat().st_size
        if file.size not in {None, size}:
            raise VersionCorrupt(f"its file {file.path} has {size} bytes instead of {file.size}")
