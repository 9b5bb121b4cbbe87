"""An ONNX graph while it is being written: nodes and constants, each with a name of its own.

What is written into it is :mod:`greenroom.compiler.compiling`'s and
:mod:`greenroom.compiler.preprocessing`'s business. onnx is imported when something is written;
serving does not need it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from greenroom.compiler.graphs import INPUT, OUTPUT

OPSET: Final = 21
ML_OPSET: Final = 5
"""The first with the operator ``TreeEnsemble``, which has thresholds and leaves in double."""

IR_VERSION: Final = 10
FLOAT: Final = 1
DOUBLE: Final = 11
"""Types of numbers, as ONNX counts them."""


class Graph:
    """An ONNX graph that is being written: nodes and constants, each with a name of its own."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, values: Any, dtype: Any = np.float64) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = f"c{len(self._constants)}"
        array = np.ascontiguousarray(np.asarray(values, dtype=dtype))
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of what it gives."""
        from onnx import helper

        name = f"n{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(operator, list(inputs), [name], domain=domain, **attributes)
        )
        return name

    def result(self, name: str) -> None:
        """Say which one is the graph's output."""
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [name], [OUTPUT]))

    def to_bytes(self, n_features: int) -> bytes:
        """Return the graph as a file's content."""
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self._nodes,
            "greenroom",
            [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, n_features])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, [None, None])],
            self._constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return bytes(model.SerializeToString())
