"""Small versions on disk, as training or MLflow would leave them, made without MLflow."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import cloudpickle
import numpy as np
import sklearn
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from greenroom.data.features import features_digest, load_features
from greenroom.data.frames import to_frame
from greenroom.evaluation.evidence import write_reference
from greenroom.gate import Gate
from greenroom.schema import Column
from greenroom.split import Split
from greenroom.task import TASKS
from greenroom.versions.manifest import (
    FEATURES_FILE,
    REFERENCE_FILE,
    Code,
    Data,
    Environment,
    Manifest,
    write_manifest,
)

COLUMNS = (Column("a", minimum=-10, maximum=10), Column("b", "integer", minimum=0, maximum=9))


def numbers(n_rows: int = 40, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "a": random.normal(size=n_rows),
        "b": random.integers(0, 9, size=n_rows).astype(np.float64),
    }


def labels(columns: dict[str, np.ndarray]) -> np.ndarray:
    return (columns["a"] + columns["b"] / 9 > 0.5).astype(np.int64)


def classifier(columns: dict[str, np.ndarray] | None = None, *, C: float = 1.0) -> Pipeline:
    rows = numbers() if columns is None else columns
    steps = [("scale", StandardScaler()), ("model", LogisticRegression(C=C))]
    return Pipeline(steps).fit(to_frame(rows), labels(numbers()))


def write_mlmodel(
    directory: Path, *, flavors: dict, inputs: list[dict] | None = None, **content
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if inputs is not None:
        content["signature"] = {"inputs": json.dumps(inputs), "outputs": None, "params": None}
    content |= {"flavors": flavors, "mlflow_version": "3.17.2"}
    (directory / "MLmodel").write_text(yaml.safe_dump(content))
    (directory / "requirements.txt").write_text(f"scikit-learn=={sklearn.__version__}\n")


def sklearn_flavors(form: str = "cloudpickle", file: str = "model.pkl") -> dict:
    return {
        "python_function": {"loader_module": "mlflow.sklearn", "model_path": file},
        "sklearn": {
            "code": None,
            "pickled_model": file,
            "serialization_format": form,
            "sklearn_version": sklearn.__version__,
        },
    }


def pickled(estimator, directory: Path, form: str = "cloudpickle") -> None:
    directory.mkdir(parents=True, exist_ok=True)
    dumps = {"cloudpickle": cloudpickle.dumps, "pickle": pickle.dumps}[form]
    (directory / "model.pkl").write_bytes(dumps(estimator))


def foreign(directory: Path, estimator, inputs: list[dict] | None, **content) -> Path:
    """Write a version as plain MLflow's scikit-learn flavour leaves it."""
    write_mlmodel(directory, flavors=sklearn_flavors(), inputs=inputs, **content)
    pickled(estimator, directory)
    return directory


def version(
    directory: Path,
    *,
    estimator=None,
    columns: tuple[Column, ...] = COLUMNS,
    rows: dict[str, np.ndarray] | None = None,
    features: str = "",
    task: str = "classification",
    reference: bool = True,
    **fields,
) -> Path:
    """Write a version as Greenroom's training leaves it; ``rows`` are before the features."""
    rows = numbers() if rows is None else rows
    made = load_features(features).features(dict(rows)) if features else rows
    if estimator is None:
        estimator = classifier(made)
    predictions = TASKS[task].predict(estimator, to_frame(made))
    logged = estimator
    if features:
        steps = [("features", FunctionTransformer()), ("estimator", estimator)]
        logged = Pipeline(steps)
    flavors = sklearn_flavors() | {"greenroom": {"format": 1}}
    write_mlmodel(directory, flavors=flavors)
    pickled(logged, directory)
    fields.setdefault("example", {column.name: rows[column.name].tolist()[1] for column in columns})
    write_manifest(directory, manifest(columns, features, tuple(made), predictions, task, fields))
    if features:
        (directory / FEATURES_FILE).write_text(features)
    if reference:
        write_reference(directory / REFERENCE_FILE, rows, None, predictions)
    return directory


def manifest(columns, features, inputs, predictions, task, fields) -> Manifest:
    defaults = {
        "app": "app",
        "model": "model",
        "task": task,
        "candidate": "logistic",
        "columns": columns,
        "inputs": inputs,
        "classes": predictions.classes,
        "features_digest": features_digest(features) if features else "",
        "gate": Gate("accuracy"),
        "split": Split(),
        "folds": 5,
        "seed": 42,
        "data": Data(name="d", source="d.csv", dataset_hash="1", content_hash="2", n_rows=40),
        "code": Code(code_hash="3", files={}),
        "environment": Environment(python="3.11", packages={}),
        "metrics": {"accuracy": 0.9},
    }
    return Manifest(**(defaults | fields))


def by_text() -> Pipeline:
    """Return a classifier of text columns, each value a category of its own."""
    return Pipeline([("encode", OneHotEncoder()), ("model", LogisticRegression())])
