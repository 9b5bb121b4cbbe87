"""Replaying: a prediction is made again as it was made, and compared bit by bit.

The last bits of an answer can depend on the engine, on the number of threads, and on which rows
were answered in the same call of the model. All three are in the log, and are brought about again
here: the version's own files, its engine, its threads, and all rows of that call in their order.
Where one of them cannot be had, the answer is compared all the same, and it is said what differs.

Which version it was is :mod:`greenroom.tracing.tracing`'s to find, and having its files
:mod:`greenroom.deployment.fetching`'s.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np

from greenroom.compiler.parity import BOUND
from greenroom.deployment.fetching import fetch
from greenroom.errors import VersionCorrupt
from greenroom.evaluation.predictions import Predictions
from greenroom.inference.runtime import Runtime, load_native, load_runtime
from greenroom.payloads.request import MAX_ROWS, RequestType, column_array
from greenroom.payloads.rows import RowSource
from greenroom.protocols.array_rows import ArrayRows
from greenroom.registry.registry import Registry
from greenroom.schema import TIME_KINDS, Column, Schema
from greenroom.versions.model_store import ModelStore

__all__ = ["Compared", "Replay", "Verdict", "load_answering", "replay"]

Verdict: TypeAlias = Literal["same_bits", "within_bound", "beyond_bound", "not_replayed"]
"""``same_bits``: the answer is the same to the last bit; ``within_bound``: it is another, by no
more than two runtimes may differ in (:data:`greenroom.compiler.parity.BOUND`); ``beyond_bound``: by
more;
``not_replayed``: the request is not there as it was sent."""


class Compared(msgspec.Struct, frozen=True):
    """One output of the answer, then and now.

    ``difference`` is absolute for probabilities, relative to the larger magnitude for other
    numbers; None where both are not numbers and are not equal.
    """

    recorded: Any
    replayed: Any
    same_bits: bool
    difference: float | None = 0.0


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What came of predicting again.

    Parameters
    ----------
    verdict : Verdict
    outputs : dict of str to Compared
    largest_difference : float, optional
        None where nothing was compared, or labels differ.
    bound : float
        What a difference is held against.
    engine : str
        What answered now.
    n_threads : int
        With how many threads.
    n_rows : int
        How many rows it was asked for in one call.
    reproduced : bool
        Whether the engine and the rows of the call were as recorded.
    reasons : tuple of str
        What was not, or why nothing was replayed.
    """

    verdict: Verdict
    outputs: dict[str, Compared] = {}
    largest_difference: float | None = None
    bound: float = BOUND
    engine: str = ""
    n_threads: int = 0
    n_rows: int = 0
    reproduced: bool = False
    reasons: tuple[str, ...] = ()


class _Question(NamedTuple):
    """What is asked again, where the sought answer stands in it, and what is not as it was."""

    rows: RowSource
    place: int
    problem: str = ""


def load_answering(
    registry: Registry, store: ModelStore, name: str, row: Mapping[str, Any]
) -> Runtime:
    """Load the version that answered, by the engine that did where that is to be had.

    Its files are read again in the model store; where they are not there any more, they are
    fetched into it.

    Parameters
    ----------
    registry : Registry
    store : ModelStore
    name : str
        The registered model.
    row : mapping of str to object
        The prediction, as the log has it.

    Raises
    ------
    VersionCorrupt
        When the version has other files now than those that answered, or they are harmed.
    VersionUnloadable
        When they do not load here.
    RegistryError
        When they cannot be had.
    """
    digest = row["digest"] or ""
    if not store.path(digest).is_dir():
        found = fetch(registry, store, registry.version(name, row["version"]))
        if found != digest:
            raise VersionCorrupt(
                f"version {row['version']} of {name} has other files now than those that answered",
                advice="see whether its artifacts were changed, or the registry was set up anew",
            )
    directory = store.verify(digest)
    if row["engine"] == "native":
        return load_native(directory)
    return load_runtime(directory, compiled=store.compiled.verify(digest))


def replay(row: Mapping[str, Any], call: Sequence[Mapping[str, Any]], runtime: Runtime) -> Replay:
    """Predict again.

    Parameters
    ----------
    row : mapping of str to object
        The prediction, as the log has it.
    call : sequence of mapping
        What the log has of the call of the model that answered it, in order; ``row`` is among it.
    runtime : Runtime
        The version that answered.
    """
    question = _question(row, call, runtime)
    if isinstance(question, str):
        return Replay(verdict="not_replayed", reasons=(question,))
    predictions = _predicted(runtime, question.rows, row["n_threads"])
    if question.place >= len(predictions):
        text = f"the version answers {len(predictions)} rows now, and had answered more"
        return Replay(verdict="beyond_bound", engine=runtime.kind, reasons=(text,))
    reasons = [question.problem] if question.problem else []
    if runtime.kind != row["engine"]:
        reasons.append(f"the {row['engine']} runtime answered, and there is only {runtime.kind}")
    probabilities = runtime.task.name == "classification"
    outputs = {
        name: compare(row[name], _value(values[question.place]), absolute=probabilities)
        for name, values in predictions.outputs.items()
        if row.get(name) is not None
    }
    verdict, largest = _verdict(outputs)
    return Replay(
        verdict=verdict,
        outputs=outputs,
        largest_difference=largest,
        engine=runtime.kind,
        n_threads=row["n_threads"],
        n_rows=question.rows.n_rows,
        reproduced=not reasons,
        reasons=tuple(reasons),
    )


def compare(recorded: Any, replayed: Any, *, absolute: bool) -> Compared:
    """Compare one output of two answers.

    Examples
    --------
    >>> compare(0.5, 0.5, absolute=True).same_bits
    True
    >>> compare([1.0, 2.0], [1.0, 3.0], absolute=True).difference
    1.0
    """
    if isinstance(recorded, list) and isinstance(replayed, list) and len(recorded) == len(replayed):
        parts = [
            compare(one, other, absolute=absolute)
            for one, other in zip(recorded, replayed, strict=True)
        ]
        known = [part.difference for part in parts if part.difference is not None]
        largest = max(known, default=0.0) if len(known) == len(parts) else None
        return Compared(recorded, replayed, all(part.same_bits for part in parts), largest)
    if isinstance(recorded, str) and not isinstance(replayed, str):
        replayed = str(replayed)  # labels of several types stand in one column as text
    if isinstance(recorded, float) and isinstance(replayed, int | float):
        replayed = float(replayed)
        return _compare_numbers(recorded, replayed, absolute=absolute)
    same = bool(recorded == replayed)
    return Compared(recorded, replayed, same, 0.0 if same else None)


def _compare_numbers(recorded: float, replayed: float, *, absolute: bool) -> Compared:
    if math.isnan(recorded) or math.isnan(replayed):
        same = math.isnan(recorded) and math.isnan(replayed)
        return Compared(recorded, replayed, same, 0.0 if same else None)
    same = struct.pack("<d", recorded) == struct.pack("<d", replayed)
    difference = 0.0 if recorded == replayed else abs(recorded - replayed)
    size = max(abs(recorded), abs(replayed))
    if not absolute and 0 < size < math.inf:
        difference /= size
    return Compared(recorded, replayed, same, difference)


def _verdict(outputs: Mapping[str, Compared]) -> tuple[Verdict, float | None]:
    differences = [one.difference for one in outputs.values()]
    if any(difference is None for difference in differences):
        return "beyond_bound", None
    largest = max((one for one in differences if one is not None), default=0.0)
    if all(one.same_bits for one in outputs.values()):
        return "same_bits", largest
    return ("within_bound" if largest <= BOUND else "beyond_bound"), largest


def _question(
    row: Mapping[str, Any], call: Sequence[Mapping[str, Any]], runtime: Runtime
) -> _Question | str:
    """Put the rows of the call together; else those of the request alone; else say why not."""
    reader = RequestType.compile(runtime.schema)
    requests = {
        key: _rows(list(rows), reader)
        for key, rows in groupby(call, key=lambda one: one["request_key"])
    }
    own = requests.get(row["request_key"])
    if own is None:
        return f"the request of the prediction is not in the log as it was sent: {_why(row)}"
    found = [rows for rows in requests.values() if rows is not None]
    n_rows = sum(rows.n_rows for rows in found)
    place = row["request_row"]
    if n_rows == row["call_rows"] and len(found) == len(requests):
        place += 0 if runtime.expands else row["call_row"]
        return _Question(found[0] if len(found) == 1 else _joined(runtime.schema, found), place)
    problem = f"{own.n_rows} of the {row['call_rows']} rows of its call were asked again: " + (
        "other requests of it stand there without what must not be kept"
        if len(found) < len(requests)
        else "the log has no more of them"
    )
    return _Question(own, place, problem)


def _why(row: Mapping[str, Any]) -> str:
    if row["request_form"] == "redacted":
        return "it stands there redacted"
    return "its first row, which has it, was removed"


def _rows(rows: Sequence[Mapping[str, Any]], reader: RequestType) -> RowSource | None:
    """Read a request as the log has it; None where that is not as it was sent."""
    first = rows[0]
    body = first["request_body"]
    if first["request_form"] == "redacted" or first["request_row"] != 0 or not body:
        return None
    if first["request_form"] == "body":
        return reader.decode(body.encode(), max_rows=MAX_ROWS)
    values = msgspec.json.decode(body)
    schema = reader.schema
    return ArrayRows(schema, [_array(column, values[column.name]) for column in schema])


def _array(column: Column, values: Sequence[Any]) -> Any:
    """Return a column's values as the array that they were written from."""
    if column.kind == "records":
        cells = np.empty(len(values), dtype=object)
        for place, rows in enumerate(values):
            inner = {one.name: _array(one, rows[one.name]) for one in column.columns if rows}
            cells[place] = None if rows is None else inner
        return cells
    if column.kind not in TIME_KINDS:
        return column_array(column.kind, values)
    instants = [None if value is None else np.datetime64(value, "us") for value in values]
    return np.array(instants, dtype="datetime64[us]")


def _joined(schema: Schema, requests: Sequence[RowSource]) -> RowSource:
    """Put requests together, as columns: those of one call may have come in different forms."""
    columns = [rows.columns() for rows in requests]
    arrays = [np.concatenate([own[column.name] for own in columns]) for column in schema]
    return ArrayRows(schema, arrays)


def _predicted(runtime: Runtime, rows: RowSource, n_threads: int) -> Predictions:
    """Predict with as many threads as answered; a graph has one always."""
    from threadpoolctl import threadpool_limits

    runtime.warm()
    with threadpool_limits(limits=n_threads):
        return _answer(runtime, rows)


def _answer(runtime: Runtime, rows: RowSource) -> Predictions:
    if runtime.accepts_matrix:
        return runtime.predict_matrix(rows.matrix())
    return runtime.predict(rows.columns())


def _value(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
