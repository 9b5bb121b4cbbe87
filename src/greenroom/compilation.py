"""Compiling a version that is registered: its graph made and proved here, kept beside it.

Of a version that Greenroom did not train, rows are drawn inside its signature to prove the graph
on; one that it trained brings its reference sample along. The pickle is opened once, by whoever
asks for this; from then on the graph serves. What is compiled and how it is proved is
:mod:`greenroom.compiler.compiled`'s and :mod:`greenroom.compiler.parity`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from greenroom.compiler.categories import category_places
from greenroom.compiler.compiled import Subject, frame_subject, read_parity, write_compiled
from greenroom.compiler.parity import MOST_THRESHOLDS, ParityReport
from greenroom.compiler.placing import STEPS, landmarks
from greenroom.data.features import FeaturesModule
from greenroom.data.frames import to_frame
from greenroom.deployment.fetching import fetch
from greenroom.errors import GreenroomError, NotConvertible
from greenroom.evaluation.predictions import Predictions
from greenroom.inference.foreign import Foreign, open_foreign, serve_foreign
from greenroom.inference.runtime import (
    estimator_of,
    features_of,
    load_runtime,
    reference_rows,
    task_of,
)
from greenroom.progress import OnProgress, silent
from greenroom.registry.registered import ModelVersion
from greenroom.registry.registry import Registry
from greenroom.schema import Schema
from greenroom.versions.manifest import Manifest, read_manifest
from greenroom.versions.mlmodel import MlModel, read_mlmodel
from greenroom.versions.model_store import ModelStore

DRAWN_ROWS: Final = 2_000
REFERENCE_ROWS: Final = 1_000
BUDGET_S: Final = 1_800.0
"""How long rows are placed on thresholds: a person waits, but not for ever."""

_MOST_CELLS: Final = 60_000_000
"""Of the rows that are placed on thresholds at a time: half a gigabyte."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """What compiling a version came to.

    Parameters
    ----------
    version : ModelVersion
    report : ParityReport
        The proof, which passed.
    directory : Path
        Where the graph is.
    by_training : bool
        Whether the version was compiled when it was trained, so that there was nothing to do.
    """

    version: ModelVersion
    report: ParityReport
    directory: Path
    by_training: bool = False


def compile_registered(
    registry: Registry,
    store: ModelStore,
    version: ModelVersion,
    *,
    declared: Schema | None = None,
    on_progress: OnProgress = silent,
) -> Compilation:
    """Compile a version of the registry, prove it, and keep it in the store beside the version.

    What was kept before for the same version is replaced, and where the proof fails removed.

    Parameters
    ----------
    registry : Registry
    store : ModelStore
        The one that the version is served from.
    version : ModelVersion
    declared : Schema, optional
        The columns of a request, where the version's signature does not name them.
    on_progress : callable, optional

    Raises
    ------
    NotConvertible
        When it does not compile, or was not proved to answer as its estimator does.
    VersionError
        When its files are not what was registered, or it does not load here at all.
    RegistryError, ProcessError
        When it cannot be downloaded, or the store not be written.
    """
    on_progress("downloading the version", None)
    digest = fetch(registry, store, version)
    directory = store.path(digest)
    own = read_parity(directory)
    manifest = read_manifest(directory)
    if manifest is not None and own is not None and own.passed:
        return Compilation(version, own, directory, by_training=True)
    with store.staging() as folder:
        try:
            report = _compile(directory, folder, manifest, declared, on_progress)
        except NotConvertible as error:
            store.compiled.discard(digest)
            raise NotConvertible(
                f"{version.name} version {version.version} is not compiled: {error.message}",
                advice=error.advice or "its own estimator serves it, as before",
            ) from error
        return Compilation(version, report, store.keep_compiled(digest, folder))


def _compile(
    directory: Path,
    folder: Path,
    manifest: Manifest | None,
    declared: Schema | None,
    on_progress: OnProgress,
) -> ParityReport:
    """Compile what is in ``directory`` into ``folder``, and load it as a worker does."""
    on_progress("loading the estimator", None)
    model = read_mlmodel(directory)
    features = None if manifest is None else features_of(directory, manifest)
    if manifest is None:
        subject = foreign_subject(open_foreign(model, declared))
    else:
        subject = _own_subject(model, manifest, features)
    try:
        report = write_compiled(
            folder,
            subject,
            most_thresholds=max(MOST_THRESHOLDS, _MOST_CELLS // STEPS // subject.sample.shape[1]),
            budget_s=BUDGET_S,
            on_progress=on_progress,
        )
    except GreenroomError:
        raise
    except Exception as error:
        # Estimators and libraries may raise anything.
        reason = " ".join(str(error).split())[:300]
        raise NotConvertible(f"{type(error).__name__}: {reason}") from error
    digests = () if manifest is None else (manifest.features_digest,)
    runtime = load_runtime(directory, declared, folder, trust="onnx", features_digests=digests)
    runtime.warm()
    return report


def foreign_subject(foreign: Foreign) -> Subject:
    """Return what is compiled of a version that Greenroom did not train, on rows drawn for it.

    Raises
    ------
    NotConvertible
        When it has no estimator, or a column that holds no numbers.
    VersionUnloadable
        When it does not predict its example.
    """
    if foreign.estimator is None:
        raise NotConvertible("it is a python_function, of which only the code is known")
    texts = [column.name for column in foreign.schema if not column.numeric]
    if texts:
        raise NotConvertible(f"the column {texts[0]!r} holds no numbers")
    native = serve_foreign(foreign)
    names = foreign.schema.names

    def answer(X: npt.NDArray[np.float64]) -> Predictions:
        return foreign.apply(foreign.frame(dict(zip(names, X.T, strict=True))))

    sample = foreign.draw(DRAWN_ROWS, landmarks(foreign.estimator, len(names)))
    return Subject(
        foreign.estimator,
        native.task,
        answer,
        sample,
        answer(sample),
        columns=names,
        rounded=foreign.rounded,
        drawn=True,
        known=category_places(foreign.estimator, names),
    )


def _own_subject(model: MlModel, manifest: Manifest, features: FeaturesModule | None) -> Subject:
    """Return what is compiled of a version that was trained before its estimator compiled."""
    rows = reference_rows(model.directory, manifest, REFERENCE_ROWS)
    if rows is None:
        raise NotConvertible("it holds no reference sample to prove a graph on")
    made = rows if features is None else features.features(dict(rows))
    inputs = to_frame({name: made[name] for name in manifest.inputs})
    task, estimator = task_of(manifest), estimator_of(model, features)
    return frame_subject(estimator, task, inputs, task.predict(estimator, inputs))
