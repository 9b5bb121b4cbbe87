"""Serves a model whose prediction log is at an address, and kills the shipper under it.

Called as ``python log_to_s3.py FOLDER URI`` with Greenroom's environment, and with the variables
that the store asks for. Prints one line of JSON: the ids that were answered, those that were in the
tables already while the server ran, those that are in the end, and how many shippers were killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx

import builders
from app_versions import fitted
from greenroom.log.log_tables import LogTables, table_dataset
from real_server import deployed, served
from waiting import wait_for

N_ROUNDS, N_ROWS = 6, 10


def main() -> None:
    folder, uri = Path(sys.argv[1]), sys.argv[2]
    rows = builders.numbers()
    target = builders.labels(rows)
    fitted(folder / "1", builders.COLUMNS, rows, builders.classifier(rows), target)
    settings = {"home": folder / "home", "log": True, "log_uri": uri, "log_ship_interval_s": 0.1}
    asked: list[str] = []
    n_killed = 0
    with served(deployed(folder / "1"), workers=1, **settings) as url:
        for _ in range(N_ROUNDS):
            reply = httpx.post(f"{url}/predict", json=[{"a": 1.0, "b": 2.0}] * N_ROWS).json()
            asked += [one["prediction_id"] for one in reply["predictions"]]
            wait_for(lambda ids=set(asked): ids <= set(shipped(uri)), "it is shipped", within_s=60)
            n_killed += kill_shipper() if n_killed < 2 else 0
        meanwhile = shipped(uri)
    said = {"asked": asked, "meanwhile": meanwhile, "shipped": shipped(uri), "killed": n_killed}
    print(json.dumps(said), flush=True)


def shipped(uri: str) -> list[str]:
    tables = LogTables(uri)
    found = [
        table_dataset(tables.open(one)).to_table(columns=["prediction_id"])
        for one in tables.predictions("m")
    ]
    return [one for table in found for one in table["prediction_id"].to_pylist()]


def kill_shipper() -> int:
    """Kill what ships for this process; return how many were there."""
    n_killed = 0
    for task in Path("/proc/self/task").glob("*/children"):
        for pid in task.read_text().split():
            if b"greenroom.log.shipper" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
                n_killed += 1
    return n_killed


if __name__ == "__main__":
    main()
