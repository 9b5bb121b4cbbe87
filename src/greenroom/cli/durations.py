"""Lengths of time as commands take them: ``90s``, ``30m``, ``24h``, ``7d``, ``2w``."""

from __future__ import annotations

import datetime as dt
from typing import Final

from greenroom.errors import SettingsError

__all__ = ["read_duration"]

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_duration(text: str, option: str) -> dt.timedelta:
    """Return the length of time that an option names, which is not 0.

    Raises
    ------
    SettingsError
        When it names none.

    Examples
    --------
    >>> read_duration("90m", "--every").total_seconds()
    5400.0
    """
    number, unit = text[:-1], text[-1:]
    if number.isdecimal() and int(number) and unit in _UNITS:
        try:
            return dt.timedelta(**{_UNITS[unit]: int(number)})
        except OverflowError:
            pass  # longer than there have been people
    raise SettingsError(
        f"{option} {text}: no length of time", advice="write a number with s, m, h, d or w"
    )
