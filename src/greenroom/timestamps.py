"""The time as replies have it, as text: written once a second, and not for each reply."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final


class _Clock:
    """The time as text, with the second written once."""

    def __init__(self) -> None:
        self._written = (-1, "")

    def __call__(self) -> str:
        """Return the time now: ISO 8601, UTC, milliseconds."""
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        # One value, read and replaced as a whole: replies are written by two threads.
        written = self._written
        if written[0] != second:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            written = self._written = (second, text)
        return f"{written[1]}.{nanoseconds // 1_000_000:03d}Z"


timestamp_now: Final = _Clock()
