"""The ceiling of the HTTP server: reads the body, and sends as many bytes as Greenroom would.

``BENCH_REPLIES`` holds, as JSON, how many bytes to send for a request body of how many bytes.
"""

from __future__ import annotations

import json
import os
from typing import Any

REPLIES = {
    int(size): b"x" * reply for size, reply in json.loads(os.environ["BENCH_REPLIES"]).items()
}


async def app(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer any request (ASGI 3)."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    reply = REPLIES.get(len(body), b"x")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(reply)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})
