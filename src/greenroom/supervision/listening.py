"""The server's socket: who may listen where, and one clear line when it cannot be had."""

from __future__ import annotations

import errno
import socket
from typing import Final

from greenroom.errors import ProcessError, SettingsError
from greenroom.processes import is_loopback, port_holder
from greenroom.settings import Settings

BACKLOG: Final = 2048


def refuse_open(settings: Settings) -> None:
    """Refuse to let other machines in without asking who they are, unless that is wanted.

    A token that stands in the settings in plain text keeps nobody out who has seen them. In
    production neither is ever wanted.

    Raises
    ------
    SettingsError
        Naming the address, and the settings that decide.
    """
    if settings.auth == "none" and settings.tokens:
        raise SettingsError(
            "auth is none, so that nobody would be asked for the tokens that are set",
            advice="set GREENROOM_AUTH=tokens",
        )
    if settings.environment == "prod":
        _refuse_open_production(settings)
    if is_loopback(settings.host) or settings.allow_open:
        return
    where = f"{settings.host or 'every address'} can be reached by other machines"
    if settings.auth == "none":
        raise SettingsError(
            f"auth is none and {where}",
            advice="set GREENROOM_AUTH=tokens, or GREENROOM_HOST=127.0.0.1, or "
            "GREENROOM_ALLOW_OPEN=1 if that is meant",
        )
    if settings.development_tokens:
        raise SettingsError(
            f"development_tokens are set and {where}",
            advice="make tokens with `greenroom token add`, or set GREENROOM_ALLOW_OPEN=1 if that "
            "is meant",
        )


def _refuse_open_production(settings: Settings) -> None:
    """Refuse what ``allow_open`` cannot allow."""
    found = "auth is none" if settings.auth == "none" else ""
    if settings.development_tokens:
        found = "development_tokens are set"
    if found:
        raise SettingsError(
            f"{found}, and the environment is prod: there every caller has a token of its own",
            advice="set GREENROOM_AUTH=tokens and make tokens with `greenroom token add`",
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; connections wait until someone accepts them.

    Raises
    ------
    ProcessError
        When the address cannot be had; names the port and, where it can be found out, who has it.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise ProcessError(
            f"{host!r} is no address of this machine: {error.strerror}", advice="set GREENROOM_HOST"
        ) from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(host, port, error) from error
    return listener


def _refused(host: str, port: int, error: OSError) -> ProcessError:
    if error.errno == errno.EADDRINUSE:
        holder = port_holder(port)
        by = f" by {holder}" if holder else ""
        return ProcessError(f"port {port} is taken{by}", advice="stop it, or set GREENROOM_PORT")
    if error.errno == errno.EACCES:
        return ProcessError(
            f"port {port} may only be used by root", advice="set GREENROOM_PORT above 1023"
        )
    return ProcessError(
        f"cannot listen on {host} port {port}: {error.strerror}", advice="set GREENROOM_HOST"
    )
