"""Comparing: a version's window of the log, or the rows of a file, held against the version.

Here what reads meets what judges: drift (:mod:`.drift`) against the reference that travels inside
the version, performance (:mod:`.performance`) against its hold-out. A file's rows are answered by
the version first, so that there is something to judge; where it holds the target, they are.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from greenroom.deployment.fetching import fetch
from greenroom.errors import (
    GreenroomError,
    MonitoringError,
    NothingToCompare,
    VersionError,
)
from greenroom.evaluation.evidence import HoldOut, read_holdout
from greenroom.evaluation.metrics import evaluate
from greenroom.evaluation.predictions import Predictions
from greenroom.findings import Drift, LivePerformance
from greenroom.inference.runtime import Trust, load_runtime, task_of
from greenroom.log.log_reading import PredictionLogReader, Window
from greenroom.log.log_windows import LogWindows
from greenroom.model import Model
from greenroom.monitoring.answers import Asked
from greenroom.monitoring.drift import DriftMeter, as_batches, compare
from greenroom.monitoring.estimation import estimate_performance
from greenroom.monitoring.measured import Measured, Subject
from greenroom.monitoring.performance import judge_performance, observe_performance
from greenroom.monitoring.reference import read_reference_of
from greenroom.monitoring.served import Served
from greenroom.monitoring.verdict import DriftThresholds
from greenroom.privacy import Privacy
from greenroom.registry.registry import Registry
from greenroom.schema import Columns
from greenroom.task import TASKS, Task
from greenroom.tracing.lineage import Lineage
from greenroom.training.dataset import Dataset, load_dataset
from greenroom.versions.manifest import HOLDOUT_FILE, MANIFEST_FILE, REFERENCE_FILE, Manifest
from greenroom.versions.model_store import ModelStore

__all__ = ["FileComparison", "LogComparison", "Span"]

_EVIDENCE: Final = (MANIFEST_FILE, REFERENCE_FILE, HOLDOUT_FILE)


@dataclass(frozen=True, slots=True)
class Span:
    """How much of the log is looked at: the time up to now, or that of the last so many rows.

    Examples
    --------
    >>> str(Span(dt.timedelta(days=1))), str(Span(dt.timedelta(minutes=90))), str(Span(n_rows=1))
    ('the last 24 h', 'the last 90 min', 'the last row')
    """

    length: dt.timedelta | None = None
    n_rows: int = 0

    def __str__(self) -> str:
        if self.length is None:
            return "the last row" if self.n_rows == 1 else f"the last {self.n_rows:,} rows"
        seconds = round(self.length.total_seconds())
        units = ((3_600, "h"), (60, "min"), (1, "s"))
        size, unit = next(one for one in units if seconds % one[0] == 0)
        return f"the last {seconds // size:,} {unit}"


class LogComparison:
    """Compares a window of the log with the version that answered.

    Parameters
    ----------
    reader : PredictionLogReader
    windows : LogWindows
        Of the same log.
    lineage : Lineage
    span : Span
    thresholds : DriftThresholds
    tasks : mapping of str to Task
        By registered name, of versions that do not say it themselves.
    privacy : mapping of str to Privacy
        By registered name, what the log does not keep as it was sent.
    """

    def __init__(
        self,
        reader: PredictionLogReader,
        windows: LogWindows,
        lineage: Lineage,
        span: Span,
        thresholds: DriftThresholds,
        *,
        tasks: Mapping[str, Task],
        privacy: Mapping[str, Privacy],
    ) -> None:
        self._reader: Final = reader
        self._windows: Final = windows
        self._lineage: Final = lineage
        self._span: Final = span
        self._thresholds: Final = thresholds
        self._tasks: Final = tasks
        self._privacy: Final = privacy

    def __call__(self, subject: Subject, served: Served) -> Measured:
        """Compare a model's served version.

        Raises
        ------
        NothingToCompare
            When the version has answered nothing in the window.
        LogError
            When the log cannot be read.
        """
        name, version = subject.name, served.version
        nothing = NothingToCompare(
            f"the log has no answer of version {version} of {name!r} in {self._span}",
            advice="a longer --window looks further back; `greenroom log` shows what there is",
        )
        if not served.digest:
            raise nothing
        now = dt.datetime.now(dt.UTC)
        window = Window(None if self._span.length is None else now - self._span.length, now)
        if self._span.n_rows:
            window = self._windows.latest(name, self._span.n_rows, window, digest=served.digest)
        drift, n_rows, notes = self._drift(Asked(name, version, served.digest, window))
        if not n_rows:
            raise nothing
        performance = judge_performance(
            self._reader,
            self._lineage,
            name,
            version,
            served.digest,
            window,
            task=self._tasks.get(name),
        )
        return Measured(
            n_rows=n_rows,
            since=window.since,
            until=window.until,
            drift=drift,
            performance=performance.observed,
            estimate=performance.estimate,
            notes=tuple(dict.fromkeys((*notes, *performance.notes))),
            params={"window": str(self._span), **_thresholds(self._thresholds)},
        )

    def _drift(self, asked: Asked) -> tuple[Drift | None, int, list[str]]:
        """Return the drift and how many rows there are; without drift, why there is none."""
        try:
            with self._lineage.files(
                asked.model, asked.version, asked.digest, *_EVIDENCE
            ) as folder:
                reference = read_reference_of(folder).in_log(self._privacy.get(asked.model))
        except (MonitoringError, VersionError) as error:
            of = asked.model, asked.window, ["digest"]
            batches = self._windows.batches(*of, digest=asked.digest)
            return None, sum(one.num_rows for one in batches), [f"drift cannot be told: {error}"]
        with DriftMeter(reference, self._thresholds) as meter:
            for batch in self._windows.batches(
                asked.model, asked.window, meter.needed, digest=asked.digest, texts=meter.texts
            ):
                meter.add(batch)
            return meter.drift(), meter.n_rows, []


class FileComparison:
    """Compares rows of a data file with a version, as training reads them.

    Parameters
    ----------
    source : str
        The file: a path inside the app's folder, or an address.
    folder : Path
        The app's folder.
    models : mapping of str to Model
        By registered name.
    registry : Registry
    store : ModelStore
    thresholds : DriftThresholds
    trust : {"any", "onnx"}
        With ``onnx`` nothing is unpickled.
    """

    def __init__(
        self,
        source: str,
        folder: Path,
        models: Mapping[str, Model],
        registry: Registry,
        store: ModelStore,
        thresholds: DriftThresholds,
        *,
        trust: Trust = "any",
    ) -> None:
        self._source: Final = source
        self._folder: Final = folder
        self._models: Final = models
        self._registry: Final = registry
        self._store: Final = store
        self._thresholds: Final = thresholds
        self._trust: Final = trust

    def __call__(self, subject: Subject, served: Served) -> Measured:
        """Compare a model's served version.

        Raises
        ------
        NothingToCompare
            When the file has no row.
        DataError
            When the file cannot be read, or its rows do not fit the model's columns.
        MonitoringError
            When the version carries no reference.
        RegistryError, VersionError
            When its files cannot be had, or are harmed.
        """
        model = replace(self._models[subject.name], dataset=self._source, dataset_name="")
        data = load_dataset(model, self._folder, to_train=False)
        if not data.n_rows:
            raise NothingToCompare(f"{self._source} has no row")
        directory = self._directory(subject.name, served)
        reference = read_reference_of(directory)
        predictions, problem = self._answers(directory, served, data.columns)
        drift = compare(reference, as_batches(data.columns, predictions), self._thresholds)
        manifest = reference.manifest
        notes = [problem, *_trained_on(manifest, data)]
        performance, estimate = None, None
        if predictions is not None:
            holdout = _holdout(directory, manifest)
            performance = _observed(manifest, holdout, predictions, data)
            estimate = _estimated(manifest, holdout, predictions)
        return Measured(
            n_rows=data.n_rows,
            drift=drift,
            performance=performance,
            estimate=estimate,
            notes=tuple(note for note in notes if note),
            params={"dataset_hash": data.dataset_hash, **_thresholds(self._thresholds)},
        )

    def _directory(self, name: str, served: Served) -> Path:
        """Return where the version's files are, which are fetched where that is needed."""
        digest = served.digest
        if not digest or not self._store.path(digest).is_dir():
            digest = fetch(
                self._registry, self._store, self._registry.version(name, served.version)
            )
        return self._store.verify(digest)

    def _answers(
        self, directory: Path, served: Served, columns: Columns
    ) -> tuple[Predictions | None, str]:
        """Return what the version says of rows; where it cannot be asked here, why not."""
        try:
            runtime = load_runtime(
                directory,
                compiled=self._store.compiled.verify(directory.name),
                trust=self._trust,
            )
            return runtime.predict_rows(columns), ""
        except GreenroomError as error:
            return None, f"version {served.version} cannot answer the file's rows here: {error}"


def _thresholds(thresholds: DriftThresholds) -> dict[str, str]:
    return {f"threshold_{name}": f"{value:g}" for name, value in asdict(thresholds).items()}


def _holdout(directory: Path, manifest: Manifest) -> HoldOut | None:
    path = directory / HOLDOUT_FILE
    return read_holdout(path, manifest.classes) if path.is_file() else None


def _observed(
    manifest: Manifest, holdout: HoldOut | None, predictions: Predictions, data: Dataset
) -> LivePerformance | None:
    """Judge the answers to rows whose truth the file holds."""
    if data.target is None:
        return None
    return observe_performance(
        task_of(manifest),
        data.target,
        predictions,
        holdout=holdout,
        training=manifest.metrics,
        ordered=manifest.task == "forecast" or bool(manifest.split.time),
    )


def _estimated(
    manifest: Manifest, holdout: HoldOut | None, predictions: Predictions
) -> LivePerformance | None:
    """Estimate a classifier's performance as if the truth were not known."""
    if holdout is None or holdout.y is None or "probabilities" not in predictions.outputs:
        return None
    if manifest.task != "classification" or "probabilities" not in holdout.predictions.outputs:
        return None
    trained = evaluate(TASKS[manifest.task].metrics, holdout.y, holdout.predictions)
    return estimate_performance(holdout, predictions, trained)


def _trained_on(manifest: Manifest, data: Dataset) -> Iterator[str]:
    """Say where the version may have seen the rows."""
    seen = "figures of performance on them are too good"
    if manifest.data.content_hash == data.content_hash:
        yield f"the version was trained on these very rows: {seen}"
    elif manifest.split.time and manifest.trained_until:
        times = data.columns[manifest.split.time].astype("datetime64[us]")
        until = np.datetime64(manifest.trained_until.removesuffix("Z").partition("+")[0], "us")
        share = float((times <= until).mean())
        if share:
            yield f"{share:.1%} of the rows are from before the end of the training: {seen}"
