"""A compiled graph that answers: ONNX Runtime on one thread, with an estimator's manners.

A graph answers anything, also what the estimator it was made of refuses: a missing value where it
takes none, a number too large for it. So that both runtimes do the same, such rows are refused here
too. Where a graph comes from is :mod:`greenroom.compiler.compiling`'s business, that it may be
believed :mod:`greenroom.compiler.parity`'s. onnxruntime is imported when a graph is opened.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from greenroom.errors import RowsRefused
from greenroom.evaluation.predictions import Predictions
from greenroom.memory import give_back_memory
from greenroom.task import classification_outputs

Outputs: TypeAlias = Literal["probabilities", "values"]

INPUT: Final = "X"
OUTPUT: Final = "Y"
_PLAIN: Final = 1e76
"""A sum of squares below this has neither NaN nor a number beyond float32 in it."""


class CompiledGraph:
    """A function of matrices, ``X -> predictions``; called by one thread or several.

    Parameters
    ----------
    content : bytes
        An ONNX graph from ``X`` to ``Y``, both double.
    outputs : {"probabilities", "values"}
        What ``Y`` is: shape (n_samples, n_classes), or (n_samples, 1).
    classes : tuple, optional
        A classifier's labels, in the order of the probabilities.
    refuses_missing : tuple of int, optional
        Positions of the columns that may not be missing.
    largest : float, optional
        The largest magnitude that is accepted.

    Raises
    ------
    Exception
        Whatever ONNX Runtime raises for a graph that it cannot load.
    """

    def __init__(
        self,
        content: bytes,
        outputs: Outputs,
        classes: tuple[Any, ...] = (),
        *,
        refuses_missing: tuple[int, ...] = (),
        largest: float = np.inf,
    ) -> None:
        self._session = _open(content)
        self._outputs = outputs
        self._classes = np.asarray(classes) if classes else None
        self._refuses_missing = list(refuses_missing)
        self._largest = largest

    def __call__(self, X: npt.NDArray[np.float64]) -> Predictions:
        """Answer rows of shape (n_samples, n_features).

        Raises
        ------
        RowsRefused
            When the estimator would refuse the rows.
        """
        flat = X.ravel()
        if not float(flat.dot(flat)) < _PLAIN:
            self._check(X)
        answer = self._session.run([OUTPUT], {INPUT: X})[0]
        if self._outputs == "values":
            return Predictions({"prediction": answer.reshape(-1)})
        assert self._classes is not None  # noqa: S101 - for the type checker
        return classification_outputs(answer, self._classes)

    def _check(self, X: npt.NDArray[np.float64]) -> None:
        missing = np.isnan(X[:, self._refuses_missing]).any(axis=1)
        if missing.any():
            raise RowsRefused(
                f"row {missing.argmax()}: a value is missing (NaN) where the model takes none"
            )
        large = (np.abs(X) > self._largest).any(axis=1)
        if large.any():
            raise RowsRefused(
                f"row {large.argmax()}: a number is too large for the model",
                advice=f"it takes magnitudes up to {self._largest:.3g}",
            )


def onnxruntime_version() -> str:
    """Return the version of ONNX Runtime that is installed."""
    import onnxruntime

    return str(onnxruntime.__version__)


def _open(content: bytes) -> Any:
    """Load a graph for single rows: one thread, which does not spin between requests."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    # Reading a graph of 200 trees takes 112 MB; 74 of them are free again by now.
    give_back_memory()
    return session
