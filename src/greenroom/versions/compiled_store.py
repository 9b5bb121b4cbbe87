"""What ``greenroom compile`` made of versions, kept beside them in the model store.

::

    compiled/<digest of the version>/<digest of these files>/

The files of a version are what was registered, to the byte, so that nothing may be put among them.
What was made of them here has a folder of its own, which is named by its own digest: it is verified
as a version is, outlives the version's being downloaded again, and goes when the version goes
(:meth:`greenroom.versions.model_store.ModelStore.prune`). What the files are, and that they were
proved, is :mod:`greenroom.compiler.compiled`'s business.
"""

from __future__ import annotations

from pathlib import Path

from greenroom.errors import VersionCorrupt
from greenroom.versions.version_files import (
    directory_digest,
    modified_at,
    move_folder,
    remove_folder,
    sync_tree,
)


class CompiledStore:
    """One folder of files for each version that was compiled here.

    Parameters
    ----------
    root : Path
        Where they are.
    staging : Path
        Where a folder is put that is being removed; on the same file system.
    """

    def __init__(self, root: Path, staging: Path) -> None:
        self.root = root
        self._staging = staging

    def add(self, digest: str, directory: Path) -> Path:
        """Move ``directory`` to its place, remove what was there before, and return the place."""
        sync_tree(directory)
        place = self.root / digest / directory_digest(directory)
        place.parent.mkdir(exist_ok=True)
        move_folder(directory, place)
        for other in place.parent.iterdir():
            if other != place:
                remove_folder(other, self._staging)
        return place

    def find(self, digest: str) -> Path | None:
        """Return where the files of a version are; None where nothing was compiled."""
        try:
            found = list((self.root / digest).iterdir())
        except FileNotFoundError:
            return None
        # There are two while one is put in the other's place.
        return max(found, key=modified_at, default=None)

    def verify(self, digest: str) -> Path | None:
        """Read all files of a version again; otherwise as :meth:`find`.

        Raises
        ------
        VersionCorrupt
            When one is missing, changed or one too many.
        """
        path = self.find(digest)
        if path is not None and directory_digest(path) != path.name:
            raise VersionCorrupt(
                f"{path} is not what was compiled", advice="call `greenroom compile` again"
            )
        return path

    def discard(self, digest: str) -> bool:
        """Remove what was compiled of a version; return whether there was anything."""
        return remove_folder(self.root / digest, self._staging)
