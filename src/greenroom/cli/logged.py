"""``greenroom log`` and ``forget``: reading what was predicted, and deleting a person's rows."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click
import msgspec

from greenroom.cli.context import (
    Project,
    config_option,
    open_here,
    open_project,
    who_is_asking,
)
from greenroom.cli.terminal import note, say, table
from greenroom.errors import AppError, LogError, SettingsError
from greenroom.settings import Settings

if TYPE_CHECKING:
    from greenroom.log.forgetting import Condition, Forgotten, Subject
    from greenroom.log.log_export import Form

SHOWN: Final = 20
"""How many predictions a table on the terminal has, where ``--limit`` does not say."""

_RECORD: Final = "forgotten.jsonl"
_LITERALS: Final = re.compile(r"'(?:[^']|'')*'|(?<![\w\"])[-+]?\d[\w.+-]*")

what_argument = click.argument("what", default="", metavar="[APP|NAME]")
model_option = click.option("--model", default="", help="The model, where an app has several.")


@click.command("log", short_help="Show or export logged predictions.")
@what_argument
@model_option
@click.option(
    "--since", default="", help="From when: 90s, 30m, 1h, 7d ago, a day, or a time (UTC)."
)
@click.option("--until", default="", help="Until when, written in the same way.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the latest.")
@click.option("--columns", default="", help="Which columns, between commas.")
@click.option("--csv", "form", flag_value="csv", help="Write CSV.")
@click.option("--parquet", "form", flag_value="parquet", help="Write a Parquet file.")
@click.option("--json", "form", flag_value="json", help="Write a JSON object a line.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="The file; default: the output."
)
@config_option
def log(
    what: str,
    model: str,
    since: str,
    until: str,
    limit: int | None,
    columns: str,
    form: Form | None,
    out: Path | None,
    config: Path | None,
) -> None:
    """Show predictions of the log, the earliest first: what is shipped and what still waits.

    APP is an app's folder, or its name under apps/; NAME a registered model; default: the current
    folder. No server has to run.
    """
    from greenroom.log.log_export import instant
    from greenroom.log.log_reading import Window
    from greenroom.log_wiring import build_log_reader

    project, names = _models(what, model, config)
    now = datetime.now(UTC)
    window = Window(instant(since, now) if since else None, instant(until, now) if until else None)
    wanted = [name.strip() for name in columns.split(",") if name.strip()] or None
    if out is not None and form is None:
        form = _form_of(out)
    if form is not None and len(names) > 1:
        raise LogError(f"there are {len(names)} models", advice="choose one with --model")
    reader = build_log_reader(project.settings)
    for name in names:
        most = limit or (None if form else SHOWN)
        rows = reader.predictions(name, window, columns=wanted, limit=most)
        _require(name, rows, wanted or ())
        if form is None:
            _print(name, rows, wanted)
        else:
            _write(rows, form, out)


@click.command(short_help="Delete a person's rows from the log.")
@what_argument
@model_option
@click.option("--where", default="", help="Which rows, as a condition in SQL.")
@click.option(
    "--subject", default="", metavar="COLUMN=VALUE", help="Whose rows; hashed if need be."
)
@click.option("--dry-run", is_flag=True, help="Count what would be deleted.")
@config_option
def forget(
    what: str, model: str, where: str, subject: str, dry_run: bool, config: Path | None
) -> None:
    """Delete the rows of a person from the prediction log, for good.

    Their feedback goes too, and the bodies of requests that they were part of; then the files that
    held them are removed. What waits to be shipped is shipped before. That it was done is recorded
    in the home folder, without the value.
    """
    from greenroom.log import forgetting, settling
    from greenroom.log.outbox import Outbox
    from greenroom.log_opening import build_log_tables, find_spool
    from greenroom.redaction import read_key

    if bool(where) == bool(subject):
        raise LogError("whose rows?", advice="give either --subject COLUMN=VALUE or --where")
    project, names = _models(what, model, config)
    settings = project.settings
    sought: Condition | Subject = forgetting.Condition(where)
    if subject:
        column, found, value = subject.partition("=")
        if not found:
            raise LogError("--subject holds no value", advice="write --subject customer_id=42")
        sought = forgetting.Subject(column.strip(), value, read_key(settings))
    tables = build_log_tables(settings)
    spool = find_spool(settings)
    if spool is not None:
        timeout_s = 60 + 2 * settings.log_ship_interval_s + settings.log_ship_patience_s
        settling.settle(
            spool,
            tables,
            timeout_s=timeout_s,
            on_wait=lambda: note("waiting until the server has shipped what it has noted"),
        )
        n_waiting = len(Outbox(spool).items())
        if n_waiting:
            note(
                f"{n_waiting} segments wait for MLflow, and may hold such rows until they are sent"
            )
    logged = set(tables.models())
    for name in names:
        if len(names) > 1 and name not in logged:
            continue
        with tables.changing(wait=True):
            forgotten = forgetting.forget(tables, name, sought, dry_run=dry_run)
        if not dry_run:
            _record(settings, name, where, subject, forgotten)
        _say(name, forgotten, dry_run=dry_run)


def _models(what: str, model: str, config: Path | None) -> tuple[Project, Sequence[str]]:
    """Return the settings, and the registered names that were asked for."""
    from greenroom.log_opening import build_log_tables, registered_names

    if not what:
        project = open_here(config=config)
    else:
        try:
            project = open_project(what, config=config)
        except AppError:
            project = open_here(config=config)
            if project.app is None or what not in _known(project):
                return project, [_registered(project.settings, model or what)]
            model = model or what
    if model:
        return project, [_registered(project.settings, model)]
    if project.app is None:
        names: Sequence[str] = build_log_tables(project.settings).models()
    else:
        names = registered_names(project.app, project.settings)
    if not names:
        raise SettingsError("no model is named", advice="name one: greenroom log NAME")
    return project, names


def _known(project: Project) -> list[str]:
    return [model.name for model in project.the_app.models]


def _registered(settings: Settings, name: str) -> str:
    deployed = settings.models.get(name)
    return deployed.name or name if deployed is not None else name


def _require(name: str, rows: Any, wanted: Sequence[str]) -> None:
    unknown = [column for column in wanted if column not in rows.schema.names]
    if unknown:
        raise LogError(
            f"the predictions of {name!r} have no column {unknown[0]!r}",
            advice="`greenroom log --json` shows them all",
        )


def _form_of(out: Path) -> Form:
    forms: dict[str, Form] = {".csv": "csv", ".parquet": "parquet", ".json": "json"}
    forms |= {".jsonl": "json", ".ndjson": "json"}
    if out.suffix not in forms:
        raise LogError(f"{out}: as what?", advice="add --csv, --parquet or --json")
    return forms[out.suffix]


def _print(name: str, rows: Any, wanted: Sequence[str] | None) -> None:
    from greenroom.log.log_export import brief_columns, cell

    shown = list(wanted) if wanted else brief_columns(rows)
    values = rows.select(shown).to_pylist()
    table(name, shown, [[cell(row[column]) for column in shown] for row in values])
    say(f"{rows.num_rows} predictions; --columns shows others, --csv and --parquet have them all")


def _write(rows: Any, form: Form, out: Path | None) -> None:
    from greenroom.log.log_export import write_rows

    if out is None:
        if form == "parquet" and sys.stdout.isatty():
            raise LogError("a Parquet file is not for a terminal", advice="add --out FILE")
        stream: BinaryIO = sys.stdout.buffer
        write_rows(rows, form, stream)
        stream.flush()
        return
    beside = out.with_name(f"{out.name}.part")
    try:
        with beside.open("wb") as file:
            write_rows(rows, form, file)
        beside.replace(out)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise LogError(f"{out} cannot be written: {error.strerror}") from error
    note(f"{rows.num_rows} predictions are in {out}")


def _say(name: str, forgotten: Forgotten, *, dry_run: bool) -> None:
    verb = "would be deleted" if dry_run else "deleted"
    say(
        f"{name}: {forgotten.n_rows} predictions {verb}, {forgotten.n_observations} rows of "
        f"feedback, the bodies of {forgotten.n_bodies} requests with other rows"
    )


def _record(settings: Settings, model: str, where: str, subject: str, forgotten: Forgotten) -> None:
    """Note that rows were deleted, by whom and how many; not whose they were."""
    condition = f"{subject.partition('=')[0]} = ?" if subject else _LITERALS.sub("?", where)
    line = msgspec.json.encode(
        {
            "at": datetime.now(UTC),
            "who": who_is_asking(settings),
            "model": model,
            "condition": condition,
            **forgotten._asdict(),
        }
    )
    with (Path(settings.home) / _RECORD).open("ab") as file:
        file.write(line + b"\n")
