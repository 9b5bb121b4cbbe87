"""Columns as the pandas DataFrame that estimators are fitted on.

Training fits on a frame, so that an estimator knows its features' names (monotone constraints and
column transformers go by them). Serving avoids pandas where it can; where text columns make a frame
necessary, it comes from the same function. pandas is imported when a frame is made, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from greenroom.schema import TIME_KINDS, Columns, Schema

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
