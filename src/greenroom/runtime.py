"""Runtimes: a version's files made into something that answers, proved on an example.

A runtime takes rows and gives predictions, whatever the version was made with. There are two kinds.
*compiled*: a version's graph, where it was proved to answer as the estimator does. *native*: the
estimator itself, unpickled without MLflow; models of other flavours through MLflow's ``pyfunc``,
which is imported for them alone. Decoding requests is
:mod:`greenroom.request`'s business, and which versions are loaded :mod:`greenroom.inference`'s.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from greenroom.booster_files import booster_flavor, load_booster, names_features
from greenroom.compiled import CompiledRuntime, open_graph, read_parity
from greenroom.errors import AppError, VersionCorrupt, VersionUnloadable
from greenroom.evidence import read_reference
from greenroom.features import FeaturesModule, features_digest, load_features
from greenroom.frames import to_frame
from greenroom.manifest import FEATURES_FILE, REFERENCE_FILE, Manifest, read_manifest
from greenroom.mlmodel import MlModel, read_mlmodel
from greenroom.native import Apply, NativeRuntime
from greenroom.predictions import Predictions
from greenroom.schema import Columns, Kind, Schema, matrix, n_rows, take
from greenroom.task import TASKS, Task, classification, regression
from greenroom.unpickling import (
    allow_unpickling,
    check_packages,
    load_estimator,
    named_failures,
)

Trust: TypeAlias = Literal["any", "onnx"]
"""What may run: whatever is registered, or graphs and the installed app's own features alone."""

PYFUNC: Final = "python_function"
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
    _quieten_feature_names()
    if trust == "onnx":
        return _compiled_only(directory, manifest, features_digests)
    if manifest is None:
        return _trained_elsewhere(model, declared)
    try:
        found = _compiled(directory, manifest)
    except VersionUnloadable as error:
        # Not silent, and no other model: the estimator that the graph was made of.
        logging.getLogger(__name__).warning("%s; its estimator serves", error.message)
        found = None
    return found or _trained_here(model, manifest)


def load_native(directory: Path) -> Runtime:
    """Load a version's own estimator, whether or not there is a graph of it.

    Raises
    ------
    VersionCorrupt, VersionUnloadable
        As :func:`load_runtime`.
    """
    model = read_mlmodel(directory)
    manifest = read_manifest(directory)
    _quieten_feature_names()
    return _trained_elsewhere(model, None) if manifest is None else _trained_here(model, manifest)


def _compiled_only(
    directory: Path, manifest: Manifest | None, features_digests: Collection[str]
) -> CompiledRuntime:
    """Load a version without running any code of its own."""
    digest = manifest.features_digest if manifest is not None else ""
    if digest and digest not in features_digests:
        raise VersionUnloadable(
            "its features are not those of the installed app, and trust is onnx",
            advice="install the app that it was trained with, or set GREENROOM_TRUST=any",
        )
    found = _compiled(directory, manifest) if manifest is not None else None
    if found is None:
        report = read_parity(directory)
        reason = report.reason if report is not None else "nothing was compiled when it was trained"
        raise VersionUnloadable(
            f"it has no compiled runtime, and trust is onnx: {reason}",
            advice="train it again with an estimator that compiles, or set GREENROOM_TRUST=any",
        )
    return found


def _compiled(directory: Path, manifest: Manifest) -> CompiledRuntime | None:
    """Load a version's graph; None where there is none, or its proof failed."""
    report = read_parity(directory)
    if report is None or not report.passed:
        return None
    graph = open_graph(directory, manifest, report)
    return CompiledRuntime(manifest, _task(manifest), graph, _features(directory, manifest))


def _task(manifest: Manifest) -> Task:
    task = TASKS.get(manifest.task)
    if task is None:
        raise VersionUnloadable(
            f"its task {manifest.task!r} is unknown to this Greenroom",
            advice="upgrade greenroom where it serves",
        )
    return task


def _trained_here(model: MlModel, manifest: Manifest) -> NativeRuntime:
    task = _task(manifest)
    features = _features(model.directory, manifest)
    estimator = load_estimator(model)
    if features is not None:
        # The steps before are what lets plain MLflow apply the version to raw columns.
        estimator = estimator.steps[-1][1]
    runtime = NativeRuntime(
        schema=manifest.request_schema,
        task=task,
        apply=partial(task.predict, estimator),
        manifest=manifest,
        features=features,
        inputs=manifest.inputs,
        example=manifest.example,
    )
    rows = _reference_rows(model.directory, manifest)
    if rows is None and not runtime.expands:
        rows = runtime.example.columns()
    if rows is not None:
        runtime.take_arrays(rows)
    return runtime


def _features(directory: Path, manifest: Manifest) -> FeaturesModule | None:
    if not manifest.features_digest:
        return None
    try:
        source = (directory / FEATURES_FILE).read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VersionCorrupt(f"its file {FEATURES_FILE} is missing or cannot be read") from error
    # Compared before it runs: the digest is part of what was registered.
    if features_digest(source) != manifest.features_digest:
        raise VersionCorrupt(f"its file {FEATURES_FILE} is not the one that it was trained with")
    try:
        return load_features(source)
    except AppError as error:
        raise VersionUnloadable(error.message, advice=error.advice) from error


def _reference_rows(directory: Path, manifest: Manifest) -> Columns | None:
    path = directory / REFERENCE_FILE
    if not path.exists():
        return None
    columns, _, _ = read_reference(path, manifest.schema, manifest.classes)
    return take(columns, np.arange(min(COMPARED_ROWS, n_rows(columns))))


def _trained_elsewhere(model: MlModel, declared: Schema | None) -> NativeRuntime:
    """Serve a model of MLflow's own flavours, on a DataFrame of the signature's types."""
    schema, types = _columns(model, declared)
    task, apply, by_name = _applied(model)
    rows = model.example_rows()
    return NativeRuntime(
        schema=schema,
        task=task,
        apply=apply,
        frame=partial(_typed_frame, types=types) if by_name else matrix,
        example=rows[0] if rows else None,
    )


def _columns(model: MlModel, declared: Schema | None) -> tuple[Schema, Mapping[str, str]]:
    """Return the columns of a request, and MLflow's type of each."""
    if declared is None or model.named:
        return model.schema(), model.types
    return declared, {column.name: _TYPES[column.kind] for column in declared}


def _applied(model: MlModel) -> tuple[Task, Apply, bool]:
    """Return the task, how the model is applied, and whether it knows its columns by name.

    The library's own estimator where there is one: MLflow's ``pyfunc`` checks every column with
    pandas, and gives a classifier's labels alone.
    """
    pyfunc = model.flavors.get(PYFUNC, {})
    sklearn = model.flavors.get("sklearn")
    if sklearn is not None and pyfunc.get("loader_module", "mlflow.sklearn") == "mlflow.sklearn":
        estimator = load_estimator(model) if not sklearn.get("code") else _through_sklearn(model)
        return *_of_estimator(estimator), True
    booster = booster_flavor(model)
    if booster and not model.flavors[booster].get("code"):
        estimator = load_booster(model, booster)
        return *_of_estimator(estimator), names_features(estimator)
    if not pyfunc:
        raise VersionUnloadable(
            f"it has no flavour that can be served, only {', '.join(model.flavors) or 'none'}",
            advice="log it with a flavour that has python_function",
        )
    return regression, _through_pyfunc(model), True


def _of_estimator(estimator: Any) -> tuple[Task, Apply]:
    """Return the task that an estimator's methods show, and how it is applied."""
    if getattr(estimator, "classes_", None) is None:
        return regression, partial(regression.predict, estimator)
    if not hasattr(estimator, "predict_proba"):
        return classification, partial(classification.predict, estimator)

    def apply(X: Any) -> Predictions:
        # Its own labels: some classifiers do not answer with the most probable class.
        found = classification.predict(estimator, X)
        labels = np.asarray(estimator.predict(X))
        return Predictions(found.outputs | {"prediction": labels}, found.classes)

    return classification, apply


def _through_sklearn(model: MlModel) -> Any:
    """Load a model that carries code of its own, which MLflow puts on the module path."""
    allow_unpickling()
    check_packages(model)
    return named_failures(model, "its estimator", lambda: _mlflow_sklearn(model.directory))


def _mlflow_sklearn(directory: Path) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.sklearn

    return mlflow.sklearn.load_model(str(directory))


def _through_pyfunc(model: MlModel) -> Apply:
    allow_unpickling()
    check_packages(model)
    loaded = named_failures(model, "its python_function", lambda: _mlflow_pyfunc(model.directory))
    return lambda X: _one_output(loaded.predict(X))


def _mlflow_pyfunc(directory: Path) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(directory), suppress_warnings=True)


def _one_output(answer: Any) -> Predictions:
    """Take what a python_function answers: numbers or labels, one for each row."""
    values = np.asarray(answer)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise VersionUnloadable(
            f"it answers an array of shape {values.shape}, where one value for each row is served"
        )
    return Predictions({"prediction": values})


def _typed_frame(columns: Columns, *, types: Mapping[str, str]) -> Any:
    """Make a DataFrame of the dtypes that MLflow's signature asks for."""
    return to_frame({name: _typed(values, types[name]) for name, values in columns.items()})


def _typed(values: npt.NDArray[Any], mlflow_type: str) -> npt.NDArray[Any]:
    dtype = _DTYPES.get(mlflow_type)
    if dtype is None or (np.dtype(dtype).kind in "bi" and np.isnan(values).any()):
        return values
    return values.astype(dtype)


_TYPES: Final[Mapping[Kind, str]] = {
    "number": "double",
    "integer": "long",
    "boolean": "boolean",
    "string": "string",
    "category": "string",
    "date": "datetime",
    "datetime": "datetime",
}
"""The kinds of declared columns as the types of a signature."""

_DTYPES: Final = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "datetime": "datetime64[ns]",
}


def _quieten_feature_names() -> None:
    """Silence scikit-learn where names and their absence meet; the columns' order is ours."""
    for message in ("X does not have valid feature names", "X has feature names"):
        warnings.filterwarnings("ignore", message=message, category=UserWarning)
