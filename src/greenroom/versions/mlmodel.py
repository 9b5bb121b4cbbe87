"""``MLmodel``: what MLflow says about a model in its directory, read without MLflow.

Holds the flavours, the columns of the signature and the pinned requirements. Loading what the
flavours point to is :mod:`greenroom.inference.runtime`'s business, and what Greenroom itself says
about a version is :mod:`greenroom.versions.manifest`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from greenroom.errors import AppError, VersionCorrupt, VersionUnloadable
from greenroom.schema import Column, Kind, Schema

MLMODEL_FILE: Final = "MLmodel"
REQUIREMENTS_FILE: Final = "requirements.txt"

_KINDS: Final[dict[str, Kind]] = {
    "boolean": "boolean",
    "integer": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "string": "string",
    "datetime": "datetime",
}
_PINNED: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;,]+)")
_RELOG: Final = "log the model again with `signature=infer_signature(X, y)`, X a DataFrame"
_DECLARE: Final = f"{_RELOG}, or serve it with `--schema FILE`, which lists its columns"


@dataclass(frozen=True, slots=True)
class MlModel:
    """What the ``MLmodel`` file of a directory says.

    Parameters
    ----------
    directory : Path
        Where the model lies.
    flavors : mapping
        By flavour, its configuration: ``{"sklearn": {"pickled_model": "model.pkl", ...}}``.
    inputs : sequence of mapping, optional
        The signature's inputs as they are written; None where the model has no signature.
    types : mapping of str to str
        MLflow's type of each named column: ``{"age": "long"}``.
    requirements : mapping of str to str
        Pinned packages, by their name in lower case with ``-``: ``{"scikit-learn": "1.9.1"}``.
    example_file : str
        The file with the input example, where there is one with rows.
    """

    directory: Path
    flavors: Mapping[str, Mapping[str, Any]]
    inputs: Sequence[Mapping[str, Any]] | None
    types: Mapping[str, str]
    requirements: Mapping[str, str]
    example_file: str = ""

    def schema(self) -> Schema:
        """Return the columns that the signature asks for.

        A column that MLflow does not require is nullable; MLflow infers that from missing values.

        Raises
        ------
        VersionUnloadable
            When there is no signature, or one that is not made of plain columns.
        """
        if self.inputs is None:
            raise VersionUnloadable("the model has no signature", advice=_DECLARE)
        try:
            return Schema(tuple(_column(entry) for entry in self.inputs))
        except AppError as error:
            raise VersionUnloadable(f"its signature: {error.message}", advice=_RELOG) from error

    @property
    def named(self) -> bool:
        """Whether there is a signature that names columns."""
        return bool(self.inputs) and all("name" in entry for entry in self.inputs or ())

    def example_rows(self) -> list[dict[str, Any]]:
        """Return the rows of the input example, empty where there is none that can be read."""
        if not self.example_file:
            return []
        try:
            found = msgspec.json.decode((self.directory / self.example_file).read_bytes())
            return [dict(zip(found["columns"], row, strict=True)) for row in found["data"]]
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
            # An example is a courtesy; a version without one is served all the same.
            return []


def read_mlmodel(directory: Path) -> MlModel:
    """Read the ``MLmodel`` and ``requirements.txt`` of a model directory.

    Raises
    ------
    VersionCorrupt
        When ``MLmodel`` is missing or is not what MLflow writes.
    """
    path = directory / MLMODEL_FILE
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        flavors = {name: dict(entry or {}) for name, entry in content["flavors"].items()}
        inputs = _inputs(content.get("signature"))
        types = {
            str(entry["name"]): str(entry["type"]) for entry in inputs or () if "name" in entry
        }
    except FileNotFoundError as error:
        raise VersionCorrupt(
            f"there is no {MLMODEL_FILE} among the version's files",
            advice="register a model that was logged with mlflow",
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.DecodeError) as error:
        reason = " ".join(str(error).split())
        raise VersionCorrupt(f"{MLMODEL_FILE} cannot be read: {reason}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise VersionCorrupt(f"{MLMODEL_FILE} is not what MLflow writes") from error
    return MlModel(
        directory=directory,
        flavors=flavors,
        inputs=inputs,
        types=types,
        requirements=_requirements(directory / REQUIREMENTS_FILE),
        example_file=_example_file(content),
    )


def _inputs(signature: Any) -> list[dict[str, Any]] | None:
    text = (signature or {}).get("inputs")
    return None if text is None else msgspec.json.decode(text, type=list[dict[str, Any]])


def _example_file(content: Mapping[str, Any]) -> str:
    info = content.get("saved_input_example_info") or {}
    rows = info.get("type") == "dataframe" and info.get("pandas_orient", "split") == "split"
    return str(info.get("artifact_path", "")) if rows else ""


def _requirements(path: Path) -> dict[str, str]:
    """Return the pinned packages; a file that is missing pins none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return {}
    found = (_PINNED.match(line.strip()) for line in lines)
    return {re.sub(r"[-_.]+", "-", m[1]).lower(): m[2] for m in found if m}


def _column(entry: Mapping[str, Any]) -> Column:
    kind = _KINDS.get(str(entry.get("type")))
    name = entry.get("name")
    if kind is None or name is None:
        what = (
            f"column {name!r} has type" if name is not None else "an input without a name has type"
        )
        raise VersionUnloadable(
            f"its signature cannot be served: {what} {entry.get('type')!r}", advice=_DECLARE
        )
    return Column(str(name), kind, nullable=not entry.get("required", True))
