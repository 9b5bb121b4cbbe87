"""Google's credentials: whether the file that ``GOOGLE_APPLICATION_CREDENTIALS`` names is of use.

Asked at the start, so that what is wrong is known before it is needed, and again at every use of
``gs://``: Google's own libraries go on without a file that is not there, ask a metadata server that
is not there either, and end as nobody, with a refusal that names neither. Without the variable they
find credentials by themselves, which is left to them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

VARIABLE: Final = "GOOGLE_APPLICATION_CREDENTIALS"
EMULATOR_VARIABLE: Final = "STORAGE_EMULATOR_HOST"
"""Names an emulator of Google Cloud Storage, which asks nobody who they are."""

_PUT: Final = "put the key file (JSON) of a Google service account there"


class CredentialsProblem(NamedTuple):
    """Why the file is of no use, and what to do."""

    message: str
    advice: str


def credentials_problem(
    environment: Mapping[str, str] = os.environ,
) -> CredentialsProblem | None:
    """Return what is wrong with the file of credentials, or None.

    None also where no file is named, and where an emulator is.

    Parameters
    ----------
    environment : mapping
        Environment variables; an empty one counts as not set.

    Examples
    --------
    >>> credentials_problem({"GOOGLE_APPLICATION_CREDENTIALS": "/app/gcp.json"}).message
    'GOOGLE_APPLICATION_CREDENTIALS names /app/gcp.json, and there is no such file'
    """
    named = environment.get(VARIABLE, "")
    if not named or environment.get(EMULATOR_VARIABLE):
        return None
    path = Path(named)
    if path.is_dir():
        return CredentialsProblem(
            f"{VARIABLE} names {path}, which is a folder",
            "Docker makes one where a file to mount is not there: stop the containers, remove the "
            f"empty folder {path.name}/ on the host, and put the key file (JSON) of a Google "
            "service account in its place",
        )
    reason = _unusable(path)
    return CredentialsProblem(f"{VARIABLE} names {path}, {reason}", _PUT) if reason else None


def _unusable(path: Path) -> str:
    """Say why a file holds no credentials, without a word of what it holds."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return "and there is no such file"
    except OSError as error:
        return f"which cannot be read: {error.strerror}"
    except ValueError:
        return "which is not JSON"
    if not isinstance(content, dict) or "type" not in content:
        return "which holds no credentials: it has no `type`"
    return ""
