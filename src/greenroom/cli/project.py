"""``greenroom new`` and ``greenroom check``: making an app, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import click

from greenroom.cli.context import app_argument
from greenroom.cli.terminal import say


@click.command()
@click.argument("name")
@click.option(
    "--in",
    "parent",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="The folder to make it in; default: the current one.",
)
def new(name: str, parent: Path) -> None:
    """Make a working app called NAME from a template, with its test."""
    from greenroom.scaffolding import new_app

    folder = new_app(name, parent)
    say(f"made {folder}")
    say(f"next: greenroom up {folder}")


@click.command()
@app_argument
@click.pass_context
def check(context: click.Context, app: str) -> None:
    """Say what is wrong with an app, all of it at once.

    APP is an app's folder, or its name under apps/; default: the current folder.
    """
    from greenroom.app_loading import find_app
    from greenroom.checking import check as check_folder

    folder = find_app(app)
    problems = check_folder(folder)
    for problem in problems:
        say(str(problem))
    errors = sum(problem.level == "error" for problem in problems)
    warnings = len(problems) - errors
    if problems:
        say(f"{folder.name}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    else:
        say(f"{folder.name}: nothing is wrong")
    if errors:
        context.exit(1)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
