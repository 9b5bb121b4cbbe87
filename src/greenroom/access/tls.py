"""TLS: the certificate that the server shows, checked before it listens and renewed while it runs.

Certificates live for weeks, servers for longer: whoever renews the files (certbot, cert-manager)
need not know of the server. They are looked at when a client connects, at most once a second, and
read again when they have changed. While the new ones do not fit together (one was replaced, the
other not yet), the old ones go on. Client certificates are not asked for.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from greenroom.errors import SettingsError
from greenroom.settings import Settings

__all__ = ["Certificate", "require_certificate", "trusting"]

_LOG: Final = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0


class Certificate:
    """A certificate and its key, as files that may be replaced.

    Parameters
    ----------
    certfile, keyfile : Path
        PEM; the certificate first, then those between it and its root.
    monotonic_s : callable, optional
        The clock.

    Attributes
    ----------
    context : ssl.SSLContext
        What a server listens with: TLS 1.2 and 1.3, as Python's defaults are.

    Raises
    ------
    SettingsError
        When a file cannot be read, or both do not belong together.
    """

    def __init__(
        self,
        certfile: Path,
        keyfile: Path,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._certfile = certfile
        self._keyfile = keyfile
        self._monotonic_s = monotonic_s
        self._seen = self._state()
        self._complaint = ""
        self.context: Final = self._load()
        self._newest = self.context
        self.context.sni_callback = self._choose
        self._look_at_s = monotonic_s() + LOOK_EVERY_S

    @classmethod
    def of(cls, settings: Settings) -> Certificate | None:
        """Return what the settings name; None where they name neither file.

        Raises
        ------
        SettingsError
            As the class does, and when they name only one of the two.
        """
        if not settings.ssl_certfile and not settings.ssl_keyfile:
            return None
        for name in ("ssl_certfile", "ssl_keyfile"):
            if not getattr(settings, name):
                raise SettingsError(
                    f"{name} is not set, and the other file of the two is",
                    advice="set ssl_certfile and ssl_keyfile, or neither",
                )
        return cls(Path(settings.ssl_certfile), Path(settings.ssl_keyfile))

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext
    ) -> None:
        """Have a connection that begins see the newest certificate, whatever name it asks for."""
        del name
        if self._monotonic_s() >= self._look_at_s:
            self._look()
        if self._newest is not self.context:
            connection.context = self._newest

    def _look(self) -> None:
        self._look_at_s = self._monotonic_s() + LOOK_EVERY_S
        state = self._state()
        if state == self._seen:
            return
        try:
            self._newest = self._load()
        except SettingsError as error:
            if self._complaint != error.message:
                self._complaint = error.message
                _LOG.error("%s; the certificate that was read last goes on", error.message)
            return
        self._seen, self._complaint = state, ""
        _LOG.info("%s has changed, and is what clients see now", self._certfile)

    def _state(self) -> tuple[tuple[int, ...], ...]:
        found: list[tuple[int, ...]] = []
        for path in (self._certfile, self._keyfile):
            try:
                about = path.stat()
            except OSError:
                found.append(())
            else:
                found.append((about.st_ino, about.st_size, about.st_mtime_ns))
        return tuple(found)

    def _load(self) -> ssl.SSLContext:
        for path in (self._certfile, self._keyfile):
            try:
                path.read_bytes()
            except OSError as error:
                raise SettingsError(
                    f"{path} cannot be read: {error.strerror}",
                    advice="ssl_certfile and ssl_keyfile name the certificate and its key",
                ) from error
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._certfile, self._keyfile, password=_no_passphrase)
        except _PassphraseWanted as error:
            raise SettingsError(
                f"{self._keyfile} is encrypted, and nobody is there to type its passphrase",
                advice="write it without one, readable by the server's user alone",
            ) from error
        except ssl.SSLError as error:
            raise SettingsError(
                f"{self._certfile} and {self._keyfile} are no certificate with its key: "
                f"{error.reason or 'not PEM'}",
                advice="both have to be PEM, and the key the certificate's own",
            ) from error
        return context


class _PassphraseWanted(Exception):
    """OpenSSL asks for the passphrase of a key, which it would else ask the terminal for."""


def _no_passphrase() -> str:
    raise _PassphraseWanted


def require_certificate(settings: Settings) -> None:
    """Refuse a server whose certificate could not be shown to anyone.

    Raises
    ------
    SettingsError
        As :meth:`Certificate.of`.
    """
    Certificate.of(settings)


def trusting(settings: Settings) -> ssl.SSLContext:
    """Return what a client on this machine checks the server by: that it shows its certificate.

    The name in it is not looked at, because here the server is called by its address.
    """
    context = ssl.create_default_context(cafile=settings.ssl_certfile)
    context.check_hostname = False
    # The file is the server's own certificate, which need not be an authority's.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
