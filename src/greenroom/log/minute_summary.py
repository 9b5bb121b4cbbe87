"""Summaries of predictions: how many, what they were like, and how long they took.

Pure figures of some predictions; which ones, and where the figures go, is
:mod:`greenroom.log.mlflow_sending`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["MINUTE_US", "Summary", "summary_of"]

MINUTE_US: Final = 60_000_000
"""Microseconds in a minute."""

_QUANTILES: Final = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
_LATENCY_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Summary(msgspec.Struct, frozen=True, array_like=True):
    """Figures, and the instant that they belong to, in milliseconds since 1970."""

    at_ms: int
    figures: dict[str, float]


def summary_of(
    at_ms: int,
    latency_ms: npt.NDArray[np.float64],
    outputs: Mapping[str, npt.NDArray[np.float64]],
) -> Summary:
    """Summarise predictions.

    Parameters
    ----------
    at_ms : int
        The instant that the figures belong to, in milliseconds since 1970.
    latency_ms : array of shape (n_predictions,)
        Not empty.
    outputs : mapping of str to array of shape (n_predictions,)
        What was predicted; values that are not finite are left out of its figures.

    Examples
    --------
    >>> found = summary_of(0, np.array([1.0, 3.0]), {"probability": np.array([0.2, 0.4])})
    >>> found.figures["predictions"], round(found.figures["probability_mean"], 3)
    (2.0, 0.3)
    >>> found.figures["latency_ms_mean"]
    2.0
    """
    figures = {"predictions": float(len(latency_ms))}
    for name, values in outputs.items():
        figures |= _figures(name, values[np.isfinite(values)], _QUANTILES)
    return Summary(at_ms, figures | _figures("latency_ms", latency_ms, _LATENCY_QUANTILES))


def _figures(
    name: str, values: npt.NDArray[np.float64], quantiles: Mapping[str, float]
) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.quantile(values, list(quantiles.values()))
    named = {f"{name}_{end}": float(value) for end, value in zip(quantiles, found, strict=True)}
    return {f"{name}_mean": float(values.mean()), **named}
