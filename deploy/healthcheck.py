"""Whether the server in this container answers ``/health`` with 200: exit status 0, else 1.

Runs every few seconds, so it imports next to nothing (``python -I -S``: 15 ms). An argument names
the port; default: the one that the server was given.
"""

from __future__ import annotations

import os
import socket
import sys

TIMEOUT_S = 4.0


def answers(port: int) -> bool:
    """Ask once."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as plain:
        connection = _wrapped(plain)
        connection.sendall(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        return connection.recv(64).split(b" ", 2)[1:2] == [b"200"]


def _wrapped(plain: socket.socket) -> socket.socket:
    """Speak TLS where the server does; whose certificate it is does not matter in here."""
    if not os.environ.get("GREENROOM_SSL_CERTFILE"):
        return plain
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


if __name__ == "__main__":
    given = [*sys.argv[1:], os.environ.get("PORT"), os.environ.get("GREENROOM_PORT"), "8000"]
    try:
        healthy = answers(int(next(port for port in given if port)))
    except OSError as error:
        sys.exit(f"nothing answers: {error}")
    sys.exit(0 if healthy else "it does not answer with 200")
