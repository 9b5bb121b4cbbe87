"""Placing rows on the thresholds of an ensemble, where two implementations of it differ first.

A row drawn from data hardly ever lies on a threshold, so that a sample proves nothing: a graph that
rounds to float32 agrees on 150,000 rows and is wrong by 0.15 on the next. For every split a row is
made that reaches it, and its feature is put on the threshold and the smallest steps beside it.
Comparing answers is :mod:`greenroom.compiler.parity`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from greenroom.compiler.boosters import find_trees
from greenroom.compiler.ensembles import Trees
from greenroom.compiler.passages import Passage
from greenroom.errors import NotConvertible

Matrix: TypeAlias = npt.NDArray[np.float64]

STEPS: Final = 8
"""Rows made for each threshold by :func:`beside`."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An ensemble, and the way from the estimator's columns to the ensemble's and back."""

    trees: Trees
    passage: Passage
    n_features: int


def ensembles_in(estimator: Any, passage: Passage | None = None) -> Iterator[Placed]:
    """Find the ensembles inside an estimator.

    Parameters
    ----------
    passage : Passage, optional
        How columns come to it; default: as they are.

    Raises
    ------
    NotConvertible
        When one has trees that are not known.
    """
    passage = passage or Passage()
    trees = find_trees(estimator)
    if trees is not None:
        yield Placed(trees, passage, int(estimator.n_features_in_))
    elif hasattr(estimator, "steps"):
        for _, step in estimator.steps[:-1]:
            passage = passage.through(step)
        yield from ensembles_in(estimator.steps[-1][1], passage)
    elif hasattr(estimator, "regressor_"):
        yield from ensembles_in(estimator.regressor_, passage)
    elif hasattr(estimator, "estimators_"):
        for member in estimator.estimators_:
            yield from ensembles_in(member, passage)
        if hasattr(estimator, "final_estimator_"):
            yield from ensembles_in(estimator.final_estimator_, passage.through(estimator))


def landmarks(estimator: Any, n_features: int, *, most: int = 64) -> Matrix:
    """Return values that an estimator itself tells of its columns.

    Thresholds of its trees, evenly chosen, and what its first scalers were fitted on: from three
    deviations below the middle to three above.

    Parameters
    ----------
    n_features : int
        How many columns enter it.
    most : int, optional
        How many thresholds of a column are taken.

    Returns
    -------
    ndarray of shape (n_landmarks, n_features)
        NaN where nothing is known; of other estimators no row.
    """
    found = [np.empty((0, n_features))]
    with suppress(NotConvertible):
        passage = Passage()
        steps = getattr(estimator, "steps", ())
        for _, step in steps[:-1]:
            passage = passage.through(step)
        width = getattr(estimator.steps[-1][1], "n_features_in_", n_features) if steps else 0
        deviations = np.linspace(-3.0, 3.0, 13)
        if steps:
            found.append(passage.backward(np.tile(deviations[:, None], (1, width))))
        found += [
            placed.passage.backward(_some_thresholds(placed.trees, placed.n_features, most))
            for placed in ensembles_in(estimator)
        ]
    return np.concatenate(found)


def _some_thresholds(trees: Trees, n_features: int, most: int) -> Matrix:
    found = np.full((most, n_features), np.nan)
    splits = trees.splits
    splits = splits[np.isfinite(trees.threshold[splits])]
    for feature in np.unique(trees.feature[splits]):
        thresholds = trees.threshold[splits[trees.feature[splits] == feature]]
        found[:, feature] = np.quantile(thresholds, np.linspace(0.0, 1.0, most))
    return found


def threshold_rows(
    placed: Placed, sample: Matrix, rng: np.random.Generator, *, most: int
) -> tuple[Matrix, int]:
    """Make rows on and beside the thresholds of an ensemble.

    Parameters
    ----------
    sample : ndarray of shape (n_samples, n_features)
        Rows of the data, which the others are made of.
    most : int
        How many splits are taken; with more, the same share of every feature's.

    Returns
    -------
    rows : ndarray of shape (n_chosen * STEPS, n_features)
        Those of one split stand together. A step from the largest number is infinite.
    n_splits : int
        How many splits there are.
    """
    trees = placed.trees
    chosen = _chosen(trees, rng, most)
    # What an indicator or an encoder made of a column has no values beside its threshold.
    chosen = chosen[placed.passage.column_of(trees.feature[chosen]) >= 0]
    if not len(chosen):
        return np.empty((0, sample.shape[1])), len(trees.splits)
    bases = sample[rng.integers(len(sample), size=len(chosen))]
    inside = _reaching(trees, chosen, placed.passage.forward(bases))
    features, each = trees.feature[chosen], np.arange(len(chosen))
    inside[each, features] = trees.threshold[chosen]
    rows = placed.passage.backward(inside)
    columns = placed.passage.column_of(features)
    values = beside(rows[each, columns])
    repeated = np.repeat(rows, STEPS, axis=0)
    repeated[np.arange(len(repeated)), np.repeat(columns, STEPS)] = values.ravel()
    return repeated, len(trees.splits)


def beside(thresholds: Matrix) -> Matrix:
    """Return each threshold, and the smallest steps beside it in float64 and in float32.

    Shape (n,) becomes (n, STEPS).

    Examples
    --------
    >>> steps = beside(np.array([0.1]))[0]
    >>> bool(steps[0] == 0.1), bool(steps[1] < 0.1 < steps[2])
    (True, True)
    >>> sorted({float(np.float32(step)) for step in steps}) == sorted(steps[5:].tolist())
    True
    """
    with np.errstate(over="ignore"):
        single = thresholds.astype(np.float32)
        down = np.nextafter(single, np.float32(-np.inf))
        up = np.nextafter(single, np.float32(np.inf))
        steps = [
            thresholds,
            np.nextafter(thresholds, -np.inf),
            np.nextafter(thresholds, np.inf),
            # Twice as far: a threshold that came back through a scaler is off by one.
            np.nextafter(np.nextafter(thresholds, -np.inf), -np.inf),
            np.nextafter(np.nextafter(thresholds, np.inf), np.inf),
            *(values.astype(np.float64) for values in (single, down, up)),
        ]
    return np.stack(steps, axis=1)


def _chosen(trees: Trees, rng: np.random.Generator, most: int) -> npt.NDArray[np.int64]:
    """Return splits to be proved: all, or of every feature as many as there is room for."""
    splits = rng.permutation(trees.splits)
    if len(splits) <= most:
        return splits
    features = trees.feature[splits]
    order = np.argsort(features, kind="stable")
    starts = np.searchsorted(features[order], features[order])
    rank = np.empty(len(splits), dtype=np.int64)
    rank[order] = np.arange(len(splits)) - starts
    return splits[np.argsort(rank, kind="stable")[:most]]


def _reaching(trees: Trees, nodes: npt.NDArray[np.int64], rows: Matrix) -> Matrix:
    """Change each row as little as makes it reach its node."""
    low, high = np.full(rows.shape, -np.inf), np.full(rows.shape, np.inf)
    parents = trees.parents()
    each, node = np.arange(len(nodes)), nodes
    while len(each):
        parent = parents[node]
        inner = parent >= 0
        each, child, node = each[inner], node[inner], parent[inner]
        feature, threshold = trees.feature[node], trees.threshold[node]
        left = trees.left[node] == child
        at = (each[left], feature[left])
        high[at] = np.minimum(high[at], threshold[left])
        at = (each[~left], feature[~left])
        low[at] = np.maximum(low[at], threshold[~left])
    bound = np.isfinite(low) | np.isfinite(high)
    outside = (rows > high) | (rows <= low) | (np.isnan(rows) & bound)
    edge = np.where(np.isfinite(high), high, np.nextafter(low, np.inf))
    found = np.where(outside, edge, rows)
    if trees.single_precision:
        found = _kept_inside(found, low, high)
    # A split at infinity tells the missing values from all others.
    return np.where(np.isposinf(low), np.nan, found)


def _kept_inside(rows: Matrix, low: Matrix, high: Matrix) -> Matrix:
    """Choose float32 values, as rounding must not take a row out of its interval."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = rows.astype(np.float32)
        single = np.where(single > high, np.nextafter(single, np.float32(-np.inf)), single)
        single = np.where(single <= low, np.nextafter(single, np.float32(np.inf)), single)
    return single.astype(np.float64)
