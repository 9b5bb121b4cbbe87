"""From a dataset to a fitted, judged estimator: the part that training and reproduction share.

Rows are divided, features computed, one candidate fitted on the training rows and judged on the
hold-out. Choosing the candidate is :mod:`greenroom.training.cross_validation`; recording it is
:mod:`greenroom.training.training`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from greenroom.data.features import FeaturesModule, load_features
from greenroom.data.fingerprint import row_keys
from greenroom.data.frames import frame_transformer, to_frame
from greenroom.errors import DataError
from greenroom.evaluation.evidence import (
    HoldOut,
    reference_sample,
    write_context,
    write_holdout,
    write_reference,
)
from greenroom.evaluation.metrics import Predictions, evaluate
from greenroom.model import Model
from greenroom.schema import Columns, take
from greenroom.split import fold_indices, holdout_mask, side_keys
from greenroom.training.cross_validation import Folds, candidate, fit
from greenroom.training.dataset import Dataset
from greenroom.versions.manifest import CONTEXT_FILE, FEATURES_FILE, HOLDOUT_FILE, REFERENCE_FILE

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Prepared:
    """A dataset made ready: what enters the estimator, and which rows are on which side.

    Parameters
    ----------
    inputs : DataFrame of shape (n_samples, n_features)
        The rows after ``features``.
    y : ndarray of shape (n_samples,), optional
    keys : ndarray of uint64, shape (n_samples,)
        Which row each is.
    train, holdout : ndarray of int
        Positions of rows.
    """

    model: Model
    dataset: Dataset
    features: FeaturesModule | None
    inputs: pd.DataFrame
    y: npt.NDArray[Any] | None
    keys: npt.NDArray[np.uint64]
    train: npt.NDArray[np.intp]
    holdout: npt.NDArray[np.intp]

    @property
    def train_inputs(self) -> pd.DataFrame:
        """The training rows after ``features``."""
        return self.inputs.iloc[self.train]

    @property
    def train_y(self) -> npt.NDArray[Any] | None:
        """The training rows' target."""
        return None if self.y is None else self.y[self.train]

    def folds(self) -> Folds:
        """Return the folds of cross-validation, as positions within the training rows."""
        model, columns = self.model, self.dataset.columns
        kind = "time" if model.split.time else model.task.folds
        group, time = model.split.group, model.split.time
        y = self.train_y
        return fold_indices(
            kind,
            np.zeros(len(self.train)) if y is None else y,
            model.folds,
            model.seed,
            groups=columns[group][self.train] if group else None,
            times=columns[time][self.train] if time else None,
        )


@dataclass(frozen=True)
class Fitted:
    """One candidate, fitted on the training rows and judged on the hold-out.

    ``metrics`` are the task's, with ``_low`` and ``_high`` where there is an interval.
    ``reference`` are positions of rows in the dataset: the sample that travels with a version.
    """

    candidate: str
    estimator: Any
    holdout: HoldOut
    metrics: dict[str, float]
    reference: npt.NDArray[np.intp]
    reference_predictions: Predictions


def read_features(model: Model, folder: Path) -> FeaturesModule | None:
    """Load the model's features file from the app's folder; None when it has none."""
    if not model.features:
        return None
    return load_features((folder / model.features).read_text(encoding="utf-8"))


def prepare(model: Model, folder: Path, dataset: Dataset) -> Prepared:
    """Compute the features and divide the rows.

    Raises
    ------
    DataError
        When one side would have no rows.
    """
    features = read_features(model, folder)
    columns: Columns = dataset.columns
    inputs = _computed(features, columns, f"{dataset.name}: {model.features}")
    mask = holdout_mask(
        side_keys(columns, model.columns, model.split),
        model.split,
        times=columns[model.split.time] if model.split.time else None,
    )
    if mask.all() or not mask.any():
        raise DataError(
            f"{dataset.name}: {dataset.n_rows} rows are too few to hold some out",
            advice="give it more rows, or another split.holdout",
        )
    return Prepared(
        model=model,
        dataset=dataset,
        features=features,
        inputs=to_frame(inputs),
        y=dataset.target,
        keys=row_keys(columns, model.columns),
        train=np.flatnonzero(~mask),
        holdout=np.flatnonzero(mask),
    )


def _computed(features: FeaturesModule | None, columns: Columns, where: str) -> Columns:
    if features is None:
        return columns
    try:
        return features.features(dict(columns))
    except ValueError as error:
        # Its own word about a row, or a fault of its own, whose text may hold values.
        said = " ".join(map(str, error.args[:2])) if len(error.args) > 1 else "ValueError"
        raise DataError(
            f"{where} fails on it: {said}", advice="correct the data, or the features"
        ) from error


def fit_candidate(prepared: Prepared, name: str, *, reference_rows: int) -> Fitted:
    """Fit a candidate on the training rows and judge it on the hold-out.

    Parameters
    ----------
    name : str
        The candidate.
    reference_rows : int
        How many training rows the reference sample holds.
    """
    model, task, y = prepared.model, prepared.model.task, prepared.y
    estimator = candidate(model, name)
    fit(estimator, prepared.train_inputs, prepared.train_y)
    predictions = task.predict(estimator, prepared.inputs.iloc[prepared.holdout])
    truth = None if y is None else y[prepared.holdout]
    within = reference_sample(
        prepared.train_y,
        min(reference_rows, len(prepared.train)),
        model.seed,
        task.folds == "stratified",
        n_samples=len(prepared.train),
    )
    reference = prepared.train[within]
    return Fitted(
        candidate=name,
        estimator=estimator,
        holdout=HoldOut(prepared.keys[prepared.holdout], truth, predictions),
        metrics=evaluate(
            task.metrics,
            truth,
            predictions,
        ),
        reference=reference,
        reference_predictions=task.predict(estimator, prepared.inputs.iloc[reference]),
    )


def reference_columns(prepared: Prepared, fitted: Fitted) -> Columns:
    """Return the rows of the reference sample as they are in the data."""
    return take(prepared.dataset.columns, fitted.reference)


def write_evidence(directory: Path, prepared: Prepared, fitted: Fitted) -> None:
    """Write what travels inside a version, beside its manifest: features, rows and answers."""
    if prepared.features is not None:
        (directory / FEATURES_FILE).write_text(prepared.features.source, encoding="utf-8")
    columns = reference_columns(prepared, fitted)
    y = None if prepared.y is None else prepared.y[fitted.reference]
    write_reference(directory / REFERENCE_FILE, columns, y, fitted.reference_predictions)
    write_holdout(directory / HOLDOUT_FILE, fitted.holdout)
    if prepared.dataset.context:
        write_context(directory / CONTEXT_FILE, prepared.dataset.context)


def whole_pipeline(estimator: Any, features: FeaturesModule | None, model: Model) -> Any:
    """Return what plain MLflow clients load: raw columns in, predictions out.

    Without features that is the estimator itself. With them they become a first step, pickled by
    value, so that the version works where neither the app nor Greenroom is installed.
    """
    if features is None:
        return estimator
    import cloudpickle
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    cloudpickle.register_pickle_by_value(features.module)
    transform = frame_transformer(features.features, model.schema)
    return Pipeline([("features", FunctionTransformer(transform)), ("estimator", estimator)])
