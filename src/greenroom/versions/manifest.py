"""What a version carries about itself: ``greenroom/version.json`` inside its MLflow directory.

A version that Greenroom trained holds, beside MLflow's own files::

    greenroom/version.json       this manifest
    greenroom/features.py        the app's features module, when there is one
    greenroom/reference.parquet  a sample of the training rows, with target and predictions
    greenroom/holdout.parquet    for each held-out row its key, the truth and the predictions
    greenroom/context.parquet    what `expand` is given besides a request, when there is that
    greenroom/champion.parquet   the same of the version that was selected then, where rows are
                                 divided by time and it was trained on none of these
    greenroom/parity.json        whether it is compiled (:mod:`greenroom.compiler.compiled`), or why
    not

It is all that serving, the gate and ``reproduce`` need to know, so that a server can serve a
version of an app that it has never seen. Reading and writing the two tables is
:mod:`greenroom.evaluation.evidence`'s business.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from greenroom.errors import VersionCorrupt
from greenroom.gate import Gate
from greenroom.schema import Column, Schema
from greenroom.split import Split

FORMAT: Final = 1
FOLDER: Final = "greenroom"
FLAVOR: Final = "greenroom"
MANIFEST_FILE: Final = f"{FOLDER}/version.json"
FEATURES_FILE: Final = f"{FOLDER}/features.py"
REFERENCE_FILE: Final = f"{FOLDER}/reference.parquet"
HOLDOUT_FILE: Final = f"{FOLDER}/holdout.parquet"
CONTEXT_FILE: Final = f"{FOLDER}/context.parquet"
CHAMPION_FILE: Final = f"{FOLDER}/champion.parquet"


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """Which data a version was trained on.

    ``n_available`` is how many rows the source had, where only some were drawn. ``named`` says that
    whoever asked for the training named the data, not the app. ``dvc_md5`` is what the DVC pointer
    beside the file said, and ``dvc_differs`` whether the file was another one.
    """

    name: str
    source: str
    dataset_hash: str
    content_hash: str
    n_rows: int
    generated: bool = False
    n_available: int = 0
    named: bool = False
    dvc_md5: str = ""
    dvc_differs: bool = False


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """Which code trained a version: digests of the app's and Greenroom's sources, file by file."""

    code_hash: str
    files: dict[str, str]
    git_commit: str = ""
    git_dirty: bool = False


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What a version was trained with; another kernel or thread count can change the last bits."""

    python: str
    packages: dict[str, str]
    machine: str = ""
    cpu: str = ""
    n_threads: int = 1
    blas: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version carries about itself.

    ``columns`` are the model's, ``request`` those of a request where they differ; ``inputs`` are
    the names of the columns that enter the estimator, in order. ``classes`` are a classifier's.
    ``features_digest`` is the SHA-256 of ``greenroom/features.py``, empty without one.
    ``context`` are the columns of ``greenroom/context.parquet``, empty without one. ``trial`` says
    that the version never takes the place of one that was trained in full.
    ``trained_until`` is the instant of the last training row, where rows are divided by time, and
    ``champion`` the version whose answers stand in ``greenroom/champion.parquet``, where any do.
    """

    format: int = FORMAT
    app: str
    model: str
    task: str
    candidate: str
    columns: tuple[Column, ...]
    request: tuple[Column, ...] = ()
    target: str = ""
    inputs: tuple[str, ...]
    classes: tuple[Any, ...] = ()
    features_digest: str = ""
    context: tuple[str, ...] = ()
    reply: dict[str, str] = {}
    gate: Gate
    split: Split
    folds: int
    seed: int
    data: Data
    code: Code
    environment: Environment
    metrics: dict[str, float] = {}
    n_train: int = 0
    n_holdout: int = 0
    trained_until: str = ""
    champion: str = ""
    example: dict[str, Any] = {}
    trial: bool = False

    @property
    def schema(self) -> Schema:
        """A row of the data."""
        return Schema(self.columns)

    @property
    def request_schema(self) -> Schema:
        """A row of a request."""
        return Schema(self.request or self.columns)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write the manifest into a model directory, readable by people too."""
    path = directory / MANIFEST_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))


def read_manifest(directory: Path) -> Manifest | None:
    """Read the manifest of a model directory; None for a version that Greenroom did not train.

    Raises
    ------
    VersionCorrupt
        When there is one that cannot be understood, or of a later format.
    """
    path = directory / MANIFEST_FILE
    if not path.exists():
        return None
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Format).format
        if found > FORMAT:
            raise VersionCorrupt(
                f"{path.name} has format {found}, this Greenroom reads up to {FORMAT}",
                advice="upgrade greenroom where it serves",
            )
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise VersionCorrupt(f"{MANIFEST_FILE} cannot be read: {error}") from error


class _Format(msgspec.Struct):
    format: int
