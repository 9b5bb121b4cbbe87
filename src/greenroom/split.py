"""Which rows are trained on and which are held out, decided row by row and for good.

A row's side is a hash of its content (or of its group) and the seed, not a draw from the rows
that happen to be there: when data grow, no row that a version was trained on can turn up among
the rows that its successor is judged on. Data with a time are split by time instead.

Also the folds of cross-validation among the training rows. Where a row's key comes from is
:mod:`greenroom.data.fingerprint`'s business; scikit-learn is imported only when folds are made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from greenroom.data.fingerprint import row_keys
from greenroom.errors import AppError, DataError, refuse
from greenroom.schema import Column, Columns

Fold = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
"""Positions of the rows to fit on and of the rows to validate on."""

_WORD: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Split:
    """How rows are divided between training and hold-out.

    Parameters
    ----------
    holdout : float
        The share of rows that is held out, above 0 and below 1.
    seed : int
        Part of the hash that decides; another seed makes another hold-out.
    group : str, optional
        A column whose value decides for all rows that share it (a customer, a counter), so that
        none of them is on both sides.
    time : str, optional
        A date or datetime column: the latest rows are held out, instead of a hash deciding.
    """

    holdout: float = 0.2
    seed: int = 42
    group: str = ""
    time: str = ""

    def __post_init__(self) -> None:
        problems = []
        if not (math.isfinite(self.holdout) and 0 < self.holdout < 1):
            problems.append("split.holdout: must lie between 0 and 1")
        if self.group and self.time:
            problems.append("split: group and time exclude each other")
        if problems:
            refuse(AppError("; ".join(problems), problems=problems))


def side_keys(
    columns: Columns, schema_columns: Sequence[Column], split: Split
) -> npt.NDArray[np.uint64]:
    """Return the keys that decide each row's side: the row's own, or its group's.

    Returns
    -------
    ndarray of uint64, shape (n_samples,)

    Raises
    ------
    AppError
        When ``split.group`` is not one of the columns.
    """
    if not split.group:
        return row_keys(columns, schema_columns)
    deciding = [column for column in schema_columns if column.name == split.group]
    if not deciding:
        problem = f"split.group: {split.group!r} is not one of the columns"
        raise AppError(problem, problems=[problem])
    return row_keys(columns, deciding)


def holdout_mask(
    keys: npt.NDArray[np.uint64], split: Split, times: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.bool_]:
    """Say which rows are held out.

    Parameters
    ----------
    keys : ndarray of uint64, shape (n_samples,)
        What :func:`side_keys` gave.
    split : Split
        The share, and the seed or the time column.
    times : ndarray of datetime64, shape (n_samples,), optional
        The values of ``split.time``. The latest share of the rows is held out, so the boundary
        moves on as data grow; rows of one instant stay together, rows without a time are trained
        on.

    Returns
    -------
    ndarray of bool, shape (n_samples,)
        True where held out.

    Raises
    ------
    DataError
        When the split is by time and there are no times, or fewer than two instants.

    Examples
    --------
    >>> keys = np.arange(1000, dtype=np.uint64)
    >>> mask = holdout_mask(keys, Split(holdout=0.2))
    >>> bool((holdout_mask(keys[:10], Split(holdout=0.2)) == mask[:10]).all())
    True
    """
    if split.time:
        if times is None:
            raise DataError(f"the hold-out is split by time, but there is no {split.time!r}")
        return _latest(times, split)
    seed = np.uint64(int(_mixed(np.array([split.seed & _WORD], dtype=np.uint64))[0]))
    drawn = _mixed(keys.astype(np.uint64) ^ seed)
    held_out: npt.NDArray[np.bool_] = drawn < np.uint64(int(split.holdout * 2.0**64))
    return held_out


def fold_indices(
    kind: Literal["stratified", "random", "time"],
    y: npt.NDArray[Any],
    n_folds: int,
    seed: int,
    groups: npt.NDArray[Any] | None = None,
    *,
    times: npt.NDArray[Any] | None = None,
) -> list[Fold]:
    """Divide the training rows into folds for cross-validation.

    Parameters
    ----------
    kind : {"stratified", "random", "time"}
        ``stratified`` keeps the shares of the classes; ``time`` validates on what comes after
        the rows that are fitted on (scikit-learn's ``TimeSeriesSplit``).
    y : ndarray, shape (n_samples,)
        The target; only its length counts unless ``kind`` is ``stratified``.
    n_folds : int
        How many folds, at least 2.
    seed : int
        What the shuffling starts from.
    groups : ndarray, shape (n_samples,), optional
        Rows of one group are never on both sides of a fold. Has no meaning for ``time``.
    times : ndarray, shape (n_samples,), optional
        For ``time``: the order of the rows; rows of one instant stay together. Default: the rows
        are in order.

    Returns
    -------
    list of tuple of ndarray
        For each fold the positions to fit on and the positions to validate on.

    Raises
    ------
    DataError
        When there are too few rows, instants, groups or rows of a class for so many folds.
    """
    if kind == "time":
        return _time_folds(np.arange(len(y)) if times is None else times, n_folds)
    if groups is not None:
        groups = _numbered(groups)
    _require_enough(kind, y, n_folds, groups)
    from sklearn.model_selection import (
        GroupKFold,
        KFold,
        StratifiedGroupKFold,
        StratifiedKFold,
    )

    splitters = {
        ("stratified", False): StratifiedKFold,
        ("stratified", True): StratifiedGroupKFold,
        ("random", False): KFold,
        ("random", True): GroupKFold,
    }
    splitter = splitters[kind, groups is not None](n_folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(y)), y, groups))


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return SplitMix64's output for each state: a bijection whose bits all depend on all bits.

    Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
    """
    mixed = values + np.uint64(_GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _latest(times: npt.NDArray[Any], split: Split) -> npt.NDArray[np.bool_]:
    known = np.sort(times[~np.isnat(times)])
    if not len(known) or known[0] == known[-1]:
        raise DataError(
            f"the hold-out is split by time, but {split.time!r} has fewer than two instants",
            advice="leave out Split(time=...), or use data that span some time",
        )
    wanted = len(known) - max(1, round(split.holdout * len(known)))
    cut = known[wanted]
    if cut == known[0]:  # so many rows share the first instant that nothing would be left
        cut = known[np.searchsorted(known, cut, side="right")]
    held_out: npt.NDArray[np.bool_] = times >= cut
    return held_out


def _time_folds(times: npt.NDArray[Any], n_folds: int) -> list[Fold]:
    from sklearn.model_selection import TimeSeriesSplit

    instants, instant_of_row = np.unique(times, return_inverse=True)
    if len(instants) <= n_folds:
        raise DataError(
            f"{len(instants)} instants are too few for {n_folds} folds in order of time",
            advice="lower Model.folds",
        )
    return [
        (
            np.flatnonzero(instant_of_row <= before[-1]),
            np.flatnonzero((instant_of_row >= after[0]) & (instant_of_row <= after[-1])),
        )
        for before, after in TimeSeriesSplit(n_folds).split(instants)
    ]


def _numbered(groups: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return a number for each row's group; a missing one (None, NaN) is a group as well."""
    numbers: dict[Any, int] = {}
    plain = [None if group != group else group for group in groups.tolist()]
    return np.array([numbers.setdefault(group, len(numbers)) for group in plain], dtype=np.intp)


def _require_enough(
    kind: str, y: npt.NDArray[Any], n_folds: int, groups: npt.NDArray[Any] | None
) -> None:
    counted = len(y)
    what = "training rows"
    if groups is not None:
        counted, what = len(np.unique(groups)), "groups of training rows"
    elif kind == "stratified" and len(y):
        counted, what = int(np.unique(y, return_counts=True)[1].min()), "rows of the rarest class"
    if counted < n_folds:
        raise DataError(f"{counted} {what} are too few for {n_folds} folds", advice="lower folds")
