"""Where the values of settings come from, and what each may say.

Read, in this order, the later over the earlier: the defaults of :mod:`greenroom.settings`, the
documented file that an app names in ``App.settings_file``, its ``greenroom.yaml``, ``GREENROOM_*``
environment variables (and MLflow's own ``MLFLOW_TRACKING_URI``), the documented variables that an
app names in ``App.environment``, and the command line's options.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from greenroom.errors import SettingsError
from greenroom.settings import Settings
from greenroom.settings_file import SettingsFile, read_yaml

SETTINGS_FILE: Final = "greenroom.yaml"
PREFIX: Final = "GREENROOM_"
FOREIGN_VARIABLES: Final = {"MLFLOW_TRACKING_URI": "tracking_uri"}
CONFIG_VARIABLE: Final = "GREENROOM_CONFIG"
"""Names another settings file than the app's, as ``--config`` does: one for each environment."""

RESERVED: Final = frozenset(
    {
        CONFIG_VARIABLE,
        "GREENROOM_GIT_COMMIT",
        "GREENROOM_GID",
        "GREENROOM_UID",
        "GREENROOM_WORKER",
    }
)
"""Variables that are not settings: what processes give to one another, and what images and
compose files know (docs/containers.md)."""


def load_settings(
    folder: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    documented: Mapping[str, str] | None = None,
    documented_file: SettingsFile | None = None,
    options: Mapping[str, Any] | None = None,
    file: Path | None = None,
) -> Settings:
    """Read the settings for the app in ``folder``.

    Parameters
    ----------
    folder : Path
        The app's folder, or the one that the command was called in.
    environment : mapping
        Environment variables; an empty one counts as not set.
    documented : mapping of str to str
        ``App.environment``: variable to dotted setting.
    documented_file : SettingsFile, optional
        ``App.settings_file``, which is below everything but the defaults.
    options : mapping
        The command line's options; None counts as not given.
    file : Path, optional
        Another file than ``greenroom.yaml`` in ``folder``.

    Raises
    ------
    SettingsError
        When a setting is unknown or its value cannot be used; the message names where it stands.
    """
    values: dict[str, Any] = {}
    if documented_file is not None:
        values = load_documented(folder, documented_file)
    path = file or folder / SETTINGS_FILE
    if file is not None or path.exists():
        _merge(values, read_yaml(path), str(path))
    for variable, setting in _variables(documented or {}).items():
        text = environment.get(variable, "")
        if text:
            _merge(values, _nested(setting, _read(setting, text)), variable)
    unknown = [
        name
        for name in environment
        if name.startswith(PREFIX) and name not in _variables({}) and name not in RESERVED
    ]
    if unknown:
        raise SettingsError(
            f"{', '.join(sorted(unknown))}: there is no such setting",
            advice="docs/settings.md lists them",
        )
    given = {name: value for name, value in (options or {}).items() if value is not None}
    _merge(values, given, "the command line")
    return _absolute(folder, msgspec.convert(values, Settings, strict=False))


def load_documented(folder: Path, file: SettingsFile) -> dict[str, Any]:
    """Return what a documented file in an app's ``folder`` sets, by setting.

    Raises
    ------
    SettingsError
        When a key is unknown or its value cannot be used; the message names file and key.
    """
    values: dict[str, Any] = {}
    for entry in file.read(folder):
        source = f"{folder / file.path}, {entry.key}"
        _merge(values, _nested(entry.setting, entry.value), source)
    return values


def _variables(documented: Mapping[str, str]) -> dict[str, str]:
    own = {
        f"{PREFIX}{field.name.upper()}": field.name
        for field in msgspec.structs.fields(Settings)
        if field.name != "models"
    }
    return {**own, **FOREIGN_VARIABLES, **documented}


def _read(setting: str, text: str) -> str | list[str]:
    """Return a variable's value: of a list, its parts between commas or spaces.

    What is one of a few words may be written in capitals or not: ``ENV=DEV``, ``LOG_LEVEL=debug``.
    """
    if setting in _LISTS:
        return text.replace(",", " ").split()
    return next((word for word in _WORDS.get(setting, ()) if word.lower() == text.lower()), text)


_LISTS: Final = frozenset(
    field.name for field in msgspec.structs.fields(Settings) if isinstance(field.default, tuple)
)
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    name: get_args(hint)
    for name, hint in get_type_hints(Settings).items()
    if get_origin(hint) is Literal
}


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    if not dotted.startswith("models."):
        return {dotted: value}
    name, _, key = dotted.removeprefix("models.").rpartition(".")
    return {"models": {name: {key: value}}}


def _merge(values: dict[str, Any], new: Mapping[str, Any], source: str) -> None:
    """Lay ``new`` over ``values``; each is converted alone, so that an error names its source."""
    merged = dict(values)
    for name, value in new.items():
        if name == "models" and isinstance(value, dict):
            models = {key: dict(entry) for key, entry in merged.get("models", {}).items()}
            for model, entry in value.items():
                models.setdefault(model, {}).update(entry if isinstance(entry, dict) else {})
            merged["models"] = models
        else:
            merged[name] = value
    try:
        msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{source}: {error}", advice="docs/settings.md lists them") from error
    values.update(merged)


def _absolute(folder: Path, settings: Settings) -> Settings:
    home = _below(folder, settings.home).resolve()
    return msgspec.structs.replace(
        settings,
        home=str(home),
        tokens_file=str(_below(home, settings.tokens_file)),
        **{
            name: str(_below(home, path))
            for name in ("log_hash_key_file", "alert_webhook_secret_file")
            if (path := getattr(settings, name))
        },
        models={
            name: msgspec.structs.replace(
                model, fallback_path=str(_below(folder, model.fallback_path))
            )
            if model.fallback_path
            else model
            for name, model in settings.models.items()
        },
        **{
            name: str(_below(folder, path))
            for name in ("ssl_certfile", "ssl_keyfile")
            if (path := getattr(settings, name))
        },
    )


def _below(folder: Path, path: str) -> Path:
    expanded = Path(path).expanduser()
    return expanded if expanded.is_absolute() else folder / expanded
