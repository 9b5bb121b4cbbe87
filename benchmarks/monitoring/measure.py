"""One window compared with one reference, in this process: prints its figures as JSON."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from pathlib import Path

from benchmarks.monitoring.rows import DAY, DIGEST, MODEL


def main(version: Path, log: Path) -> None:
    """Compare, and print."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    from greenroom.log.log_reading import Window
    from greenroom.log.log_tables import LogTables
    from greenroom.log.log_windows import LogWindows
    from greenroom.monitoring.drift import DriftMeter
    from greenroom.monitoring.reference import read_reference_of

    imported_s = time.perf_counter()
    start = dt.datetime.combine(DAY, dt.time(), dt.UTC)
    window = Window(start, start + dt.timedelta(days=1))
    with DriftMeter(read_reference_of(version).in_log()) as meter:
        for batch in LogWindows(LogTables(str(log))).batches(
            MODEL, window, meter.needed, digest=DIGEST, texts=meter.texts
        ):
            meter.add(batch)
        drift = meter.drift()
    ended_s = time.perf_counter()
    found = {
        "n_rows": drift.n_current,
        "seconds": round(ended_s - imported_s, 2),
        "process_seconds": round(ended_s - began_s, 2),
        "cpu_seconds": round(time.process_time() - began_cpu_s, 2),
        "peak_mb": peak_mb(),
        "drifted": [
            one.column for one in (*drift.features, *drift.predictions) if one.verdict == "drift"
        ],
    }
    print(json.dumps(found))


def peak_mb() -> int:
    """Return how much memory this process has had at most.

    Not ``ru_maxrss``, which counts the process that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
