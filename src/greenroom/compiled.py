"""A version's compiled runtime: its graph beside its pickle, and the proof that stands by both.

::

    greenroom/model.onnx   the graph
    greenroom/parity.json  the report of the proof, with the digests of the two others
    greenroom/check.npz    rows of the reference sample and what the estimator answered

Made at training time by :func:`compile_version`; served by :class:`CompiledRuntime`. Nothing is
unpickled for that, and the check's rows are answered again before anybody is. What is proved and
how is :mod:`greenroom.parity`'s business.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from greenroom.compiling import compile_estimator
from greenroom.errors import GreenroomError, NotConvertible, VersionCorrupt, VersionUnloadable
from greenroom.features import FeaturesModule
from greenroom.graphs import CompiledGraph, Outputs, onnxruntime_version
from greenroom.manifest import FOLDER, Manifest
from greenroom.native import NativeRuntime
from greenroom.parity import BOUND, ParityReport, largest_difference, prove
from greenroom.placing import ensembles_in
from greenroom.predictions import Predictions
from greenroom.schema import matrix
from greenroom.task import Task

GRAPH_FILE: Final = f"{FOLDER}/model.onnx"
PARITY_FILE: Final = f"{FOLDER}/parity.json"
CHECK_FILE: Final = f"{FOLDER}/check.npz"
CHECKED_ROWS: Final = 256
"""Of the reference sample; answered again whenever a graph is loaded."""

_OUTPUTS: Final[dict[str, Outputs]] = {"classification": "probabilities", "regression": "values"}


class CompiledRuntime(NativeRuntime):
    """A version's graph, called with arrays; otherwise as :class:`NativeRuntime`.

    Parameters
    ----------
    manifest : Manifest
    task : Task
    graph : CompiledGraph
    features : FeaturesModule, optional

    Raises
    ------
    VersionUnloadable
        When it does not predict the example.
    """

    kind = "compiled"

    def __init__(
        self,
        manifest: Manifest,
        task: Task,
        graph: CompiledGraph,
        features: FeaturesModule | None = None,
    ) -> None:
        super().__init__(
            schema=manifest.request_schema,
            task=task,
            apply=graph,
            frame=matrix,
            manifest=manifest,
            features=features,
            inputs=manifest.inputs,
            example=manifest.example,
        )
        plain = features is None and manifest.inputs == self.schema.names
        self.accepts_matrix = plain and self.schema.numeric


def read_parity(directory: Path) -> ParityReport | None:
    """Read a version's report; None when nothing was ever compiled.

    Raises
    ------
    VersionCorrupt
        When there is one that cannot be understood.
    """
    path = directory / PARITY_FILE
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=ParityReport)
    except msgspec.DecodeError as error:
        raise VersionCorrupt(f"{PARITY_FILE} cannot be read: {error}") from error


def open_graph(directory: Path, manifest: Manifest, report: ParityReport) -> CompiledGraph:
    """Load a version's graph, and have it answer rows whose answers are known.

    That is done whatever version of ONNX Runtime is installed, so that another one than it was
    proved with is proved again.

    Raises
    ------
    VersionCorrupt
        When the graph, or the rows, are not those that the report speaks of.
    VersionUnloadable
        When the graph does not load, or answers otherwise here.
    """
    content = _recorded(directory, GRAPH_FILE, report.graph_digest)
    check = _recorded(directory, CHECK_FILE, report.check_digest)
    try:
        graph = _graph(content, manifest.classes, report)
        with np.load(io.BytesIO(check), allow_pickle=False) as arrays:
            X, expected = arrays["X"], arrays["Y"]
        found = graph(X)
    except Exception as error:
        raise VersionUnloadable(
            f"its graph does not answer here: {type(error).__name__}: {error}"
        ) from error
    name = "probabilities" if report.outputs == "probabilities" else "prediction"
    apart = largest_difference(expected, found.outputs[name])
    flipped = name == "probabilities" and bool(
        (expected.argmax(axis=1) != found.outputs[name].argmax(axis=1)).any()
    )
    if flipped or not apart <= BOUND:
        raise VersionUnloadable(
            f"its graph answers otherwise with ONNX Runtime {onnxruntime_version()} than it was "
            f"proved to with {report.onnxruntime}: by up to {apart:.2g}"
        )
    return graph


def compile_version(
    directory: Path,
    estimator: Any,
    task: Task,
    inputs: Any,
    predictions: Predictions,
    *,
    seed: int = 0,
) -> ParityReport:
    """Compile an estimator, prove the graph, and write both into the version's directory.

    Never fails: what does not compile, or is not proved, is told by the report, which is written in
    any case.

    Parameters
    ----------
    inputs : DataFrame of shape (n_samples, n_features)
        The reference sample, as it enters the estimator.
    predictions : Predictions
        What the estimator answered for it.
    """
    try:
        graph, report = _compile(estimator, task, inputs, predictions, seed)
    except Exception as error:  # noqa: BLE001 - training goes on, whatever a converter raises
        graph, report = b"", ParityReport(passed=False, reason=_told(error))
    (directory / FOLDER).mkdir(parents=True, exist_ok=True)
    if report.passed:
        check = _check(matrix_of(inputs), predictions)
        (directory / GRAPH_FILE).write_bytes(graph)
        (directory / CHECK_FILE).write_bytes(check)
        report = msgspec.structs.replace(
            report, graph_digest=_digest(graph), check_digest=_digest(check)
        )
    content = msgspec.json.format(msgspec.json.encode(report), indent=2)
    (directory / PARITY_FILE).write_bytes(content)
    return report


def matrix_of(inputs: Any) -> npt.NDArray[np.float64]:
    """Return a DataFrame of numbers as the matrix that a graph takes."""
    return np.ascontiguousarray(inputs.to_numpy(dtype=np.float64))


def _compile(
    estimator: Any, task: Task, inputs: Any, predictions: Predictions, seed: int
) -> tuple[bytes, ParityReport]:
    from threadpoolctl import threadpool_limits

    outputs = _OUTPUTS.get(task.name)
    if outputs is None:
        raise NotConvertible(f"a {task.name} is not compiled")
    texts = [str(name) for name in inputs.columns if inputs[name].dtype.kind not in "fiub"]
    if texts:
        raise NotConvertible(f"the column {texts[0]!r} holds no numbers")
    content = compile_estimator(estimator, inputs.shape[1], outputs=outputs)
    graph = CompiledGraph(content, outputs, predictions.classes)
    # One thread, as a pool that waits for a busy machine's cores takes minutes instead of seconds.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = prove(
            _native(estimator, task, inputs),
            graph,
            matrix_of(inputs),
            tuple(ensembles_in(estimator)),
            seed=seed,
        )
    return content, msgspec.structs.replace(
        report, outputs=outputs, onnxruntime=onnxruntime_version()
    )


def _native(
    estimator: Any, task: Task, inputs: Any
) -> Callable[[npt.NDArray[np.float64]], Predictions]:
    def answer(X: npt.NDArray[np.float64]) -> Predictions:
        return task.predict(estimator, type(inputs)(X, columns=inputs.columns))

    return answer


def _graph(content: bytes, classes: tuple[Any, ...], report: ParityReport) -> CompiledGraph:
    outputs: Outputs = "probabilities" if report.outputs == "probabilities" else "values"
    return CompiledGraph(
        content,
        outputs,
        classes,
        refuses_missing=report.refuses_missing,
        largest=report.largest_accepted,
    )


def _check(X: npt.NDArray[np.float64], predictions: Predictions) -> bytes:
    """Pack rows and answers: numpy's own format, which needs no pyarrow in a worker."""
    answers = predictions.outputs.get("probabilities", predictions.outputs["prediction"])
    file = io.BytesIO()
    np.savez(file, X=X[:CHECKED_ROWS], Y=answers[:CHECKED_ROWS])
    return file.getvalue()


def _recorded(directory: Path, name: str, digest: str) -> bytes:
    try:
        content = (directory / name).read_bytes()
    except OSError as error:
        raise VersionCorrupt(f"its file {name} is missing or cannot be read") from error
    if _digest(content) != digest:
        raise VersionCorrupt(f"its file {name} is not the one that was proved")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _told(error: Exception) -> str:
    if isinstance(error, GreenroomError):
        return error.message
    return f"{type(error).__name__}: {error}"
