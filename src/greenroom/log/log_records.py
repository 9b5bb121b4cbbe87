"""Records: what the frames of a prediction log hold.

A segment can be read by itself: before the first answer of a version stands who it is
(:class:`Version`), columns and outputs with their types included. Where frames are kept is
:mod:`greenroom.log.segments`' business; who writes them
:mod:`greenroom.inference.prediction_log`'s.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

from greenroom.schema import Column

__all__ = [
    "Answers",
    "Form",
    "Observation",
    "Observations",
    "Record",
    "Request",
    "Version",
    "read_record",
]

Form: TypeAlias = Literal["body", "columns", "redacted"]
"""How a request stands in its record: the JSON body as it was received; ``columns``: a JSON object
with a list of values for each column, for protocols that send arrays; ``redacted``: a JSON list of
rows, from which what must not be kept was taken."""


class Version(msgspec.Struct, frozen=True, array_like=True, tag="version", kw_only=True):
    """A version of a model that answers follow of, in this segment.

    Attributes
    ----------
    number : int
        What its answers call it; of no meaning outside of the segment.
    model, name : str
        What it is called on the server, and in the registry.
    version, stage, run_id, digest : str
        Which version it is, what the selector called it, its run, and the digest of its files.
    engine : str
        ``compiled`` or ``native``.
    n_threads : int
        How many threads answered.
    task : str
        The name of its task.
    columns : tuple of Column
        A row of a request.
    outputs : tuple of str
        The outputs of its answers, in their order.
    classes : tuple
        A classifier's labels.
    process : str
        Which process answered: with an answer's ``call`` it names a call of the model.
    to_mlflow : bool
        Whether the answers are to go to MLflow too.
    """

    number: int
    model: str
    name: str
    version: str
    stage: str = ""
    run_id: str = ""
    digest: str = ""
    engine: str = ""
    n_threads: int = 1
    task: str = ""
    columns: tuple[Column, ...] = ()
    outputs: tuple[str, ...] = ()
    classes: tuple[Any, ...] = ()
    process: str = ""
    to_mlflow: bool = False


class Request(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request, and which predictions answered it.

    Attributes
    ----------
    ids : list of str
        The prediction ids of its rows; of a request that expands, of the rows it stands for.
    first_row : int
        Where its rows begin among those of the call.
    single : bool
        Whether it was one row by itself, and not a list.
    latency_us : int
        From when it was read to when it was answered, in microseconds.
    caller, route, request_id : str
        Whose token it had, where it was sent, and what the client called it.
    form : {"body", "columns", "redacted"}
    body : bytes
    """

    ids: list[str]
    first_row: int
    single: bool
    latency_us: int
    caller: str
    route: str
    request_id: str
    form: Form
    body: bytes


class Answers(msgspec.Struct, frozen=True, array_like=True, tag="answers", gc=False):
    """What one call of a model answered, or the part of it that one request got.

    Attributes
    ----------
    version : int
        The :class:`Version`'s number.
    call : int
        Which call of the process it was.
    call_rows : int
        How many rows were answered in the call.
    at_us : int
        When, in microseconds since 1970.
    requests : list of Request
    outputs : list of list
        For each of the version's outputs the values of all rows of ``requests``, in their order.
    """

    version: int
    call: int
    call_rows: int
    at_us: int
    requests: list[Request]
    outputs: list[list[Any]]


class Observation(msgspec.Struct, frozen=True, array_like=True):
    """What was really the case for one prediction.

    ``observed_at_us`` is when that was seen, in microseconds since 1970; 0 where nobody said.
    """

    prediction_id: str
    actual: Any
    observed_at_us: int = 0


class Observations(msgspec.Struct, frozen=True, array_like=True, tag="observations"):
    """Feedback: what one request said about predictions."""

    at_us: int
    caller: str
    observations: list[Observation]


Record: TypeAlias = Version | Answers | Observations

_read: Final[msgspec.msgpack.Decoder[Record]] = msgspec.msgpack.Decoder(Record)
encode: Final = msgspec.msgpack.Encoder().encode
"""Return a record as the payload of a frame."""


def read_record(payload: bytes) -> Record:
    """Return the record that a frame holds.

    Raises
    ------
    msgspec.DecodeError
        When it is none.
    """
    return _read.decode(payload)


def n_rows(record: Record) -> int:
    """Return how many predictions a record holds."""
    if isinstance(record, Answers):
        return sum(len(request.ids) for request in record.requests)
    return 0
