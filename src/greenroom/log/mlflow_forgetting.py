"""Forgetting what is for MLflow: rows in segments that wait, and in the files of batches there.

Rows are looked for as :mod:`greenroom.log.forgetting` does, and not by what it has found: the
tables may have been rid of them before, by their age or by a run of the command that did not get
this far. Figures stay: those of a prediction are numbers with a time, which name nobody.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet

from greenroom.errors import NotInRegistry, RegistryError, RegistryUnavailable
from greenroom.log.forgetting import FORGOTTEN_FORM, Sought, find_rows
from greenroom.log.log_records import Answers, Request, Version, encode, read_record
from greenroom.log.log_rows import column_names, prediction_rows
from greenroom.log.outbox import Outbox
from greenroom.log.segments import Segment, replace_frames
from greenroom.registry.artifacts import download_file, list_files, upload_file
from greenroom.registry.mlflow_rest import MlflowRest

__all__ = ["InMlflow", "forget_batches", "forget_waiting"]

BATCHES: Final = "predictions"
"""The folder of a run that holds its batches."""

_FIGURE: Final = "batch/predictions"
"""What every run with batches has; one that has none may have no place for files."""

_PAGE: Final = 1_000


class InMlflow(NamedTuple):
    """What was deleted in MLflow, or would be.

    Attributes
    ----------
    n_rows : int
        Predictions in the files of batches.
    held : tuple of str
        The runs whose files could not be read or replaced, each with the reason.
    """

    n_rows: int = 0
    held: tuple[str, ...] = ()


def forget_waiting(
    outbox: Outbox, model: str, sought: Sought, known: set[str], *, dry_run: bool = False
) -> int:
    """Delete the inputs of sought rows from the segments that wait; return how many rows.

    Their places stay, without an id, so that what is being sent keeps its steps.

    Parameters
    ----------
    outbox : Outbox
        Nobody else may be sending it (:meth:`Outbox.alone`).
    model : str
        The registered name.
    sought : Condition or Subject
    known : set of str
        Columns that the model's tables have.
    dry_run : bool
        Count alone.

    Raises
    ------
    LogError
        When the condition cannot be read.
    OSError, SpoolCorrupt
        When a segment cannot be read or written.
    """
    total = 0
    for item in outbox.items():
        records = [read_record(payload) for payload in Segment(item.path).frames()]
        versions = {one.number: one for one in records if isinstance(one, Version)}
        ours = [
            one
            for one in records
            if isinstance(one, Answers) and versions[one.version].name == model
        ]
        ids: set[str] = set()
        for number in dict.fromkeys(one.version for one in ours):
            of = [one for one in ours if one.version == number]
            rows = prediction_rows(versions[number], of)
            ids |= set(_found(rows, sought, known).ids) - {""}
        total += len(ids)
        if ids and not dry_run:
            kept = [
                _without(one, versions[one.version], ids) if isinstance(one, Answers) else one
                for one in records
            ]
            replace_frames(item.path, map(encode, kept))
    return total


def forget_batches(
    rest: MlflowRest, model: str, sought: Sought, known: set[str], *, dry_run: bool = False
) -> InMlflow:
    """Delete sought rows from the batches of a model in MLflow, whichever server has sent them.

    A file is replaced by one without these rows.

    Raises
    ------
    LogError
        When the condition cannot be read.
    RegistryError
        When MLflow is away, or does not say which runs there are.
    """
    total, held = 0, []
    for run in _runs(rest, model):
        name, run_id, uri = (str(run[part]) for part in ("run_name", "run_id", "artifact_uri"))
        try:
            total += _forget_in(rest, uri, sought, known, dry_run=dry_run)
        except RegistryUnavailable:
            raise
        except RegistryError as error:
            held.append(f"{name} ({run_id}): {error.message}")
    return InMlflow(total, tuple(held))


def _forget_in(
    rest: MlflowRest, uri: str, sought: Sought, known: set[str], *, dry_run: bool
) -> int:
    total = 0
    for path in (file.path for file in list_files(rest, uri, BATCHES)):
        if not path.endswith(".parquet"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                file = download_file(rest, uri, path, Path(folder))
            except NotInRegistry:
                continue  # somebody has deleted it meanwhile
            rows = parquet.read_table(file)
        found = _found(rows, sought, known)
        total += len(found.ids)
        if found.ids and not dry_run:
            content = io.BytesIO()
            parquet.write_table(_rest_of(rows, found.ids, found.keys), content)
            upload_file(rest, uri, path, content.getvalue())
    return total


def _runs(rest: MlflowRest, model: str) -> Iterator[dict[str, Any]]:
    """Return the runs with batches of a model, in any experiment, deleted ones too."""
    body = {"view_type": "ALL", "max_results": _PAGE}
    experiments = [
        str(one["experiment_id"]) for one in _pages(rest, "experiments/search", "experiments", body)
    ]
    wanted = {
        "filter": f"tags.`greenroom.registered_model` = '{model}'",
        "run_view_type": "ALL",
        "max_results": _PAGE,
    }
    for start in range(0, len(experiments), _PAGE):
        some = {"experiment_ids": experiments[start : start + _PAGE], **wanted}
        for run in _pages(rest, "runs/search", "runs", some):
            if any(one["key"] == _FIGURE for one in run["data"].get("metrics", [])):
                yield run["info"]


def _pages(rest: MlflowRest, endpoint: str, of: str, body: dict[str, Any]) -> Iterator[Any]:
    token = ""
    while True:
        answer = rest.post(endpoint, {**body, "page_token": token} if token else body)
        yield from answer.get(of, [])
        token = answer.get("next_page_token", "")
        if not token:
            return


def _found(rows: pa.Table, sought: Sought, known: set[str]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return find_rows(rows, sought, known, Path(folder))


def _rest_of(rows: pa.Table, ids: Collection[str], keys: Collection[str]) -> pa.Table:
    """Return the other rows, without the bodies of requests that the deleted ones were part of."""
    left = rows.filter(pc.invert(pc.is_in(rows["prediction_id"], pa.array(list(ids), pa.string()))))
    shared = pc.is_in(left["request_key"], pa.array(list(keys), pa.string()))
    for name, instead in (("request_body", None), ("request_form", FORGOTTEN_FORM)):
        place = left.schema.get_field_index(name)
        kind = left.schema.field(name).type
        values = pc.if_else(shared, pa.scalar(instead, kind), left[name])
        left = left.set_column(place, left.schema.field(name), values)
    return left


def _without(answers: Answers, version: Version, ids: Collection[str]) -> Answers:
    requests = [
        _request_without(one, answers, version, ids) if set(one.ids) & set(ids) else one
        for one in answers.requests
    ]
    return msgspec.structs.replace(answers, requests=requests)


def _request_without(
    request: Request, answers: Answers, version: Version, ids: Collection[str]
) -> Request:
    """Return a request with the rows that stay, each by itself; the others keep their place."""
    start = 0
    for one in answers.requests:
        if one is request:
            break
        start += len(one.ids)
    outputs = [values[start : start + len(request.ids)] for values in answers.outputs]
    alone = msgspec.structs.replace(answers, requests=[request], outputs=outputs)
    rows = prediction_rows(version, [alone]).to_pylist()
    names = column_names([column.name for column in version.columns], version.outputs)
    kept = [
        {}
        if row["prediction_id"] in ids
        else {
            column.request_name: _sent(column.kind, row[names[column.name]])
            for column in version.columns
        }
        for row in rows
    ]
    left = ["" if one in ids else one for one in request.ids]
    body = msgspec.json.encode(kept)
    return msgspec.structs.replace(request, ids=left, form="redacted", body=body)


def _sent(kind: str, value: Any) -> Any:
    """Return a cell as a request has it; dates are written as ISO 8601 with the JSON."""
    return msgspec.json.decode(value) if kind == "records" and value is not None else value
