"""Admission: which requests are let in, by who sends them and by how many are in already.

More requests than a worker can answer in time would only wait, and take memory while they do: those
beyond a bound are told at once to come again. Who a caller is, :mod:`greenroom.access.callers`
says; what a refusal looks like, :mod:`greenroom.http.error_replies`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol

from greenroom.access.callers import ANYONE, Access, Authorise, Caller, Callers
from greenroom.access.tokens import Scope
from greenroom.errors import TooBusy
from greenroom.settings import Settings

__all__ = ["Admission"]


class Cells(Protocol):
    """What numbers are kept in."""

    def __getitem__(self, index: int, /) -> float: ...

    def __setitem__(self, index: int, number: float, /) -> None: ...


class Admission:
    """What a request passes on its way in; all methods are for the event loop.

    Parameters
    ----------
    authorise : callable or None
        Says who sends a request, or raises; None where nobody is asked.
    max_in_flight : int
        How many requests may be in at a time.
    in_flight : list or memoryview of float, optional
        Where they are counted.

    Attributes
    ----------
    in_flight : list or memoryview of float
        Its one number is how many are in: let in, and not answered yet. ``/metrics`` shows it, and
        the hot path lowers it by itself.

    Examples
    --------
    >>> admission = Admission(None, max_in_flight=1)
    >>> with admission.admitted({}, "predict"):
    ...     admission.in_flight
    [1.0]
    >>> admission.in_flight
    [0.0]
    """

    def __init__(
        self,
        authorise: Authorise | None,
        *,
        max_in_flight: int,
        in_flight: Cells | None = None,
    ) -> None:
        self._authorise: Final = authorise
        self._max_in_flight: Final = max_in_flight
        self.in_flight: Final[Cells] = [0.0] if in_flight is None else in_flight

    @classmethod
    def of(cls, settings: Settings, in_flight: Cells) -> Admission:
        """Return the one that the settings describe, counting into ``in_flight``.

        Raises
        ------
        SettingsError
            When the tokens cannot be read.
        """
        authorise = None if settings.auth == "none" else Callers.of(settings).authorise
        return cls(authorise, max_in_flight=settings.max_in_flight, in_flight=in_flight)

    def enter(self, headers: Mapping[bytes, bytes], scope: Scope) -> Caller:
        """Let a request in, and return who sends it; ``in_flight`` is to be lowered once for it.

        Parameters
        ----------
        headers : mapping of bytes to bytes
            Of the request, their names in lower case.
        scope : Scope
            What it asks for.

        Raises
        ------
        TooBusy
            When as many requests as may be are in.
        NotAuthenticated, NotAllowed
            As :meth:`greenroom.access.callers.Callers.authorise`.
        """
        if self.in_flight[0] >= self._max_in_flight:
            raise TooBusy(
                f"{self.in_flight[0]:.0f} requests are being answered, which is as many as may be",
                advice="send it again in a moment; the setting max_in_flight is the bound",
            )
        caller = ANYONE
        if self._authorise is not None:
            caller = self._authorise(headers.get(b"authorization"), scope)
        self.in_flight[0] += 1.0
        return caller

    @contextmanager
    def admitted(self, headers: Mapping[bytes, bytes], access: Access) -> Iterator[Caller]:
        """Let a request in for as long as the block runs.

        What is open to everyone is counted and not refused: a server with much to do has to say
        that it lives.

        Raises
        ------
        TooBusy, NotAuthenticated, NotAllowed
            As :meth:`enter`.
        """
        if access == "open":
            caller = ANYONE
            self.in_flight[0] += 1.0
        else:
            caller = self.enter(headers, access)
        try:
            yield caller
        finally:
            self.in_flight[0] -= 1.0
