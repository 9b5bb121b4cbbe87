"""JSON as pandas and Python's own ``json`` write it: with ``NaN`` where a number is missing.

JSON has no such thing, and a strict reader refuses the whole body. Clients of MLflow and of Triton
send it nevertheless, so the protocols that are theirs read it as ``null``; an infinity becomes a
number that no double holds, which every reader refuses by name. Pure.
"""

from __future__ import annotations

import re
from typing import Final

_LITERAL: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|NaN|(-?)Infinity', re.DOTALL)

TOO_LARGE: Final = b"1e999"
"""What stands for an infinity: a valid number of JSON, and too large for a double."""


def has_literals(body: bytes) -> bool:
    """Whether there may be something to replace."""
    return b"NaN" in body or b"Infinity" in body


def replace_literals(body: bytes) -> bytes:
    """Replace ``NaN`` by ``null`` and infinities by numbers that are too large; strings stay.

    Examples
    --------
    >>> replace_literals(b'{"NaN": [NaN, -Infinity]}')
    b'{"NaN": [null, -1e999]}'
    """
    return _LITERAL.sub(_replacement, body)


def _replacement(found: re.Match[bytes]) -> bytes:
    text = found[0]
    if text.startswith(b'"'):
        return text
    return b"null" if text == b"NaN" else (found[1] or b"") + TOO_LARGE
