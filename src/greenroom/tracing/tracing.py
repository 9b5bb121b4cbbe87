"""Tracing: from a prediction's id to what was asked, what answered, and why that was selected.

The log says what was asked and answered, and by which version; the version says which data and code
it was made of (:mod:`greenroom.tracing.lineage`); the registry's history says who selected it, and
on what evidence. Where one of them is away the others are told all the same, and the note says what
is missing. Predicting again is :mod:`greenroom.tracing.replaying`'s business.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from greenroom.errors import LogError, NotInRegistry, RegistryError
from greenroom.log.log_reading import PredictionLogReader, id_instant
from greenroom.log.log_rows import COMMON, column_names
from greenroom.promotion.history import Record, read_records
from greenroom.registry.registry import Registry
from greenroom.task import TASKS
from greenroom.tracing.lineage import Lineage
from greenroom.versions.manifest import Manifest

__all__ = ["OUTPUTS", "Found", "NoSuchPrediction", "Tracer", "task_of_outputs"]

OUTPUTS: Final = frozenset(output.name for task in TASKS.values() for output in task.outputs)
"""What a column of a log's table that is none of :data:`COMMON` may be, if it is not an input."""


class NoSuchPrediction(LogError):
    """The log has no prediction of an id."""


@dataclass(frozen=True)
class Found:
    """A prediction in the log.

    Parameters
    ----------
    model : str
        The registered model.
    row : dict
        As the log's table has it.
    manifest : Manifest or None
        What the version says of itself.
    notes : tuple of str
        What could not be found, and why.
    """

    model: str
    row: dict[str, Any]
    manifest: Manifest | None
    notes: tuple[str, ...]


class Tracer:
    """What traces predictions of one server.

    Parameters
    ----------
    reader : PredictionLogReader
    registry : Registry
    lineage : Lineage
    """

    def __init__(self, reader: PredictionLogReader, registry: Registry, lineage: Lineage) -> None:
        self.reader: Final = reader
        self._registry: Final = registry
        self._lineage: Final = lineage

    def find(self, prediction_id: str, models: Sequence[str]) -> Found:
        """Find a prediction.

        Parameters
        ----------
        prediction_id : str
        models : sequence of str
            The registered models among whose predictions it is looked for.

        Raises
        ------
        NoSuchPrediction
            When the log has none of that id.
        LogError
            When the log cannot be read.
        """
        sought = prediction_id.strip().lower()
        if id_instant(sought) is None:
            raise NoSuchPrediction(
                "that is not the id of a prediction", advice="an id is a UUID of version 7"
            )
        found = self.reader.find(sought, models)
        if found is None:
            raise NoSuchPrediction(
                f"the log has no prediction {sought} of {', '.join(models) or 'any model'}",
                advice="was it answered with log on, by this server's home and log_uri?",
            )
        model, row = found
        origin = self._lineage.origin(model, row["version"], row["digest"] or "")
        notes = (origin.problem,) if origin.problem else ()
        return Found(model, row, origin.manifest, notes)

    def trace(self, found: Found) -> dict[str, Any]:
        """Return all that is known of a prediction, as JSON can hold it.

        Raises
        ------
        LogError
            When the log cannot be read.
        """
        row, manifest = found.row, found.manifest
        selection, problem = self._selection(found)
        notes = [*found.notes, *([problem] if problem else []), *_redacted(row)]
        outputs = {name: row[name] for name in answer_columns(row, manifest)}
        observed = self.reader.observed(row["prediction_id"])
        document = {
            "prediction_id": row["prediction_id"],
            "answered_at": row["answered_at"],
            "answer": outputs,
            "request": {
                "columns": {name: row.get(name) for name in request_columns(row, manifest)},
                **{name: row[name] for name in ("route", "caller", "request_id", "latency_ms")},
                "form": row["request_form"],
                "row": row["request_row"],
                "first_prediction_id": row["request_key"],
            },
            "model": {
                "name": found.model,
                **{name: row[name] for name in ("version", "stage", "run_id", "digest")},
                **_made_of(manifest),
            },
            "call": {
                name: row[name]
                for name in ("engine", "n_threads", "process", "call", "call_rows", "call_row")
            },
            "selection": None if selection is None else msgspec.to_builtins(selection),
            "feedback": [
                {
                    "actual": msgspec.json.decode(one["actual"]),
                    **{name: one[name] for name in ("observed_at", "received_at", "caller")},
                }
                for one in observed
            ],
            "notes": notes,
        }
        plain: dict[str, Any] = msgspec.to_builtins(_in_utc(document))
        return plain

    def _selection(self, found: Found) -> tuple[Record | None, str]:
        """Return what made the version the one that answers; without it, why it is not known."""
        row = found.row
        try:
            model = self._registry.registered_model(found.model)
        except NotInRegistry:
            return None, f"{found.model} is not in the registry any more"
        except RegistryError as error:
            return None, f"who selected the version is not known: {error}"
        records = [
            record
            for record in read_records(model.tags)
            if record.moved and record.to_version == row["version"]
            if not record.at or dt.datetime.fromisoformat(record.at) <= row["answered_at"]
        ]
        ours = [record for record in records if record.selector == row["stage"]]
        if not records:
            return None, "the version was selected outside of Greenroom: the history has no record"
        return (ours or records)[-1], ""


def answer_columns(row: Mapping[str, Any], manifest: Manifest | None) -> list[str]:
    """Return which columns of a row are what the model has answered."""
    task = TASKS.get(manifest.task) if manifest is not None else None
    known = OUTPUTS if task is None else {output.name for output in task.outputs}
    return [name for name in row if name in known and row[name] is not None]


def request_columns(row: Mapping[str, Any], manifest: Manifest | None) -> list[str]:
    """Return which columns of a row are what was asked.

    Other versions may have had others, which stand in the same table.
    """
    outputs = answer_columns(row, manifest)
    if manifest is None:
        apart = {*COMMON.names, *outputs}
        return [name for name in row if name not in apart and row[name] is not None]
    columns = [column.name for column in manifest.request_schema]
    return [name for name in column_names(columns, outputs).values() if name in row]


def task_of_outputs(names: Sequence[str]) -> str:
    """Return which task a version has that does not say so, by what it has answered.

    Examples
    --------
    >>> task_of_outputs(["prediction", "probability"]), task_of_outputs(["prediction"])
    ('classification', 'regression')
    """
    if "probability" in names or "probabilities" in names:
        return "classification"
    if "lower" in names and "upper" in names:
        return "forecast"
    return "regression"


def _made_of(manifest: Manifest | None) -> dict[str, Any]:
    if manifest is None:
        return {"data": None, "code": None}
    data, code = manifest.data, manifest.code
    return {
        "data": {
            "name": data.name,
            "content_hash": data.content_hash,
            "dataset_hash": data.dataset_hash,
            "n_rows": data.n_rows,
        },
        "code": {
            "git_commit": code.git_commit,
            "git_dirty": code.git_dirty,
            "code_hash": code.code_hash,
        },
        "metrics": dict(manifest.metrics),
    }


def _redacted(row: Mapping[str, Any]) -> Iterator[str]:
    if row["request_form"] == "redacted":
        yield "the request stands there without what must not be kept: it cannot be sent again"


def _in_utc(node: Any) -> Any:
    """Write instants as ISO 8601 with a Z, whatever library read them."""
    if isinstance(node, dict):
        return {name: _in_utc(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_in_utc(value) for value in node]
    if isinstance(node, dt.datetime):
        return node.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    return node
