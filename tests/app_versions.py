"""Versions with the columns of the applications, and with every kind of column, as trained here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.dummy import DummyClassifier

import builders
from greenroom.app_loading import load_app
from greenroom.compiler.compiled import compile_version
from greenroom.data.examples import typical_values
from greenroom.data.features import load_features
from greenroom.data.frames import to_frame
from greenroom.schema import Column, Schema
from greenroom.task import classification

APPS = Path(__file__).parents[1] / "apps"
EVERY_KIND = (
    Column("n", minimum=0.5, maximum=2.5, unit="USD"),
    Column("i-n", "integer", request_name="i_n", nullable=True),
    Column("b", "boolean"),
    Column("s", "string", nullable=True),
    Column("c", "category", categories=("low", "high"), nullable=True),
    Column("d", "date"),
    Column("t", "datetime", nullable=True),
)
N_ROWS = 500


def fitted(directory: Path, columns, rows, estimator, y, features="") -> Path:
    """Write a version, compiled where that is possible, as training does."""
    made = to_frame(load_features(features).features(dict(rows)) if features else rows)
    estimator.fit(made, y)
    builders.version(
        directory,
        estimator=estimator,
        columns=columns,
        rows=rows,
        features=features,
        example=typical_values(Schema(columns), rows),
    )
    compile_version(
        directory, estimator, classification, made, classification.predict(estimator, made)
    )
    return directory


def app_version(name: str, directory: Path) -> Path:
    """Write a version with an app's columns, features and first candidate, fitted to few rows."""
    model = load_app(APPS / name).model()
    rows = model.generated(1) if model.generated else model.dataset()
    few = {key: np.asarray(values)[:N_ROWS] for key, values in rows.items()}
    y = few.pop(model.target)
    typed = {column.name: few[column.name].astype(np.float64) for column in model.columns}
    estimator = next(iter(model.candidates(model.seed).values()))
    features = (APPS / name / model.features).read_text() if model.features else ""
    return fitted(directory, model.columns, typed, estimator, y, features)


def version_of_every_kind(directory: Path) -> Path:
    days = np.array(["2024-01-15", "2024-02-29"], dtype="datetime64[us]")
    rows = {
        "n": np.array([1.0, 2.0]),
        "i-n": np.array([1.0, np.nan]),
        "b": np.array([0.0, 1.0]),
        "s": np.array(["001", None], dtype=object),
        "c": np.array(["low", "high"], dtype=object),
        "d": days,
        "t": days,
    }
    return fitted(directory, EVERY_KIND, rows, DummyClassifier(strategy="prior"), [0, 1])
