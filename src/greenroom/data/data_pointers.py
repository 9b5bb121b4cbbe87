"""DVC pointers: what a ``.dvc`` file beside a dataset says of it, and pulling what it points to.

`DVC <https://dvc.org>`_ keeps data out of a repository: ``data/rows.csv.dvc`` stands in it and
holds the MD5 of ``data/rows.csv``, which ``dvc pull`` brings from where the data are kept. The
pointer is read here; pulling is left to DVC's own command, in a process of its own, because the
pull is then the one that anybody can run by hand, and DVC's libraries stay out of this process.

Left out: folders and pipelines that DVC tracks as a whole (``data.dvc``, ``dvc.yaml``).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import yaml

from greenroom.errors import DataError
from greenroom.progress import OnProgress, silent

SUFFIX: Final = ".dvc"
EXTRA: Final = "pip install 'greenroom[dvc]'"

_MD5_LENGTH: Final = 32
_LONGEST_REASON: Final = 300


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a ``.dvc`` file says of the file beside it.

    Parameters
    ----------
    path : Path
        The pointer.
    source : str
        The file, as the app writes it.
    shown : str
        The pointer as a command in the app's folder names it.
    md5 : str
        In hexadecimal.
    any_line_ends : bool
        Whether the MD5 was taken with Windows' line ends made Unix's, as DVC did up to version 2.
    """

    path: Path
    source: str
    shown: str
    md5: str
    any_line_ends: bool = False

    @property
    def command(self) -> str:
        """What brings the file, in the app's folder."""
        return f"dvc pull {self.shown}"

    def fits(self, data: bytes) -> bool:
        """Whether ``data`` is the file that is pointed to."""
        if _md5(data) == self.md5:
            return True
        return self.any_line_ends and _md5(data.replace(b"\r\n", b"\n")) == self.md5


def find_pointer(folder: Path, source: str) -> Pointer | None:
    """Return the pointer to a dataset, from beside it; None where there is none.

    It is mostly called like the file; ``dvc add --file`` gives it another name.

    Parameters
    ----------
    folder : Path
        The app's folder.
    source : str
        The dataset, as the app writes it: a path in the folder.

    Raises
    ------
    DataError
        When the pointer that is called like the file cannot be understood, or points to another
        file.
    """
    file = folder / source
    named = file.with_name(file.name + SUFFIX)
    if named.is_file():
        return _pointer(named, file, source, _content(named, f"{source}{SUFFIX}"))
    for other in sorted(file.parent.glob(f"*{SUFFIX}")):
        try:
            content = _content(other, other.name)
        except DataError:
            continue  # another file's business
        if _entry_for(file.name, content):
            return _pointer(other, file, source, content)
    return None


def _content(path: Path, shown: str) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or "it is not YAML"
        raise DataError(f"the DVC pointer {shown} cannot be read: {reason}") from error


def _pointer(path: Path, file: Path, source: str, content: Any) -> Pointer:
    shown = source.removesuffix(file.name) + path.name
    entry = _entry_for(file.name, content)
    md5 = str(entry.get("md5", "")).lower()
    if len(md5) != _MD5_LENGTH or not md5.isalnum():
        raise DataError(
            f"the DVC pointer {shown} holds no MD5 of {file.name}",
            advice=f"make it anew: dvc add {source}",
        )
    return Pointer(path, source, shown, md5, any_line_ends="hash" not in entry)


def hindrance(pointer: Pointer) -> str:
    """Return what would have to be done before a file can be pulled here; empty for nothing."""
    if find_spec("dvc") is None:
        return f"{EXTRA}, with which training does that"
    if not os.access(pointer.path.parent, os.W_OK):
        return f"let this user write to {pointer.path.parent}, where training would put the file"
    return ""


def pull(pointer: Pointer, on_progress: OnProgress = silent) -> None:
    """Bring the file that is pointed to, with DVC's own command.

    Raises
    ------
    DataError
        When DVC cannot bring it; the message holds what DVC said.
    """
    on_progress(f"pulling {pointer.source} with DVC", None)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "pull", pointer.path.name],
        cwd=pointer.path.parent,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise DataError(
            f"DVC could not bring {pointer.source}: {_said(done.stderr)}",
            advice=f"try it by hand: {pointer.command}",
        )


def _entry_for(name: str, content: Any) -> dict[str, Any]:
    """Return the entry of a pointer that is about the file ``name``; empty where none is."""
    outs = content.get("outs") if isinstance(content, dict) else None
    for entry in outs if isinstance(outs, list) else []:
        if isinstance(entry, dict) and Path(str(entry.get("path", ""))).name == name:
            return entry
    return {}


def _said(output: str) -> str:
    """Return DVC's own error from what it wrote, on one line: the first one, without its links."""
    _, found, told = output.partition("ERROR: ")
    text = told if found else output
    lines = [line for line in text.split("\n\n")[0].splitlines() if not line.startswith("<")]
    reason = " ".join(" ".join(lines).split()).removeprefix("unexpected error - ")
    return reason[:_LONGEST_REASON] or "it does not say why"


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
