"""Runtimes: a version's files made into something that answers, proved on an example.

A runtime takes rows and gives predictions, whatever the version was made with. There are two kinds.
*compiled*: a version's graph, where it was proved to answer as the estimator does. *native*: the
estimator itself, unpickled without MLflow. What Greenroom did not train is
:mod:`greenroom.inference.foreign`'s business, decoding requests
:mod:`greenroom.payloads.request`'s, and which versions are loaded
:mod:`greenroom.inference.inference`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from greenroom.compiler.compiled import CompiledRuntime, open_graph, read_parity
from greenroom.compiler.graphs import CompiledGraph
from greenroom.compiler.parity import ParityReport
from greenroom.data.features import FeaturesModule, features_digest, load_features, with_context
from greenroom.errors import AppError, VersionCorrupt, VersionUnloadable
from greenroom.evaluation.evidence import read_context, read_reference
from greenroom.evaluation.predictions import Predictions
from greenroom.inference.foreign import (
    foreign_columns,
    foreign_example,
    open_foreign,
    serve_foreign,
)
from greenroom.schema import Columns, Schema, n_rows, take
from greenroom.task import TASKS, Task
from greenroom.versions.manifest import (
    CONTEXT_FILE,
    FEATURES_FILE,
    REFERENCE_FILE,
    Manifest,
    read_manifest,
)
from greenroom.versions.mlmodel import MlModel, read_mlmodel
from greenroom.versions.native import NativeRuntime, quieten_feature_names
from greenroom.versions.unpickling import load_estimator

Trust: TypeAlias = Literal["any", "onnx"]
"""What may run: whatever is registered, or graphs and the installed app's own features alone."""

COMPARED_ROWS: Final = 256
"""On how many rows of the reference sample an array must answer as a DataFrame does."""


class Runtime(Protocol):
    """A version that answers.

    Attributes
    ----------
    manifest : Manifest or None
        What the version says about itself; None for one that Greenroom did not train.
    schema : Schema
        The columns of a request.
    task : Task
        With those of its outputs that this version gives.
    classes : tuple
        A classifier's labels.
    kind : str
        Which runtime it is, as pages show it.
    accepts_matrix : bool
        Whether :meth:`predict_matrix` may be called.
    example_values : mapping
        What is known of a request that it can answer, by column; the rest is made up.
    expands : bool
        Whether one request stands for several rows.
    """

    manifest: Manifest | None
    schema: Schema
    task: Task
    classes: tuple[Any, ...]
    kind: str
    accepts_matrix: bool
    example_values: Mapping[str, Any]
    expands: bool

    def predict(self, columns: Columns) -> Predictions:
        """Answer the rows of a request, as the schema has them."""

    def predict_rows(self, columns: Columns) -> Predictions:
        """Answer rows as they are in the data: after ``expand`` and before ``features``."""

    def predict_matrix(self, X: npt.NDArray[np.float64]) -> Predictions:
        """Answer rows of shape (n_samples, n_columns), in the schema's order."""

    def warm(self) -> None:
        """Predict an example the way a request is, and check what comes out."""


def load_runtime(
    directory: Path,
    declared: Schema | None = None,
    compiled: Path | None = None,
    *,
    trust: Trust = "any",
    features_digests: Collection[str] = (),
) -> Runtime:
    """Make a model directory's files into a runtime that has answered an example.

    A version that has a proved graph is served by it. Should the graph not answer on this machine
    as it was proved to, the estimator serves, and the log says why.

    Parameters
    ----------
    directory : Path
        As MLflow lays it out, with ``MLmodel`` in it.
    declared : Schema, optional
        The columns of a request, for a version whose signature does not name them; one that
        does goes by its own.
    compiled : Path, optional
        What ``greenroom compile`` made of the version; one that was compiled when it was trained
        goes by its own.
    trust : {"any", "onnx"}, optional
        With ``onnx`` nothing is unpickled: a version without a proved graph is refused, and so is
        one whose features are not among ``features_digests``.
    features_digests : collection of str, optional
        SHA-256 of the features that may run; heeded with ``onnx`` only.

    Raises
    ------
    VersionCorrupt
        When files are missing or are not what they should be.
    VersionUnloadable
        When they do not load here, or do not predict the example.
    """
    model = read_mlmodel(directory)
    manifest = read_manifest(directory)
    quieten_feature_names()
    if trust == "onnx":
        return _compiled_only(model, manifest, declared, compiled, features_digests)
    try:
        found = _compiled(model, manifest, declared, compiled)
    except VersionUnloadable as error:
        # Not silent, and no other model: the estimator that the graph was made of.
        logging.getLogger(__name__).warning("%s; its estimator serves", error.message)
        found = None
    return found or _native(model, manifest, declared)


def load_native(directory: Path, declared: Schema | None = None) -> NativeRuntime:
    """Load a version's own estimator, whether or not there is a graph of it.

    Raises
    ------
    VersionCorrupt, VersionUnloadable
        As :func:`load_runtime`.
    """
    model = read_mlmodel(directory)
    quieten_feature_names()
    return _native(model, read_manifest(directory), declared)


def _native(model: MlModel, manifest: Manifest | None, declared: Schema | None) -> NativeRuntime:
    if manifest is None:
        return serve_foreign(open_foreign(model, declared))
    return _trained_here(model, manifest)


def _compiled_only(
    model: MlModel,
    manifest: Manifest | None,
    declared: Schema | None,
    compiled: Path | None,
    features_digests: Collection[str],
) -> CompiledRuntime:
    """Load a version without running any code of its own."""
    digest = manifest.features_digest if manifest is not None else ""
    if digest and digest not in features_digests:
        raise VersionUnloadable(
            "its features are not those of the installed app, and trust is onnx",
            advice="install the app that it was trained with, or set GREENROOM_TRUST=any",
        )
    found = _compiled(model, manifest, declared, compiled)
    if found is None:
        report = read_parity(model.directory)
        reason = report.reason if report is not None else "nothing was compiled when it was trained"
        raise VersionUnloadable(
            f"it has no compiled runtime, and trust is onnx: {reason}",
            advice="call `greenroom compile` for it on this machine, train it again with an "
            "estimator that compiles, or set GREENROOM_TRUST=any",
        )
    return found


def _compiled(
    model: MlModel, manifest: Manifest | None, declared: Schema | None, compiled: Path | None
) -> CompiledRuntime | None:
    """Load a version's graph; None where there is none, or its proof failed."""
    if manifest is None:
        return None if compiled is None else _foreign_compiled(model, declared, compiled)
    report = read_parity(model.directory)
    folder = model.directory
    if (report is None or not report.passed) and compiled is not None:
        report, folder = _beside(compiled), compiled
    if report is None or not report.passed:
        return None
    beside = folder is not model.directory
    graph = _opened(folder, manifest.classes, report, beside=beside)
    return CompiledRuntime(
        schema=manifest.request_schema,
        task=task_of(manifest),
        graph=graph,
        manifest=manifest,
        features=features_of(model.directory, manifest),
        inputs=manifest.inputs,
        example=manifest.example,
    )


def _foreign_compiled(
    model: MlModel, declared: Schema | None, compiled: Path
) -> CompiledRuntime | None:
    """Load the graph of a version that Greenroom did not train, on the columns it was proved on."""
    report = _beside(compiled)
    if report is None or not report.passed:
        return None
    schema, _ = foreign_columns(model, declared)
    if schema.names != report.columns:
        raise VersionUnloadable(
            "it was compiled for other columns than it is to be served with",
            advice="call `greenroom compile` with the same --schema",
        )
    return CompiledRuntime(
        schema=schema,
        task=TASKS["classification" if report.outputs == "probabilities" else "regression"],
        graph=_opened(compiled, report.classes, report, beside=True),
        example=foreign_example(model),
    )


def _beside(compiled: Path) -> ParityReport | None:
    """Read the report of what stands beside a version; where that is harmed, the version is not."""
    try:
        return read_parity(compiled)
    except VersionCorrupt as error:
        raise VersionUnloadable(error.message, advice=error.advice) from error


def _opened(
    folder: Path, classes: tuple[Any, ...], report: ParityReport, *, beside: bool
) -> CompiledGraph:
    try:
        return open_graph(folder, classes, report)
    except VersionCorrupt as error:
        if not beside:
            raise
        raise VersionUnloadable(error.message, advice=error.advice) from error


def task_of(manifest: Manifest) -> Task:
    """Return the task of a version.

    Raises
    ------
    VersionUnloadable
        When it is one of a later Greenroom.
    """
    task = TASKS.get(manifest.task)
    if task is None:
        raise VersionUnloadable(
            f"its task {manifest.task!r} is unknown to this Greenroom",
            advice="upgrade greenroom where it serves",
        )
    return task


def _trained_here(model: MlModel, manifest: Manifest) -> NativeRuntime:
    task = task_of(manifest)
    features = features_of(model.directory, manifest)
    runtime = NativeRuntime(
        schema=manifest.request_schema,
        task=task,
        apply=partial(task.predict, estimator_of(model, features)),
        manifest=manifest,
        features=features,
        inputs=manifest.inputs,
        example=manifest.example,
    )
    rows = reference_rows(model.directory, manifest, COMPARED_ROWS)
    if rows is None and not runtime.expands:
        rows = runtime.example.columns()
    if rows is not None:
        runtime.take_arrays(rows)
    return runtime


def estimator_of(model: MlModel, features: FeaturesModule | None) -> Any:
    """Unpickle the estimator that a training of Greenroom's fitted.

    Raises
    ------
    VersionCorrupt, VersionUnloadable
        As :func:`greenroom.versions.unpickling.load_estimator`.
    """
    estimator = load_estimator(model)
    if features is None:
        return estimator
    # The steps before are what lets plain MLflow apply the version to raw columns.
    return estimator.steps[-1][1]


def features_of(directory: Path, manifest: Manifest) -> FeaturesModule | None:
    """Load a version's own features; None where it has none.

    Raises
    ------
    VersionCorrupt
        When they are not those that it was trained with.
    VersionUnloadable
        When they cannot be imported here.
    """
    if not manifest.features_digest:
        return None
    try:
        source = (directory / FEATURES_FILE).read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VersionCorrupt(f"its file {FEATURES_FILE} is missing or cannot be read") from error
    # Compared before it runs: the digest is part of what was registered.
    if features_digest(source) != manifest.features_digest:
        raise VersionCorrupt(f"its file {FEATURES_FILE} is not the one that it was trained with")
    context = read_context(directory / CONTEXT_FILE) if manifest.context else None
    try:
        found = load_features(source)
    except AppError as error:
        raise VersionUnloadable(error.message, advice=error.advice) from error
    return found if context is None else with_context(found, context)


def reference_rows(directory: Path, manifest: Manifest, most: int) -> Columns | None:
    """Read the first rows of a version's reference sample; None where it has none."""
    path = directory / REFERENCE_FILE
    if not path.exists():
        return None
    columns, _, _ = read_reference(path, manifest.schema, manifest.classes)
    return take(columns, np.arange(min(most, n_rows(columns))))
