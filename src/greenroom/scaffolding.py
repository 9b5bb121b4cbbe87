"""Making an app: the folder that ``greenroom new`` starts an app's author off with.

The template is a whole app that trains, passes its own gate and is served as it stands. Its files
lie in ``templates/app``, each with ``.txt`` at the end of its name, so that no tool takes them for
a part of Greenroom. What may be wrong with an app later is :mod:`greenroom.checking`'s business.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from greenroom.errors import AppError, ProcessError

PLACEHOLDER: Final = "__NAME__"
_SUFFIX: Final = ".txt"
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def new_app(name: str, parent: Path) -> Path:
    """Make an app called ``name`` in a new folder of that name.

    Parameters
    ----------
    name : str
        A letter, then letters, digits, ``-`` and ``_``. The app, its experiment and its model are
        called after it.
    parent : Path
        The folder to make it in; made, too, where there is none.

    Returns
    -------
    Path
        The app's folder. It appears with all its files at once, or not at all.

    Raises
    ------
    AppError
        When the name cannot be used, or is taken.
    ProcessError
        When the folder cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise AppError(
            f"{name!r} cannot be an app's name",
            advice="take a letter, then letters, digits, - and _; --in names the folder around it",
        )
    folder = parent / name
    if os.path.lexists(folder):
        raise AppError(f"{folder} is there already", advice="take another name, or remove it")
    try:
        _make(name, folder)
    except OSError as error:
        raise ProcessError(
            f"the app cannot be made at {folder}: {error.strerror or error}",
            advice="choose a folder that can be written with --in",
        ) from error
    return folder


def _make(name: str, folder: Path) -> None:
    """Write all files beside the place that they belong to, then move them there in one step."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        for path, text in _template():
            file = staging / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.replace(PLACEHOLDER, name), encoding="utf-8")
        staging.chmod(0o777 & ~_umask())  # mkdtemp keeps others out
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _template() -> Iterator[tuple[str, str]]:
    """Yield each file's path inside the app, and its text."""
    yield from _files(resources.files("greenroom") / "templates" / "app", "")


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            path = prefix + entry.name.removesuffix(_SUFFIX)
            yield path, entry.read_text(encoding="utf-8")


def _umask() -> int:
    """Return the process's mask for new files, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
