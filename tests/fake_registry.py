"""A registry in memory that keeps MLflow's rules, and can be cut off after any write."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from greenroom.errors import NotInRegistry
from greenroom.registry.artifacts import RemoteFile
from greenroom.registry.registered import ModelVersion, RegisteredModel
from greenroom.registry.registry import Selection
from greenroom.selector import Selector


class Killed(BaseException):
    """The process is gone; nothing may catch this."""


class FakeRegistry:
    """What promotion needs of a registry.

    ``writes`` lists each write that was made; after ``dies_after`` of them it raises ``Killed``.
    ``before_write`` maps the number of a write to what somebody else does just before it.
    ``stored`` holds, by source, the files that a version of that source will have.
    """

    uri = "http://registry.test"

    def __init__(self) -> None:
        self.writes: list[str] = []
        self.dies_after: int | None = None
        self.before_write: dict = {}
        self._clock = itertools.count(1_000, 1_000)
        self._models: dict[str, RegisteredModel] = {}
        self._versions: dict[str, dict[str, ModelVersion]] = {}
        self._files: dict[tuple[str, str], dict[str, bytes]] = {}
        self.stored: dict[str, dict[str, bytes]] = {}

    def add(self, name: str, files: dict[str, bytes] | None = None, **fields) -> str:
        """Register a version; return its number."""
        versions = self._versions.setdefault(name, {})
        self._models.setdefault(name, RegisteredModel(name, tags={}, aliases={}))
        version = str(max(map(int, versions), default=0) + 1)
        versions[version] = ModelVersion(
            name, version, created_at_ms=next(self._clock), **{"tags": {}, **fields}
        )
        self._files[name, version] = files or {}
        return version

    def remove(self, name: str, version: str) -> None:
        del self._versions[name][version]

    # Reading

    def registered_model(self, name: str) -> RegisteredModel:
        if name not in self._models:
            raise NotInRegistry(f"Registered Model with name={name} not found")
        model = self._models[name]
        by_stage = {one.stage: one for one in self._versions[name].values()}
        return replace(
            model,
            tags=dict(model.tags),
            aliases=dict(model.aliases),
            latest_versions=tuple(by_stage.values()),
        )

    def registered_models(self) -> list[RegisteredModel]:
        return [self.registered_model(name) for name in self._models]

    def versions(self, name: str) -> list[ModelVersion]:
        self.registered_model(name)
        found = [self.version(name, version) for version in self._versions[name]]
        return sorted(found, key=lambda one: one.number)

    def version(self, name: str, version: str) -> ModelVersion:
        if version not in self._versions.get(name, {}):
            raise NotInRegistry(f"Model Version (name={name}, version={version}) not found")
        aliases = self._models[name].aliases.items()
        ours = tuple(sorted(alias for alias, named in aliases if named == version))
        return replace(self._versions[name][version], aliases=ours)

    def resolve(self, name: str, selector: Selector) -> Selection:
        if name not in self._models:
            return Selection(registered=False)
        versions = self.versions(name)
        if selector.kind == "stage":
            found = [one for one in versions if one.stage == selector.value]
        elif selector.kind == "alias":
            found = [one for one in versions if selector.value in one.aliases]
        elif selector.kind == "version":
            found = [one for one in versions if one.version == selector.value]
        else:
            found = versions[-1:]
        moved = sorted(found, key=lambda one: (one.updated_at_ms, one.number), reverse=True)
        return Selection(tuple(moved))

    def files(self, version: ModelVersion, folder: str = "") -> list[RemoteFile]:
        held = self._files[version.name, version.version]
        return [RemoteFile(path, len(held[path])) for path in held if path.startswith(folder)]

    def download(self, version: ModelVersion, path: str, destination: Path) -> Path:
        target = destination / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self._files[version.name, version.version][path])
        return target

    # Writing

    def transition(
        self, name: str, version: str, stage: str, *, archive_existing: bool = False
    ) -> ModelVersion:
        self.version(name, version)
        with self._written(f"stage {stage} {version}"):
            now = next(self._clock)
            for one in self.versions(name):
                if archive_existing and one.stage == stage and one.version != version:
                    self._change(one, stage="Archived", updated_at_ms=now)
            self._change(self.version(name, version), stage=stage, updated_at_ms=now)
        return self.version(name, version)

    def create_model(self, name: str) -> RegisteredModel:
        self._versions.setdefault(name, {})
        with self._written(f"model {name}"):
            self._models.setdefault(name, RegisteredModel(name, tags={}, aliases={}))
        return self.registered_model(name)

    def create_version(self, name: str, source: str, run_id: str = "", tags=None) -> ModelVersion:
        with self._written("version"):
            held = self.stored.get(source, {})
            version = self.add(name, held, source=source, run_id=run_id, tags=dict(tags or {}))
        return self.version(name, version)

    def delete_version(self, name: str, version: str) -> None:
        with self._written(f"no version {version}"):
            del self._versions[name][version]

    def lose_files(self, name: str, version: str) -> None:
        self._files[name, version] = {}

    def set_alias(self, name: str, alias: str, version: str) -> None:
        self.version(name, version)
        with self._written(f"alias {alias} {version}"):
            self._models[name].aliases[alias] = version

    def delete_alias(self, name: str, alias: str) -> None:
        with self._written(f"no alias {alias}"):
            self._models[name].aliases.pop(alias, None)

    def set_model_tag(self, name: str, key: str, value: str) -> None:
        self.registered_model(name)
        with self._written(f"tag {key}"):
            self._models[name].tags[key] = value

    def delete_model_tag(self, name: str, key: str) -> None:
        self.registered_model(name)
        with self._written(f"no tag {key}"):
            self._models[name].tags.pop(key, None)

    def _change(self, version: ModelVersion, **fields) -> None:
        self._versions[version.name][version.version] = replace(version, **fields)

    @contextmanager
    def _written(self, what: str) -> Iterator[None]:
        somebody = self.before_write.pop(len(self.writes), None)
        if somebody is not None:
            writes, dies_after = self.writes, self.dies_after
            self.writes, self.dies_after = [], None
            somebody(self)
            self.writes, self.dies_after = writes, dies_after
        yield
        self.writes.append(what)
        if self.dies_after is not None and len(self.writes) >= self.dies_after:
            raise Killed(what)
