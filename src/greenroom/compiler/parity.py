"""The proof that a compiled graph answers as its estimator does, and the report of it.

Rows of the data, rows on and beside the thresholds, missing values, extreme values and rows beyond
the range are answered by both. A version is served compiled only with a report that passed; the
report stands in the version's directory, with the digest of the graph that it speaks of.

A report tells shapes and differences, never a row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from greenroom.compiler.drawing import with_missing
from greenroom.compiler.placing import STEPS, Placed, beside, threshold_rows
from greenroom.evaluation.predictions import Predictions
from greenroom.progress import OnProgress, silent

Matrix: TypeAlias = npt.NDArray[np.float64]
Answer: TypeAlias = Callable[[Matrix], Predictions]

BOUND: Final = 1e-6
"""How far two answers may lie apart.

Both compute in float64 and differ in the last bits where sums are taken in another order (2e-16 for
the estimators that are compiled here), so that this leaves room for long sums, and still is a
thousand times below what a probability is ever read to. It is no allowance for a wrong branch: that
moves an answer by what a leaf is worth, and flips are counted apart.
"""

MOST_THRESHOLDS: Final = 20_000
BUDGET_S: Final = 45.0
_BEYOND: Final = 2_000
_CHUNK: Final = 2_000 * STEPS
_MAGNITUDES: Final = (
    0.0,
    5e-324,
    1e-300,
    1e30,
    3.4028234663852886e38,
    1e300,
    1.7976931348623157e308,
)


class ParityReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the proof came to.

    ``rows`` are numbers of rows by kind. ``largest_difference`` is of probabilities, or of values
    in relation to their size (:func:`prove`). ``refuses_missing`` are positions of the columns in
    which the estimator takes no missing value, ``largest_accepted`` the largest magnitude that it
    takes; the compiled runtime refuses the same. ``columns`` and ``classes`` are the columns of a
    request and a classifier's labels, for a version that does not carry them itself. The digests
    are SHA-256 of the graph and of the rows that are checked whenever it loads.
    """

    format: int = 1
    passed: bool
    reason: str = ""
    bound: float = BOUND
    largest_difference: float = 0.0
    flipped: int = 0
    rows: dict[str, int] = {}
    thresholds: int = 0
    thresholds_proved: int = 0
    refuses_missing: tuple[int, ...] = ()
    largest_accepted: float = _MAGNITUDES[-1]
    outputs: str = ""
    columns: tuple[str, ...] = ()
    classes: tuple[Any, ...] = ()
    onnxruntime: str = ""
    graph_digest: str = ""
    check_digest: str = ""


def prove(
    native: Answer,
    compiled: Answer,
    sample: Matrix,
    ensembles: tuple[Placed, ...] = (),
    *,
    kind: str = "reference",
    known: Mapping[int, Sequence[float]] | None = None,
    most_thresholds: int = MOST_THRESHOLDS,
    budget_s: float = BUDGET_S,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> ParityReport:
    """Compare two runtimes where they would differ if they did.

    A difference of probabilities is absolute. One of values is divided by the value's magnitude, or
    by the spread of the answers for ``sample`` where that is larger.

    Parameters
    ----------
    native, compiled : callable
        ``X -> predictions``; a ValueError of ``native`` means that it refuses the rows.
    sample : ndarray of shape (n_samples, n_features)
        Rows of the data, or drawn ones, as they enter the estimator.
    ensembles : tuple of Placed, optional
        Whose thresholds rows are placed on.
    kind : str, optional
        What the report calls the sample's rows.
    known : mapping of int to sequence of float, optional
        By position of a column, values that rows are placed on and beside.
    most_thresholds : int, optional
        How many thresholds are taken; with more, the same share of every feature's.
    budget_s : float, optional
        After so long no more thresholds are taken; the report says how many were.
    on_progress : callable, optional
    """
    comparison = _Comparison(native, compiled, _spread(native(sample)))
    rng = np.random.default_rng(seed)
    deadline = time.monotonic() + budget_s
    on_progress("comparing answers", None)
    comparison.add(kind, sample)
    comparison.add("beyond the range", _beyond(sample, rng))
    for position, values in (known or {}).items():
        comparison.add("categories", _on_and_beside(sample, position, values, rng))
    refuses_missing = _refusing_missing(comparison, sample, rng)
    largest = _largest_accepted(comparison, sample)
    thresholds = proved = 0
    for ensemble in ensembles:
        rows, n_splits = threshold_rows(
            ensemble, sample, rng, most=most_thresholds // len(ensembles)
        )
        thresholds += n_splits
        proved += _add_thresholds(comparison, rows, largest, deadline, on_progress)
    return ParityReport(
        passed=not comparison.reason,
        reason=comparison.reason,
        largest_difference=comparison.largest,
        flipped=comparison.flipped,
        rows=comparison.rows,
        thresholds=thresholds,
        thresholds_proved=proved,
        refuses_missing=refuses_missing,
        largest_accepted=largest,
    )


def _add_thresholds(
    comparison: _Comparison,
    rows: Matrix,
    largest: float,
    deadline: float,
    on_progress: OnProgress,
) -> int:
    """Compare the rows beside an ensemble's thresholds while there is time; return of how many."""
    proved = 0
    for chunk in _chunks(rows):
        with np.errstate(invalid="ignore"):
            taken = chunk[~(np.abs(chunk) > largest).any(axis=1)]
        comparison.add("thresholds", taken)
        proved += len(chunk) // STEPS
        on_progress("comparing answers beside thresholds", proved * STEPS / len(rows))
        if time.monotonic() > deadline:
            break
    return proved


@dataclass
class _Comparison:
    """Differences so far."""

    native: Answer
    compiled: Answer
    spread: float
    largest: float = 0.0
    flipped: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    refused: str = ""

    @property
    def reason(self) -> str:
        """Why the proof failed; empty when it did not."""
        if self.refused:
            return f"the estimator refuses rows {self.refused}"
        if self.flipped:
            return f"{self.flipped} predictions of {sum(self.rows.values()):,} are another class"
        if not self.largest <= BOUND:
            return f"answers differ by up to {self.largest:.2g}, more than {BOUND:g}"
        return ""

    def add(self, kind: str, X: Matrix) -> None:
        if not self.accepts(kind, X):
            self.refused = self.refused or kind

    def accepts(self, kind: str, X: Matrix) -> bool:
        """Compare the answers for some rows; False when the estimator refuses them."""
        with np.errstate(all="ignore"):
            try:
                expected = self.native(X)
            except ValueError:
                return False
            found = self.compiled(X)
            self._compare(expected, found)
        self.rows[kind] = self.rows.get(kind, 0) + len(X)
        return True

    def _compare(self, expected: Predictions, found: Predictions) -> None:
        said, says = expected.outputs["prediction"], found.outputs["prediction"]
        if "probabilities" in expected.outputs:
            self.flipped += int((said != says).sum())
            difference = _apart(
                expected.outputs["probabilities"], found.outputs["probabilities"], 1.0
            )
        else:
            scale = np.maximum(np.abs(said), self.spread)
            difference = _apart(said, says, scale)
        self.largest = max(self.largest, difference)


def largest_difference(expected: Matrix, found: Matrix) -> float:
    """Return how far answers lie apart, as :func:`prove` counts it."""
    if expected.ndim == 2:
        return _apart(expected, found, 1.0)
    return _apart(expected, found, np.maximum(np.abs(expected), float(np.std(expected))))


def _apart(a: Matrix, b: Matrix, scale: Matrix | float) -> float:
    """Return the largest difference; infinite where one is no number and the other is."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        apart = np.where(same, 0.0, np.abs(a - b) / scale)
    largest = float(np.max(apart, initial=0.0))
    return largest if np.isfinite(largest) else float("inf")


def _spread(predictions: Predictions) -> float:
    values = predictions.outputs["prediction"]
    return float(np.std(values)) if values.dtype.kind == "f" else 0.0


def _beyond(sample: Matrix, rng: np.random.Generator) -> Matrix:
    """Return rows in the columns' ranges, and up to three times as far out."""
    with np.errstate(all="ignore"):
        low = np.nanmin(np.where(np.isnan(sample), np.inf, sample), axis=0)
        high = np.nanmax(np.where(np.isnan(sample), -np.inf, sample), axis=0)
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 1.0)
    width = np.where(high > low, high - low, 1.0)
    far = np.where(np.arange(_BEYOND) % 2 == 0, 0.0, 3.0)[:, None]
    rows: Matrix = (
        low - far * width + rng.random((_BEYOND, sample.shape[1])) * width * (1 + 2 * far)
    )
    return rows


def _on_and_beside(
    sample: Matrix, position: int, values: Sequence[float], rng: np.random.Generator
) -> Matrix:
    """Return rows whose column is each of some values, and the steps beside it."""
    steps = beside(np.asarray(values, dtype=np.float64)).ravel()
    rows = sample[rng.integers(len(sample), size=len(steps))]
    rows[:, position] = steps
    return rows


def _refusing_missing(
    comparison: _Comparison, sample: Matrix, rng: np.random.Generator
) -> tuple[int, ...]:
    """Compare with each column missing, and return those that may not be."""
    refusing = []
    for position in range(sample.shape[1]):
        rows = sample[:20].copy()
        rows[:, position] = np.nan
        if not comparison.accepts("missing values", rows):
            refusing.append(position)
    several = sample[:200].copy()
    allowed = [position for position in range(sample.shape[1]) if position not in refusing]
    several[:, allowed] = np.nan
    comparison.add("missing values", several)
    if allowed:
        comparison.add("missing values", with_missing(sample[:500], allowed, rng))
    return tuple(refusing)


def _largest_accepted(comparison: _Comparison, sample: Matrix) -> float:
    """Compare with extreme values in each column, as far as the estimator takes them."""
    accepted = 0.0
    n_features = sample.shape[1]
    for magnitude in _MAGNITUDES:
        for sign in (1.0, -1.0):
            rows = np.tile(sample[:2], (n_features, 1))
            rows[np.arange(len(rows)), np.repeat(np.arange(n_features), len(sample[:2]))] = (
                sign * magnitude
            )
            if not comparison.accepts("extreme values", rows):
                return accepted
        accepted = magnitude
    return accepted


def _chunks(rows: Matrix) -> Iterator[Matrix]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]
