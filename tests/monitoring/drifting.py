"""References and windows for tests of drift, made from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from greenroom.evaluation.predictions import Predictions
from greenroom.gate import Gate
from greenroom.monitoring.drift import as_batches, compare
from greenroom.monitoring.reference import Reference
from greenroom.monitoring.verdict import DEFAULT_THRESHOLDS
from greenroom.schema import Column
from greenroom.split import Split
from greenroom.versions.manifest import Code, Data, Environment, Manifest


def manifest(columns: Sequence[Column], task: str = "regression", **more: Any) -> Manifest:
    """Return the manifest of a version with these columns."""
    return Manifest(
        **{
            "app": "a",
            "model": "m",
            "task": task,
            "candidate": "c",
            "columns": tuple(columns),
            "inputs": tuple(column.name for column in columns),
            "gate": Gate("r2_score"),
            "split": Split(),
            "folds": 3,
            "seed": 0,
            "data": Data(name="d", source="d", dataset_hash="", content_hash="", n_rows=1),
            "code": Code(code_hash="", files={}),
            "environment": Environment(python="3.11", packages={}),
            **more,
        }
    )


def reference(
    columns: Sequence[Column],
    rows: Mapping[str, Any],
    outputs: Mapping[str, Any] | None = None,
    task: str = "regression",
    **more: Any,
) -> Reference:
    """Return a reference whose answers are of the same rows."""
    n_rows = len(next(iter(rows.values())))
    answers = Predictions(dict(outputs or {"prediction": np.zeros(n_rows)}))
    return Reference(
        manifest=manifest(columns, task, **more),
        columns=dict(rows),
        y=None,
        predictions=answers,
        answers=answers,
        held_out=False,
        names={name: name for name in rows},
        aside={},
    )


def drift_of(found: Reference, rows: Mapping[str, Any], outputs: Any = None, thresholds=None):
    """Compare rows, and what was answered, with a reference."""
    answers = Predictions(dict(outputs)) if outputs else None
    return compare(found, as_batches(dict(rows), answers), thresholds or DEFAULT_THRESHOLDS)


def drifted(found: Any) -> list[str]:
    """Return the names of the columns and outputs that are said to have drifted."""
    return [one.column for one in (*found.features, *found.predictions) if one.verdict == "drift"]
