"""``greenroom token``: who may call a server, and what they may ask for.

A running server notices a change within a second; it is not told, and need not run.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from greenroom.access.tokens import SCOPES, NewToken, Token, TokensFile
from greenroom.cli.context import Project, config_option, open_here, open_project
from greenroom.cli.terminal import note, say, table

app_option = click.option(
    "--app", default="", help="The app's folder or name; default: this folder's, where it has one."
)

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Duration(click.ParamType[timedelta]):
    """A time span: ``90d``, ``12h``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,6})([smhdw])", str(value))
        if not found:
            self.fail(f"{value!r} is not a number with one of {', '.join(_UNITS)}", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


expires_option = click.option(
    "--expires", type=_Duration(), default=None, help="Accept it this long, such as 90d."
)


@click.group(short_help="Make and revoke the tokens that callers send.")
def token() -> None:
    """Make, list, rotate and revoke the tokens that callers send.

    They are kept, hashed, in tokens.json of the app's home folder, or where the setting tokens_file
    says. A running server follows within a second.
    """


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What it allows; may be given several times.",
)
@expires_option
@app_option
@config_option
def add(
    name: str, scopes: tuple[str, ...], expires: timedelta | None, app: str, config: Path | None
) -> None:
    """Make a token for the caller NAME, and print it: it is shown this once."""
    project = _project(app, config)
    file = TokensFile(Path(project.settings.tokens_file))
    _show(project, file.add(name, scopes, expires_at=_after(expires)))


@token.command("list")
@app_option
@config_option
def list_tokens(app: str, config: Path | None) -> None:
    """List the tokens: their names, what they allow, and until when."""
    project = _project(app, config)
    file = TokensFile(Path(project.settings.tokens_file))
    kept = file.read()
    if not kept:
        say(f"there is no token in {file.path}; greenroom token add NAME --scope predict")
        return
    table("", ["name", "scopes", "made", "expires", "state"], [_row(one) for one in kept])


@token.command()
@click.argument("name")
@app_option
@config_option
def revoke(name: str, app: str, config: Path | None) -> None:
    """Accept the token of NAME no more."""
    file = TokensFile(Path(_project(app, config).settings.tokens_file))
    n_gone = file.revoke(name)
    what = "the token" if n_gone == 1 else f"{n_gone} tokens"
    say(f"revoked {what} of {name}; a running server refuses it within a second")


@token.command()
@click.argument("name")
@click.option(
    "--grace",
    type=_Duration(),
    default="1h",
    show_default=True,
    help="How long the old token is accepted too; 0s for not at all.",
)
@expires_option
@app_option
@config_option
def rotate(
    name: str, grace: timedelta, expires: timedelta | None, app: str, config: Path | None
) -> None:
    """Make another token for NAME, with the same scopes, and print it.

    The old one is accepted for a while longer, so that its caller has time to change.
    """
    project = _project(app, config)
    file = TokensFile(Path(project.settings.tokens_file))
    made = file.rotate(name, grace=grace, expires_at=_after(expires))
    _show(project, made)
    ends = _written(datetime.now(UTC) + grace)
    note(f"the old token is accepted until {ends}" if grace else "the old token is not accepted")


def _project(app: str, config: Path | None) -> Project:
    return open_project(app, config=config) if app else open_here(config=config)


def _after(span: timedelta | None) -> datetime | None:
    return datetime.now(UTC) + span if span is not None else None


def _show(project: Project, made: NewToken) -> None:
    """Print a token to standard output, by itself, and everything else beside it."""
    made_token = made.token
    until = f", until {_written(made_token.expires_at)}" if made_token.expires_at else ""
    note(f"{made_token.name} may {' and '.join(made_token.scopes)}{until}; it is shown this once:")
    say(made.secret)
    scopes = "+".join(made_token.scopes)
    note(f"for a container: GREENROOM_TOKENS={made_token.name}:{scopes}:{made_token.sha256}")
    if project.settings.auth == "none":
        note("auth is none, so that no token is asked for; set GREENROOM_AUTH=tokens")


def _row(kept: Token) -> tuple[str, ...]:
    state = "valid" if kept.is_valid(datetime.now(UTC)) else "expired"
    made, expires = _written(kept.created_at), _written(kept.expires_at)
    return kept.name, ", ".join(kept.scopes), made, expires, state


def _written(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at else "-"
