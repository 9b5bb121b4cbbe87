"""A version's compiled runtime: its graph, and the proof that stands by it and the estimator.

::

    greenroom/model.onnx   the graph
    greenroom/parity.json  the report of the proof, with the digests of the two others
    greenroom/check.npz    rows of the reference sample and what the estimator answered

Made at training time by :func:`compile_version`, inside the version; or later by
:func:`write_compiled`, in a folder of their own beside it (:mod:`greenroom.compilation`). Served by
:class:`CompiledRuntime`. Nothing is unpickled for that, and the check's rows are answered again
before anybody is. What is proved and how is :mod:`greenroom.compiler.parity`'s business.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from greenroom.compiler.categories import category_places
from greenroom.compiler.compiling import compile_estimator
from greenroom.compiler.graphs import CompiledGraph, Outputs, onnxruntime_version
from greenroom.compiler.parity import (
    BOUND,
    BUDGET_S,
    MOST_THRESHOLDS,
    Answer,
    ParityReport,
    largest_difference,
    prove,
)
from greenroom.compiler.placing import ensembles_in
from greenroom.data.features import FeaturesModule
from greenroom.errors import GreenroomError, NotConvertible, VersionCorrupt, VersionUnloadable
from greenroom.evaluation.predictions import Predictions
from greenroom.progress import OnProgress, silent
from greenroom.schema import Schema, matrix
from greenroom.task import Task
from greenroom.versions.manifest import FOLDER, Manifest
from greenroom.versions.native import NativeRuntime

GRAPH_FILE: Final = f"{FOLDER}/model.onnx"
PARITY_FILE: Final = f"{FOLDER}/parity.json"
CHECK_FILE: Final = f"{FOLDER}/check.npz"
CHECKED_ROWS: Final = 256
"""Of the reference sample; answered again whenever a graph is loaded."""

_OUTPUTS: Final[dict[str, Outputs]] = {"classification": "probabilities", "regression": "values"}


@dataclass(frozen=True, slots=True)
class Subject:
    """What a graph is made of, and what it is compared with.

    Parameters
    ----------
    estimator : object
        Fitted, of numbers only.
    task : Task
    answer : callable
        ``X -> predictions``, as the native runtime answers.
    sample : ndarray of shape (n_samples, n_features)
        Rows that the proof begins with.
    predictions : Predictions
        What was answered for them.
    columns : tuple of str
        The columns of a request, where the version itself does not carry them.
    rounded : tuple of int
        Positions of the columns that enter as float32.
    drawn : bool
        Whether the sample was drawn, and is not of the data.
    known : mapping of int to sequence of float
        By position of a column, the categories that the estimator knows.
    """

    estimator: Any
    task: Task
    answer: Answer
    sample: npt.NDArray[np.float64]
    predictions: Predictions
    columns: tuple[str, ...] = ()
    rounded: tuple[int, ...] = ()
    drawn: bool = False
    known: Mapping[int, Sequence[float]] = field(default_factory=dict)


class CompiledRuntime(NativeRuntime):
    """A version's graph, called with arrays; otherwise as :class:`NativeRuntime`.

    Parameters
    ----------
    schema : Schema
        The columns of a request.
    task : Task
    graph : CompiledGraph
    manifest : Manifest, optional
    features : FeaturesModule, optional
    inputs : tuple of str, optional
        The names of the columns that enter the graph, in order; default: the schema's.
    example : mapping, optional
        Values for the example request.

    Raises
    ------
    VersionUnloadable
        When it does not predict the example.
    """

    kind = "compiled"

    def __init__(
        self,
        *,
        schema: Schema,
        task: Task,
        graph: CompiledGraph,
        manifest: Manifest | None = None,
        features: FeaturesModule | None = None,
        inputs: tuple[str, ...] = (),
        example: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            schema=schema,
            task=task,
            apply=graph,
            frame=matrix,
            manifest=manifest,
            features=features,
            inputs=inputs,
            example=example,
        )
        plain = features is None and (inputs or schema.names) == schema.names
        self.accepts_matrix = plain and schema.numeric


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


def open_graph(directory: Path, classes: tuple[Any, ...], report: ParityReport) -> CompiledGraph:
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
        graph = _graph(content, classes, report)
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
        subject = frame_subject(estimator, task, inputs, predictions)
        return write_compiled(directory, subject, seed=seed)
    except Exception as error:  # noqa: BLE001 - training goes on, whatever a converter raises
        report = ParityReport(passed=False, reason=_told(error))
        _write(directory, {PARITY_FILE: _written(report)})
        return report


def frame_subject(estimator: Any, task: Task, inputs: Any, predictions: Predictions) -> Subject:
    """Return what is compiled of an estimator that was fitted on a DataFrame.

    Parameters
    ----------
    inputs : DataFrame of shape (n_samples, n_features)
        Rows of the data, as they enter the estimator.
    predictions : Predictions
        What the estimator answered for them.

    Raises
    ------
    NotConvertible
        When a column holds no numbers.
    """
    columns = inputs.columns
    texts = [str(name) for name in columns if inputs[name].dtype.kind not in "fiub"]
    if texts:
        raise NotConvertible(f"the column {texts[0]!r} holds no numbers")

    def answer(X: npt.NDArray[np.float64]) -> Predictions:
        return task.predict(estimator, type(inputs)(X, columns=columns))

    known = category_places(estimator, [str(name) for name in columns])
    return Subject(estimator, task, answer, matrix_of(inputs), predictions, known=known)


def write_compiled(
    directory: Path,
    subject: Subject,
    *,
    seed: int = 0,
    most_thresholds: int = MOST_THRESHOLDS,
    budget_s: float = BUDGET_S,
    on_progress: OnProgress = silent,
) -> ParityReport:
    """Compile an estimator, prove the graph, and write both into a directory.

    Parameters
    ----------
    directory : Path
        A version's, or one beside it.
    subject : Subject
    seed : int, optional
        Of the rows that are drawn.
    most_thresholds, budget_s, on_progress : optional
        As :func:`greenroom.compiler.parity.prove` takes them.

    Raises
    ------
    NotConvertible
        When it does not compile or is not proved; nothing is written then. Whatever the libraries
        raise is passed on as it is.
    """
    outputs = _OUTPUTS.get(subject.task.name)
    if outputs is None:
        raise NotConvertible(f"a {subject.task.name} is not compiled")
    on_progress("writing the graph", None)
    graph = compile_estimator(
        subject.estimator, subject.sample.shape[1], outputs=outputs, rounded=subject.rounded
    )
    report = _proved(
        subject,
        CompiledGraph(graph, outputs, subject.predictions.classes),
        seed=seed,
        most_thresholds=most_thresholds,
        budget_s=budget_s,
        on_progress=on_progress,
    )
    if not report.passed:
        raise NotConvertible(report.reason)
    check = _check(subject.sample, subject.predictions)
    report = msgspec.structs.replace(
        report,
        outputs=outputs,
        columns=subject.columns,
        classes=_kept_classes(subject) if subject.columns else (),
        onnxruntime=onnxruntime_version(),
        graph_digest=_digest(graph),
        check_digest=_digest(check),
    )
    files = {GRAPH_FILE: graph, CHECK_FILE: check, PARITY_FILE: _written(report)}
    _write(directory, files)
    return report


def _proved(subject: Subject, graph: CompiledGraph, **how: Any) -> ParityReport:
    # One thread, as a pool that waits for a busy machine's cores takes minutes instead of seconds.
    with _one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prove(
            subject.answer,
            graph,
            subject.sample,
            tuple(ensembles_in(subject.estimator)),
            kind="drawn" if subject.drawn else "reference",
            known=subject.known,
            **how,
        )


def matrix_of(inputs: Any) -> npt.NDArray[np.float64]:
    """Return a DataFrame of numbers as the matrix that a graph takes."""
    return np.ascontiguousarray(inputs.to_numpy(dtype=np.float64))


def _one_thread() -> Any:
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)


def _kept_classes(subject: Subject) -> tuple[Any, ...]:
    """Return a classifier's labels, which the report has to give back as they are."""
    classes = subject.predictions.classes
    plain = all(type(label) in {bool, int, float, str} for label in classes)
    if not plain or msgspec.json.decode(msgspec.json.encode(classes)) != list(classes):
        raise NotConvertible("labels other than numbers and texts are not compiled")
    return classes


def _written(report: ParityReport) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=2)


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    (directory / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)


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
