"""Waiting for a condition, instead of sleeping for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx


def wait_for(condition: Callable[[], bool], what: str, *, within_s: float) -> float:
    """Return after how many seconds ``condition`` held; a server may be on its way yet."""
    began = time.monotonic()
    while time.monotonic() - began < within_s:
        try:
            if condition():
                return time.monotonic() - began
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {within_s} s")
