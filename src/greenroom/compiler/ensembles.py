"""Tree ensembles as plain arrays: the nodes of every tree, taken from a fitted estimator.

scikit-learn's trees, forests and both kinds of boosting keep the same things under different names.
Here they become one table, which :mod:`greenroom.compiler.compiling` writes into a graph and whose
thresholds :mod:`greenroom.compiler.parity` places rows on. Neither ONNX nor a prediction is made
here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from greenroom.errors import NotConvertible

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Part: TypeAlias = dict[str, npt.NDArray[Any]]
"""The fields of :class:`Trees` for one tree, whose first node is its root."""

LEAF: Final = -1
FORESTS: Final = frozenset(
    {
        "RandomForestClassifier",
        "RandomForestRegressor",
        "ExtraTreesClassifier",
        "ExtraTreesRegressor",
    }
)
SINGLE: Final = frozenset(
    {"DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor"}
)
BOOSTED: Final = frozenset({"GradientBoostingClassifier", "GradientBoostingRegressor"})
HISTOGRAM: Final = frozenset({"HistGradientBoostingClassifier", "HistGradientBoostingRegressor"})


@dataclass(frozen=True, slots=True)
class Trees:
    """The trees of an ensemble, laid end to end; a row goes left where ``x <= threshold``.

    Parameters
    ----------
    roots : ndarray of int, shape (n_trees,)
        Each tree's first node.
    feature, left, right : ndarray of int, shape (n_nodes,)
        A leaf's ``left`` is -1. Children are positions in these arrays.
    threshold : ndarray of float64, shape (n_nodes,)
    missing_left : ndarray of bool, shape (n_nodes,)
        Where a missing value goes.
    value : ndarray of float64, shape (n_nodes, n_targets)
        What a leaf adds to each target.
    single_precision : bool
        Whether the library rounds features to float32 before it compares them.
    """

    roots: Ints
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    missing_left: npt.NDArray[np.bool_]
    value: Floats
    single_precision: bool

    @property
    def splits(self) -> Ints:
        """Positions of the nodes that are no leaves."""
        return np.flatnonzero(self.left != LEAF)

    def parents(self) -> Ints:
        """Each node's parent; -1 for a root."""
        found = np.full(len(self.left), -1, dtype=np.int64)
        splits = self.splits
        found[self.left[splits]] = splits
        found[self.right[splits]] = splits
        return found


def trees_of(estimator: Any) -> Trees | None:
    """Return the trees of a scikit-learn ensemble; None for any other estimator.

    For a classifier the values are probabilities to be averaged (forests), or contributions to the
    raw score (boosting, whose first tree is the constant that it starts from).

    Raises
    ------
    NotConvertible
        When it has splits by category, or several outputs.
    """
    if type(estimator).__module__.partition(".")[0] != "sklearn":
        return None
    name = type(estimator).__name__
    if name in SINGLE:
        return _of_sklearn([estimator.tree_])
    if name in FORESTS:
        return _of_sklearn([tree.tree_ for tree in estimator.estimators_])
    if name in BOOSTED:
        return _of_boosting(estimator)
    if name in HISTOGRAM:
        return _of_histogram(estimator)
    return None


def _of_sklearn(trees: Sequence[Any]) -> Trees:
    if any(tree.n_outputs != 1 for tree in trees):
        raise NotConvertible("a tree with several outputs is not compiled")
    return joined(
        (_arrays(tree.__getstate__()["nodes"], tree.value[:, 0, :]) for tree in trees),
        single_precision=True,
    )


def _of_boosting(estimator: Any) -> Trees:
    if type(estimator.init_).__name__ not in {"DummyClassifier", "DummyRegressor", "str"}:
        raise NotConvertible("boosting that starts from another estimator is not compiled")
    zeros = np.zeros((1, estimator.n_features_in_), dtype=np.float32)
    start = np.asarray(estimator._raw_predict_init(zeros), dtype=np.float64)[0]
    n_targets = len(start)

    def parts() -> Iterator[Part]:
        yield from constants(start)
        for row in estimator.estimators_:
            for target, tree in enumerate(row):
                value = estimator.learning_rate * tree.tree_.value[:, 0, 0]
                nodes = tree.tree_.__getstate__()["nodes"]
                yield _arrays(nodes, in_column(value, target, n_targets))

    return joined(parts(), single_precision=True)


def _of_histogram(estimator: Any) -> Trees:
    if estimator.is_categorical_ is not None and estimator.is_categorical_.any():
        # Besides the splits, the columns are in another order then.
        raise NotConvertible("splits by category are not compiled")
    start = np.ravel(np.asarray(estimator._baseline_prediction, dtype=np.float64))
    n_targets = estimator.n_trees_per_iteration_

    def parts() -> Iterator[Part]:
        yield from constants(start)
        for row in estimator._predictors:
            for target, predictor in enumerate(row):
                nodes = predictor.nodes
                leaf = nodes["is_leaf"].astype(bool)
                yield {
                    "feature": nodes["feature_idx"].astype(np.int64),
                    "threshold": np.where(leaf, 0.0, nodes["num_threshold"]),
                    "left": np.where(leaf, LEAF, nodes["left"].astype(np.int64)),
                    "right": np.where(leaf, LEAF, nodes["right"].astype(np.int64)),
                    "missing_left": nodes["missing_go_to_left"].astype(bool),
                    "value": in_column(nodes["value"], target, n_targets),
                }

    return joined(parts(), single_precision=False)


def constants(start: Floats) -> Iterator[Part]:
    """Give one tree of one leaf for each target: added first, as the library does."""
    for target, value in enumerate(start):
        yield {
            "feature": np.zeros(1, dtype=np.int64),
            "threshold": np.zeros(1),
            "left": np.full(1, LEAF),
            "right": np.full(1, LEAF),
            "missing_left": np.zeros(1, dtype=bool),
            "value": in_column(np.array([value]), target, len(start)),
        }


def _arrays(nodes: Any, value: npt.NDArray[Any]) -> Part:
    leaf = nodes["left_child"] == LEAF
    if "missing_go_to_left" in (nodes.dtype.names or ()):
        missing = nodes["missing_go_to_left"].astype(bool)
    else:
        missing = np.zeros(len(nodes), dtype=bool)
    return {
        "feature": np.where(leaf, 0, nodes["feature"]).astype(np.int64),
        "threshold": np.where(leaf, 0.0, nodes["threshold"]),
        "left": nodes["left_child"].astype(np.int64),
        "right": np.where(leaf, LEAF, nodes["right_child"]).astype(np.int64),
        "missing_left": missing,
        "value": np.asarray(value, dtype=np.float64),
    }


def in_column(values: npt.NDArray[Any], target: int, n_targets: int) -> Floats:
    """Put what a tree says of one target beside NaN, which says: nothing, of the others."""
    found = np.full((len(values), n_targets), np.nan)
    found[:, target] = values
    return found


def joined(parts: Iterator[Part], *, single_precision: bool) -> Trees:
    """Lay trees end to end."""
    all_parts = list(parts)
    sizes = [len(part["left"]) for part in all_parts]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    for part, root in zip(all_parts, roots.tolist(), strict=True):
        inner = part["left"] != LEAF
        part["left"] = np.where(inner, part["left"] + root, LEAF)
        part["right"] = np.where(inner, part["right"] + root, LEAF)
    joined = {name: np.concatenate([part[name] for part in all_parts]) for name in all_parts[0]}
    return Trees(roots=roots, single_precision=single_precision, **joined)
