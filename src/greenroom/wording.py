"""Numbers in sentences for people.

What is written for programs (JSON, metrics, CSV) has bare numbers and does not come here.
"""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one.

    Examples
    --------
    >>> counted(1, "row"), counted(0, "row"), counted(12_500, "prediction")
    ('1 row', '0 rows', '12,500 predictions')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
