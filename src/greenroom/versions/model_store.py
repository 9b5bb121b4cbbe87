"""The model store: verified versions on local disk, by digest, and what was selected last.

Workers load from here and never from the registry, and a server starts from here while the registry
is away. Several processes may use one store at a time (a trainer and a server): whatever appears in
it appears whole, by a rename. Laid out as::

    store.json            the format of the store
    versions/<digest>/    a version's files
    records/<digest>.json where they came from, and the SHA-256 of each
    compiled/<digest>/    what was compiled of it (:mod:`greenroom.versions.compiled_store`)
    selected/<key>.json   what a route served last
    staging/              what is still being downloaded

Which versions belong here is :mod:`greenroom.deployment.following`'s business.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, unquote
from uuid import uuid4

import msgspec

from greenroom.data.fingerprint import combined_digest
from greenroom.errors import ProcessError, VersionCorrupt
from greenroom.versions.compiled_store import CompiledStore
from greenroom.versions.version_files import (
    file_digests,
    modified_at,
    move_folder,
    remove_folder,
    replace_file,
    sync_tree,
)

FORMAT: Final = 1
STORE_FILE: Final = "store.json"
DIGEST_TAG: Final = "greenroom.digest"
"""The tag of a version that holds its :func:`directory_digest`, as training wrote the files."""

ABANDONED_AFTER_S: Final = 24 * 3600.0
"""What is that old in staging was left there by a process that was killed."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version's files came from.

    Parameters
    ----------
    uri : str
        The registry.
    name, version : str
        The registered model and its version.
    source : str
        What the version was registered from.
    created_at_ms : int
        When it was registered: a registry that was set up anew counts from 1 again.
    """

    uri: str
    name: str
    version: str
    source: str = ""
    created_at_ms: int = 0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows about a version: its files' digests and where they came from."""

    digest: str
    files: dict[str, str]
    provenance: Provenance


class ModelStore:
    """A folder of verified versions.

    Parameters
    ----------
    root : Path
        The folder; made when it is not there.

    Raises
    ------
    ProcessError
        When the folder cannot be written, or was made by a later Greenroom. Every method that
        writes raises it too.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._versions = root / "versions"
        self._records = root / "records"
        self._selected = root / "selected"
        self._staging = root / "staging"
        self.compiled = CompiledStore(root / "compiled", self._staging)
        made = self._versions, self._records, self._selected, self._staging, self.compiled.root
        with self._writing():
            for folder in made:
                folder.mkdir(parents=True, exist_ok=True)
            self._check_format()

    def _check_format(self) -> None:
        path = self.root / STORE_FILE
        if not path.exists():
            replace_file(path, msgspec.json.encode({"format": FORMAT}))
            return
        try:
            found = msgspec.json.decode(path.read_bytes(), type=dict[str, int])["format"]
        except (msgspec.DecodeError, KeyError) as error:
            raise ProcessError(
                f"{path} is not a model store's", advice="remove its folder, or set GREENROOM_HOME"
            ) from error
        if found > FORMAT:
            raise ProcessError(
                f"the model store {self.root} has format {found}, this Greenroom reads up to"
                f" {FORMAT}",
                advice="upgrade greenroom, or set GREENROOM_HOME to another folder",
            )

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield an empty folder to download into; what :meth:`add` did not take is removed."""
        folder = self._staging / uuid4().hex
        try:
            with self._writing():
                folder.mkdir()
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, directory: Path, provenance: Provenance) -> str:
        """Take a folder's files into the store, and return their digest.

        Parameters
        ----------
        directory : Path
            A folder that :meth:`staging` gave; it is moved. Files that the store has already are
            left where they are.
        provenance : Provenance
            Where the files came from.
        """
        with self._writing():
            files = file_digests(directory)
            digest = combined_digest(files)
            sync_tree(directory)
            record = Record(digest=digest, files=files, provenance=provenance)
            # The record first: a version without one would not be known to be whole.
            replace_file(self._records / f"{digest}.json", msgspec.json.encode(record))
            move_folder(directory, self._versions / digest)
        return digest

    def path(self, digest: str) -> Path:
        """Return where a version's files are, whether they are there or not.

        Raises
        ------
        VersionCorrupt
            When ``digest`` is none. It may come from a registry, and names a folder here.
        """
        if not _DIGEST.fullmatch(digest):
            raise VersionCorrupt(
                "what its tag says is no digest", advice="register the version anew"
            )
        return self._versions / digest

    def verify(self, digest: str) -> Path:
        """Read all of a version's files again, and return where they are.

        Raises
        ------
        VersionCorrupt
            When it is not in the store, or a file is missing, changed or one too many: named.
        """
        path = self.path(digest)
        record = self.record(digest)
        if record is None or not path.is_dir():
            raise VersionCorrupt(
                f"the model store has no version with digest {digest[:12]}",
                advice="it is downloaded again as soon as the registry answers",
            )
        found = file_digests(path)
        for name in sorted(found.keys() | record.files.keys()):
            if found.get(name) != record.files.get(name):
                what = "is missing" if name not in found else "is not the one that was downloaded"
                raise VersionCorrupt(
                    f"{path / name} {what}",
                    advice="it is downloaded again as soon as the registry answers",
                )
        return path

    def record(self, digest: str) -> Record | None:
        """Return what the store knows about a version; None where it knows nothing."""
        return _read(self._records / f"{self.path(digest).name}.json", Record)

    def find(self, provenance: Provenance) -> str:
        """Return the digest of the version that came from there; empty when there is none."""
        for record in self._all_records():
            if record.provenance == provenance and self.path(record.digest).is_dir():
                return record.digest
        return ""

    def discard(self, digest: str) -> None:
        """Remove a version's files; a version that is not there is no error.

        What was compiled of it stays until :meth:`prune` removes both, as the same files may be
        downloaded again; the record stays with it, by which it is found.
        """
        path = self.path(digest)
        with self._writing():
            remove_folder(path, self._staging)
            if self.compiled.find(digest) is None:
                (self._records / f"{digest}.json").unlink(missing_ok=True)

    def keep_compiled(self, digest: str, directory: Path) -> Path:
        """Keep what was compiled of a version, instead of what was before; return where it is.

        Parameters
        ----------
        digest : str
            The version's.
        directory : Path
            A folder that :meth:`staging` gave; it is moved.

        Raises
        ------
        VersionCorrupt
            When the version is not in the store any more.
        """
        with self._writing():
            if not self.path(digest).is_dir():
                raise VersionCorrupt(
                    "its files were removed from the model store in the meantime",
                    advice="call the command again, or raise keep_versions",
                )
            return self.compiled.add(digest, directory)

    def remember(self, key: str, value: msgspec.Struct) -> None:
        """Keep a value under a key, over what was there, so that it survives a restart."""
        with self._writing():
            replace_file(self._selected / f"{quote(key, safe='')}.json", msgspec.json.encode(value))

    def recall(self, key: str, kind: type[_T]) -> _T | None:
        """Return what was remembered under a key; None when there is nothing that can be read."""
        return _read(self._selected / f"{quote(key, safe='')}.json", kind)

    def recall_all(self, kind: type[_T]) -> dict[str, _T]:
        """Return all that was remembered and can be read, by key."""
        found = {
            unquote(path.stem): _read(path, kind) for path in sorted(self._selected.glob("*.json"))
        }
        return {key: value for key, value in found.items() if value is not None}

    def prune(self, keep: int, in_use: Collection[str]) -> list[str]:
        """Remove old versions, with what was compiled of them, and return their digests.

        Parameters
        ----------
        keep : int
            How many versions of each registered model stay, the last added first.
        in_use : collection of str
            Digests that stay in any case.
        """
        by_name: dict[str, list[tuple[float, str]]] = {}
        for record in self._all_records():
            added_at = modified_at(self._records / f"{record.digest}.json")
            by_name.setdefault(record.provenance.name, []).append((added_at, record.digest))
        removed = [
            digest
            for versions in by_name.values()
            for _, digest in sorted(versions, reverse=True)[keep:]
            if digest not in in_use
        ]
        for digest in removed:
            self.compiled.discard(digest)
            self.discard(digest)
        self._clear_staging()
        return removed

    def _all_records(self) -> list[Record]:
        found = (_read(path, Record) for path in sorted(self._records.glob("*.json")))
        return [record for record in found if record is not None]

    def _clear_staging(self) -> None:
        with self._writing():
            for folder in self._staging.iterdir():
                if time.time() - modified_at(folder) > ABANDONED_AFTER_S:
                    shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what the file system refuses into one line that names the folder."""
        try:
            yield
        except OSError as error:
            named = Path(error.filename) if error.filename else self.root
            if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
                raise ProcessError(
                    f"the folder {_existing(named)} cannot be written: {error.strerror}",
                    advice="chown it to the user that runs greenroom, or set GREENROOM_HOME",
                ) from error
            raise ProcessError(
                f"the model store {self.root} cannot be written: {error.strerror or error}",
                advice="make room there, or set GREENROOM_HOME to another folder",
            ) from error


def _read(path: Path, kind: type[_T]) -> _T | None:
    """Read a small JSON file; None when it is missing, or was written by another release."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    except OSError as error:
        raise ProcessError(
            f"the model store's file {path} cannot be read: {error.strerror}",
            advice="make it readable to the user that runs greenroom, or set GREENROOM_HOME",
        ) from error


def _existing(path: Path) -> Path:
    """Return the deepest folder on the way to ``path`` that is there: the one that refused."""
    return next((parent for parent in (path, *path.parents) if parent.is_dir()), path)
