"""Registered models named on the command line, where there is no app."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from greenroom.errors import AppError, RegistryUnavailable, SettingsError
from greenroom.schema import Column, Schema
from greenroom.selector import Selector
from greenroom.settings import Settings
from greenroom.wiring import build_registry


def split_name(text: str) -> tuple[str, str]:
    """Return the registered name and the selector that an argument holds; empty without one.

    ``NAME``, ``NAME@alias``, ``NAME/7``, ``NAME/latest`` and ``NAME:Stage``, with or without
    MLflow's ``models:/`` before it.

    Raises
    ------
    SettingsError
        When what stands after the name selects nothing.

    Examples
    --------
    >>> split_name("credit@champion"), split_name("models:/credit/7"), split_name("credit:Staging")
    (('credit', '@champion'), ('credit', '7'), ('credit', 'Staging'))
    """
    text = text.removeprefix("models:/")
    for mark in "@/:":
        name, found, rest = text.rpartition(mark)
        if found and name:
            selector = f"@{rest}" if mark == "@" else rest
            try:
                return name, str(Selector.parse(selector))
            except AppError as error:
                raise SettingsError(f"{text}: {error.message}", advice=error.advice) from error
    return text, ""


def require_registered(names: Sequence[str], settings: Settings, no_app: AppError | None) -> None:
    """Refuse names that are neither an app nor a registered model.

    Raises
    ------
    SettingsError
        Naming the ones that are neither; or that the registry does not answer, so that it cannot
        be said what they are.
    """
    also = f", and {no_app.message} ({no_app.advice})" if no_app is not None else ""
    try:
        with build_registry(settings) as registry:
            known = {model.name for model in registry.registered_models()}
    except RegistryUnavailable as error:
        raise SettingsError(
            f"whether {', '.join(names)} is registered cannot be asked: {error.message}{also}",
            advice="start the registry, or set MLFLOW_TRACKING_URI",
        ) from error
    unknown = [name for name in names if name not in known]
    if unknown:
        listed = ", ".join(sorted(known)[:10]) or "none"
        raise SettingsError(
            f"{', '.join(unknown)} is not registered at {settings.tracking_uri}{also}",
            advice=f"registered models there: {listed}",
        )


def read_schema(path: Path) -> tuple[Column, ...]:
    """Read the columns of a request from a YAML or JSON file: a list, each with name and kind.

    Raises
    ------
    SettingsError
        When the file cannot be read, or a column is wrong.
    """
    try:
        listed: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        columns = msgspec.convert(listed, tuple[Column, ...])
        _only_known(listed)
        _no_records(columns)
        return Schema(columns).columns
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path} cannot be read as YAML: {reason}") from error
    except (msgspec.ValidationError, AppError) as error:
        raise SettingsError(
            f"{path}: {error}", advice="write a list of columns, each with name and kind"
        ) from error


def _no_records(columns: tuple[Column, ...]) -> None:
    """Refuse rows inside of a row, which nothing makes rows of where there is no app."""
    for column in columns:
        if column.kind == "records":
            raise AppError(
                f"column {column.name!r} is of kind 'records', which only an app can use"
            )


def _only_known(listed: list[dict[str, Any]]) -> None:
    """Refuse a key that no column has: a misspelt ``minimum`` would let anything pass."""
    for entry in listed:
        unknown = sorted(entry.keys() - set(Column.__slots__))
        if unknown:
            raise AppError(f"column {entry.get('name')!r} has no {unknown[0]!r}")
