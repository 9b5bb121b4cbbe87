"""``make bench-log-reading``: make a table of many predictions, and read a day of it.

The rows are written as the shipper would, but all days in one commit; values are drawn at random,
ids go with time, as those of predictions do.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import Schema
from deltalake.transaction import AddAction, create_table_with_add_actions

from benchmarks.serving import machine
from benchmarks.serving.__main__ import RESULTS
from greenroom.log.log_reading import PredictionLogReader, Window
from greenroom.log.log_rows import COMMON
from greenroom.log.log_tables import CONFIGURATION, LogTables

MODEL = "m"
FIRST_DAY = dt.date(2026, 1, 1)
ROWS_A_FILE = 1_000_000


def main(words: Sequence[str] | None = None) -> int:
    """Run it."""
    options = _options(words)
    folder = Path(tempfile.mkdtemp(prefix="bench-log-reading-", dir=options.folder))
    try:
        began_s = time.perf_counter()
        n_days = options.days
        n_files = max(1, options.rows // (n_days * ROWS_A_FILE))
        n_rows = _make(folder / MODEL / "predictions-0001", n_days, n_files, options.rows)
        result: dict[str, Any] = {
            "about": machine.about(),
            "n_rows": n_rows,
            "n_days": n_days,
            "n_gigabytes": round(sum(f.stat().st_size for f in folder.rglob("*.parquet")) / 1e9, 2),
            "made_in_s": round(time.perf_counter() - began_s, 1),
            **_read(folder, FIRST_DAY + dt.timedelta(days=n_days // 2)),
        }
    finally:
        shutil.rmtree(folder)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "log_reading.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, value in result.items():
        if name != "about":
            print(f"{name}: {value}")
    return 0


def _read(folder: Path, day: dt.date) -> dict[str, Any]:
    """Read a day, four columns of it and all, and a prediction by its id; in seconds."""
    found: dict[str, Any] = {}
    noon = dt.datetime.combine(day, dt.time(), dt.UTC)
    window = Window(noon, noon + dt.timedelta(days=1))
    columns = ["prediction_id", "answered_at", "prediction", "probability"]
    for name, chosen in (("four_columns", columns), ("all_columns", None)):
        reader = PredictionLogReader(LogTables(str(folder)))
        began_s = time.perf_counter()
        rows = reader.predictions(MODEL, window, columns=chosen)
        found[f"day_{name}_s"] = round(time.perf_counter() - began_s, 2)
        found["n_rows_of_the_day"] = rows.num_rows
    sought = rows["prediction_id"][rows.num_rows // 2].as_py()
    began_s = time.perf_counter()
    hit = PredictionLogReader(LogTables(str(folder))).find(sought, [MODEL])
    found["one_by_its_id_s"] = round(time.perf_counter() - began_s, 2)
    found["found"] = hit is not None
    return found


def _make(table: Path, n_days: int, n_files: int, n_rows: int) -> int:
    """Write a table with so many files a day; return how many rows it has."""
    table.mkdir(parents=True)
    a_file = min(ROWS_A_FILE, max(1, n_rows // n_days))
    adds, total = [], 0
    for place in range(n_days):
        day = FIRST_DAY + dt.timedelta(days=place)
        folder = table / f"day={day}"
        folder.mkdir()
        for number in range(n_files):
            path = folder / f"part-{number:05d}.parquet"
            rows = _rows(day, number, a_file, n_files)
            pq.write_table(rows.drop_columns(["day"]), path, compression="zstd")
            adds.append(_added(table, path, day, rows))
            total += rows.num_rows
    schema = Schema.from_arrow(rows.schema)
    create_table_with_add_actions(
        str(table), schema, adds, mode="error", partition_by=["day"], configuration=CONFIGURATION
    )
    return total


def _added(table: Path, path: Path, day: dt.date, rows: pa.Table) -> AddAction:
    first, last = (
        {
            "prediction_id": rows["prediction_id"][at].as_py(),
            "answered_at": f"{rows['answered_at'][at].as_py():%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        for at in (0, -1)
    )
    stats = {
        "numRecords": rows.num_rows,
        "minValues": first,
        "maxValues": last,
        "nullCount": {"prediction_id": 0, "answered_at": 0},
    }
    return AddAction(
        str(path.relative_to(table)),
        path.stat().st_size,
        {"day": str(day)},
        time.time_ns() // 1_000_000,
        True,
        json.dumps(stats),
    )


def _rows(day: dt.date, number: int, n_rows: int, n_files: int) -> pa.Table:
    """Return rows of a part of a day, as a model with five numbers has them."""
    rng = np.random.default_rng(number)
    start = dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()
    part_s = 86_400 / n_files
    at_us = ((start + part_s * (number + np.arange(n_rows) / n_rows)) * 1e6).astype(np.int64)
    tails = rng.bytes(10 * n_rows).hex()
    ids = [
        f"{ms:012x}"[:8] + "-" + f"{ms:012x}"[8:] + "-7" + t[:3] + "-8" + t[3:6] + "-" + t[6:18]
        for ms, t in zip(
            (at_us // 1_000).tolist(),
            (tails[20 * place : 20 * place + 20] for place in range(n_rows)),
            strict=True,
        )
    ]
    known: dict[str, Any] = {
        "prediction_id": pa.array(ids),
        "answered_at": pa.array(at_us, pa.timestamp("us", tz="UTC")),
        "day": pa.repeat(pa.scalar(day, pa.date32()), n_rows),
        "version": pa.repeat(pa.scalar("3"), n_rows),
        "request_key": pa.array(ids),
        "request_form": pa.repeat(pa.scalar("body"), n_rows),
        "latency_ms": pa.array(rng.gamma(2.0, 0.3, n_rows).round(3)),
        "request_body": pa.array([f'{{"a": {value:.3f}}}' for value in rng.normal(size=n_rows)]),
    }
    columns = {field.name: known.get(field.name, pa.nulls(n_rows, field.type)) for field in COMMON}
    columns |= {name: pa.array(rng.normal(size=n_rows).round(3)) for name in "abcde"}
    columns["prediction"] = pa.array(rng.integers(0, 2, n_rows))
    columns["probability"] = pa.array(rng.random(n_rows))
    return pa.table(columns)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-log-reading", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000_000, help="how many rows in all")
    parser.add_argument("--days", type=int, default=100, help="on how many days")
    parser.add_argument("--folder", default=None, help="where the table is made; 60 bytes a row")
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main())
