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

_WARM_UP_ROWS = 24_000
"""A few segments: how much of one is made ready goes by the one before."""

_CALLS = 50
_REPEATS = 100
_PAUSE_S = 0.01
"""Calls come a little faster than a worker's do: the spool's thread has to keep up."""


def note_us(version: Version, n_requests: int) -> float:
    """Return the processor time of one note in the thread that answers, in microseconds.

    Parameters
    ----------
    version : Version
        What answers; loaded here as a worker does.
    n_requests : int
        How many requests, of a row each, the call has answered.
    """
    served = served_version(version)
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
    with tempfile.TemporaryDirectory() as folder:
        log = opened_log(Path(folder))
        for _ in range(_WARM_UP_ROWS // n_requests):
            log.note(served, predictions, ids, asked, call)
        took_s = 0.0
        for _ in range(_REPEATS):
            time.sleep(_PAUSE_S)
            began_s = time.thread_time()
            for _ in range(_CALLS):
                log.note(served, predictions, ids, asked, call)
            took_s += time.thread_time() - began_s
        log.close()
    return took_s / (_CALLS * _REPEATS) * 1e6


def served_version(version: Version) -> ServedModel:
    """Load a version as a worker does."""
    deployment = Deployment(
        model=version.model,
        name=version.model,
        selector="Production",
        route="/predict",
        serving=VersionStatus(version="1", stage="Production", digest=version.directory.name),
        directory=str(version.directory),
    )
    return proved(deployment, None, load_runtime)


def opened_log(folder: Path) -> PredictionLog:
    """Open a prediction log in a spool of its own."""
    spooler = Spooler(Spool(folder), fsync_s=0.1, seal_s=60.0, max_bytes=2**30)
    unlogged = {"served": lambda _: None, "refused": lambda _: None}
    return PredictionLog(spooler, when_full="refuse", to_mlflow=(), unlogged=unlogged)
