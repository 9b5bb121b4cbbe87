"""Models of MLflow's own flavours, which Greenroom did not train, on what their signature tells.

The library's own estimator answers where there is one, loaded without MLflow; models of other
flavours go through MLflow's ``pyfunc``, which is imported for them alone. An estimator of numbers
is called with arrays where that was seen to give the same as the DataFrame of its signature,
because pandas is the slow part of answering one row. Choosing between an estimator and what was
compiled of it is :mod:`greenroom.inference.runtime`'s business.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from greenroom.compiler.booster_files import booster_flavor, load_booster, names_features
from greenroom.compiler.categories import known_categories
from greenroom.compiler.drawing import draw_rows, with_missing
from greenroom.data.examples import example_request
from greenroom.data.frames import MLFLOW_TYPES, signature_frame, single_precision
from greenroom.errors import VersionUnloadable
from greenroom.evaluation.predictions import Predictions
from greenroom.schema import Columns, Schema, matrix
from greenroom.task import Task, classification, regression
from greenroom.versions.mlmodel import MlModel
from greenroom.versions.native import Apply, NativeRuntime, quieten_feature_names
from greenroom.versions.unpickling import (
    allow_unpickling,
    check_packages,
    load_estimator,
    named_failures,
)

PYFUNC: Final = "python_function"
COMPARED_ROWS: Final = 128
"""On how many drawn rows an array must answer as a DataFrame does."""


@dataclass(frozen=True)
class Foreign:
    """A model that plain MLflow code logged, loaded.

    Parameters
    ----------
    schema : Schema
        The columns of a request, in the order in which they enter.
    types : mapping of str to str
        MLflow's type of each column.
    task : Task
    apply : callable
        ``X -> predictions``, with what :meth:`frame` gives.
    by_name : bool
        Whether it knows its columns by name; one that does not takes an array.
    estimator : object, optional
        The library's own; None for a ``python_function``.
    example : mapping, optional
        The first row of the input example.
    """

    schema: Schema
    types: Mapping[str, str]
    task: Task
    apply: Apply
    by_name: bool
    estimator: Any = None
    example: Mapping[str, Any] | None = None

    @cached_property
    def known(self) -> Mapping[str, tuple[Any, ...]]:
        """Of some columns, the values that the estimator accepts."""
        return known_categories(self.estimator, self.schema.names)

    @property
    def typical(self) -> Mapping[str, Any]:
        """Values of an example request: the input example's, else some that are accepted."""
        return {name: values[0] for name, values in self.known.items()} | dict(self.example or {})

    def frame(self, columns: Columns) -> Any:
        """Return what the model is called with: its signature's DataFrame, or an array."""
        return signature_frame(columns, self.types) if self.by_name else self.array(matrix(columns))

    def array(self, X: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """Return rows of numbers as an array of what the signature's DataFrame would hold."""
        single = self.rounded
        if not single:
            return X
        with np.errstate(over="ignore"):
            if len(single) == X.shape[1]:
                return X.astype(np.float32)
            found = X.copy()
            found[:, single] = X[:, single].astype(np.float32)
        return found

    @cached_property
    def rounded(self) -> tuple[int, ...]:
        """Positions of the columns that the signature holds in float32."""
        return single_precision(self.schema.names, self.types)

    def draw(
        self, n_rows: int, marks: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """Draw rows inside the signature, the first of them the example; of numbers only.

        Parameters
        ----------
        n_rows : int
        marks : ndarray of shape (n_landmarks, n_columns), optional
            What :func:`greenroom.compiler.placing.landmarks` gives; it takes a while for many
            trees.

        Returns
        -------
        ndarray of shape (n_rows, n_columns)
        """
        example = example_request(self.schema, self.typical)
        values = [example[column.request_name] for column in self.schema]
        first = np.array([[np.nan if value is None else float(value) for value in values]])
        # What was made up for the example is no landmark.
        given = np.where([column.name in self.typical for column in self.schema], first, np.nan)
        drawn = draw_rows(
            self.schema,
            n_rows - 1,
            np.random.default_rng(0),
            landmarks=given if marks is None else np.concatenate([given, marks]),
            known=self.known,
        )
        return np.concatenate([first, drawn])


def open_foreign(model: MlModel, declared: Schema | None) -> Foreign:
    """Load a model of MLflow's own flavours.

    Raises
    ------
    VersionCorrupt, VersionUnloadable
        As :func:`greenroom.inference.runtime.load_runtime`.
    """
    schema, types = foreign_columns(model, declared)
    estimator, task, apply, by_name = _applied(model)
    return Foreign(schema, types, task, apply, by_name, estimator, foreign_example(model))


def foreign_columns(model: MlModel, declared: Schema | None) -> tuple[Schema, Mapping[str, str]]:
    """Return the columns of a request, and MLflow's type of each."""
    if declared is None or model.named:
        return model.schema(), model.types
    return declared, {column.name: MLFLOW_TYPES[column.kind] for column in declared}


def foreign_example(model: MlModel) -> Mapping[str, Any] | None:
    """Return the first row of the input example, where there is one."""
    rows = model.example_rows()
    return rows[0] if rows else None


def serve_foreign(foreign: Foreign) -> NativeRuntime:
    """Make what answers requests, by arrays where that is seen to give the same.

    Raises
    ------
    VersionUnloadable
        When it does not predict the example.
    """
    quieten_feature_names()
    runtime = NativeRuntime(
        schema=foreign.schema,
        task=foreign.task,
        apply=foreign.apply,
        frame=foreign.frame,
        array=foreign.array,
        example=foreign.typical,
    )
    if foreign.estimator is not None and foreign.schema.numeric:
        for rows in _comparable(foreign):
            with suppress(VersionUnloadable):  # it refuses such rows
                runtime.take_arrays(dict(zip(foreign.schema.names, rows.T, strict=True)))
                break
    return runtime


def _comparable(foreign: Foreign) -> Iterator[npt.NDArray[np.float64]]:
    """Give rows to compare frame and array on, those first that an estimator rather refuses."""
    rows = foreign.draw(COMPARED_ROWS)
    nullable = [place for place, column in enumerate(foreign.schema) if column.nullable]
    if nullable:
        yield with_missing(rows, nullable, np.random.default_rng(0))
    yield rows
    yield rows[:1]


def _applied(model: MlModel) -> tuple[Any, Task, Apply, bool]:
    """Return estimator and task, how it is applied, and whether it knows its columns by name.

    The library's own estimator where there is one: MLflow's ``pyfunc`` checks every column with
    pandas, and gives a classifier's labels alone.
    """
    pyfunc = model.flavors.get(PYFUNC, {})
    sklearn = model.flavors.get("sklearn")
    if sklearn is not None and pyfunc.get("loader_module", "mlflow.sklearn") == "mlflow.sklearn":
        estimator = load_estimator(model) if not sklearn.get("code") else _through_sklearn(model)
        return estimator, *_of_estimator(estimator), True
    booster = booster_flavor(model)
    if booster and not model.flavors[booster].get("code"):
        estimator = load_booster(model, booster)
        return estimator, *_of_estimator(estimator), names_features(estimator)
    if not pyfunc:
        raise VersionUnloadable(
            f"it has no flavour that can be served, only {', '.join(model.flavors) or 'none'}",
            advice="log it with a flavour that has python_function",
        )
    return None, regression, _through_pyfunc(model), True


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
