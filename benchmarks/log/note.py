"""How long it takes to note what a call of a model has answered, in this process."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.serving.answers import Questions
from benchmarks.serving.versions import Version
from benchmarks.serving.wire import GREENROOM
from greenroom.inference.generation import Deployment
from greenroom.inference.prediction_log import Asked, Asker, Call, PredictionLog
from greenroom.inference.proving import proved
from greenroom.inference.runtime import load_runtime
from greenroom.inference.served_model import ServedModel
from greenroom.log.spool import Spool
from greenroom.log.spooling import Spooler
from greenroom.payloads.request import Rows
from greenroom.prediction_id import new_prediction_ids
from greenroom.status import VersionStatus

_CALLS = 100
_REPEATS = 7


def note_us(version: Version, n_requests: int) -> float:
    """Return the time of one note, in microseconds.

    Parameters
    ----------
    version : Version
        What answers; loaded here as a worker does.
    n_requests : int
        How many requests, of a row each, the call has answered.
    """
    served = _served(version)
    bodies = [one.body for one in Questions.build(GREENROOM, version).single][:n_requests]
    rows = [served.decode(body) for body in bodies]
    predictions = served.predict(Rows.joined(rows))
    began_s = time.perf_counter()
    asked = [
        Asked(one, began_s, Asker("caller", "/predict", "", body))
        for one, body in zip(rows, bodies, strict=True)
    ]
    ids = new_prediction_ids(len(predictions))
    call = Call(1, len(rows))
    took_s = []
    with tempfile.TemporaryDirectory() as folder:
        log = _log(Path(folder))
        for _ in range(_REPEATS):
            began_s = time.perf_counter()
            for _ in range(_CALLS):
                log.note(served, predictions, ids, asked, call)
            took_s.append((time.perf_counter() - began_s) / _CALLS)
        log.close()
    # The fastest, because whatever else the machine does can only make it slower.
    return min(took_s) * 1e6


def _served(version: Version) -> ServedModel:
    deployment = Deployment(
        model=version.model,
        name=version.model,
        selector="Production",
        route="/predict",
        serving=VersionStatus(version="1", stage="Production", digest=version.directory.name),
        directory=str(version.directory),
    )
    return proved(deployment, None, load_runtime)


def _log(folder: Path) -> PredictionLog:
    spooler = Spooler(Spool(folder), fsync_s=0.1, seal_s=60.0, max_bytes=2**30)
    unlogged = {"served": lambda _: None, "refused": lambda _: None}
    return PredictionLog(spooler, when_full="refuse", to_mlflow=(), unlogged=unlogged)
