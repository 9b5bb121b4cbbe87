"""``greenroom forget``: deleting a person's rows, wherever this server has put them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from greenroom.cli.context import Project, config_option, who_is_asking
from greenroom.cli.logged import model_option, models_of, what_argument
from greenroom.cli.terminal import note, say
from greenroom.errors import LogError, LogUnavailable, NothingLogged, RegistryError
from greenroom.settings import Settings
from greenroom.wording import counted

if TYPE_CHECKING:
    from greenroom.log.forgetting import Forgotten, Sought
    from greenroom.log.log_tables import LogTables
    from greenroom.log.mlflow_forgetting import InMlflow
    from greenroom.log.spool import Spool

_RECORD: Final = "forgotten.jsonl"
_LITERALS: Final = re.compile(r"'(?:[^']|'')*'|(?<![\w\"])[-+]?\d[\w.+-]*")
_MLFLOW_TIMEOUT_S: Final = 30.0


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
    held them are removed. What waits to be shipped is shipped before. What waits for MLflow loses
    their inputs, and the batches that MLflow has lose their rows. That it was done is recorded in
    the home folder, without the value.
    """
    from greenroom.log import forgetting
    from greenroom.log_opening import build_log_tables, find_spool
    from greenroom.redaction import read_key

    if bool(where) == bool(subject):
        raise LogError("whose rows?", advice="give either --subject COLUMN=VALUE or --where")
    project, names = models_of(what, model, config)
    settings = project.settings
    sought: Sought = forgetting.Condition(where)
    if subject:
        column, found, value = subject.partition("=")
        if not found:
            raise LogError("--subject holds no value", advice="write --subject customer_id=42")
        sought = forgetting.Subject(column.strip(), value, read_key(settings))
    tables = build_log_tables(settings)
    spool = find_spool(settings)
    if spool is not None:
        _settle(spool, tables, settings)
    names = _logged(tables, names)
    left: list[str] = []
    without: list[LogError] = []
    for name in names:
        try:
            with tables.changing(wait=True):
                known = forgetting.known_columns(tables, name)
                forgotten = forgetting.forget(tables, name, sought, dry_run=dry_run)
        except forgetting.NotHeld as error:
            without.append(error)
            if len(without) == len(names):
                raise
            note(f"{name}: {error.message}")
            continue
        condition = f"{subject.partition('=')[0]} = ?" if subject else _LITERALS.sub("?", where)
        _say(name, forgotten, dry_run=dry_run)
        n_waiting, there = _forget_for_mlflow(project, spool, name, sought, known, dry_run=dry_run)
        _say_there(name, n_waiting, there, dry_run=dry_run)
        left += there.held
        if not dry_run:
            _record(settings, name, condition, forgotten, n_waiting + there.n_rows)
    if left:
        raise LogUnavailable(
            f"MLflow still holds what may be such rows, in {len(left)} "
            f"place{'s' if len(left) > 1 else ''}: {'; '.join(left)}",
            advice="call it again where these can be written, or delete the files there",
        )


def _logged(tables: LogTables, names: Sequence[str]) -> list[str]:
    """Return the models that have tables: of an app's models some may never have been asked."""
    found = [name for name in names if tables.predictions(name)]
    if not found:
        raise NothingLogged(
            f"the log in {tables.uri} has no table of {', '.join(names)}",
            advice="`greenroom log` shows what it has",
        )
    return found


def _settle(spool: Spool, tables: LogTables, settings: Settings) -> None:
    from greenroom.log.settling import settle

    settle(
        spool,
        tables,
        timeout_s=60 + 2 * settings.log_ship_interval_s + settings.log_ship_patience_s,
        on_wait=lambda: note("waiting until the server has shipped what it has noted"),
    )


def _forget_for_mlflow(
    project: Project,
    spool: Spool | None,
    name: str,
    sought: Sought,
    known: set[str],
    *,
    dry_run: bool,
) -> tuple[int, InMlflow]:
    """Delete what waits for MLflow and what it has; return how much, and what could not be."""
    from greenroom.log.mlflow_forgetting import InMlflow, forget_batches, forget_waiting
    from greenroom.log.outbox import Outbox
    from greenroom.registry.mlflow_rest import MlflowRest

    settings, app = project.settings, project.app
    outbox = Outbox(spool) if spool is not None else None
    ever = outbox is not None and not outbox.empty
    if not ever and not (app and any(one.mlflow_log == "batch" for one in app.models)):
        return 0, InMlflow()
    n_waiting = 0
    if outbox is not None and ever:
        with outbox.alone():
            n_waiting = forget_waiting(outbox, name, sought, known, dry_run=dry_run)
    # A batch that is sent from now on is without these rows; those sent before are there.
    if not settings.mlflow_enabled:
        return n_waiting, InMlflow(held=("MLflow is not asked: mlflow_enabled is false",))
    try:
        with MlflowRest(settings.tracking_uri, timeout_s=_MLFLOW_TIMEOUT_S) as rest:
            return n_waiting, forget_batches(rest, name, sought, known, dry_run=dry_run)
    except RegistryError as error:
        return n_waiting, InMlflow(held=(error.message,))


def _say(name: str, forgotten: Forgotten, *, dry_run: bool) -> None:
    say(
        f"{name}: {counted(forgotten.n_rows, 'prediction')} {_verb(dry_run)}, "
        f"{counted(forgotten.n_observations, 'row')} of feedback, "
        f"the bodies of {counted(forgotten.n_bodies, 'request')} with other rows"
    )


def _say_there(name: str, n_waiting: int, there: InMlflow, *, dry_run: bool) -> None:
    waiting, batched = counted(n_waiting, "prediction"), counted(there.n_rows, "prediction")
    verb = "waits" if n_waiting == 1 else "wait"
    parts: Iterator[str] = (
        text
        for number, text in (
            (n_waiting, f"the inputs of {waiting} that {verb} for it"),
            (there.n_rows, f"{batched} in batches"),
        )
        if number
    )
    if told := ", ".join(parts):
        say(f"{name} in MLflow: {told} {_verb(dry_run)}")


def _verb(dry_run: bool) -> str:
    return "would be deleted" if dry_run else "deleted"


def _record(
    settings: Settings, model: str, condition: str, forgotten: Forgotten, n_for_mlflow: int
) -> None:
    """Note that rows were deleted, by whom and how many; not whose they were."""
    line = msgspec.json.encode(
        {
            "at": datetime.now(UTC),
            "who": who_is_asking(settings),
            "model": model,
            "condition": condition,
            **forgotten._asdict(),
            "n_for_mlflow": n_for_mlflow,
        }
    )
    with (Path(settings.home) / _RECORD).open("ab") as file:
        file.write(line + b"\n")
