"""Replies say when they were written."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from greenroom.timestamps import timestamp_now


def test_the_time_is_utc_to_the_millisecond_and_goes_on_within_a_second_and_beyond():
    told = []
    ends_at = time.monotonic() + 1.2
    while time.monotonic() < ends_at:
        told.append(timestamp_now())
        time.sleep(0.01)
    assert told == sorted(told)
    assert len({text[:19] for text in told}) >= 2
    last = datetime.fromisoformat(timestamp_now())
    behind = datetime.now(UTC) - last
    assert timedelta(0) <= behind < timedelta(seconds=1)
