"""Servers that answer whatever a test likes, and a registry that asks them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from greenroom.registry.registry import Registry

Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def server(answer: Callable[[str, str, dict[str, list[str]]], Answer]) -> Iterator[str]:
    """A server that gives any answer: (method, path, query) in, (status, headers, body) out."""

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            parts = urlsplit(self.path)
            self.server.seen.append((self.command, parts.path, dict(self.headers)))
            status, headers, body = answer(self.command, parts.path, parse_qs(parts.query))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.respond()

        def do_POST(self) -> None:
            self.respond()

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.respond()

        def log_message(self, *args: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.seen = []
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        server.seen = listening.seen
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def says(status: int, body: object, **headers: str) -> Callable[..., Answer]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda *_: (status, headers, content)


@contextmanager
def against(answer: Callable[..., Answer]) -> Iterator[Registry]:
    with server(answer) as uri, Registry(uri, environment={}) as registry:
        yield registry
