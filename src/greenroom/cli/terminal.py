"""What the commands print with: tables, a progress bar, one-line errors.

On a terminal, progress is a bar that goes away; elsewhere (a log, a container) it is a line for
each new thing that is being done. Results go to standard output, progress and errors to standard
error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from greenroom.progress import OnProgress

PIPE_WIDTH = 140
"""Columns of a table where nobody's terminal says how wide it is: in a log, in a container."""

out = Console(highlight=False)
if not out.is_terminal:
    out = Console(highlight=False, width=PIPE_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def say(text: str = "") -> None:
    """Print a line of result."""
    out.print(escape(text), soft_wrap=True)


def note(text: str) -> None:
    """Print a line about what is going on."""
    err.print(escape(text), style="dim" if err.is_terminal else "")


class _Notes(logging.Handler):
    """Prints what is logged as a note."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record: how bad, where, what; and the traceback, where there is one."""
        note(self.format(record))


def show_log(level: str) -> None:
    """Print what this process logs from now on, where it is at least so bad.

    Parameters
    ----------
    level : {"DEBUG", "INFO", "WARNING", "ERROR"}
        With ``DEBUG`` each call to MLflow is a line.
    """
    handler = _Notes()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("greenroom")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level)


def print_error(message: str, details: Sequence[str] = ()) -> None:
    """Print what failed, on one line; then each of several problems on a line of its own."""
    err.print(f"[bold red]greenroom:[/] {escape(message if not details else _head(message))}")
    for detail in details:
        err.print(f"  - {escape(detail)}")


def _head(message: str) -> str:
    return message.partition(": ")[0] + ":"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; on a pipe without colours, but with the same text."""
    drawn = Table(
        title=escape(title) or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD
    )
    for name in columns:
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    out.print(drawn)


@contextmanager
def progress() -> Iterator[OnProgress]:
    """Show progress while the block runs; yields the callback that the verbs take."""
    if not err.is_terminal:
        yield _lines()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(text: str, share: float | None) -> None:
            total = None if share is None else 1.0
            bar.update(task, description=escape(text), total=total, completed=share or 0.0)

        yield show


def _lines() -> OnProgress:
    told = ""

    def show(text: str, share: float | None) -> None:
        nonlocal told
        del share
        # A counter at the end of the text ("MLflow is starting: 7 s") is not news.
        head = text.partition(":")[0]
        if head != told:
            told = head
            err.print(escape(text))

    return show
