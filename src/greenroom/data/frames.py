"""Columns as the pandas DataFrame that estimators are fitted on.

Training fits on a frame, so that an estimator knows its features' names (monotone constraints and
column transformers go by them). Serving avoids pandas where it can; where text columns make a frame
necessary, it comes from the same function. pandas is imported when a frame is made, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from greenroom.errors import FieldProblem, RequestInvalid
from greenroom.schema import TIME_KINDS, Columns, Kind, Schema

if TYPE_CHECKING:
    import pandas as pd


def to_frame(columns: Mapping[str, npt.NDArray[Any]]) -> pd.DataFrame:
    """Make a frame of shape (n_samples, n_features): numbers as float64, text as object.

    The dtype ``object`` is asked for by name: pandas 3 would read text as its own ``str``, in
    which a missing value is NaN instead of None.
    """
    import pandas as pd

    series = {
        name: pd.Series(values, dtype=object if values.dtype == object else None)
        for name, values in columns.items()
    }
    return pd.DataFrame(series)


def signature_frame(columns: Columns, types: Mapping[str, str]) -> pd.DataFrame:
    """Make a frame of the dtypes that MLflow's signature asks for.

    A column whose values do not all fit its dtype (a missing integer, one beyond 32 bits) keeps
    its own, as pandas would have it.

    Parameters
    ----------
    columns : Columns
    types : mapping of str to str
        MLflow's type of each: ``{"age": "long", "income": "double"}``.

    Raises
    ------
    RequestInvalid
        When an instant lies where MLflow's nanoseconds do not reach: it would become another one.

    Examples
    --------
    >>> frame = signature_frame({"a": np.array([1.0, 2.0])}, {"a": "long"})
    >>> str(frame.dtypes["a"])
    'int64'
    """
    for name, values in columns.items():
        if types[name] == "datetime":
            _require_nanoseconds(name, values)
    return to_frame({name: _typed(values, types[name]) for name, values in columns.items()})


def single_precision(names: tuple[str, ...], types: Mapping[str, str]) -> tuple[int, ...]:
    """Return the positions of the columns that a signature's frame holds as float32."""
    return tuple(place for place, name in enumerate(names) if types[name] == "float")


def _require_nanoseconds(name: str, values: npt.NDArray[Any]) -> None:
    beyond = np.flatnonzero((values < _FIRST_DAY) | (values > _LAST_DAY))
    if len(beyond):
        found = [FieldProblem(int(beyond[0]), name, f"is not between {_FIRST_DAY} and {_LAST_DAY}")]
        advice = "the model's signature has instants in nanoseconds, which reach no further"
        raise RequestInvalid(f"{name} {found[0].problem}", found, advice=advice)


_FIRST_DAY: Final = np.datetime64("1677-09-22")
_LAST_DAY: Final = np.datetime64("2262-04-11")


def _typed(values: npt.NDArray[Any], mlflow_type: str) -> npt.NDArray[Any]:
    dtype = _DTYPES.get(mlflow_type)
    if dtype is None:
        return values
    with np.errstate(invalid="ignore", over="ignore"):
        cast = values.astype(dtype)
    return values if cast.dtype.kind in "bi" and not np.array_equal(cast, values) else cast


MLFLOW_TYPES: Final[Mapping[Kind, str]] = {
    "number": "double",
    "integer": "long",
    "boolean": "boolean",
    "string": "string",
    "category": "string",
    "date": "datetime",
    "datetime": "datetime",
    "records": "string",
}
"""The kinds of declared columns as the types of a signature."""

_DTYPES: Final = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "datetime": "datetime64[ns]",
}


def frame_transformer(
    features: Callable[[Columns], Columns], schema: Schema
) -> Callable[[Any], Any]:
    """Return ``frame -> frame`` for the first step of a logged pipeline.

    The function is pickled by value and refers to nothing of Greenroom's, so that plain
    ``mlflow.pyfunc.load_model`` can apply a version to raw columns where Greenroom is not
    installed. That is why it repeats what :func:`to_frame` does.
    """
    numbers = [column.name for column in schema if column.numeric]
    times = [column.name for column in schema if column.kind in TIME_KINDS]
    names = schema.names

    def transform(frame: Any) -> Any:
        import numpy as np
        import pandas as pd

        columns = {}
        for name in names:
            if name in numbers:
                columns[name] = frame[name].to_numpy(dtype="float64", na_value=np.nan)
            elif name in times:
                columns[name] = frame[name].to_numpy(dtype="datetime64[us]")
            else:
                values = frame[name].astype(object)
                columns[name] = values.where(values.notna(), None).to_numpy(dtype=object)
        made = {
            name: pd.Series(values, dtype=object if values.dtype == object else None)
            for name, values in features(columns).items()
        }
        return pd.DataFrame(made).set_axis(frame.index)

    return transform
