"""What a model registry holds, as plain values: registered models and their versions.

Read from the JSON objects of MLflow's REST interface; asking for them is
:mod:`greenroom.registry.registry`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from greenroom.errors import RegistryError

READY: Final = "READY"
"""The status of a version whose registration is complete."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a registered model.

    Parameters
    ----------
    stage : str
        ``None``, ``Staging``, ``Production`` or ``Archived``.
    source : str
        What it was registered from; where its files are, the registry knows.
    status : str
        ``READY``, or why it is not.
    created_at_ms, updated_at_ms : int
        Milliseconds since 1970-01-01 UTC; a stage transition updates, an alias or a tag does not.
    """

    name: str
    version: str
    stage: str = "None"
    run_id: str = ""
    source: str = ""
    status: str = READY
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    created_at_ms: int = 0
    updated_at_ms: int = 0

    @property
    def number(self) -> int:
        """The version as a number, which is how versions are ordered."""
        return int(self.version)


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A registered model: its tags, its aliases, and by stage the highest version.

    ``latest_versions`` is a hint that something changed: where a stage holds two versions it shows
    one of them.
    """

    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    created_at_ms: int = 0
    updated_at_ms: int = 0
    latest_versions: tuple[ModelVersion, ...] = ()

    @property
    def versions_by_stage(self) -> dict[str, str]:
        """For each stage that holds a version, the highest one."""
        return {version.stage: version.version for version in self.latest_versions}


def read_registered_model(entry: Any) -> RegisteredModel:
    """Read a ``registered_model`` object.

    Raises
    ------
    RegistryError
        When it is none.

    Examples
    --------
    >>> model = read_registered_model(
    ...     {"name": "credit", "aliases": [{"alias": "champion", "version": "3"}]}
    ... )
    >>> model.aliases
    {'champion': '3'}
    """
    try:
        return RegisteredModel(
            name=str(entry["name"]),
            tags=_pairs(entry.get("tags"), "key", "value"),
            aliases=_pairs(entry.get("aliases"), "alias", "version"),
            created_at_ms=int(entry.get("creation_timestamp", 0)),
            updated_at_ms=int(entry.get("last_updated_timestamp", 0)),
            latest_versions=tuple(map(read_model_version, entry.get("latest_versions") or ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _nonsense("registered model", error) from error


def read_model_version(entry: Any) -> ModelVersion:
    """Read a ``model_version`` object; searches give it without aliases.

    Raises
    ------
    RegistryError
        When it is none.
    """
    try:
        return ModelVersion(
            name=str(entry["name"]),
            version=str(int(entry["version"])),
            stage=str(entry.get("current_stage") or "None"),
            run_id=str(entry.get("run_id") or ""),
            source=str(entry.get("source") or ""),
            status=str(entry.get("status") or READY),
            tags=_pairs(entry.get("tags"), "key", "value"),
            aliases=tuple(sorted(map(str, entry.get("aliases") or ()))),
            created_at_ms=int(entry.get("creation_timestamp", 0)),
            updated_at_ms=int(entry.get("last_updated_timestamp", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _nonsense("model version", error) from error


def _pairs(entries: Any, key: str, value: str) -> dict[str, str]:
    return {str(entry[key]): str(entry.get(value, "")) for entry in entries or ()}


def _nonsense(what: str, error: Exception) -> RegistryError:
    return RegistryError(
        f"the registry's answer holds no {what}: {type(error).__name__} {error}",
        advice="check that MLFLOW_TRACKING_URI names an MLflow server of version 3",
    )
