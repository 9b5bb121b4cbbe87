"""What a request says about itself before its body: its method, its content type, its id.

And what a reply says beside its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from greenroom.http.error_replies import HttpRefusal
from greenroom.http.messages import NO_HEADERS
from greenroom.inference.generation import Deployment
from greenroom.protocols.invocations import CSV, JSON
from greenroom.status import FALLBACK

__all__ = [
    "identifying",
    "reply_headers",
    "request_id_of",
    "require_json",
    "require_post",
    "scoring_type",
    "source_headers",
]

MAX_REQUEST_ID: Final = 128
"""How much of a caller's ``X-Request-ID`` is given back."""

_OF_A_FALLBACK: Final[Mapping[str, str]] = {"x-model-source": FALLBACK}


def require_post(method: str) -> None:
    """Refuse any other method."""
    if method != "POST":
        raise HttpRefusal(
            405, "the method is not allowed here", advice="use POST", headers={"allow": "POST"}
        )


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a body that says it is something else; one that says nothing is taken for JSON."""
    given = headers.get(b"content-type", b"application/json")
    if given != b"application/json":
        media, _, parameters = given.decode("latin-1").lower().partition(";")
        charset = parameters.replace(" ", "").replace('"', "").removeprefix("charset=")
        if media.strip() != "application/json" or charset not in {"", "utf-8", "utf8", "us-ascii"}:
            advice = "send JSON in UTF-8 with the header Content-Type: application/json"
            raise HttpRefusal(415, "the body's content type is not JSON", advice=advice)
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise HttpRefusal(415, "the body is compressed", advice="send it without Content-Encoding")


def scoring_type(headers: Mapping[bytes, bytes]) -> str:
    """Return which of MLflow's two media types a body has; anything else is refused."""
    given = headers.get(b"content-type", b"").decode("latin-1").lower()
    media, _, parameters = given.partition(";")
    charset = parameters.replace(" ", "").replace('"', "").removeprefix("charset=")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise HttpRefusal(415, "the body is compressed", advice="send it without Content-Encoding")
    if media.strip() not in {JSON, CSV} or charset not in {"", "utf-8"}:
        raise HttpRefusal(
            415, "the body's content type is not served", advice=f"send {JSON} or {CSV} in UTF-8"
        )
    return media.strip()


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the caller's ``X-Request-ID``, of visible ASCII and of bearable length; or nothing."""
    given = headers.get(b"x-request-id")
    if given is None:
        return ""
    return bytes(byte for byte in given if 0x21 <= byte <= 0x7E)[:MAX_REQUEST_ID].decode("ascii")


def reply_headers(request_id: str) -> dict[str, str]:
    """Return what a reply gives back of its request: the id, where it has one."""
    return {"x-request-id": request_id} if request_id else {}


def source_headers(deployment: Deployment) -> Mapping[str, str]:
    """Return what every answer of a version says of where it is from; nothing but of a fallback."""
    return _OF_A_FALLBACK if deployment.from_fallback else NO_HEADERS


def identifying(ids: Sequence[str]) -> Mapping[str, str]:
    """Return what names the first of a reply's predictions, where its body may have no place."""
    return {"x-prediction-id": ids[0]} if ids else NO_HEADERS
