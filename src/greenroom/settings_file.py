"""A settings file with an outline of its own: where it is, and which setting each key sets.

For applications whose operators already have a documented file, such as
``config/mlflow_config.yaml``. What a setting may be is :mod:`greenroom.settings`'s business, which
source wins :mod:`greenroom.settings_sources`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import yaml

from greenroom.errors import AppError, SettingsError, refuse

__all__ = ["Entry", "SettingsFile", "read_yaml"]


class Entry(NamedTuple):
    """One key of a file that sets something: its name with dots, the setting, and the value."""

    key: str
    setting: str
    value: Any


@dataclass(frozen=True)
class SettingsFile:
    """A documented settings file of an app's own.

    Parameters
    ----------
    path : str
        A YAML file inside the app's folder; where it is absent, it sets nothing.
    keys : mapping of str to str
        Every key that the file may hold, with dots where one stands below another, and the setting
        that it sets; a model's are ``models.NAME.name`` and ``models.NAME.serve``.

    Raises
    ------
    AppError
        Naming everything that is wrong.

    Examples
    --------
    >>> file = SettingsFile("config/api.yaml", {"api.port": "port", "mlflow.uri": "tracking_uri"})
    >>> list(file.entries({"api": {"port": 5001}}))
    [Entry(key='api.port', setting='port', value=5001)]
    """

    path: str
    keys: Mapping[str, str]

    def __post_init__(self) -> None:
        problems = [f"settings_file.{problem}" for problem in self._problems()]
        if problems:
            refuse(AppError("; ".join(problems), problems=problems))

    def _problems(self) -> Iterator[str]:
        parts = PurePath(self.path)
        if not self.path or parts.is_absolute() or ".." in parts.parts:
            yield f"path: {self.path!r} is not a path inside the app's folder"
        if not self.keys:
            yield "keys: there is none"
        for key in self.keys:
            if not all(key.split(".")):
                yield f"keys: {key!r} is no key with dots between its parts"
            if any(other.startswith(f"{key}.") for other in self.keys):
                yield f"keys: {key!r} cannot set something and hold other keys too"

    def read(self, folder: Path) -> list[Entry]:
        """Return what the file in an app's ``folder`` sets; nothing where it is absent.

        Raises
        ------
        SettingsError
            When it cannot be read, or holds a key that there is not.
        """
        path = folder / self.path
        if not path.exists():
            return []
        try:
            return list(self.entries(read_yaml(path)))
        except ValueError as error:
            known = ", ".join(self.keys)
            raise SettingsError(f"{path}: {error}", advice=f"it may hold {known}") from error

    def entries(self, document: Mapping[Any, Any]) -> Iterator[Entry]:
        """Return what a document sets, key by key, in its order.

        Raises
        ------
        ValueError
            Naming every key that there is not, and every one that should hold others.
        """
        found: list[Entry] = []
        wrong: list[str] = []
        self._walk(document, "", found, wrong)
        if wrong:
            raise ValueError("; ".join(wrong))
        return iter(found)

    def _walk(
        self, section: Mapping[Any, Any], above: str, found: list[Entry], wrong: list[str]
    ) -> None:
        for name, value in section.items():
            key = f"{above}{name}"
            if key in self.keys:
                found.append(Entry(key, self.keys[key], value))
            elif not any(known.startswith(f"{key}.") for known in self.keys):
                wrong.append(f"there is no key {key}")
            elif isinstance(value, Mapping):
                self._walk(value, f"{key}.", found, wrong)
            elif value is not None:
                wrong.append(f"{key} must hold keys, not a value")


def read_yaml(path: Path) -> dict[Any, Any]:
    """Return what a YAML file holds, which has to be names and values.

    Raises
    ------
    SettingsError
        When it cannot be read, or holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path} cannot be read as YAML: {reason}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path} holds no settings", advice="write one `name: value` a line")
    return values
