"""What a transaction is judged by: its category, its amount, and where in month and week it lies.

Self-contained: this file travels inside each version, and training and serving run it alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def features(columns: dict[str, Array]) -> dict[str, Array]:
    """Return the estimator's columns, with as many rows as ``columns``."""
    days = columns["Date"].astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    return {
        "category": columns["Category"],
        "amount": columns["Amount"],
        "day": (days - months.astype("datetime64[D]")).astype(np.float64) + 1,
        "weekday": ((days.astype(int) + 3) % 7).astype(np.float64),
    }
