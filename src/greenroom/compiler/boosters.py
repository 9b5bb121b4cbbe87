"""The trees of XGBoost and LightGBM as the same arrays, read from the libraries' own JSON.

XGBoost computes in float32: it goes left where ``x < threshold``, which among float32 numbers is
``x <= `` the one before. LightGBM computes in float64 and may take a missing value for zero. Both
are read without being imported. What scikit-learn grows is :mod:`greenroom.compiler.ensembles`'
business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from greenroom.compiler.ensembles import LEAF, Part, Trees, constants, in_column, joined, trees_of
from greenroom.errors import NotConvertible

XGBOOST: Final = frozenset({"XGBClassifier", "XGBRegressor"})
LIGHTGBM: Final = frozenset({"LGBMClassifier", "LGBMRegressor"})

_ZERO: Final = float(np.float32(1e-35))
"""The largest magnitude that LightGBM takes for zero."""

_LOGISTIC: Final = frozenset({"binary:logistic", "multi:softprob", "multi:softmax"})
_IDENTITY: Final = frozenset({"reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror"})
_LIGHT: Final = frozenset({"binary", "multiclass", "regression", "regression_l1", "huber"})


def is_booster(estimator: Any) -> bool:
    """Whether an estimator is one of those that this module reads."""
    root, name = type(estimator).__module__.partition(".")[0], type(estimator).__name__
    return (root == "xgboost" and name in XGBOOST) or (root == "lightgbm" and name in LIGHTGBM)


def find_trees(estimator: Any) -> Trees | None:
    """Return the trees of any ensemble that is known; None for another estimator.

    Raises
    ------
    NotConvertible
        As :func:`booster_trees` and :func:`greenroom.compiler.ensembles.trees_of`.
    """
    return booster_trees(estimator) if is_booster(estimator) else trees_of(estimator)


def booster_trees(estimator: Any) -> Trees:
    """Return a booster's trees; their values add to the raw score.

    Raises
    ------
    NotConvertible
        When its objective, its kind of trees or its missing value is none that is compiled.
    """
    if type(estimator).__name__ in XGBOOST:
        return _of_xgboost(estimator)
    return _of_lightgbm(estimator)


def _of_xgboost(estimator: Any) -> Trees:
    booster = estimator.get_booster()
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective = learner["objective"]["name"]
    gradient = learner["gradient_booster"]
    if gradient["name"] != "gbtree" or objective not in _LOGISTIC | _IDENTITY:
        raise NotConvertible(f"XGBoost with {gradient['name']} and {objective} is not compiled")
    if not np.isnan(estimator.missing):
        raise NotConvertible("XGBoost with another missing value than NaN is not compiled")
    n_targets = max(int(learner["learner_model_param"]["num_class"]), 1)
    start = _start(learner["learner_model_param"]["base_score"], n_targets, objective)

    def parts() -> Iterator[Part]:
        yield from constants(start)
        model = gradient["model"]
        # Stopped early it predicts with the trees up to the best iteration.
        best = booster.attr("best_iteration")
        end = None if best is None else model["iteration_indptr"][int(best) + 1]
        for tree, target in zip(model["trees"][:end], model["tree_info"][:end], strict=True):
            yield _xgboost_tree(tree, target, n_targets)

    return joined(parts(), single_precision=True)


def _start(text: str, n_targets: int, objective: str) -> npt.NDArray[np.float64]:
    """Return the raw score that XGBoost starts from, of each target."""
    base = np.atleast_1d(np.asarray(json.loads(text), dtype=np.float32))
    if objective == "binary:logistic":
        base = -np.log(np.float32(1) / base - np.float32(1))
    return np.broadcast_to(base, n_targets).astype(np.float64)


def _xgboost_tree(tree: Mapping[str, Any], target: int, n_targets: int) -> Part:
    if any(tree["split_type"]):
        raise NotConvertible("splits by category are not compiled")
    left = np.asarray(tree["left_children"], dtype=np.int64)
    condition = np.asarray(tree["split_conditions"], dtype=np.float32)
    before = np.nextafter(condition, np.float32(-np.inf)).astype(np.float64)
    return {
        "feature": np.where(left == LEAF, 0, np.asarray(tree["split_indices"], dtype=np.int64)),
        "threshold": np.where(left == LEAF, 0.0, before),
        "left": left,
        "right": np.asarray(tree["right_children"], dtype=np.int64),
        "missing_left": np.asarray(tree["default_left"], dtype=bool),
        "value": in_column(condition.astype(np.float64), target, n_targets),
    }


def _of_lightgbm(estimator: Any) -> Trees:
    model = estimator.booster_.dump_model(num_iteration=estimator.best_iteration_ or -1)
    objective = str(model["objective"]).split(" ")
    plain = objective[0] in _LIGHT and set(objective[1:]).isdisjoint({"sqrt"})
    scaled = any(part.startswith("sigmoid:") and part != "sigmoid:1" for part in objective)
    if not plain or scaled or model["average_output"]:
        raise NotConvertible(f"LightGBM with the objective {model['objective']} is not compiled")
    n_targets = model["num_tree_per_iteration"]

    def parts() -> Iterator[Part]:
        for position, tree in enumerate(model["tree_info"]):
            yield _lightgbm_tree(tree["tree_structure"], position % n_targets, n_targets)

    return joined(parts(), single_precision=False)


def _lightgbm_tree(root: Mapping[str, Any], target: int, n_targets: int) -> Part:
    nodes: list[Mapping[str, Any]] = [root]
    left, right = [], []
    for node in nodes:  # grows while it is walked
        inner = "split_feature" in node
        left.append(len(nodes) if inner else LEAF)
        right.append(len(nodes) + 1 if inner else LEAF)
        if inner:
            nodes += [node["left_child"], node["right_child"]]
    splits = [_lightgbm_split(node) for node in nodes]
    return {
        "feature": np.array([feature for feature, _, _ in splits], dtype=np.int64),
        "threshold": np.array([threshold for _, threshold, _ in splits], dtype=np.float64),
        "left": np.array(left, dtype=np.int64),
        "right": np.array(right, dtype=np.int64),
        "missing_left": np.array([missing for _, _, missing in splits], dtype=bool),
        "value": in_column(
            np.array([node.get("leaf_value", 0.0) for node in nodes]), target, n_targets
        ),
    }


def _lightgbm_split(node: Mapping[str, Any]) -> tuple[int, float, bool]:
    """Return a split's feature and threshold, and whether a missing value goes left."""
    if "split_feature" not in node:
        return 0, 0.0, False
    if node["decision_type"] != "<=":
        raise NotConvertible("splits by category are not compiled")
    threshold = float(node["threshold"])
    if threshold == -_ZERO:
        # It reads magnitudes up to this one as zero, which is to the right of the threshold.
        threshold = float(np.nextafter(-_ZERO, -np.inf))
    match node["missing_type"]:
        case "NaN":
            return node["split_feature"], threshold, bool(node["default_left"])
        case "None":  # a missing value is taken for zero
            return node["split_feature"], threshold, threshold >= 0.0
        case kind:
            raise NotConvertible(f"LightGBM that takes {kind} for missing is not compiled")
