"""What the amount of a transaction is told by: its description, its category and its date.

Self-contained: this file travels inside each version, and training and serving run it alike.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_NOT_A_WORD = re.compile(r"[^a-z&]+")
_EPOCH = np.datetime64("2020-01-01", "D")
_YEAR_DAYS = 365.25


def features(columns: dict[str, Array]) -> dict[str, Array]:
    """Return the estimator's columns, with as many rows as ``columns``."""
    days = columns["Date"].astype("datetime64[D]")
    years = (days - _EPOCH).astype(np.float64) / _YEAR_DAYS
    description = np.empty(len(days), dtype=object)
    words = (_NOT_A_WORD.sub(" ", text.lower()).strip() for text in columns["Description"].tolist())
    description[:] = list(words)
    return {
        "description": description,
        "category": columns["Category"],
        "years": years,
        "winter": np.cos(2 * np.pi * years),  # 1 at the turn of the year, -1 in July
        "weekend": ((days.astype(int) + 3) % 7 >= 5).astype(np.float64),
    }
