"""Visits: one request and what came of it, as the access log sees it. Nothing that it holds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["Visit"]


@dataclass(slots=True, kw_only=True)
class Visit:
    """A request and its reply, filled in as they come to be known.

    Parameters
    ----------
    method : str
    request_id : str
        The caller's own.
    route : str
        As the server names it, such as ``/models/{name}/info``; empty where none takes it.
    caller : str
        The name of the caller's token.
    model, version : str
        What answers a prediction.
    status : int
        0 while there is no reply, and where the caller left before it.
    n_bytes : int
        The length of the reply's body.
    """

    method: str
    request_id: str = ""
    route: str = ""
    caller: str = ""
    model: str = ""
    version: str = ""
    status: int = 0
    n_bytes: int = 0
    _began_s: float = field(default_factory=time.perf_counter)

    @property
    def age_ms(self) -> float:
        """Milliseconds since the request was there."""
        return (time.perf_counter() - self._began_s) * 1_000
