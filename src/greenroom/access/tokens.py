"""Bearer tokens: what one may do, how it is written in settings, and the file that keeps them.

A token is a long random text that its caller sends; here only its SHA-256 is kept, with a name and
scopes. A slow hash (bcrypt, Argon2) is for secrets that people make up, because those can be
guessed one after the other. A token of :func:`new_secret` has 256 random bits: nobody finds it by
trying, however quick the hash, and a slow one would cost every request milliseconds.

The file is replaced as a whole and changed under a lock, so that a reader never sees half of it.
Who a request comes from, and what it may have, is :mod:`greenroom.access.callers`' business.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec
from msgspec import Meta

from greenroom.errors import SettingsError

__all__ = [
    "SCOPES",
    "NewToken",
    "Scope",
    "Token",
    "TokensFile",
    "new_secret",
    "parse_development_token",
    "parse_token",
    "secret_digest",
]

Scope: TypeAlias = Literal["predict", "feedback", "read", "admin"]
"""What a token allows: to predict; to report what came of a prediction; to look at models, lists
and metrics; to change what is served. None of them includes another."""

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
FORMAT: Final = 1
BEGINNING: Final = "gr_"
"""Begins every token made here, so that tools which search sources for secrets can know one."""

_SECRET_BYTES: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SECRET: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")
_SPELLING: Final = "name:scope+scope:SHA-256, and a fourth part for when it expires"
_DEVELOPMENT_SPELLING: Final = "name:scope+scope:token"

Instant: TypeAlias = Annotated[datetime, Meta(tz=True)]
Digest: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token as it is kept: everything but the token.

    Parameters
    ----------
    name : str
        What its caller is called, in the access log for one. While a token is being rotated, two
        have the same name.
    scopes : tuple of Scope
    sha256 : str
        Of the token, in hexadecimal.
    created_at : datetime, optional
    expires_at : datetime, optional
        From then on it is not accepted; None: it does not expire.
    """

    name: str
    scopes: tuple[Scope, ...]
    sha256: Digest
    created_at: Instant | None = None
    expires_at: Instant | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether it is accepted at an instant."""
        return self.expires_at is None or now < self.expires_at


class NewToken(NamedTuple):
    """A token that was just made; ``secret`` is not to be had again."""

    token: Token
    secret: str


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file holds."""

    format: int
    tokens: tuple[Token, ...] = ()


def new_secret() -> str:
    """Make a token: 256 random bits, in letters, digits, hyphens and underscores."""
    return BEGINNING + secrets.token_urlsafe(_SECRET_BYTES)


def secret_digest(secret: str) -> str:
    """Return the SHA-256 of a token.

    Examples
    --------
    >>> secret_digest("test-token")[:16]
    '4c5dc9b7708905f7'
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_token(text: str) -> Token:
    """Read a token as the setting ``tokens`` holds it: ``name:scope+scope:SHA-256[:expires]``.

    Raises
    ------
    SettingsError
        Naming the token and what is wrong with it, but not the digest: it may be a token that was
        put there by mistake.

    Examples
    --------
    >>> parse_token("shop:predict+feedback:" + secret_digest("x")).scopes
    ('predict', 'feedback')
    """
    name, scopes, digest, expires = _parts(text, "tokens", _SPELLING)
    if not _DIGEST.fullmatch(digest):
        raise SettingsError(
            f"tokens: the third part of {name} is not the SHA-256 of a token",
            advice="`greenroom token add` prints the line; a plain token is a development_tokens",
        )
    return Token(name=name, scopes=scopes, sha256=digest, expires_at=_instant(expires, name))


def parse_development_token(text: str) -> Token:
    """Read a token as the setting ``development_tokens`` holds it: ``name:scope+scope:token``.

    Raises
    ------
    SettingsError
        Naming the token and what is wrong with it.

    Examples
    --------
    >>> parse_development_token("dev:predict:test-token").sha256 == secret_digest("test-token")
    True
    """
    name, scopes, secret, more = _parts(text, "development_tokens", _DEVELOPMENT_SPELLING)
    if more or not _SECRET.fullmatch(secret):
        raise SettingsError(
            f"development_tokens: the token of {name} has a character that no token has",
            advice="use letters, digits and - . _ ~ + / =",
        )
    return Token(name=name, scopes=scopes, sha256=secret_digest(secret))


def _parts(text: str, setting: str, spelling: str) -> tuple[str, tuple[Scope, ...], str, str]:
    parts = text.strip().split(":", 3)
    if len(parts) < 3 or not _NAME.fullmatch(parts[0]):
        raise SettingsError(f"{setting}: an entry is not spelled as a token", advice=spelling)
    name, scopes = parts[0], parts[1].split("+")
    return name, _scopes(scopes, f"{setting}: {name}"), parts[2], "".join(parts[3:])


def _scopes(given: Sequence[str], where: str) -> tuple[Scope, ...]:
    """Return the scopes in their own order, each once."""
    unknown = sorted(set(given) - set(SCOPES))
    if unknown or not given:
        what = f"there is no scope {unknown[0]!r}" if unknown else "has no scope"
        raise SettingsError(f"{where}: {what}", advice=f"there are {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in given)


def _instant(text: str, name: str) -> datetime | None:
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(
            f"tokens: when {name} expires is not a date", advice="write 2027-01-31"
        ) from error
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


class TokensFile:
    """The tokens of a server on disk.

    Parameters
    ----------
    path : Path
        It need not exist; a server without one has no tokens from here.
    now : callable, optional
        Returns the time, with its zone.
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime] | None = None) -> None:
        self.path = path
        self._now: Final = now or (lambda: datetime.now(UTC))

    def read(self) -> tuple[Token, ...]:
        """Return the tokens, oldest first; none where there is no file.

        Raises
        ------
        SettingsError
            When the file cannot be read, or is not one of tokens.
        """
        try:
            kept = msgspec.json.decode(self.path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise SettingsError(
                f"{self.path} cannot be read: {error.strerror}", advice="let the server read it"
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{self.path} is not a file of tokens: {error}",
                advice="`greenroom token` writes it",
            ) from error
        if kept.format != FORMAT:
            raise SettingsError(
                f"{self.path} is of format {kept.format}, and {FORMAT} is read here",
                advice="use the release of Greenroom that wrote it",
            )
        return kept.tokens

    def add(
        self, name: str, scopes: Sequence[str], *, expires_at: datetime | None = None
    ) -> NewToken:
        """Make a token and keep its digest.

        Raises
        ------
        SettingsError
            When the name is taken or cannot be one, or there is no such scope.
        """
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"{name!r} cannot be a token's name",
                advice="use up to 64 letters, digits, dots, hyphens and underscores",
            )
        wanted = _scopes(scopes, name)
        with self._changing() as tokens:
            if any(token.name == name and token.is_valid(self._now()) for token in tokens):
                raise SettingsError(
                    f"there is a token {name!r} already",
                    advice=f"`greenroom token rotate {name}` replaces it",
                )
            made = self._make(name, wanted, expires_at)
            tokens[:] = [token for token in tokens if token.name != name]
            tokens.append(made.token)
        return made

    def revoke(self, name: str) -> int:
        """Drop every token of a name; return how many there were.

        Raises
        ------
        SettingsError
            When there is none.
        """
        with self._changing() as tokens:
            gone = self._named(tokens, name)
            tokens[:] = [token for token in tokens if token.name != name]
        return len(gone)

    def rotate(
        self, name: str, *, grace: timedelta, expires_at: datetime | None = None
    ) -> NewToken:
        """Make a token in the place of the one of that name, with its scopes.

        Parameters
        ----------
        name : str
        grace : timedelta
            How long the old one is accepted beside the new one.
        expires_at : datetime, optional
            When the new one expires; default: it lives as long as the old one was made to.

        Raises
        ------
        SettingsError
            When there is no token of that name.
        """
        with self._changing() as tokens:
            old = self._named(tokens, name)[-1]
            now = self._now()
            if expires_at is None and old.expires_at is not None and old.created_at is not None:
                expires_at = now + (old.expires_at - old.created_at)
            made = self._make(name, old.scopes, expires_at)
            ends_at = now + grace
            tokens[:] = [_ending(token, name, ends_at) for token in tokens]
            tokens[:] = [token for token in tokens if token.name != name or token.is_valid(now)]
            tokens.append(made.token)
        return made

    def _make(self, name: str, scopes: tuple[Scope, ...], expires_at: datetime | None) -> NewToken:
        secret = new_secret()
        token = Token(
            name=name,
            scopes=scopes,
            sha256=secret_digest(secret),
            created_at=self._now().replace(microsecond=0),
            expires_at=expires_at.replace(microsecond=0) if expires_at else None,
        )
        return NewToken(token, secret)

    def _named(self, tokens: Sequence[Token], name: str) -> list[Token]:
        named = [token for token in tokens if token.name == name]
        if not named:
            known = ", ".join(dict.fromkeys(token.name for token in tokens)) or "none"
            raise SettingsError(
                f"there is no token {name!r} in {self.path}", advice=f"there are: {known}"
            )
        return named

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """Give the tokens to be changed, one process at a time, and write what becomes of them."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(
                self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600
            )
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tokens = list(self.read())
            yield tokens
            self._write(tokens)
        finally:
            os.close(lock)

    def _write(self, tokens: Sequence[Token]) -> None:
        """Replace the file as a whole; only its owner may read it."""
        kept = msgspec.json.encode(_Kept(format=FORMAT, tokens=tuple(tokens)))
        try:
            with tempfile.NamedTemporaryFile(
                dir=self.path.parent, prefix=f".{self.path.name}.", delete=False
            ) as file:
                try:
                    file.write(msgspec.json.format(kept, indent=2) + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(self.path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> SettingsError:
        return SettingsError(
            f"{self.path} cannot be written: {error.strerror}",
            advice="set GREENROOM_TOKENS_FILE to one that can",
        )


def _ending(token: Token, name: str, ends_at: datetime) -> Token:
    """Let a token of that name end at an instant, unless it ends before."""
    if token.name != name or not token.is_valid(ends_at):
        return token
    return msgspec.structs.replace(token, expires_at=ends_at.replace(microsecond=0))
