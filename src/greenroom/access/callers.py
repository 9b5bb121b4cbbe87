"""Callers: who a request comes from, and whether its token allows what it asks for.

Tokens come from the file that ``greenroom token`` writes and from settings. The file is looked at
when a request comes, at most once a second, and read again when it has changed: a token that is
made, rotated or revoked counts within about a second on every worker, without a restart, a thread
or a message. While the file cannot be understood, what was read last goes on.

A request costs one SHA-256 and one look-up. How tokens are made and kept is
:mod:`greenroom.access.tokens`; what a refusal looks like, :mod:`greenroom.http.error_replies`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from greenroom.access.tokens import (
    SCOPES,
    Scope,
    Token,
    TokensFile,
    parse_development_token,
    parse_token,
)
from greenroom.errors import NotAllowed, NotAuthenticated, SettingsError
from greenroom.settings import Settings

__all__ = ["ANYONE", "Access", "Authorise", "Caller", "Callers", "require_tokens"]

_LOG: Final = logging.getLogger(__name__)

Access: TypeAlias = Scope | Literal["open"]
"""What a route asks for: a scope, or nothing."""

LOOK_EVERY_S: Final = 1.0
"""How long a change of the file may go unseen; well below the 5 s that a revoked token has."""

_CHALLENGE: Final = 'Bearer realm="greenroom"'


class Caller(NamedTuple):
    """Who a request comes from: the name of its token, and what that allows."""

    name: str
    scopes: frozenset[Scope]


ANYONE: Final = Caller("", frozenset(SCOPES))
"""Every caller of a server that asks nobody who they are."""

Authorise: TypeAlias = Callable[[bytes | None, Scope], Caller]
"""The value of ``Authorization`` and what is asked for -> who asks; raises as
:meth:`Callers.authorise`."""


class _Known(NamedTuple):
    caller: Caller
    expires_at_s: float


class Callers:
    """The tokens that are accepted, by their digests.

    Parameters
    ----------
    file : TokensFile
        Looked at again and again.
    fixed : sequence of Token
        Further tokens, those of the settings.
    monotonic_s, now_s : callable, optional
        The clocks.

    Raises
    ------
    SettingsError
        When the file cannot be understood: there is nothing yet that could go on.
    """

    def __init__(
        self,
        file: TokensFile,
        fixed: Sequence[Token] = (),
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._fixed = tuple(fixed)
        self._monotonic_s = monotonic_s
        self._now_s = now_s
        self._seen = _state(file.path)
        self._complaint = ""
        self._known = _by_digest(file.read(), self._fixed)
        self._look_at_s = monotonic_s() + LOOK_EVERY_S

    @classmethod
    def of(cls, settings: Settings) -> Callers:
        """Return the callers that the settings name.

        Raises
        ------
        SettingsError
            When a token there, or the file, cannot be understood.
        """
        return cls(TokensFile(Path(settings.tokens_file)), _fixed_tokens(settings))

    def __len__(self) -> int:
        now_s = self._now_s()
        return sum(now_s < known.expires_at_s for known in self._known.values())

    def authorise(self, authorization: bytes | None, scope: Scope) -> Caller:
        """Return who sends a request, if it may have what it asks for.

        Parameters
        ----------
        authorization : bytes or None
            The value of the request's ``Authorization``.
        scope : Scope
            What the route asks for.

        Raises
        ------
        NotAuthenticated
            Without a token, or with one that is not known (any more).
        NotAllowed
            When the token has not the scope.
        """
        if self._monotonic_s() >= self._look_at_s:
            self._look()
        if authorization is None:
            raise _absent()
        secret = authorization[7:]
        if authorization[:7] != b"Bearer ":
            secret = _bearer(authorization)
        # What takes time here does not depend on how much of a guess is right. The text that was
        # sent is hashed whole, and what is compared, by the dict, is the hash: whoever could see
        # where a comparison ends would learn about a SHA-256, and cannot choose a text by that.
        known = self._known.get(sha256(secret).digest())
        if known is None or self._now_s() >= known.expires_at_s:
            raise _unknown()
        caller = known.caller
        if scope not in caller.scopes:
            raise _not_allowed(caller, scope)
        return caller

    def _look(self) -> None:
        """Read the file again if it has changed; a few kilobytes, so the event loop may wait."""
        self._look_at_s = self._monotonic_s() + LOOK_EVERY_S
        # What is looked at before it is read: a change in between is seen the next time.
        state = _state(self._file.path)
        if state == self._seen:
            return
        try:
            self._known = _by_digest(self._file.read(), self._fixed)
        except SettingsError as error:
            # Half a file, say, by a writer that does not replace it. Not noted as seen, so that
            # it is read again in a second.
            if self._complaint != error.message:
                self._complaint = error.message
                _LOG.error("%s; the tokens that were read last go on", error.message)
            return
        self._seen, self._complaint = state, ""
        _LOG.info("the tokens have changed: %d are valid", len(self))


def require_tokens(settings: Settings) -> None:
    """Refuse a server that would answer nobody, or whoever has read its settings.

    Raises
    ------
    SettingsError
        When ``auth`` is ``tokens`` and there is no valid one, or one cannot be understood.
    """
    if settings.auth == "tokens" and not len(Callers.of(settings)):
        raise SettingsError(
            f"auth is tokens, and neither {settings.tokens_file} nor the settings hold a valid one",
            advice="make one: greenroom token add NAME --scope predict",
        )


def _fixed_tokens(settings: Settings) -> list[Token]:
    fixed = [parse_token(text) for text in settings.tokens]
    return fixed + [parse_development_token(text) for text in settings.development_tokens]


def _by_digest(*groups: Sequence[Token]) -> dict[bytes, _Known]:
    known: dict[bytes, _Known] = {}
    for token in (token for group in groups for token in group):
        expires_at_s = token.expires_at.timestamp() if token.expires_at else math.inf
        caller = Caller(token.name, frozenset(token.scopes))
        known[bytes.fromhex(token.sha256)] = _Known(caller, expires_at_s)
    return known


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written to; empty when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _bearer(authorization: bytes) -> bytes:
    """Return the token of a header that is written unusually: the scheme has no case."""
    scheme, _, secret = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        raise NotAuthenticated(
            "the request has no bearer token",
            advice="send the header Authorization: Bearer TOKEN",
            challenge=_CHALLENGE,
        )
    return secret.strip()


def _absent() -> NotAuthenticated:
    return NotAuthenticated(
        "this needs a token",
        advice="send the header Authorization: Bearer TOKEN",
        challenge=_CHALLENGE,
    )


def _unknown() -> NotAuthenticated:
    return NotAuthenticated(
        "the token is not known here, or not any more",
        advice="ask whoever runs this server for one",
        challenge=f'{_CHALLENGE}, error="invalid_token"',
    )


def _not_allowed(caller: Caller, scope: Scope) -> NotAllowed:
    return NotAllowed(
        f"the token {caller.name} does not allow this",
        advice=f"use one with the scope {scope}",
        challenge=f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"',
    )
