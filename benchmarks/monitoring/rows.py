"""Made up rows: sixteen numbers of four shapes and four categories, as a log and as a reference.

In a window two columns have moved, one of each kind; the verdict has to name exactly these.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import Schema
from deltalake.transaction import AddAction, create_table_with_add_actions

from greenroom.evaluation.evidence import HoldOut, write_holdout, write_reference
from greenroom.evaluation.predictions import Predictions
from greenroom.gate import Gate
from greenroom.log.log_rows import COMMON
from greenroom.log.log_tables import CONFIGURATION
from greenroom.schema import Column
from greenroom.split import Split
from greenroom.versions.manifest import (
    HOLDOUT_FILE,
    REFERENCE_FILE,
    Code,
    Data,
    Environment,
    Manifest,
    write_manifest,
)

MODEL = "m"
DIGEST = "d" * 64
DAY = dt.date(2026, 1, 1)
ROWS_A_FILE = 1_000_000
N_NUMBERS, N_CATEGORIES = 16, 4
NUMBERS = tuple(f"number_{place}" for place in range(N_NUMBERS))
CATEGORIES = tuple(f"category_{place}" for place in range(N_CATEGORIES))
MOVED = (NUMBERS[3], CATEGORIES[1])
LABELS = tuple(f"label {place}" for place in range(12))


def rows(n_rows: int, seed: int, *, moved: bool) -> dict[str, np.ndarray]:
    """Return columns: a quarter of the numbers normal, skewed, whole, and rounded ones."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for place, name in enumerate(NUMBERS):
        draw = (
            lambda: rng.normal(size=n_rows),
            lambda: rng.lognormal(0.0, 2.0, size=n_rows),
            lambda: rng.poisson(3.0, size=n_rows).astype(np.float64),
            lambda: rng.gamma(2.0, 10.0, size=n_rows).round(2),
        )[place % 4]
        found[name] = draw() * (1.6 if moved and name in MOVED else 1.0)
    for name in CATEGORIES:
        weights = np.arange(1, len(LABELS) + 1, dtype=np.float64)
        if moved and name in MOVED:
            weights = weights[::-1]
        codes = rng.choice(len(LABELS), n_rows, p=weights / weights.sum())
        found[name] = np.array(LABELS, dtype=object)[codes]
    found["prediction"] = rng.integers(0, 2, n_rows)
    found["probability"] = rng.random(n_rows)
    return found


def write_version(directory: Path, n_rows: int) -> None:
    """Write what a version carries: its manifest and its reference."""
    made = rows(n_rows, 0, moved=False)
    columns = (
        *(Column(name) for name in NUMBERS),
        *(Column(name, "category", categories=LABELS) for name in CATEGORIES),
    )
    manifest = Manifest(
        app="bench",
        model=MODEL,
        task="classification",
        candidate="made up",
        columns=columns,
        inputs=tuple(column.name for column in columns),
        classes=(0, 1),
        gate=Gate("roc_auc"),
        split=Split(),
        folds=5,
        seed=0,
        data=Data(name="made up", source="", dataset_hash="", content_hash="", n_rows=n_rows),
        code=Code(code_hash="", files={}),
        environment=Environment(python="", packages={}),
    )
    answers = Predictions({name: made[name] for name in ("prediction", "probability")}, (0, 1))
    inputs = {column.name: made[column.name] for column in columns}
    write_manifest(directory, manifest)
    write_reference(directory / REFERENCE_FILE, inputs, None, answers)
    keys = np.arange(n_rows, dtype=np.uint64)
    write_holdout(directory / HOLDOUT_FILE, HoldOut(keys, None, answers))
    plain = pa.table({name: pa.array(values) for name, values in inputs.items()})
    pq.write_table(plain, directory / "rows.parquet")


def write_log(folder: Path, n_rows: int) -> Path:
    """Write a table of the log, files of a million rows; return where it is."""
    table = folder / MODEL / "predictions-0001"
    day = table / f"day={DAY}"
    day.mkdir(parents=True)
    adds = []
    for number, start in enumerate(range(0, n_rows, ROWS_A_FILE)):
        part = _logged(min(ROWS_A_FILE, n_rows - start), number)
        path = day / f"part-{number:05d}.parquet"
        pq.write_table(part.drop_columns(["day"]), path, compression="zstd")
        adds.append(_added(table, path, part))
    create_table_with_add_actions(
        str(table),
        Schema.from_arrow(part.schema),
        adds,
        mode="error",
        partition_by=["day"],
        configuration=CONFIGURATION,
    )
    return table


def _logged(n_rows: int, number: int) -> pa.Table:
    start_us = int(dt.datetime.combine(DAY, dt.time(), dt.UTC).timestamp() * 1e6)
    at_us = start_us + (number * ROWS_A_FILE + np.arange(n_rows, dtype=np.int64)) * 1_000
    known: dict[str, Any] = {
        "prediction_id": pa.array(at_us).cast(pa.string()),
        "answered_at": pa.array(at_us).cast(pa.timestamp("us", tz="UTC")),
        "day": pa.repeat(pa.scalar(DAY, pa.date32()), n_rows),
        "version": pa.repeat(pa.scalar("3"), n_rows),
        "digest": pa.repeat(pa.scalar(DIGEST), n_rows),
    }
    columns = {field.name: known.get(field.name, pa.nulls(n_rows, field.type)) for field in COMMON}
    made = rows(n_rows, 1 + number, moved=True)
    return pa.table(columns | {name: pa.array(values) for name, values in made.items()})


def _added(table: Path, path: Path, part: pa.Table) -> AddAction:
    ends = [part["answered_at"][at].as_py() for at in (0, -1)]
    first, last = ({"answered_at": f"{end:%Y-%m-%dT%H:%M:%S.%fZ}"} for end in ends)
    stats = {
        "numRecords": part.num_rows,
        "minValues": first,
        "maxValues": last,
        "nullCount": {"answered_at": 0},
    }
    return AddAction(
        str(path.relative_to(table)),
        path.stat().st_size,
        {"day": str(DAY)},
        time.time_ns() // 1_000_000,
        True,
        json.dumps(stats),
    )
