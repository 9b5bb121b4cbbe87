"""placeholder"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model said about some rows.

    Parameters
    ----------
    outputs : dict of str to ndarray
        One array a task output, each with n_samples entries first: ``prediction`` always; for
        classifiers ``probability`` of shape (n_samples,) and ``probabilities`` of shape
        (n_samples, n_classes); for forecasts ``lower`` and ``upper``.
    classes : tuple
        For classifiers: the label of each column of ``probabilities``.
    """

    outputs: dict[str, npt.NDArray[Any]]
    classes: tuple[Any, ...] = ()

    def __len__(self) -> int:
        return len(self.outputs["prediction"])

    def take(self, rows: npt.NDArray[Any]) -> Predictions:
        """Return the predictions for ``rows``, given as positions or as a boolean mask."""
        return Predictions(
            {name: values[rows] for name, values in self.outputs.items()}, self.classes
        )


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of merit: its name, which way it points, and how it is computed.

    ``compute`` takes the true values, shape (n_samples,), and the predictions for the same rows;
    ``interval``, where it is cheap, gives the 95 % confidence interval of the same figure.
    """

    name: str
    compute: Callable[[npt.NDArray[Any], Predictions], float]
    greater_is_better: bool = True
    interval: Callable[[npt.NDArray[Any], Predictions], Interval] | None = None

CLASSIFICATION_METRICS: tuple[Metric, ...] = ()
REGRESSION_METRICS: tuple[Metric, ...] = ()
ANOMALY_METRICS: tuple[Metric, ...] = ()
FORECAST_METRICS: tuple[Metric, ...] = ()
