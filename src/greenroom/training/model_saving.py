"""Saving a model in MLflow's own format, with Greenroom's files inside its directory.

One of the three modules that import MLflow. Which run it belongs to is
:mod:`greenroom.training.tracking`'s business; no server is asked for anything here.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from greenroom.versions.manifest import FLAVOR, FORMAT, MANIFEST_FILE

if TYPE_CHECKING:
    import pandas as pd

    from greenroom.schema import Schema

_QUIET: Final = {
    # A server that hangs must not hold a training for MLflow's default of 120 s times 7 tries.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # MLflow takes it when it is imported, which may come later.
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


class Flavor:
    """Saves scikit-learn's flavour, and Greenroom's beside it: files that travel with a version.

    Files beside the model's own directory are left behind when it is registered (MLflow #18581).
    """

    def save_model(
        self, path: str, mlflow_model: Any, *, validate_serving_input: bool, **parts: Any
    ) -> None:
        """Save a model where ``Model.log`` wants it; MLflow calls it."""
        del validate_serving_input  # Model.log passes its own option on
        _save(Path(path), mlflow_model, **parts)


def save_model(
    directory: Path,
    estimator: Any,
    *,
    signature: Any,
    example: pd.DataFrame,
    requirements: list[str],
    finish: Callable[[Path], None],
) -> None:
    """Store a model in a folder as a run's log does; no server is asked for anything.

    Parameters
    ----------
    directory : Path
        Made here; it must not be there yet.
    """
    from mlflow.models import Model

    be_quiet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _save(
            directory,
            Model(),
            estimator=estimator,
            signature=signature,
            example=example,
            requirements=requirements,
            finish=finish,
        )


def _save(
    directory: Path,
    mlflow_model: Any,
    *,
    estimator: Any,
    signature: Any,
    example: pd.DataFrame,
    requirements: list[str],
    finish: Callable[[Path], None],
) -> None:
    import mlflow.sklearn

    mlflow.sklearn.save_model(
        estimator,
        str(directory),
        mlflow_model=mlflow_model,
        # skops, the default, refuses scikit-learn's own boosting and forests.
        serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
        signature=signature,
        input_example=example,
        pip_requirements=requirements,
    )
    mlflow_model.add_flavor(FLAVOR, format=FORMAT, manifest=MANIFEST_FILE)
    mlflow_model.save(str(directory / "MLmodel"))
    finish(directory)


def be_quiet() -> None:
    """Keep MLflow from waiting for long, and from telling what nobody asked for."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.ERROR)


def signature_of(schema: Schema, prediction: Any) -> Any:
    """Make MLflow's signature from columns and some predictions.

    Columns that may be missing are ``double`` where they are numbers, because MLflow's integer
    and boolean columns cannot hold a missing value (MLflow #25593).
    """
    import numpy as np
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, DataType, TensorSpec
    from mlflow.types import Schema as MlflowSchema

    types = {
        "number": DataType.double,
        "integer": DataType.long,
        "boolean": DataType.boolean,
        "string": DataType.string,
        "category": DataType.string,
        "date": DataType.datetime,
        "datetime": DataType.datetime,
    }
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(
            DataType.double if column.nullable and column.numeric else types[column.kind],
            name=column.name,
        )
        for column in schema
    ]
    outputs = infer_signature(np.asarray(prediction)[:1]).inputs
    return ModelSignature(inputs=MlflowSchema(inputs), outputs=outputs)
