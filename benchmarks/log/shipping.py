"""What shipping a prediction takes of a processor, in this process: from a segment to a table."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.log.note import opened_log, served_version
from benchmarks.serving.versions import Version
from benchmarks.serving.wire import GREENROOM
from greenroom.inference.prediction_log import Asked, Asker, Call
from greenroom.inference.served_model import ServedModel
from greenroom.log.log_tables import LogTables
from greenroom.log.shipping import ship_all
from greenroom.log.spool import Spool
from greenroom.payloads.request import Rows
from greenroom.prediction_id import new_prediction_ids

N_ROWS = 40_000
_REPEATS = 3


def ship_us(version: Version, n_requests: int) -> float:
    """Return the processor time of shipping one prediction, in microseconds, of all threads.

    Parameters
    ----------
    version : Version
        What answered; requests hold its reference rows, each value a little different in each
        request, because a table writes values that repeat for next to nothing.
    n_requests : int
        How many requests, of a row each, a call of the model has answered.
    """
    served = served_version(version)
    took_s = []
    for repeat in range(_REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            _fill(Path(folder) / "spool", served, version, n_requests, seed=repeat)
            spool, tables = Spool(Path(folder) / "spool"), LogTables(f"{folder}/log")
            began_s = time.process_time()
            shipped = ship_all(spool, tables)
            took_s.append((time.process_time() - began_s) / shipped.n_rows)
    return min(took_s) * 1e6


def _fill(
    folder: Path, served: ServedModel, version: Version, n_requests: int, *, seed: int
) -> None:
    log = opened_log(folder)
    bodies = _bodies(version, seed)
    for number in range(N_ROWS // n_requests):
        own = list(islice(bodies, n_requests))
        rows = [served.decode(body) for body in own]
        asked = [
            Asked(one, time.perf_counter(), Asker("caller", "/predict", "", body))
            for one, body in zip(rows, own, strict=True)
        ]
        predictions = served.predict(Rows.joined(rows))
        ids = new_prediction_ids(n_requests)
        log.note(served, predictions, ids, asked, Call(number, n_requests))
    log.close()


def _bodies(version: Version, seed: int) -> Iterator[bytes]:
    rows = np.asarray(version.rows(1_000))
    rng = np.random.default_rng(seed)
    while True:
        varied = np.round(rows * rng.uniform(0.999, 1.001, rows.shape), 6).tolist()
        for row in varied:
            yield GREENROOM.body([row], version.names, True)
