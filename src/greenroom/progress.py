"""How long work reports what it is doing, without printing: a callback that the verbs take.

Drawing a bar or a line from it is the command line's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

OnProgress: TypeAlias = Callable[[str, float | None], None]
"""Called with what is being done, and the share of it that is done (0 to 1), where known."""


def silent(text: str, share: float | None) -> None:
    """Report to nobody."""
