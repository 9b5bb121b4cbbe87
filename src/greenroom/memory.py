"""Memory: when what is in it was last used, and giving back what was let go of.

What is kept and what goes is decided by those who hold it.
"""

from __future__ import annotations

import ctypes
import time


class Recency:
    """When something was last used: ``at_s``, in seconds of ``time.monotonic()``.

    Whoever uses it writes the time there, which costs about as much as calling a function.
    """

    __slots__ = ("at_s",)

    def __init__(self) -> None:
        self.at_s = time.monotonic()


def give_back_memory() -> None:
    """Return to the system what is free.

    The C library keeps it for the next time: a process that has let go of a large model looks as
    large as before. Nothing happens with another library than glibc.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return
