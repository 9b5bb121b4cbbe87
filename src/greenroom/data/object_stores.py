"""Object stores: files at an address such as ``gs://bucket/folder``, opened through fsspec.

Each store's library is an extra of Greenroom's, imported when an address is opened, and each raises
errors of its own: here they become one, of the kind that the reader asks for. What the files mean
is the reader's business; what MLflow uploads, it uploads with its own client.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from greenroom.data.google_credentials import credentials_problem
from greenroom.errors import GreenroomError

_EXTRAS: Final = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "azure"),
}
_GOOGLE: Final = frozenset({"gs", "gcs"})
_LONGEST_REASON: Final = 300
_ABSENT: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@contextmanager
def opened_store(address: str, error: type[GreenroomError]) -> Iterator[tuple[Any, str]]:
    """Open the store of an address; whatever its library raises in the block becomes one error.

    Parameters
    ----------
    address : str
        With a scheme: ``gs://bucket/folder``.
    error : type
        What is raised: the kind of error that the reader speaks of.

    Yields
    ------
    tuple of fsspec filesystem and str
        The store, and the address as the store's own path.

    Raises
    ------
    GreenroomError
        Of the kind that was asked for: when the extra is not installed, the credentials are of no
        use, or the store refuses or cannot be reached.
    FileNotFoundError, NotADirectoryError, IsADirectoryError
        As the store's library raises them: the reader knows what a missing file means.
    """
    filesystem, root = _opened(address, error)
    try:
        yield filesystem, root
    except _ABSENT:
        raise
    except GreenroomError:
        raise
    except Exception as reason:  # each store's library has a tree of its own
        # The next try asks for credentials anew, instead of going on with those that failed.
        type(filesystem).clear_instance_cache()
        raise error(
            f"the files at {shown(address)} cannot be reached: {_said(reason)}",
            advice="check the network and the credentials of the object store",
        ) from reason


def require_upload(address: str, error: type[GreenroomError]) -> None:
    """Say whether MLflow's own client could upload to an address, without trying.

    Parameters
    ----------
    address : str
        Where an experiment's artifacts go. One that is not a store of Google's is let pass.
    error : type
        What is raised.

    Raises
    ------
    GreenroomError
        Of the kind that was asked for: when the extra is not installed, or the credentials are of
        no use.
    """
    if urlsplit(address).scheme not in _GOOGLE:
        return
    if not _installed("google.cloud.storage"):
        raise error(
            f"nothing here writes to {shown(address)}: google-cloud-storage is not installed",
            advice=_install(address),
        )
    _require_credentials(address, error)


def lies_in(address: str, place: str) -> bool:
    """Whether an address is in a place, or is the place.

    Examples
    --------
    >>> lies_in("gs://bucket/models/7", "gs://bucket/models/")
    True
    >>> lies_in("gs://bucket/models-of-others/7", "gs://bucket/models")
    False
    """
    whole = place.rstrip("/")
    return address == whole or address.startswith(f"{whole}/")


def shown(address: str) -> str:
    """Leave out what an address may hold besides the place: credentials and signed queries.

    Examples
    --------
    >>> shown("s3://key:secret@bucket/model?signature=secret")
    's3://bucket/model'
    """
    parts = urlsplit(address)
    if not parts.scheme:
        return address
    slashes = "//" if address.startswith(f"{parts.scheme}://") else ""
    return f"{parts.scheme}:{slashes}{parts.netloc.rpartition('@')[2]}{parts.path}"


def _opened(address: str, error: type[GreenroomError]) -> tuple[Any, str]:
    import fsspec

    if urlsplit(address).scheme in _GOOGLE:
        _require_credentials(address, error)
        _quieten_gcsfs()
    try:
        filesystem, root = fsspec.core.url_to_fs(address)
    except ImportError as reason:
        raise error(
            f"the files at {shown(address)} cannot be read: {_said(reason)}",
            advice=_install(address),
        ) from reason
    except ValueError as reason:
        raise error(f"nothing here reads {shown(address)}: {_said(reason)}") from reason
    except Exception as reason:  # gcsfs looks for credentials as it is made
        raise error(
            f"the files at {shown(address)} cannot be reached: {_said(reason)}",
            advice="check the credentials of the object store",
        ) from reason
    return filesystem, str(root)


def _require_credentials(address: str, error: type[GreenroomError]) -> None:
    problem = credentials_problem()
    if problem is not None:
        raise error(
            f"the files at {shown(address)} cannot be reached: {problem.message}",
            advice=problem.advice,
        )


def _quieten_gcsfs() -> None:
    """Keep gcsfs to what is needed here, and from writing tracebacks of what it raises anyway."""
    # Zonal buckets: another API, gRPC in memory, and a warning for every store without it.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)


def _install(address: str) -> str:
    extra = _EXTRAS.get(urlsplit(address).scheme, "")
    return f"pip install 'greenroom[{extra}]'" if extra else ""


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # a package that it would be inside of
        return False


def _said(reason: Exception) -> str:
    """Return what a library said, on one line and of a bounded length."""
    text = " ".join(str(reason).split()) or type(reason).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."
