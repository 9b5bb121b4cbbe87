"""What the category of a transaction is told by: its description, its amount and its date.

Self-contained: this file travels inside each version, and training and serving run it alike.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_NOT_A_WORD = re.compile(r"[^a-z&]+")


def features(columns: dict[str, Array]) -> dict[str, Array]:
    """Return the estimator's columns, with as many rows as ``columns``."""
    days = columns["Date"].astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    return {
        "description": _plain(columns["Description"]),
        "log_amount": np.log1p(columns["Amount"]),
        "day": (days - months.astype("datetime64[D]")).astype(np.float64) + 1,
        "weekend": ((days.astype(int) + 3) % 7 >= 5).astype(np.float64),
    }


def _plain(texts: Array) -> Array:
    """Return words alone, in lower case: numbers of branches and bookings tell nothing."""
    plain = np.empty(len(texts), dtype=object)
    plain[:] = [_NOT_A_WORD.sub(" ", text.lower()).strip() for text in texts.tolist()]
    return plain
