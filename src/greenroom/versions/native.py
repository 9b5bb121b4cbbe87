"""The native runtime: a version's own estimator, called with what it was fitted on.

Features are applied, columns put into the estimator's order, and the whole is proved on an example
before it answers anybody. An array goes in where that gives the same as a DataFrame, because pandas
is the slow part of answering one row. How an estimator comes out of a version's files is
:mod:`greenroom.inference.runtime`'s business.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from greenroom.data.examples import example_request
from greenroom.data.features import FeaturesModule
from greenroom.data.frames import to_frame
from greenroom.errors import (
    FieldProblem,
    GreenroomError,
    RequestError,
    RequestInvalid,
    RequestMalformed,
    VersionUnloadable,
)
from greenroom.evaluation.predictions import Predictions
from greenroom.payloads.refusal import sentence
from greenroom.payloads.request import RequestType, Rows
from greenroom.schema import Column, Columns, Schema, matrix, n_rows
from greenroom.task import Task, classification, forecast, regression
from greenroom.versions.manifest import Manifest

Apply: TypeAlias = Callable[[Any], Predictions]
"""``X -> predictions``, with X of shape (n_samples, n_features)."""

CLOSE: Final = 1e-9
"""A frame lies in memory column by column, an array row by row. BLAS sums in another order then,
which moves a linear model's last bits (seen on 145 of 569 rows of the breast cancer data)."""


class NativeRuntime:
    """The estimator itself, called with an array where that gives the same as a DataFrame.

    Made by :func:`load_runtime`. Its attributes are those of :class:`Runtime`.

    Parameters
    ----------
    schema : Schema
        The columns of a request.
    task : Task
    apply : callable
        What is called with ``frame(columns)``, or with an array.
    frame : callable
        ``columns -> X``, what the estimator was fitted on.
    array : callable, optional
        What is done with an array before it enters instead of a frame; default: nothing.
    manifest : Manifest, optional
    features : FeaturesModule, optional
    inputs : tuple of str, optional
        The names of the columns that enter the estimator, in order; default: the schema's.
    example : mapping, optional
        Values for the example request; what it lacks is made up.

    Raises
    ------
    VersionUnloadable
        When it does not predict the example.
    """

    kind: str = "native"

    def __init__(
        self,
        *,
        schema: Schema,
        task: Task,
        apply: Apply,
        frame: Callable[[Columns], Any] = to_frame,
        array: Callable[[npt.NDArray[np.float64]], npt.NDArray[Any]] | None = None,
        manifest: Manifest | None = None,
        features: FeaturesModule | None = None,
        inputs: tuple[str, ...] = (),
        example: Mapping[str, Any] | None = None,
    ) -> None:
        self.manifest = manifest
        self.schema = schema
        self._expand = features.expand if features is not None else None
        self.expands = self._expand is not None
        self._apply = apply
        self._frame = frame
        self._array = array
        self._features = features
        self._inputs = inputs or schema.names
        self._forecasts = task.name == forecast.name
        self._time = _time_column(manifest) if self._forecasts else None
        self._by_array = False
        self.accepts_matrix = False
        self.example_values = example or {}
        self.example = _example(schema, example)
        first = self._answer_example()
        self.task = _outputs_of(task, first)
        self.classes = (manifest.classes if manifest is not None else ()) or first.classes

    def take_arrays(self, columns: Columns) -> None:
        """Call the estimator with arrays from now on, if that gives the same for these rows.

        An estimator that was fitted on a DataFrame may pick columns by name, and then it needs one.

        Parameters
        ----------
        columns : Columns
            Rows of the version's own columns, before ``features``.

        Raises
        ------
        VersionUnloadable
            When it does not predict these rows at all.
        """
        try:
            entering = self._entering(columns)
            expected = self._apply(self._frame(entering))
        except GreenroomError:
            raise
        except Exception as error:
            # The rows come from the training data, so that only the kind of error is told.
            raise VersionUnloadable(
                f"it does not predict rows of its own training data: {type(error).__name__}"
            ) from error
        if any(values.dtype.kind not in "fiub" for values in entering.values()):
            return
        try:
            self._by_array = _equal(expected, self.predict_matrix(matrix(entering)))
        except Exception:  # noqa: BLE001 - whatever it is: this estimator does not take arrays
            return
        plain = self._features is None and self._inputs == self.schema.names
        self.accepts_matrix = self._by_array and plain and self.schema.numeric

    def predict(self, columns: Columns) -> Predictions:
        """Answer the rows of a request.

        Raises
        ------
        RequestMalformed
            When the version expands requests, and there are several.
        """
        return self.predict_rows(self._expanded(columns) if self.expands else columns)

    def predict_rows(self, columns: Columns) -> Predictions:
        """Answer rows as they are in the data: after ``expand`` and before ``features``."""
        entering = self._entering(columns)
        if self._by_array:
            found = self.predict_matrix(matrix(entering))
        else:
            found = self._apply(self._frame(entering))
        return self._dated(found, columns) if self._forecasts else found

    def _dated(self, found: Predictions, columns: Columns) -> Predictions:
        """Return what a forecast answers: its outputs, and which day or instant each is of."""
        names = [output.name for output in forecast.outputs if output.name in found.outputs]
        outputs = {name: found.outputs[name] for name in names}
        if self._time is not None:
            times = columns[self._time.name]
            days = self._time.kind == "date"
            outputs["time"] = times.astype("datetime64[D]") if days else times
        return Predictions(outputs)

    def predict_matrix(self, X: npt.NDArray[np.float64]) -> Predictions:
        """Answer rows of shape (n_samples, n_columns), in the schema's order."""
        return self._apply(X if self._array is None else self._array(X))

    def warm(self) -> None:
        """Predict an example the way a request is, and check what comes out.

        Raises
        ------
        VersionUnloadable
            When it fails, or answers with another shape or with a number that is not finite.
        """
        predictions = self._answer_example()
        rows = len(predictions) if self.expands else self.example.n_rows
        for problem in _problems(predictions, self.task, self.classes, rows):
            raise VersionUnloadable(f"for its example it answers {problem}")

    def _answer_example(self) -> Predictions:
        try:
            if self.accepts_matrix:
                return self.predict_matrix(self.example.matrix())
            return self.predict(self.example.columns())
        except GreenroomError:
            raise
        except Exception as error:
            # An estimator may raise anything; its example holds nothing private.
            raise VersionUnloadable(
                f"it does not predict its example: {type(error).__name__}: {error}",
                advice="log it again with an input example that it can predict",
            ) from error

    def _entering(self, columns: Columns) -> Columns:
        """Return what enters the estimator, in its order."""
        try:
            made = columns if self._features is None else self._features.features(dict(columns))
        except ValueError as error:
            raise _refusal(error, self.schema, n_rows(columns)) or error from None
        try:
            return {name: made[name] for name in self._inputs}
        except KeyError as error:
            raise VersionUnloadable(
                f"its features do not make the column {error.args[0]!r}, which it was trained on"
            ) from error

    def _expanded(self, columns: Columns) -> Columns:
        if n_rows(columns) != 1:
            raise RequestMalformed(
                "this model makes several rows from one request", advice="send one, not a list"
            )
        if self._expand is None:
            return columns
        try:
            made = self._expand(plain_request(self.schema, columns))
        except ValueError as error:
            raise _refusal(error, self.schema) or error from None
        _require_years(made)
        return made


def _time_column(manifest: Manifest | None) -> Column | None:
    """Return the column by which a forecast's rows are told apart, where one is known."""
    if manifest is None or not manifest.split.time:
        return None
    return next(c for c in manifest.schema if c.name == manifest.split.time)


def plain_request(schema: Schema, columns: Columns) -> dict[str, Any]:
    """Return the first row of a request as ``expand`` is given it, under the data's names."""
    return {column.name: _plain(columns[column.name][0], column.kind) for column in schema}


def _require_years(columns: Columns) -> None:
    """Refuse rows of days that have no date: no reply can say them, and no log can keep them."""
    for values in columns.values():
        if values.dtype.kind == "M" and ((values < _YEAR_1) | (values >= _YEAR_10000)).any():
            problem = "reaches beyond the years 1 to 9999"
            raise RequestInvalid(f"the request {problem}", [FieldProblem(0, "", problem)])


_YEAR_1: Final = np.datetime64("0001-01-01")
_YEAR_10000: Final = np.datetime64("10000-01-01")


def _refusal(error: ValueError, schema: Schema, n_rows: int = 1) -> RequestInvalid | None:
    """Return the refusal of a field that ``expand`` or ``features`` has named.

    That is ``ValueError(field, problem)``, or ``ValueError(field, problem, row)`` where several
    rows were given. Any other ValueError is a fault of the function's, whose text may hold what
    was sent.
    """
    names = {column.name: column.request_name for column in schema}
    if len(error.args) not in {2, 3} or error.args[0] not in names:
        return None
    name, said, *rows = error.args
    found = [FieldProblem(int(rows[0]) if rows else 0, names[name], str(said))]
    return RequestInvalid(
        sentence(found, single=n_rows == 1 or not rows),
        found,
        advice="/docs shows every field, with its type and range",
    )


def quieten_feature_names() -> None:
    """Silence scikit-learn where names and their absence meet; the columns' order is ours."""
    for message in ("X does not have valid feature names", "X has feature names"):
        warnings.filterwarnings("ignore", message=message, category=UserWarning)


def _example(schema: Schema, given: Mapping[str, Any] | None) -> Rows:
    body = msgspec.json.encode(example_request(schema, given))
    try:
        return RequestType.compile(schema).decode(body)
    except RequestError as error:
        raise VersionUnloadable(f"its example does not fit its columns: {error.message}") from error


def _outputs_of(task: Task, predictions: Predictions) -> Task:
    """Return the task with the outputs that are there; labels make a regression none."""
    values = predictions.outputs["prediction"]
    if task is regression and values.dtype.kind != "f":
        task = classification
    given = tuple(output for output in task.outputs if output.name in predictions.outputs)
    return replace(task, outputs=given)


def _problems(
    predictions: Predictions, task: Task, classes: tuple[Any, ...], rows: int
) -> list[str]:
    """Say what is wrong with the answer to an example of ``rows`` rows."""
    found = []
    for output in task.outputs:
        values = predictions.outputs[output.name]
        expected = (rows, len(classes)) if output.kind == "by_class" else (rows,)
        if values.shape != expected:
            found.append(f"{output.name} of shape {values.shape} instead of {expected}")
        elif values.dtype.kind == "f" and not np.isfinite(values).all():
            found.append(f"a {output.name} that is not finite")
    return found


def _equal(a: Predictions, b: Predictions) -> bool:
    """Whether two answers are the same: labels exactly, numbers within :data:`CLOSE`."""
    return a.outputs.keys() == b.outputs.keys() and all(
        _equal_values(values, b.outputs[name]) for name, values in a.outputs.items()
    )


def _equal_values(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "f":
        return bool(np.allclose(a, b, rtol=CLOSE, atol=CLOSE, equal_nan=True))
    return np.array_equal(a, b)


def _plain(value: Any, kind: str) -> Any:
    """Return one cell as a plain value, None where it is missing."""
    if value is None or (isinstance(value, np.datetime64 | float) and np.isnan(value)):
        return None
    match kind:
        case "integer":
            return int(value)
        case "boolean":
            return bool(value)
        case "number":
            return float(value)
        case "date":
            return value.astype("datetime64[D]").item()
        case "datetime":
            instant: datetime = value.astype("datetime64[us]").item()
            return instant.replace(tzinfo=UTC)
        case _:
            return value
