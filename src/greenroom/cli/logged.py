"""``greenroom log``: reading what was predicted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from greenroom.cli.context import (
    Project,
    config_option,
    open_here,
    open_project,
)
from greenroom.cli.terminal import note, say, table
from greenroom.errors import AppError, LogError, NothingLogged, SettingsError
from greenroom.settings import Settings
from greenroom.wording import counted

if TYPE_CHECKING:
    from greenroom.log.log_export import Form

SHOWN: Final = 20
"""How many predictions a table on the terminal has, where ``--limit`` does not say."""


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

    project, names = models_of(what, model, config)
    now = datetime.now(UTC)
    window = Window(instant(since, now) if since else None, instant(until, now) if until else None)
    if window.since and window.until and window.since >= window.until:
        raise LogError(f"--until {until} is not after --since {since}", advice="swap the two")
    wanted = list(dict.fromkeys(filter(None, map(str.strip, columns.split(","))))) or None
    if out is not None and form is None:
        form = _form_of(out)
    if form is not None and len(names) > 1:
        raise LogError(
            f"there are {len(names)} models: {', '.join(names)}", advice="choose one with --model"
        )
    reader = build_log_reader(project.settings)
    shown = False
    for name in names:
        most = limit or (None if form else SHOWN)
        try:
            rows = reader.predictions(name, window, columns=wanted, limit=most)
        except NothingLogged as error:
            if name == names[-1] and not shown:
                raise
            note(error.message)
            continue
        shown = True
        _require(name, rows, wanted or ())
        if form is None:
            _print(name, rows, wanted)
        else:
            _write(rows, form, out)


def models_of(what: str, model: str, config: Path | None) -> tuple[Project, Sequence[str]]:
    """Return the app with its settings, and the registered names that were asked for."""
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
    say(
        f"{counted(rows.num_rows, 'prediction')}; --columns shows others, "
        "--csv and --parquet have them all"
    )


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
    note(f"{out} has {counted(rows.num_rows, 'prediction')}")
