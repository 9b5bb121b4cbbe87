"""Forgetting: the rows of a person go from the log's tables, and from the disk.

Rows are looked for by a condition in SQL or by a column's value, in every table that a model has
had, and deleted by their ids: what was looked for is in no table's own log. Feedback on them goes
too, and so do the bodies of requests that they were part of. Then files that no table has any more
are removed, at once, which readers of an older state of a table will notice.

What waits in the spool has to be shipped before; :mod:`greenroom.log.settling` sees to that.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import DeltaError

from greenroom.errors import LogError, LogUnavailable
from greenroom.log.log_rows import column_names
from greenroom.log.log_tables import LogTables, first_line, table_schema
from greenroom.redaction import HashKey, hashes

__all__ = [
    "Condition",
    "Forgotten",
    "Found",
    "NotHeld",
    "Sought",
    "Subject",
    "find_rows",
    "forget",
    "known_columns",
]

_CHUNK: Final = 1_000
"""How many ids stand in one condition."""

_SHARED_RETENTION_H: Final = 1
"""In a store that others write to, files without a commit may be those of a write under way."""

_UNKNOWN: Final = re.compile(r'No field named "?(?:\w+\.)?"?([^".\s]+)"?')
FORGOTTEN_FORM: Final = "forgotten"


class NotHeld(LogError):
    """No table of a model has a column of that name, or none that could hold the value."""


class _Unlike(NotHeld):
    """A value is none that a column of this type could hold."""


class Condition(NamedTuple):
    """Rows for which a condition in SQL holds, in the words of DataFusion."""

    sql: str


class Subject(NamedTuple):
    """Rows whose ``column`` has a value, as it was sent; where it is hashed, its hash.

    ``key`` is the key of the hashes, empty where there is none.
    """

    column: str
    value: str
    key: HashKey = b""


class Forgotten(NamedTuple):
    """How much was deleted, or would be.

    Attributes
    ----------
    n_rows : int
        Predictions.
    n_bodies : int
        Bodies of requests with several rows, of which one was of these.
    n_observations : int
        Rows of feedback.
    """

    n_rows: int = 0
    n_bodies: int = 0
    n_observations: int = 0


class Found(NamedTuple):
    """Rows that are sought, and the requests that they are part of.

    Attributes
    ----------
    ids, keys : list of str
        The predictions' ids, and for each that of its request's first one.
    days : list of date
    """

    ids: list[str]
    keys: list[str]
    days: list[dt.date]


_NONE: Final = Found([], [], [])
Sought: TypeAlias = Condition | Subject


def forget(tables: LogTables, model: str, sought: Sought, *, dry_run: bool = False) -> Forgotten:
    """Delete the rows of a model that are sought, and all that was kept because of them.

    May be repeated: what a run that was ended has left over is found by the next one.

    Parameters
    ----------
    tables : LogTables
        Nobody else may be changing them (:meth:`LogTables.changing`).
    model : str
        The registered name.
    sought : Condition or Subject
    dry_run : bool
        Count alone.

    Raises
    ------
    NotHeld
        When no table has a column that is named, or none that could hold the value.
    LogError
        When the condition cannot be read.
    LogUnavailable
        When the tables cannot be read or written.
    """
    uris = tables.predictions(model)
    if not uris:
        raise LogError(f"the log has no table of {model!r}", advice="`greenroom log` reads it")
    known = known_columns(tables, model)
    feedback = tables.feedback()
    try:
        found = _find_all(tables, uris, sought, known)
        ids = [one for each in found.values() for one in each.ids]
        # The rows last: without them nobody would know what else is to go.
        n_bodies = sum(_forget_bodies(tables, uri, found[uri], dry_run=dry_run) for uri in uris)
        n_seen = sum(_forget_feedback(tables, uri, ids, dry_run=dry_run) for uri in feedback)
        if not dry_run:
            for uri in uris:
                for some in _chunks(found[uri].ids):
                    tables.open(uri).delete(_among(some, found[uri].days))
            for uri in (*uris, *feedback):
                _clean(tables, uri)
    except (DeltaError, OSError) as error:
        raise LogUnavailable(
            f"rows of {model!r} cannot be deleted: {first_line(error)}", advice="call it again"
        ) from error
    return Forgotten(len(ids), n_bodies, n_seen)


def known_columns(tables: LogTables, model: str) -> set[str]:
    """Return the columns that a model's tables have had."""
    uris = tables.predictions(model)
    return {name for uri in uris for name in table_schema(tables.open(uri)).names}


def find_rows(rows: pa.Table, sought: Sought, known: set[str], folder: Path) -> Found:
    """Find rows that are in no table of the log, as :func:`forget` finds those that are.

    Parameters
    ----------
    rows : pyarrow.Table
        With the columns of the log's tables.
    sought : Condition or Subject
    known : set of str
        Further columns, which are empty here.
    folder : Path
        Where a table may be made of them, for as long as its caller keeps it.

    Raises
    ------
    LogError
        When a column is named that is not known, or the condition cannot be read.
    """
    write_deltalake(folder, rows)
    try:
        return _find(DeltaTable(folder), sought, known | set(rows.schema.names))
    except _Unlike:
        return _NONE


def _find_all(
    tables: LogTables, uris: Sequence[str], sought: Sought, known: set[str]
) -> dict[str, Found]:
    """Find rows in each table; where a column's type has changed, not all can hold the value."""
    found: dict[str, Found] = {}
    unlike: list[_Unlike] = []
    for uri in uris:
        try:
            found[uri] = _find(tables.open(uri), sought, known)
        except _Unlike as error:
            found[uri] = _NONE
            unlike.append(error)
    if len(unlike) == len(uris):
        raise unlike[-1]
    return found


def _find(table: DeltaTable, sought: Sought, known: set[str]) -> Found:
    schema = table_schema(table)
    where = sought.sql if isinstance(sought, Condition) else _equals(schema, sought, known)
    # A column that the model's other tables have is empty here.
    absent = [f'NULL AS "{name}"' for name in sorted(known - set(schema.names))]
    query = (
        "SELECT prediction_id, request_key, day "  # noqa: S608 - its reader may delete all rows
        f"FROM (SELECT {', '.join(['*', *absent])} FROM log) WHERE ({where})"
    )
    try:
        rows: Any = pa.table(QueryBuilder().register("log", table).execute(query).read_all())
    except DeltaError as error:
        raise _unreadable(error, known) from error
    return Found(*(rows[name].to_pylist() for name in ("prediction_id", "request_key", "day")))


def _unreadable(error: DeltaError, known: set[str]) -> LogError:
    unknown = _UNKNOWN.search(str(error))
    if unknown:
        return NotHeld(
            f"the log has no column {unknown[1]!r}, only {', '.join(sorted(known))}",
            advice="names with capital letters stand in double quotes",
        )
    # What a library says of a condition may repeat it, and it holds a person's value.
    return LogError(
        "the condition of --where cannot be read",
        advice="""write SQL such as: customer_id = 'x' AND age > 30""",
    )


def _equals(schema: pa.Schema, subject: Subject, known: set[str]) -> str:
    """Return the condition under which a column has a value, in its own type."""
    name = next(
        (
            one
            for one in (subject.column, column_names([subject.column], ())[subject.column])
            if one in known
        ),
        None,
    )
    if name is None:
        raise NotHeld(
            f"the log has no column {subject.column!r}, only {', '.join(sorted(known))}",
            advice="columns that are left out of the log are not to be looked for",
        )
    if name not in schema.names:
        return "FALSE"
    return f'"{name}" IN ({", ".join(_literals(schema.field(name).type, subject))})'


def _literals(kind: Any, subject: Subject) -> Iterator[str]:
    """Return how the value may stand in a column of this type, as SQL."""
    text = subject.value
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        yield _quoted(text)
        if subject.key:
            yield from (_quoted(one) for one in hashes(subject.key, text))
    elif pa.types.is_boolean(kind):
        if text.lower() not in _TRUTH:
            raise _unlike(subject, "true or false")
        yield _TRUTH[text.lower()]
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        yield _number(subject, whole=pa.types.is_integer(kind))
    else:
        yield _moment(subject, kind)


def _number(subject: Subject, *, whole: bool) -> str:
    try:
        value = float(subject.value)
        if math.isfinite(value) and not whole:
            return repr(value)
        if value.is_integer():
            # Clients may write 42.0; digits beyond those of a float stay as they are.
            return str(int(subject.value) if subject.value.strip("+-").isdecimal() else int(value))
    except ValueError:
        pass
    raise _unlike(subject, "whole numbers" if whole else "numbers")


def _moment(subject: Subject, kind: Any) -> str:
    try:
        found = dt.datetime.fromisoformat(subject.value)
    except ValueError as error:
        raise _unlike(subject, "days" if pa.types.is_date(kind) else "times") from error
    if pa.types.is_date(kind):
        return f"DATE '{found.date()}'"
    found = found if found.tzinfo else found.replace(tzinfo=dt.UTC)
    return f"arrow_cast('{found.isoformat()}', 'Timestamp(Microsecond, Some(\"UTC\"))')"


def _unlike(subject: Subject, what: str) -> _Unlike:
    return _Unlike(
        f"column {subject.column!r} holds {what}, and the value is nothing like it",
        advice="write it as clients send it",
    )


_TRUTH: Final = {"true": "TRUE", "1": "TRUE", "false": "FALSE", "0": "FALSE"}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _forget_bodies(tables: LogTables, uri: str, found: Found, *, dry_run: bool) -> int:
    """Delete the bodies of requests of which these rows were a part; count them.

    The first row of a request holds all of its body.
    """
    keys = sorted(set(found.keys) - set(found.ids))
    for some in () if dry_run else _chunks(keys):
        tables.open(uri).update(
            updates={"request_body": "NULL", "request_form": _quoted(FORGOTTEN_FORM)},
            predicate=_among(some, found.days),
        )
    return len(keys)


def _forget_feedback(tables: LogTables, uri: str, ids: Sequence[str], *, dry_run: bool) -> int:
    n_rows = 0
    for some in _chunks(ids):
        if dry_run:
            query = f"SELECT COUNT(*) AS n FROM log WHERE {_among(some)}"  # noqa: S608 - ids
            builder = QueryBuilder().register("log", tables.open(uri))
            rows: Any = pa.table(builder.execute(query).read_all())
            n_rows += rows["n"][0].as_py()
        else:
            n_rows += int(tables.open(uri).delete(_among(some))["num_deleted_rows"])
    return n_rows


def _among(ids: Sequence[str], days: Sequence[dt.date] = ()) -> str:
    """Return the condition of rows with these ids; days keep other files closed."""
    found = f"prediction_id IN ({', '.join(_quoted(one) for one in ids)})"
    if days:
        # A request's rows are answered at one time, so its first row is of the same day.
        listed = ", ".join(f"DATE '{day}'" for day in sorted(set(days)))
        found = f"day IN ({listed}) AND {found}"
    return found


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))


def _clean(tables: LogTables, uri: str) -> None:
    """Remove the files that a table has no more, and those that it never came to have."""
    # Without `full`, files that the table had are removed; with it, all that it has not.
    turns = [(True, 0)] if tables.folder is not None else [(False, 0), (True, _SHARED_RETENTION_H)]
    for full, hours in turns:
        # The library asks for a week, for readers of older states: they are what is to go.
        tables.open(uri).vacuum(
            retention_hours=hours, enforce_retention_duration=False, dry_run=False, full=full
        )
