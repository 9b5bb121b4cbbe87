"""What most commands begin with: the app, its settings, a registry, and who is asking."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from greenroom.app import App
from greenroom.app_loading import APP_FILE, find_app, load_app
from greenroom.cli.terminal import note
from greenroom.data.google_credentials import credentials_problem
from greenroom.errors import SettingsError
from greenroom.settings import Settings
from greenroom.settings_sources import CONFIG_VARIABLE, load_settings

app_argument = click.argument("app", default="")
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=CONFIG_VARIABLE,
    help=f"Settings file instead of the app's greenroom.yaml; also {CONFIG_VARIABLE}.",
)


@dataclass(frozen=True)
class Project:
    """An app with its settings; ``app`` is None where a registry is used without one.

    ``config`` is the settings file that was named instead of the app's own, ``reread`` reads the
    settings again, as they are then.
    """

    folder: Path
    settings: Settings
    app: App | None
    config: Path | None = None
    reread: Callable[[], Settings] | None = None

    @property
    def the_app(self) -> App:
        """The app, for commands that cannot do without."""
        if self.app is None:
            raise SettingsError("this command needs an app", advice="call it in an app's folder")
        return self.app


def open_project(text: str, *, config: Path | None = None, **options: Any) -> Project:
    """Find, import and configure the app that ``text`` names; the current folder's when empty."""
    folder = find_app(text)
    app = load_app(folder)
    read = partial(
        load_settings,
        folder,
        documented=app.environment,
        documented_file=app.settings_file,
        options=options,
        file=_absolute(config),
    )
    return Project(folder, read(), app, _absolute(config), read)


def open_here(*, config: Path | None = None, **options: Any) -> Project:
    """Open the current folder: with its app where there is one, else with settings alone."""
    folder = Path.cwd()
    if (folder / APP_FILE).is_file():
        return open_project("", config=config, **options)
    return open_settings(config=config, **options)


def open_settings(*, config: Path | None = None, **options: Any) -> Project:
    """Read the settings of the current folder, without an app."""
    folder = Path.cwd()
    settings = load_settings(folder, options=options, file=_absolute(config))
    return Project(folder, settings, None)


def note_credentials() -> None:
    """Say at the start that Google's credentials are of no use; whatever needs none goes on."""
    problem = credentials_problem()
    if problem is not None:
        note(
            f"{problem.message}: nothing at gs:// can be read or written until it is there; "
            f"{problem.advice}"
        )


def who_is_asking(settings: Settings) -> str:
    """Return who a promotion is recorded for: the setting ``who``, or user and host."""
    if settings.who:
        return settings.who
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _absolute(path: Path | None) -> Path | None:
    return path.resolve() if path else None
