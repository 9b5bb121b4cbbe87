"""The files of a model version: which there are, and one of them at a time.

They are where MLflow put them: behind the server itself (``mlflow-artifacts:``), in a folder of
this machine, or in an object store that fsspec reaches. What the files mean, whether they are the
right ones, and where they are kept is left to :mod:`greenroom.versions.model_store`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from greenroom.data.object_stores import opened_store, shown
from greenroom.errors import NotInRegistry, RegistryError
from greenroom.registry.mlflow_rest import MlflowRest

PROXY: Final = "/api/2.0/mlflow-artifacts/artifacts"
_CHUNK_BYTES: Final = 1 << 20
_DEEPEST: Final = 32
_ASK: Final = (
    "let MLflow hand them out: start it with --artifacts-destination and without "
    "a --default-artifact-root of its own"
)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a version: its path relative to the version, and its size where it is known."""

    path: str
    size: int | None = None


def list_files(rest: MlflowRest, location: str, folder: str = "") -> list[RemoteFile]:
    """Return the files under ``location``, sorted by path.

    Parameters
    ----------
    rest : MlflowRest
        The server that named the location.
    location : str
        Where a version's files are (:func:`resolve_location`).
    folder : str
        Only the files below this folder of the version; their paths still start with it.

    Raises
    ------
    RegistryError
        When the location cannot be read from here, or a path leads out of it.
    """
    root = _proxied(rest, location)
    if root is not None:
        found = _walk_proxy(rest, root, folder, 0)
    elif (local := _local(location)) is not None:
        found = _walk_local(local, folder)
    else:
        found = _walk_store(location, folder)
    return sorted(found, key=lambda file: file.path)


def download_file(rest: MlflowRest, location: str, path: str, destination: Path) -> Path:
    """Download one file to ``destination / path`` and return where it is.

    The file appears whole or not at all.

    Parameters
    ----------
    path : str
        Relative to the version, as :func:`list_files` gives it.
    destination : Path
        A folder, made when it is not there.

    Raises
    ------
    NotInRegistry
        When there is no such file.
    RegistryError
        When ``path`` leads out of the version, or the location cannot be read from here.
    """
    target = destination / safe_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    try:
        with partial.open("wb") as file:
            for chunk in _read(rest, location, path):
                file.write(chunk)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def upload_file(rest: MlflowRest, location: str, path: str, content: bytes) -> None:
    """Write a file below ``location``, or replace it.

    Parameters
    ----------
    location : str
        Where a run's files are: its ``artifact_uri``.
    path : str
        Relative to it.

    Raises
    ------
    RegistryUnavailable
        When the server or the store cannot be reached.
    RegistryError
        When ``path`` leads out of the run, or the location cannot be written from here.
    """
    safe_path(path)
    root = _proxied(rest, location)
    if root is not None:
        rest.upload(f"{PROXY}/{quote(_joined(root, path))}", content)
    elif (local := _local(location)) is not None:
        _write_local(local, path, content)
    else:
        with (
            opened_store(location, RegistryError) as (filesystem, root),
            filesystem.open(_joined(root, path), "wb") as file,
        ):
            file.write(content)


def _write_local(root: Path, path: str, content: bytes) -> None:
    """Write a file of a run's: MLflow makes the run's own folder when something is written."""
    if not root.parents[1].parent.is_dir():
        raise RegistryError(f"the files are in {root}, which is not on this machine", advice=_ASK)
    target = root / path
    fresh = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(content)
        fresh.replace(target)
    except OSError as error:
        raise RegistryError(f"{target} cannot be written: {error.strerror}") from error


def safe_path(path: str) -> PurePosixPath:
    """Return ``path`` as a path that cannot leave the folder it is joined to.

    Raises
    ------
    RegistryError
        When it is empty, absolute, or goes up.

    Examples
    --------
    >>> safe_path("greenroom/version.json")
    PurePosixPath('greenroom/version.json')
    >>> safe_path("../secret")
    Traceback (most recent call last):
    ...
    greenroom.errors.RegistryError: '../secret' is not a path inside a version; ...
    """
    parts = path.split("/")
    if not path or "\0" in path or "\\" in path or any(part in {"", ".", ".."} for part in parts):
        raise RegistryError(
            f"{path!r} is not a path inside a version",
            advice="the registry's answer is not to be trusted; nothing was written",
        )
    return PurePosixPath(path)


def resolve_location(rest: MlflowRest, location: str) -> str:
    """Turn what ``get-download-uri`` says (also ``runs:/``, ``models:/m-``) into a place."""
    scheme, _, rest_of_it = location.partition(":/")
    if scheme == "runs":
        run_id, _, path = rest_of_it.strip("/").partition("/")
        root = _artifact_uri(rest.get("runs/get", run_id=run_id), "run")
        return f"{root.rstrip('/')}/{path}"
    if scheme == "models" and rest_of_it.startswith("m-"):
        return _artifact_uri(rest.get(f"logged-models/{quote(rest_of_it, safe='')}"), "model")
    return location


def _artifact_uri(answer: Mapping[str, Any], key: str) -> str:
    try:
        return str(answer[key]["info"]["artifact_uri"])
    except (KeyError, TypeError) as error:
        raise RegistryError(f"the registry's answer names no place of the {key}'s files") from error


def _read(rest: MlflowRest, location: str, path: str) -> Iterator[bytes]:
    """Give a file's bytes; a generator, so that the reader's own errors never pass through here."""
    root = _proxied(rest, location)
    if root is not None:
        with rest.download(f"{PROXY}/{quote(_joined(root, path))}") as chunks:
            yield from chunks
        return
    local = _local(location)
    try:
        if local is not None:
            with (local / path).open("rb") as file:
                yield from _chunks(file)
        else:
            with (
                opened_store(location, RegistryError) as (store, root),
                store.open(_joined(root, path), "rb") as file,
            ):
                yield from _chunks(file)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotInRegistry(f"there is no file {path} at {shown(location)}") from error


def _chunks(file: Any) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _proxied(rest: MlflowRest, location: str) -> str | None:
    """Return the path behind the server's artifact proxy, or None when it is not there."""
    direct = rest.uri + PROXY
    if location.startswith(direct + "/"):
        return unquote(location.removeprefix(direct)).strip("/")
    parts = urlsplit(location)
    if parts.scheme != "mlflow-artifacts":
        return None
    if parts.netloc and parts.netloc != urlsplit(rest.uri).netloc:
        raise RegistryError(
            f"the files are behind another MLflow server, {parts.netloc}",
            advice=f"set MLFLOW_TRACKING_URI to it, or copy them to {rest.uri}",
        )
    return parts.path.strip("/")


def _walk_proxy(rest: MlflowRest, root: str, folder: str, depth: int) -> Iterator[RemoteFile]:
    if depth > _DEEPEST:
        raise RegistryError(f"the folders at {root} are nested more than {_DEEPEST} deep")
    answer = rest.call("GET", PROXY, params={"path": _joined(root, folder)})
    for entry in answer.get("files", []):
        path = _joined(folder, str(safe_path(str(entry["path"]))))
        if entry.get("is_dir"):
            yield from _walk_proxy(rest, root, path, depth + 1)
        else:
            yield RemoteFile(path, int(entry.get("file_size", 0)))


def _local(location: str) -> Path | None:
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(location) if location.startswith("/") else None


def _walk_local(root: Path, folder: str) -> Iterator[RemoteFile]:
    if not root.is_dir():
        raise RegistryError(f"the files are in {root}, which is not on this machine", advice=_ASK)
    for path in (root / folder).rglob("*"):
        if path.is_file():
            yield RemoteFile(path.relative_to(root).as_posix(), path.stat().st_size)


def _walk_store(location: str, folder: str) -> Iterator[RemoteFile]:
    with opened_store(location, RegistryError) as (store, root):
        try:
            # A store that was listed before may have been filled since.
            store.invalidate_cache()
            found = store.find(_joined(root, folder), detail=True)
        except FileNotFoundError:
            return
    for path, entry in found.items():
        relative = path.removeprefix(root.rstrip("/") + "/")
        yield RemoteFile(str(safe_path(relative)), entry.get("size"))


def _joined(root: str, path: str) -> str:
    return "/".join(part for part in (root.rstrip("/"), path.strip("/")) if part)
