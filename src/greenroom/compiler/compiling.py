"""Compiling: a fitted estimator written as an ONNX graph in double precision.

scikit-learn computes in float64, and a graph of floats turns ``x > threshold`` into ``x ==
threshold`` for values that lie closer than a float32 can tell. So the graphs are made here, from
the estimator's own arrays and in its own order of operations, for the estimators that models of
tables are mostly made of; the steps before them are in :mod:`greenroom.compiler.preprocessing`.
Whether a graph answers as its estimator does is for :mod:`greenroom.compiler.parity` to prove:
nothing is served on trust in this module.

onnx is imported when something is compiled; serving does not need it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from greenroom.compiler.boosters import LIGHTGBM, XGBOOST, find_trees
from greenroom.compiler.ensembles import BOOSTED, FORESTS, HISTOGRAM, Trees
from greenroom.compiler.graphs import INPUT, Outputs
from greenroom.compiler.onnx_graph import DOUBLE, FLOAT, Graph
from greenroom.compiler.preprocessing import TRANSFORMERS, Writer
from greenroom.errors import NotConvertible

MOST_NODES: Final = 4_000_000
"""A graph of more would not fit into the 2 GB of a protobuf message."""

LINEAR: Final = frozenset(
    {
        "ARDRegression",
        "BayesianRidge",
        "ElasticNet",
        "ElasticNetCV",
        "HuberRegressor",
        "Lars",
        "LarsCV",
        "Lasso",
        "LassoCV",
        "LassoLars",
        "LassoLarsCV",
        "LassoLarsIC",
        "LinearRegression",
        "LinearSVR",
        "OrthogonalMatchingPursuit",
        "QuantileRegressor",
        "RANSACRegressor",
        "Ridge",
        "RidgeCV",
        "SGDRegressor",
        "TheilSenRegressor",
    }
)


def compile_estimator(
    estimator: Any, n_features: int, *, outputs: Outputs, rounded: tuple[int, ...] = ()
) -> bytes:
    """Write an estimator as an ONNX graph of one input and one output.

    Parameters
    ----------
    estimator : object
        Fitted, of numbers only.
    n_features : int
        How many columns enter it.
    outputs : {"probabilities", "values"}
        A classifier's probabilities, shape (n_samples, n_classes), or a regressor's values, shape
        (n_samples, 1).
    rounded : tuple of int, optional
        Positions of the columns that enter as float32.

    Returns
    -------
    bytes
        A graph from ``X``, double, shape (n_samples, n_features), to ``Y``, double.

    Raises
    ------
    NotConvertible
        When the estimator, or something that it is made of, cannot be written so.
    """
    if outputs == "probabilities" and not hasattr(estimator, "predict_proba"):
        raise NotConvertible(f"{type(estimator).__name__} gives no probabilities")
    graph = Graph()
    graph.result(_write(graph, estimator, _rounded(graph, INPUT, rounded, n_features)))
    return graph.to_bytes(n_features)


def _rounded(graph: Graph, X: str, places: tuple[int, ...], n_features: int) -> str:
    """Round some columns to float32, as a signature's DataFrame does."""
    if not places:
        return X
    single = graph.add("Cast", graph.add("Cast", X, to=FLOAT), to=DOUBLE)
    chosen = np.isin(np.arange(n_features), places)
    return graph.add("Where", graph.constant(chosen, np.bool_), single, X)


def _write(graph: Graph, estimator: Any, X: str) -> str:
    """Write one step, whatever it is, and return the name of its output."""
    if estimator is None or isinstance(estimator, str):
        if estimator in (None, "passthrough"):
            return X
        raise NotConvertible(f"the step {estimator!r} is not compiled")
    name = type(estimator).__name__
    trees = find_trees(estimator)
    if trees is not None:
        return _write_ensemble(graph, estimator, trees, X)
    if type(estimator).__module__.partition(".")[0] != "sklearn":
        raise NotConvertible(f"{name} of {type(estimator).__module__} is not compiled")
    if name in LINEAR:
        return _write_linear(graph, estimator, X)
    writer = _WRITERS.get(name) or TRANSFORMERS.get(name)
    if writer is None:
        raise NotConvertible(f"{name} is not compiled")
    return writer(graph, estimator, X)


def _write_pipeline(graph: Graph, pipeline: Any, X: str) -> str:
    for _, step in pipeline.steps:
        X = _write(graph, step, X)
    return X


def _write_columns(graph: Graph, transformer: Any, X: str) -> str:
    """Each transformer's columns by position, in the order in which they are put together."""
    parts = []
    for name, step, _ in transformer.transformers_:
        positions = list(transformer._transformer_to_input_indices.get(name, ()))
        if step == "drop" or not positions:
            continue
        taken = graph.add("Gather", X, graph.constant(positions, np.int64), axis=1)
        parts.append(_write(graph, step, taken))
    if transformer.transformer_weights or not parts:
        raise NotConvertible("a ColumnTransformer with weights, or with nothing, is not compiled")
    return graph.add("Concat", *parts, axis=1)


def _write_linear(graph: Graph, estimator: Any, X: str) -> str:
    model = getattr(estimator, "estimator_", estimator)
    coefficients = np.asarray(model.coef_, dtype=np.float64)
    if coefficients.size != np.shape(model.coef_)[-1]:
        raise NotConvertible("a linear model of several targets is not compiled")
    return _affine(graph, X, coefficients.reshape(-1, 1), np.ravel(model.intercept_))


def _affine(graph: Graph, X: str, weights: npt.NDArray[Any], offset: npt.NDArray[Any]) -> str:
    return graph.add("Add", graph.add("MatMul", X, graph.constant(weights)), graph.constant(offset))


def _write_logistic(graph: Graph, estimator: Any, X: str) -> str:
    scores = _affine(graph, X, np.asarray(estimator.coef_).T, np.asarray(estimator.intercept_))
    return _probabilities(graph, scores, n_classes=len(estimator.classes_))


def _probabilities(graph: Graph, scores: str, *, n_classes: int, dtype: Any = np.float64) -> str:
    if n_classes > 2:
        return graph.add("Softmax", scores, axis=1)
    second = graph.add("Sigmoid", scores)
    first = graph.add("Sub", graph.constant([1.0], dtype), second)
    return graph.add("Concat", first, second, axis=1)


def _write_voting(graph: Graph, estimator: Any, X: str) -> str:
    if getattr(estimator, "voting", "soft") != "soft":
        raise NotConvertible("hard voting gives no probabilities")
    weights = estimator._weights_not_none or [1.0] * len(estimator.estimators_)
    total = ""
    for weight, member in zip(weights, estimator.estimators_, strict=True):
        part = graph.add("Mul", _write(graph, member, X), graph.constant([float(weight)]))
        total = graph.add("Add", total, part) if total else part
    return graph.add("Div", total, graph.constant([float(sum(weights))]))


def _write_stacking(graph: Graph, estimator: Any, X: str) -> str:
    """Write the members, and after them what answers from their answers."""
    if set(estimator.stack_method_) - {"predict", "predict_proba"}:
        raise NotConvertible("a stack of decision functions is not compiled")
    two = hasattr(estimator, "classes_") and len(estimator.classes_) == 2
    answers = []
    for member, method in zip(estimator.estimators_, estimator.stack_method_, strict=True):
        if hasattr(estimator, "classes_") and method == "predict":
            raise NotConvertible("a stack of labels is not compiled")
        answer = _write(graph, member, X)
        if two:  # the first class's probability says nothing more, and is left out
            answer = graph.add("Gather", answer, graph.constant([1], np.int64), axis=1)
        answers.append(answer)
    if estimator.passthrough:
        answers.append(X)
    return _write(graph, estimator.final_estimator_, graph.add("Concat", *answers, axis=1))


def _write_transformed_target(graph: Graph, estimator: Any, X: str) -> str:
    value = _write(graph, estimator.regressor_, X)
    if estimator.inverse_func is np.exp:
        return graph.add("Exp", value)
    if estimator.inverse_func is np.expm1:
        return graph.add("Sub", graph.add("Exp", value), graph.constant([1.0]))
    if estimator.inverse_func is None and estimator.transformer is None:
        return value
    raise NotConvertible("a transformed target with another inverse than exp is not compiled")


def _write_ensemble(graph: Graph, estimator: Any, trees: Trees, X: str) -> str:
    name = type(estimator).__name__
    if trees.single_precision:
        # The library rounds the features; its thresholds stay doubles.
        X = graph.add("Cast", graph.add("Cast", X, to=FLOAT), to=DOUBLE)
    total = _tree_nodes(graph, trees, X)
    if name in FORESTS:
        return graph.add("Div", total, graph.constant([float(len(estimator.estimators_))]))
    if name in BOOSTED | HISTOGRAM:
        return _after_boosting(graph, estimator, total)
    if name in XGBOOST:
        # Its sums and probabilities are float32, in which a tie is easier had.
        total = graph.add("Cast", total, to=FLOAT)
    if name in XGBOOST | LIGHTGBM and hasattr(estimator, "classes_"):
        single = np.float32 if name in XGBOOST else np.float64
        total = _probabilities(graph, total, n_classes=len(estimator.classes_), dtype=single)
    return graph.add("Cast", total, to=DOUBLE) if name in XGBOOST else total


def _after_boosting(graph: Graph, estimator: Any, scores: str) -> str:
    if hasattr(estimator, "classes_"):
        if type(estimator._loss).__name__ == "ExponentialLoss":
            scores = graph.add("Mul", scores, graph.constant([2.0]))
        return _probabilities(graph, scores, n_classes=len(estimator.classes_))
    link = type(estimator._loss.link).__name__
    if link == "LogLink":
        return graph.add("Exp", scores)
    if link != "IdentityLink":
        raise NotConvertible(f"boosting with a {link} is not compiled")
    return scores


def _tree_nodes(graph: Graph, trees: Trees, X: str) -> str:
    """Write the operator ``TreeEnsemble``.

    Its leaves add to one target each, so that a forest's trees, whose leaves hold a probability
    for each class, are written once for each class: summed apart, as the library sums them, a tie
    stays a tie.
    """
    n_targets = trees.value.shape[1]
    parts = [_one_target(trees, target) for target in range(n_targets)]
    if sum(len(part["nodes_featureids"]) for part in parts) > MOST_NODES:
        raise NotConvertible(f"trees of more than {MOST_NODES:,} nodes are not compiled")
    nodes_before = leaves_before = 0
    for part in parts:
        n_nodes, n_leaves = len(part["nodes_featureids"]), len(part["leaf_weights"])
        part["tree_roots"] += nodes_before
        for side in ("true", "false"):
            leaf = part[f"nodes_{side}leafs"] == 1
            part[f"nodes_{side}nodeids"] += np.where(leaf, leaves_before, nodes_before)
        nodes_before, leaves_before = nodes_before + n_nodes, leaves_before + n_leaves
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return graph.add(
        "TreeEnsemble",
        X,
        domain="ai.onnx.ml",
        n_targets=n_targets,
        aggregate_function=_SUM,
        post_transform=0,
        **_attributes(joined),
    )


def _one_target(trees: Trees, target: int) -> dict[str, npt.NDArray[Any]]:
    """Return the trees that say something of a target, as the operator numbers them."""
    value = trees.value[:, target]
    saying = ~np.isnan(value)
    splits = np.flatnonzero((trees.left != -1) & saying)
    leaves = np.flatnonzero((trees.left == -1) & saying)
    roots = trees.roots[saying[trees.roots]]
    bare = roots[trees.left[roots] == -1]
    place = np.full(len(value), -1, dtype=np.int64)
    place[splits] = np.arange(len(splits))
    place[leaves] = np.arange(len(leaves))
    # A tree that is one leaf is a node whose two branches end in it.
    root_of = place.copy()
    root_of[bare] = len(splits) + np.arange(len(bare))
    left = np.concatenate([trees.left[splits], bare])
    right = np.concatenate([trees.right[splits], bare])
    padding = np.zeros(len(bare), dtype=np.int64)
    return {
        "tree_roots": root_of[roots],
        "nodes_featureids": np.concatenate([trees.feature[splits], padding]),
        "nodes_splits": np.concatenate([trees.threshold[splits], padding.astype(np.float64)]),
        "nodes_truenodeids": place[left],
        "nodes_falsenodeids": place[right],
        "nodes_trueleafs": (trees.left[left] == -1).astype(np.int64),
        "nodes_falseleafs": (trees.left[right] == -1).astype(np.int64),
        "nodes_missing_value_tracks_true": np.concatenate(
            [trees.missing_left[splits].astype(np.int64), padding]
        ),
        "leaf_weights": value[leaves],
        "leaf_targetids": np.full(len(leaves), target, dtype=np.int64),
    }


def _attributes(arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Make attributes of arrays: doubles as tensors, the others as lists of plain numbers."""
    from onnx import numpy_helper

    modes = np.zeros(len(arrays["nodes_splits"]), dtype=np.uint8)  # 0: x <= threshold
    found: dict[str, Any] = {"nodes_modes": numpy_helper.from_array(modes, "nodes_modes")}
    for name, values in arrays.items():
        double = values.dtype == np.float64
        found[name] = numpy_helper.from_array(values, name) if double else values.tolist()
    return found


_SUM: Final = 1
_WRITERS: Final[dict[str, Writer]] = {
    "ColumnTransformer": _write_columns,
    "LogisticRegression": _write_logistic,
    "LogisticRegressionCV": _write_logistic,
    "Pipeline": _write_pipeline,
    "StackingClassifier": _write_stacking,
    "StackingRegressor": _write_stacking,
    "TransformedTargetRegressor": _write_transformed_target,
    "VotingClassifier": _write_voting,
    "VotingRegressor": _write_voting,
}
