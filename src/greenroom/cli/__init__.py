"""The command line: ``greenroom COMMAND``. The only part of Greenroom that prints.

Each command is a function in a module named after what it is about; what a command needs is
imported when it runs, so that ``greenroom --help`` is quick. Every command ends with exit status 0
or with one line that says what failed, for which object, and what to do next: status 1, or 3 when
what was asked for was judged and refused (a promotion by its gate, a compiled runtime by its
proof); ``trace --replay`` has two more, for its verdicts, ``monitor`` has 3 and 5; 2 is for a
command line that cannot be read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from greenroom import __version__
from greenroom.cli.alerts import alerts
from greenroom.cli.compiling import compile_
from greenroom.cli.forgetting import forget
from greenroom.cli.lifecycle import history, promote, rollback
from greenroom.cli.logged import log
from greenroom.cli.monitoring import monitor
from greenroom.cli.project import check, new
from greenroom.cli.registration import register
from greenroom.cli.reproducing import reproduce
from greenroom.cli.running import serve, up
from greenroom.cli.server import restart, status
from greenroom.cli.terminal import print_error
from greenroom.cli.tokens import token
from greenroom.cli.tracing import score_log, trace
from greenroom.cli.training import train
from greenroom.errors import GreenroomError, NotConvertible, PromotionRefused

REFUSED = 3
"""The exit status when ``greenroom promote``'s gate, or ``greenroom compile``'s proof, said no."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="greenroom")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Turn an MLflow model registry into a production service."""
    del debug  # read by main, where errors end


for command in (
    up,
    new,
    check,
    train,
    register,
    compile_,
    reproduce,
    promote,
    rollback,
    history,
    serve,
    status,
    restart,
    alerts,
    trace,
    score_log,
    monitor,
    log,
    forget,
    token,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = cli.main(args=words, prog_name="greenroom", standalone_mode=False)
    except GreenroomError as error:
        refused = isinstance(error, PromotionRefused | NotConvertible)
        _end(error, REFUSED if refused else 1, "--debug" in words)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print_error("stopped")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (`greenroom history | head`) has gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the last line of defence, a bug of ours
        _end(error, 1, "--debug" in words)
    else:
        # What a command gave to `context.exit`.
        sys.exit(status if isinstance(status, int) else 0)


def _end(error: Exception, status: int, debug: bool) -> None:
    if debug:
        raise error
    if isinstance(error, GreenroomError):
        problems = getattr(error, "problems", ())
        print_error(str(error), [str(problem) for problem in problems if len(problems) > 1])
    else:
        reason = " ".join(str(error).split())[:300]
        print_error(f"{type(error).__name__}: {reason}; --debug shows where it comes from")
    sys.exit(status)
