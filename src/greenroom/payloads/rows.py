"""What a model is asked about: rows, wherever they come from.

JSON bodies are decoded into :class:`greenroom.payloads.request.Rows`, tensors are taken as
:class:`greenroom.protocols.array_rows.ArrayRows`. What answers them knows no more of either than
this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from greenroom.schema import Columns

__all__ = ["RowSource"]


class RowSource(Protocol):
    """The rows of one request, at least one, in its order."""

    @property
    def n_rows(self) -> int:
        """How many there are."""

    @property
    def single(self) -> bool:
        """Whether they are one row that was sent by itself, and not in a list."""

    @classmethod
    def joined(cls, requests: Sequence[Self]) -> Self:
        """Return the rows of several requests of one schema, one request after the other."""

    def gaps(self) -> tuple[int, ...]:
        """Return the positions of those nullable columns in which a value is missing."""

    def matrix(self) -> npt.NDArray[np.float64]:
        """Return the values of a wholly numeric schema, shape (n_rows, n_columns), NaN missing."""

    def columns(self) -> Columns:
        """Return the values column by column, under the names that the data have."""
