"""The steps before an estimator, written into a graph: scalers, imputers, encoders.

Each takes a matrix of doubles and gives one, from the fitted step's own arrays and in its own order
of operations. Which step is which, and what comes after them, is
:mod:`greenroom.compiler.compiling`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from greenroom.compiler.onnx_graph import DOUBLE, Graph
from greenroom.errors import NotConvertible

Writer: TypeAlias = Callable[[Graph, Any, str], str]
"""``graph, fitted step, name of its input -> name of its output``."""


def _write_function(graph: Graph, transformer: Any, X: str) -> str:
    """Of functions only the one that changes nothing: a ColumnTransformer's ``passthrough``."""
    del graph
    if transformer.func is not None:
        raise NotConvertible("a FunctionTransformer with a function is not compiled")
    return X


def _write_standard_scaler(graph: Graph, scaler: Any, X: str) -> str:
    if scaler.with_mean:
        X = graph.add("Sub", X, graph.constant(scaler.mean_))
    return graph.add("Div", X, graph.constant(scaler.scale_)) if scaler.with_std else X


def _write_min_max_scaler(graph: Graph, scaler: Any, X: str) -> str:
    X = graph.add("Mul", X, graph.constant(scaler.scale_))
    X = graph.add("Add", X, graph.constant(scaler.min_))
    if not scaler.clip:
        return X
    low, high = scaler.feature_range
    return graph.add("Clip", X, graph.constant(low), graph.constant(high))


def _write_robust_scaler(graph: Graph, scaler: Any, X: str) -> str:
    if scaler.with_centering:
        X = graph.add("Sub", X, graph.constant(scaler.center_))
    return graph.add("Div", X, graph.constant(scaler.scale_)) if scaler.with_scaling else X


def _write_max_abs_scaler(graph: Graph, scaler: Any, X: str) -> str:
    return graph.add("Div", X, graph.constant(scaler.scale_))


def _write_imputer(graph: Graph, imputer: Any, X: str) -> str:
    values = np.asarray(imputer.statistics_)
    missing = imputer.missing_values
    plain = isinstance(missing, float) and np.isnan(missing)
    if not plain or values.dtype.kind != "f" or np.isnan(values).any():
        raise NotConvertible("an imputer of other than plain missing numbers is not compiled")
    absent = graph.add("IsNaN", X)
    filled = graph.add("Where", absent, graph.constant(values), X)
    if not imputer.add_indicator or not len(imputer.indicator_.features_):
        return filled
    told = graph.constant(imputer.indicator_.features_, np.int64)
    indicators = graph.add("Cast", graph.add("Gather", absent, told, axis=1), to=DOUBLE)
    return graph.add("Concat", filled, indicators, axis=1)


def _write_one_hot(graph: Graph, encoder: Any, X: str) -> str:
    """Compare each column with its categories; a value that is none of them gives zeros alone."""
    if encoder.handle_unknown == "error":
        raise NotConvertible(
            "a OneHotEncoder that refuses unknown categories is not compiled",
            advice="fit it with handle_unknown='ignore'; its own estimator serves it, as before",
        )
    if encoder._infrequent_enabled:
        raise NotConvertible("a OneHotEncoder with infrequent categories is not compiled")
    dropped = encoder.drop_idx_
    parts = []
    for position, found in enumerate(encoder.categories_):
        if found.dtype.kind not in "fiub":
            raise NotConvertible("a OneHotEncoder of texts is not compiled")
        categories = found.astype(np.float64)
        if dropped is not None and dropped[position] is not None:
            categories = np.delete(categories, int(dropped[position]))
        parts.append(_is_each(graph, categories, X, position))
    return graph.add("Concat", *parts, axis=1)


def _is_each(graph: Graph, categories: npt.NDArray[Any], X: str, position: int) -> str:
    """Write whether a column is each of some values, one of which may be missing."""
    column = graph.add("Gather", X, graph.constant([position], np.int64), axis=1)
    equal = graph.add("Equal", column, graph.constant(categories.reshape(1, -1)))
    absent = np.isnan(categories).reshape(1, -1)
    if absent.any():
        missing = graph.add("And", graph.add("IsNaN", column), graph.constant(absent, np.bool_))
        equal = graph.add("Or", equal, missing)
    return graph.add("Cast", equal, to=DOUBLE)


TRANSFORMERS: Final[dict[str, Writer]] = {
    "FunctionTransformer": _write_function,
    "MaxAbsScaler": _write_max_abs_scaler,
    "MinMaxScaler": _write_min_max_scaler,
    "OneHotEncoder": _write_one_hot,
    "RobustScaler": _write_robust_scaler,
    "SimpleImputer": _write_imputer,
    "StandardScaler": _write_standard_scaler,
}
