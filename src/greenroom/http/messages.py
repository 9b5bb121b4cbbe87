"""Messages: a whole body out of ASGI's, and a whole reply into them.

What a body means, and what a reply says, is not known here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple, TypeAlias

from greenroom.http.error_replies import HttpRefusal

__all__ = ["NO_HEADERS", "Reply", "read_body", "send_reply"]

# As ASGI has them.
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

NO_HEADERS: Final[Mapping[str, str]] = {}
_JSON: Final = (b"content-type", b"application/json")


class Reply(NamedTuple):
    """A whole reply; its body is JSON where ``headers`` say nothing else."""

    status: int
    body: bytes
    headers: Mapping[str, str] = NO_HEADERS


async def read_body(
    headers: Mapping[bytes, bytes], receive: Receive, max_bytes: int
) -> bytes | None:
    """Read a body, as far as it may go; None when the caller has gone away.

    Raises
    ------
    HttpRefusal
        413, when it is larger, or says that it will be.
    """
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return part if not parts else b"".join([*parts, part])
        parts.append(part)


def _too_large(max_bytes: int) -> HttpRefusal:
    advice = f"send at most {max_bytes} bytes, or raise the setting max_body_bytes"
    return HttpRefusal(413, "the body is too large", advice=advice)


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a reply in one piece."""
    status, body, headers = reply
    sent = [] if "content-type" in headers else [_JSON]
    sent.append((b"content-length", b"%d" % len(body)))
    for name, value in headers.items():
        sent.append((name.encode("latin-1"), value.encode("latin-1")))
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})
