"""The fallback file: a version on disk beside the app, for when no registry can give one.

Three files that belong together, such as::

    models/model.pkl        the estimator, as the version's own directory has it
    models/model.pkl.zip    the rest of that directory: its graph, its features, its manifest
    models/model.pkl.json   the sidecar: which version that is, since when, and what must be in them

So a whole version comes out of them again, and answers as that version does. They are written and
read here; when a server uses them is :mod:`greenroom.deployment.fallback`'s business.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Final

import msgspec

from greenroom.data.fingerprint import file_digest
from greenroom.errors import ProcessError, VersionCorrupt
from greenroom.registry.registered import ModelVersion
from greenroom.timestamps import timestamp_now
from greenroom.versions.mlmodel import read_mlmodel
from greenroom.versions.unpickling import FLAVOR, inside
from greenroom.versions.version_files import LEFT_OUT, chunks, directory_digest, replace_file

FORMAT: Final = 1
_AGAIN: Final = "train the model again, or put back the three files that belong together"


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What a fallback file holds, and what it must look like.

    Parameters
    ----------
    name, version : str
        The registered model, and which version of it the file is.
    written_at : str
        When (UTC, ISO 8601).
    sha256, rest_sha256 : str
        Of the file itself, and of the archive beside it, in hexadecimal.
    digest : str
        The whole version's, as :func:`greenroom.versions.version_files.directory_digest` has it.
    run_id, source, created_at_ms
        What the registry said about the version.
    """

    format: int = FORMAT
    name: str
    version: str
    written_at: str
    sha256: str
    rest_sha256: str
    digest: str
    run_id: str = ""
    source: str = ""
    created_at_ms: int = 0


def sidecar_path(path: Path) -> Path:
    """Return where the sidecar of a fallback file is."""
    return path.with_name(f"{path.name}.json")


def rest_path(path: Path) -> Path:
    """Return where the rest of a fallback file's version is."""
    return path.with_name(f"{path.name}.zip")


def write_fallback(path: Path, directory: Path, version: ModelVersion) -> Sidecar:
    """Write a version's files as a fallback file, in place of the one before.

    Each of the three is there whole or as it was; the sidecar is the last, and one that was not
    reached any more does not fit the other two, so that a mixture is refused.

    Parameters
    ----------
    path : Path
        The fallback file; the two others stand beside it.
    directory : Path
        The version's files, verified.
    version : ModelVersion
        What the registry says about it.

    Raises
    ------
    VersionCorrupt
        When the version has no estimator that scikit-learn's flavour could load.
    ProcessError
        When the files cannot be written.
    """
    estimator = _estimator_file(directory)
    content = estimator.read_bytes()
    rest = _archive(directory, without=estimator)
    sidecar = Sidecar(
        name=version.name,
        version=version.version,
        written_at=timestamp_now(),
        sha256=file_digest([content]),
        rest_sha256=file_digest([rest]),
        digest=directory_digest(directory),
        run_id=version.run_id,
        source=version.source,
        created_at_ms=version.created_at_ms,
    )
    described = msgspec.json.format(msgspec.json.encode(sidecar), indent=2) + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
        replace_file(rest_path(path), rest)
        replace_file(sidecar_path(path), described)
    except OSError as error:
        raise ProcessError(
            f"{version.name} version {version.version} is registered, and the fallback file {path}"
            f" cannot be written: {error.strerror or error}",
            advice=f"make {path.parent} a folder that can be written to, and train again",
        ) from error
    return sidecar


def read_sidecar(path: Path) -> Sidecar:
    """Read what a fallback file's sidecar says, and check that the file is the one described.

    Nothing of the file is loaded, unpickled or unpacked.

    Raises
    ------
    VersionCorrupt
        When one of the three files is missing or cannot be read, or is not as the sidecar says.
    """
    if not path.is_file():
        raise VersionCorrupt(f"the fallback file {path} is not there", advice="train the model")
    try:
        content = sidecar_path(path).read_bytes()
        sidecar = msgspec.json.decode(content, type=Sidecar)
    except FileNotFoundError as error:
        raise VersionCorrupt(
            f"the fallback file {path} has no sidecar {sidecar_path(path).name}, and is not loaded"
            " without",
            advice=_AGAIN,
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise VersionCorrupt(
            f"the sidecar {sidecar_path(path)} of the fallback file cannot be read: {error}",
            advice=_AGAIN,
        ) from error
    if sidecar.format > FORMAT:
        raise VersionCorrupt(
            f"the sidecar {sidecar_path(path)} has format {sidecar.format}, this Greenroom reads up"
            f" to {FORMAT}",
            advice="upgrade greenroom where it serves",
        )
    for one, expected in ((path, sidecar.sha256), (rest_path(path), sidecar.rest_sha256)):
        _require(one, expected)
    return sidecar


def unpack_fallback(path: Path, sidecar: Sidecar, folder: Path) -> None:
    """Make the version's directory again out of a fallback file that :func:`read_sidecar` checked.

    Raises
    ------
    VersionCorrupt
        When something else comes out than the version that the sidecar names.
    """
    try:
        with zipfile.ZipFile(rest_path(path)) as rest:
            rest.extractall(folder)
        estimator = _estimator_file(folder)
        estimator.parent.mkdir(parents=True, exist_ok=True)
        estimator.write_bytes(path.read_bytes())
    except (zipfile.BadZipFile, FileNotFoundError) as error:
        raise VersionCorrupt(
            f"{rest_path(path)} is not what was written beside the fallback file", advice=_AGAIN
        ) from error
    if directory_digest(folder) != sidecar.digest:
        raise VersionCorrupt(
            f"the fallback file {path} does not hold the files of {sidecar.name} version"
            f" {sidecar.version}",
            advice=_AGAIN,
        )


def _require(path: Path, expected: str) -> None:
    try:
        found = file_digest(chunks(path))
    except OSError as error:
        raise VersionCorrupt(
            f"{path} cannot be read, which belongs to the fallback file: {error.strerror}",
            advice=_AGAIN,
        ) from error
    if found != expected:
        raise VersionCorrupt(
            f"{path} is not the file that its sidecar describes: the SHA-256 differs",
            advice=_AGAIN,
        )


def _estimator_file(directory: Path) -> Path:
    flavor = read_mlmodel(directory).flavors.get(FLAVOR, {})
    return inside(directory, str(flavor.get("pickled_model") or "model.pkl"))


def _archive(directory: Path, *, without: Path) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(directory.rglob("*")):
            name = file.relative_to(directory).as_posix()
            if file.is_file() and file != without and name not in LEFT_OUT:
                archive.write(file, name)
    return written.getvalue()
