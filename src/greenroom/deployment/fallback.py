"""A model's fallback: what its fallback file makes it answer with, where nothing else can be had.

The file is looked at again when it has changed. It is checked, and compared with what the app
expects, before anything of it is loaded; then its version lies in the model store like any other.
When it is asked for is :mod:`greenroom.deployment.following`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from msgspec.structs import replace

from greenroom.deployment.deployments import Target, deployment_of
from greenroom.deployment.fallback_file import (
    Sidecar,
    read_sidecar,
    rest_path,
    sidecar_path,
    unpack_fallback,
)
from greenroom.deployment.fetching import verified
from greenroom.errors import GreenroomError, VersionUnloadable
from greenroom.inference.generation import Deployment
from greenroom.registry.registered import READY, ModelVersion
from greenroom.schema import Column
from greenroom.status import FALLBACK
from greenroom.timestamps import timestamp_now
from greenroom.versions.manifest import Manifest, read_manifest
from greenroom.versions.model_store import ModelStore, Provenance

__all__ = ["FAILED", "Fallback"]

FAILED: Final = "Failed to load from MLflow registry"
"""What the log and ``/health`` begin with where a fallback file answers."""

_State: TypeAlias = tuple[tuple[int, int, int] | None, ...]
_TRAIN: Final = "train the model again, or set fallback_path to its own file"


@dataclass(frozen=True, slots=True)
class _Looked:
    """What looking at the file came to, and how the file was then."""

    state: _State
    deployment: Deployment | None = None
    error: GreenroomError | None = None


class Fallback:
    """The fallback file of one target.

    Parameters
    ----------
    target : Target
        With a ``fallback_path``.
    store : ModelStore
        Where the file's version is unpacked.
    uri : str
        The registry that the version came from.
    """

    def __init__(self, target: Target, store: ModelStore, uri: str) -> None:
        self.path: Final = Path(target.fallback_path)
        self._target = target
        self._store = store
        self._uri = uri
        self._looked: _Looked | None = None
        self._since = ""

    def instead_of(self, offered: Deployment, *, by_choice: bool = False) -> Deployment:
        """Return what is to be served: what is offered, or the file's version where it may be that.

        Parameters
        ----------
        offered : Deployment
            What the registry and the model store can give. Where that is a version, or the registry
            has said that nothing is selected, it is returned as it is.
        by_choice : bool
            Whether there is no registry because nobody wants one: then nothing is wrong.
        """
        if offered.serving is not None or not offered.selected:
            # What lies in the store may go from there while it is not used.
            self._looked, self._since = None, ""
            return offered
        try:
            found = self.deployment()
        except GreenroomError as error:
            self._since = ""
            reason = f"{offered.reason}; {error.message}" if offered.reason else error.message
            return replace(offered, reason=reason, advice=error.advice or offered.advice)
        self._since = self._since or timestamp_now()
        problems = offered.problems
        if not by_choice:
            file = f"the fallback file {self.path} answers since {self._since}"
            problems = (f"{FAILED}: {offered.reason}; {file}", *problems)
        return replace(found, problems=problems, latest_versions=offered.latest_versions)

    def deployment(self) -> Deployment:
        """Return the deployment of the file's version.

        Raises
        ------
        GreenroomError
            When the file is missing, harmed, of another model or for other requests than the
            app's, or did not load.
        """
        state = _state(self.path)
        looked = self._looked
        if looked is None or looked.state != state:
            looked = self._looked = self._look(state)
        if looked.deployment is None:
            raise looked.error or VersionUnloadable(f"the fallback file {self.path} does not load")
        return looked.deployment

    def rejected(self, problem: str) -> None:
        """Note that workers do not load it; it is left alone until the file changes."""
        error = VersionUnloadable(f"the fallback file {self.path} does not load: {problem}")
        self._looked = _Looked(_state(self.path), error=error)

    def look_again(self) -> None:
        """Look at the file anew when it is asked for next."""
        self._looked = None

    def _look(self, state: _State) -> _Looked:
        try:
            return _Looked(state, self._found())
        except GreenroomError as error:
            return _Looked(state, error=error)

    def _found(self) -> Deployment:
        sidecar = read_sidecar(self.path)
        target = self._target
        if sidecar.name != target.name:
            raise VersionUnloadable(
                f"the fallback file {self.path} is of the model {sidecar.name}, not of"
                f" {target.name}",
                advice=_TRAIN,
            )
        digest = self._taken_in(sidecar)
        directory = self._store.path(digest)
        manifest = read_manifest(directory)
        self._require_fitting(manifest)
        version = ModelVersion(
            sidecar.name,
            sidecar.version,
            stage=FALLBACK,
            status=READY,
            run_id=sidecar.run_id,
            source=sidecar.source,
            created_at_ms=sidecar.created_at_ms,
        )
        compiled = str(self._store.compiled.find(digest) or "")
        found = deployment_of(target, version, digest, str(directory), manifest, compiled)
        if found.serving is None:
            return found
        return replace(found, serving=replace(found.serving, stage=FALLBACK, source=FALLBACK))

    def _taken_in(self, sidecar: Sidecar) -> str:
        """Return the digest of the file's version, which is in the model store by then."""
        with self._store.staging() as folder:
            unpack_fallback(self.path, sidecar, folder)
            if verified(self._store, sidecar.digest):
                return sidecar.digest
            provenance = Provenance(
                uri=self._uri,
                name=sidecar.name,
                version=sidecar.version,
                source=sidecar.source,
                created_at_ms=sidecar.created_at_ms,
            )
            return self._store.add(folder, provenance)

    def _require_fitting(self, manifest: Manifest | None) -> None:
        """Refuse a version that does not answer what the app's clients ask.

        The registry's versions are served whatever they take, because somebody selected them; this
        one nobody did.
        """
        target = self._target
        if manifest is None or not target.request:
            return
        taken = manifest.request_schema
        differing = sorted(set(_differing(target.request, tuple(taken))))
        if differing:
            raise VersionUnloadable(
                f"the fallback file {self.path} takes other requests than the app:"
                f" {', '.join(differing)}",
                advice=_TRAIN,
            )
        if manifest.task != target.task:
            raise VersionUnloadable(
                f"the fallback file {self.path} is a {manifest.task} model, and the app's does"
                f" {target.task}",
                advice=_TRAIN,
            )


def _differing(expected: Iterable[Column], found: Iterable[Column]) -> Iterator[str]:
    """Name the fields of a request that are in one of the two alone, or are not alike in both."""
    described = [
        {one.request_name: (one.kind, one.nullable, one.categories) for one in columns}
        for columns in (expected, found)
    ]
    for name in described[0].keys() | described[1].keys():
        if described[0].get(name) != described[1].get(name):
            yield name


def _state(path: Path) -> _State:
    """Return what changes when one of the three files is written anew."""
    return tuple(map(_file_state, (path, rest_path(path), sidecar_path(path))))


def _file_state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
