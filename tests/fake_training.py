"""Stands in for ``greenroom train``: writes a report and does as the plan's dataset says."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from greenroom.errors import DataMissing
from greenroom.training.training_report import ReportFile, TrainedModel

options = dict(word[2:].partition("=")[::2] for word in sys.argv[1:] if word.startswith("--"))


def wait_for(name: str) -> None:
    """Wait until the test allows it, by a file in the folder of all jobs."""
    allowed = Path(options["progress-file"]).parents[1] / name
    until = time.monotonic() + 60
    while not allowed.exists() and time.monotonic() < until:
        time.sleep(0.02)


def main() -> None:
    """Train nothing, and end as the dataset's name says."""
    behaviour = options.get("dataset", "train")
    print("training begins")
    with ReportFile(Path(options["progress-file"])).kept() as file:
        file.on_progress("fitting", 0.5)
        if behaviour == "wait":
            wait_for("go")
        if behaviour == "fail":
            raise DataMissing("data/x.csv is not there", advice="put it there")
        if behaviour == "crash":
            print("out of memory", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if behaviour == "stubborn":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            time.sleep(60)
        outcome = "promoted" if behaviour == "promote" else "refused"
        file.trained(
            TrainedModel(
                model=options["model"],
                outcome=outcome,
                version="7",
                run_id="r7",
                metrics={"r2": 0.75},
                reasons=("r2 0.75, the present version's 0.8: worse by 0.05",),
            )
        )


if __name__ == "__main__":
    main()
