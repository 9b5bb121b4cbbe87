"""Evidently's drift of the same rows, in an environment of its own: prints its figures as JSON.

Imports nothing of Greenroom. Its own defaults, on data frames that are loaded beforehand.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped,unused-ignore]
from evidently import Dataset, Report  # type: ignore[import-not-found,unused-ignore]
from evidently.presets import DataDriftPreset  # type: ignore[import-not-found,unused-ignore]


def main(reference: Path, table: Path) -> None:
    """Compare, and print."""
    before = pd.read_parquet(reference)
    files = sorted(table.rglob("*.parquet"))
    now = pd.concat([pd.read_parquet(file, columns=list(before.columns)) for file in files])
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    current, known = Dataset.from_pandas(now), Dataset.from_pandas(before)
    report = Report([DataDriftPreset()]).run(current, known)
    found = json.loads(report.json())
    result = {
        "n_rows": len(now),
        "seconds": round(time.perf_counter() - began_s, 2),
        "cpu_seconds": round(time.process_time() - began_cpu_s, 2),
        "peak_mb": _peak_mb(),
        "n_metrics": len(found["metrics"]),
    }
    print(json.dumps(result))


def _peak_mb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
