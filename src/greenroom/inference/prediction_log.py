"""The prediction log, as the worker writes it: what was asked and answered, before the reply goes.

One frame is what one call of a model answered, so that the requests of a turn share it. A request
stands in it as it was received; what was answered stands as the model said it, whatever fields the
reply has. Where frames go is :mod:`greenroom.log.spooling`'s business.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar
from uuid import uuid4

import msgspec

from greenroom.errors import SpoolFull
from greenroom.evaluation.predictions import Predictions
from greenroom.inference.served_model import ServedModel
from greenroom.log.log_records import (
    Answers,
    Form,
    Observation,
    Observations,
    Request,
    Version,
    encode,
)
from greenroom.log.outbox import OutboxBalance
from greenroom.log.spool import Balance, Room
from greenroom.log.spooling import NOT_DESCRIBED, Spooler
from greenroom.payloads.reply import to_json
from greenroom.payloads.rows import RowSource
from greenroom.redaction import Redactions

__all__ = ["UNKNOWN", "Asked", "Asker", "Call", "PredictionLog", "WhenFull"]

WhenFull: TypeAlias = Literal["refuse", "serve"]
"""What becomes of a prediction that the log has no room for."""

_Rows = TypeVar("_Rows", bound=RowSource)

_NOTHING_REDACTED: Final = Redactions()

_to_json: Final = msgspec.json.Encoder(enc_hook=to_json).encode


class Asker(NamedTuple):
    """Who asks for a prediction, where, and in which words.

    Parameters
    ----------
    caller : str
        Whose token it is.
    route : str
        Where it was sent.
    request_id : str
        What the client calls it; empty where it does not say.
    body : bytes
        The request as it was received, where that is JSON rows; empty where it is anything else.
    """

    caller: str = ""
    route: str = ""
    request_id: str = ""
    body: bytes = b""


UNKNOWN: Final = Asker()


class Asked(NamedTuple, Generic[_Rows]):
    """A request that a model answers: its rows, when it began, who asks, and who is to be told."""

    rows: _Rows
    began_s: float
    asker: Asker
    answered: Callable[[bytes | Exception], None] = lambda _: None


class Call(NamedTuple):
    """The call of a model that answered.

    Parameters
    ----------
    number : int
        Which one of this process.
    n_rows : int
        How many rows it answered.
    first_row : int
        Where among them those begin that are noted.
    """

    number: int
    n_rows: int
    first_row: int = 0


class _Known(NamedTuple):
    """What is noted of a version once in each segment."""

    served: object
    outputs: tuple[str, ...]
    number: int
    to_mlflow: bool
    expands: bool
    redacted: Callable[[RowSource], bytes] | None
    frame: Callable[[], bytes]


class PredictionLog:
    """What notes every answer of one worker.

    Parameters
    ----------
    spooler : Spooler
        Where frames go.
    when_full : {"refuse", "serve"}
        Whether a prediction that cannot be noted is refused, or answered and counted.
    to_mlflow : collection of str
        The models whose answers are to go to MLflow too, by what they are called on the server.
    unlogged : mapping of str to callable
        Counts predictions that are not noted: those that are ``served`` all the same, and those
        that are ``refused``.
    redactions : Redactions
        What of requests is not kept.
    """

    def __init__(
        self,
        spooler: Spooler,
        *,
        when_full: WhenFull,
        to_mlflow: Collection[str],
        unlogged: Mapping[str, Callable[[float], None]],
        redactions: Redactions = _NOTHING_REDACTED,
    ) -> None:
        self._spooler: Final = spooler
        self._when_full: Final = when_full
        self._to_mlflow: Final = to_mlflow
        self._unlogged: Final = unlogged
        self._redactions: Final = redactions
        self._lock: Final = threading.Lock()
        self._process: Final = uuid4().hex[:12]
        self._versions: dict[int, _Known] = {}
        self._n_versions = 0

    @property
    def immediate(self) -> bool:
        """Whether a reply has to wait until :meth:`when_durable` says so."""
        return self._spooler.immediate

    def when_durable(self, told: Callable[[], object]) -> None:
        """Have ``told`` called, in a thread, when what was noted survives a power cut."""
        self._spooler.when_durable(told)

    def note(
        self,
        served: ServedModel,
        predictions: Predictions,
        ids: list[str],
        asked: Sequence[Asked[Any]],
        call: Call,
    ) -> bool:
        """Note what a call of a model answered; return whether it will get to MLflow, for sure.

        Parameters
        ----------
        served : ServedModel
        predictions : Predictions
            For the rows of all requests, in their order.
        ids : list of str
            For each prediction its id.
        asked : sequence of Asked
        call : Call

        Raises
        ------
        SpoolFull
            When there is no room for it, and predictions without a record are to be refused.
        """
        known = self._versions.get(id(served.deployment))
        if known is None or known.outputs != tuple(predictions.outputs):
            known = self._new(served, predictions)
        now_s, now_us = time.perf_counter(), time.time_ns() // 1_000
        requests, first = [], 0
        for rows, began_s, asker, _ in asked:
            caller, route, request_id, body = asker
            form: Form = "body"
            if known.redacted is not None:
                form, body = "redacted", known.redacted(rows)
            elif not body:
                form, body = "columns", _columns(rows)
            end = len(ids) if known.expands else first + rows.n_rows
            own = ids if len(asked) == 1 else ids[first:end]
            place, latency_us = call.first_row + first, int((now_s - began_s) * 1e6)
            requests.append(
                Request(own, place, rows.single, latency_us, caller, route, request_id, form, body)
            )
            first = end
        values = predictions.all_plain()
        record = Answers(known.number, call.number, call.n_rows, now_us, requests, values)
        try:
            self._spooler.append(encode(record), len(ids), known.number, known.frame)
        except SpoolFull:
            refused = self._when_full == "refuse"
            with self._lock:
                self._unlogged["refused" if refused else "served"](len(ids))
            if refused:
                raise
            return False
        return known.to_mlflow

    async def durable(self) -> None:
        """Return when what was noted survives a power cut, where replies have to wait for that."""
        if self.immediate:
            loop = asyncio.get_running_loop()
            durable: asyncio.Future[None] = loop.create_future()
            self.when_durable(lambda: loop.call_soon_threadsafe(durable.set_result, None))
            await durable

    def observe(self, caller: str, observations: list[Observation]) -> None:
        """Note what was really the case for predictions, of whatever version, model or worker.

        Parameters
        ----------
        caller : str
            Who says so.
        observations : list of Observation

        Raises
        ------
        SpoolFull
            When there is no room for it, whatever becomes of predictions then: feedback that is
            taken and not kept would be lost in silence.
        """
        record = Observations(time.time_ns() // 1_000, caller, observations)
        self._spooler.append(encode(record), 0, NOT_DESCRIBED, lambda: b"")

    def balance(self) -> Balance:
        """Return how many predictions were noted by all workers, and where they are."""
        return self._spooler.balance()

    def room(self) -> Room:
        """Return how much of the disk what is not shipped yet takes, and how much it may."""
        return self._spooler.room()

    def outbox_balance(self) -> OutboxBalance | None:
        """Return where the predictions for MLflow are; None where none ever were."""
        outbox = self._spooler.outbox()
        return None if outbox.empty and not self._to_mlflow else outbox.balance()

    def close(self) -> None:
        """Seal what was noted, and let others write here."""
        self._spooler.close()

    def _new(self, served: ServedModel, predictions: Predictions) -> _Known:
        """Give a version a number, under which its answers stand."""
        self._n_versions += 1
        described = _described(served, predictions)
        redaction = self._redactions.of(described.model, described.columns)
        version = msgspec.structs.replace(
            described,
            columns=redaction.columns if redaction is not None else described.columns,
            number=self._n_versions,
            process=self._process,
            to_mlflow=served.deployment.model in self._to_mlflow,
        )
        frame = encode(version)
        known = _Known(
            served.deployment,
            version.outputs,
            version.number,
            version.to_mlflow,
            served.runtime is not None and served.runtime.expands,
            redaction.body if redaction is not None else None,
            lambda: frame,
        )
        self._versions[id(served.deployment)] = known
        return known


def _described(served: ServedModel, predictions: Predictions) -> Version:
    """Return who answers; its number and its process are not known yet."""
    deployment, runtime = served.deployment, served.runtime
    serving = deployment.serving
    assert serving is not None  # noqa: S101 - it has just answered
    assert runtime is not None  # noqa: S101 - for the type checker
    return Version(
        number=0,
        model=deployment.model,
        name=deployment.name,
        version=serving.version,
        stage=serving.stage,
        run_id=serving.run_id,
        digest=serving.digest,
        engine=runtime.kind,
        n_threads=1 if runtime.kind == "compiled" else _n_threads(os.environ),
        task=runtime.task.name,
        columns=tuple(runtime.schema),
        outputs=tuple(predictions.outputs),
        classes=runtime.classes,
    )


def _n_threads(environment: Mapping[str, str]) -> int:
    """Return how many threads numpy and scikit-learn take."""
    said = environment.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdigit() else len(os.sched_getaffinity(0))


def _columns(rows: RowSource) -> bytes:
    """Write the rows of a request that was not JSON rows."""
    return _to_json(dict(rows.columns()))
