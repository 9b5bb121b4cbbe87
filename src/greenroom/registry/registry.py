"""MLflow's model registry: registered models, their versions, stages, aliases, tags and files.

A small client of the REST interface, because importing ``mlflow`` costs seconds and its client
waits for minutes; nothing is tried twice and nothing is cached but where a version's files are. A
selector is resolved through the versions themselves. Deciding what may be selected is
:mod:`greenroom.promotion.promotion`'s business, keeping files
:mod:`greenroom.versions.model_store`'s.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Final, Self

from greenroom.errors import NotInRegistry, RegistryError
from greenroom.registry.artifacts import RemoteFile, download_file, list_files, resolve_location
from greenroom.registry.mlflow_rest import MlflowRest
from greenroom.registry.registered import (
    READY,
    ModelVersion,
    RegisteredModel,
    read_model_version,
    read_registered_model,
)
from greenroom.selector import ACTIVE_STAGES, Selector

__all__ = ["ModelVersion", "RegisteredModel", "Registry", "RemoteFile", "Selection"]

_MODELS_PER_PAGE: Final = 1_000
_VERSIONS_PER_PAGE: Final = 10_000
_MOST_PAGES: Final = 1_000
_READY_WITHIN_S: Final = 60.0
_EXISTS: Final = "RESOURCE_ALREADY_EXISTS"


@dataclass(frozen=True, slots=True)
class Selection:
    """What a selector names: no version, one, or, for a stage, several.

    Parameters
    ----------
    versions : tuple of ModelVersion
        The one that was moved there last comes first, then the higher number.
    registered : bool
        Whether the registered model itself is there.
    """

    versions: tuple[ModelVersion, ...] = ()
    registered: bool = True


class Registry:
    """A connection to MLflow's model registry; threads may share it.

    Parameters
    ----------
    uri : str
        The MLflow server's address.
    timeout_s : float
        How long connecting, and each wait for an answer, may take.
    environment : mapping of str to str
        Where MLflow's variables for credentials and TLS are read from.

    Raises
    ------
    RegistryError
        When ``uri`` is not the address of a server. Every method raises it when MLflow refuses,
        ``RegistryUnavailable`` when MLflow cannot be reached in time, and ``NotInRegistry`` when
        the model, version or alias that it is given is not there.
    """

    def __init__(
        self,
        uri: str,
        *,
        timeout_s: float = 5.0,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._rest = MlflowRest(uri, timeout_s=timeout_s, environment=environment)
        self._locations: dict[tuple[str, str, int], str] = {}

    @property
    def uri(self) -> str:
        """The server's address, without credentials."""
        return self._rest.uri

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def ping(self) -> None:
        """Ask the registry for something small; raise when it does not answer like a registry."""
        self._rest.get("registered-models/search", max_results=1)

    # Reading

    def registered_models(self) -> list[RegisteredModel]:
        """Return all registered models, by one call (and one more for each further thousand)."""
        found = self._pages(
            "registered-models/search", "registered_models", max_results=_MODELS_PER_PAGE
        )
        return [read_registered_model(entry) for entry in found]

    def registered_model(self, name: str) -> RegisteredModel:
        """Return one registered model."""
        answer = self._rest.get("registered-models/get", name=name)
        return read_registered_model(answer.get("registered_model"))

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all versions of a model, lowest number first, with their aliases."""
        return self._versions(self.registered_model(name))

    def version(self, name: str, version: str) -> ModelVersion:
        """Return one version, with its aliases."""
        answer = self._rest.get("model-versions/get", name=name, version=version)
        return read_model_version(answer.get("model_version"))

    def by_alias(self, name: str, alias: str) -> ModelVersion:
        """Return the version that an alias names."""
        aliases = self.registered_model(name).aliases
        if alias not in aliases:
            raise NotInRegistry(f"{name} has no alias @{alias}")
        return self.version(name, aliases[alias])

    def resolve(self, name: str, selector: Selector) -> Selection:
        """Return the versions that a selector names; a model that is not there has none.

        Versions that are not ready (their registration is under way or has failed) are not
        selected by ``latest``.
        """
        try:
            model = self.registered_model(name)
        except NotInRegistry:
            return Selection(registered=False)
        if selector.kind == "alias":
            versions = self._existing(name, model.aliases.get(selector.value, ""))
        elif selector.kind == "version":
            versions = self._existing(name, selector.value)
        elif selector.kind == "latest":
            versions = [one for one in self._versions(model) if one.status == READY][-1:]
        else:
            versions = [one for one in self._versions(model) if one.stage == selector.value]
        return Selection(tuple(sorted(versions, key=_moved_last, reverse=True)))

    # Writing

    def transition(
        self, name: str, version: str, stage: str, *, archive_existing: bool = False
    ) -> ModelVersion:
        """Move a version into a stage; ``archive_existing`` moves out what else is there."""
        body = {
            "name": name,
            "version": version,
            "stage": stage,
            # MLflow answers 500 where it cannot archive; there is nothing to archive then.
            "archive_existing_versions": archive_existing and stage in ACTIVE_STAGES,
        }
        answer = self._rest.post("model-versions/transition-stage", body)
        return read_model_version(answer.get("model_version"))

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias name a version, whatever it named before."""
        self._rest.post(
            "registered-models/alias", {"name": name, "alias": alias, "version": version}
        )

    def delete_alias(self, name: str, alias: str) -> None:
        """Delete an alias; none is no error."""
        self._rest.delete("registered-models/alias", {"name": name, "alias": alias})

    def set_model_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of a registered model."""
        self._rest.post("registered-models/set-tag", {"name": name, "key": key, "value": value})

    def delete_model_tag(self, name: str, key: str) -> None:
        """Delete a tag of a registered model; none is no error."""
        self._rest.delete("registered-models/delete-tag", {"name": name, "key": key})

    def set_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        self._rest.post(
            "model-versions/set-tag",
            {"name": name, "version": version, "key": key, "value": value},
        )

    def delete_version_tag(self, name: str, version: str, key: str) -> None:
        """Delete a tag of a version; none is no error."""
        self._rest.delete(
            "model-versions/delete-tag", {"name": name, "version": version, "key": key}
        )

    def create_model(self, name: str) -> RegisteredModel:
        """Register a model; one that is there already is no error."""
        self._rest.post("registered-models/create", {"name": name}, accept={_EXISTS})
        return self.registered_model(name)

    def create_version(
        self, name: str, source: str, run_id: str = "", tags: Mapping[str, str] | None = None
    ) -> ModelVersion:
        """Register a version of a model, and wait until it is ready.

        Parameters
        ----------
        source : str
            Where its files are: ``models:/m-...`` for a logged model.
        run_id : str
            The run that made it.
        tags : mapping of str to str
            Set together with the version, so that it is never there without them.
        """
        body: dict[str, Any] = {"name": name, "source": source}
        body["tags"] = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        if run_id:
            body["run_id"] = run_id
        if source.startswith("models:/m-"):
            body["model_id"] = source.removeprefix("models:/")
        answer = self._rest.post("model-versions/create", body)
        return self._ready(read_model_version(answer.get("model_version")))

    # Files

    def files(self, version: ModelVersion, folder: str = "") -> list[RemoteFile]:
        """Return a version's files, sorted by path; those below ``folder``, when it is given."""
        return list_files(self._rest, self.location(version), folder)

    def download(self, version: ModelVersion, path: str, destination: Path) -> Path:
        """Download one file of a version to ``destination / path``, whole or not at all.

        Parameters
        ----------
        path : str
            Relative to the version, as :meth:`files` gives it.
        destination : Path
            A folder; it and the folders in ``path`` are made when they are not there.

        Returns
        -------
        Path
            Where the file is.
        """
        return download_file(self._rest, self.location(version), path, destination)

    def run_has(self, run_id: str, path: str) -> bool:
        """Whether a run has an artifact at ``path``, beside the models that it logged."""
        folder = str(PurePosixPath(path).parent)
        answer = self._rest.get(
            "artifacts/list", run_id=run_id, **({} if folder == "." else {"path": folder})
        )
        return any(file.get("path") == path for file in answer.get("files", []))

    def location(self, version: ModelVersion) -> str:
        """Return where a version's files are: for good, once it is created."""
        key = (version.name, version.version, version.created_at_ms)
        if key not in self._locations:
            answer = self._rest.get(
                "model-versions/get-download-uri", name=version.name, version=version.version
            )
            location = str(answer.get("artifact_uri", ""))
            self._locations[key] = resolve_location(self._rest, location)
        return self._locations[key]

    def _versions(self, model: RegisteredModel) -> list[ModelVersion]:
        """MLflow's search knows no aliases; they are the registered model's."""
        found = (
            read_model_version(entry)
            for entry in self._pages(
                "model-versions/search",
                "model_versions",
                filter=name_filter(model.name),
                max_results=_VERSIONS_PER_PAGE,
            )
        )
        ours = {one.version: one for one in found if one.name == model.name}
        aliases: dict[str, list[str]] = {}
        for alias, version in model.aliases.items():
            aliases.setdefault(version, []).append(alias)
        return sorted(
            (
                replace(one, aliases=tuple(sorted(aliases.get(version, ()))))
                for version, one in ours.items()
            ),
            key=lambda one: one.number,
        )

    def _existing(self, name: str, version: str) -> list[ModelVersion]:
        try:
            return [self.version(name, version)] if version else []
        except NotInRegistry:
            return []

    def _ready(self, version: ModelVersion) -> ModelVersion:
        deadline = time.monotonic() + _READY_WITHIN_S
        while version.status == "PENDING_REGISTRATION" and time.monotonic() < deadline:
            time.sleep(0.1)
            version = self.version(version.name, version.version)
        if version.status != READY:
            raise RegistryError(
                f"{version.name} version {version.version} did not become ready: {version.status}",
                advice="look at it in MLflow, and register it anew",
            )
        return version

    def _pages(self, endpoint: str, key: str, **params: str | int) -> Iterator[dict[str, Any]]:
        token = ""
        for _ in range(_MOST_PAGES):
            page = {"page_token": token} if token else {}
            answer = self._rest.get(endpoint, **params, **page)
            yield from answer.get(key, [])
            token = str(answer.get("next_page_token") or "")
            if not token:
                return
        raise RegistryError(f"MLflow at {self.uri} gave more than {_MOST_PAGES} pages")


def name_filter(name: str) -> str:
    """Write the filter that finds a model's versions, and perhaps a few of similar names.

    MLflow's filters take either quote around a value and have no escape. A name that holds both
    is searched for with a wildcard.

    Examples
    --------
    >>> print(name_filter("it's"))
    name = "it's"
    """
    if "'" not in name:
        return f"name = '{name}'"
    if '"' not in name:
        return f'name = "{name}"'
    return "name LIKE '" + name.replace("'", "_") + "'"


def _moved_last(version: ModelVersion) -> tuple[int, int]:
    return version.updated_at_ms, version.number
