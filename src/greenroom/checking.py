"""What is wrong with an app: all of it at once, before a training finds it piece by piece.

Looks at the definition, the settings file with the log's rules, and the documented variables, tries
the plan of trainings over HTTP, and has :mod:`greenroom.training.rehearsal` try the models' own
functions. Trains nothing, talks to no server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from greenroom.app import App
from greenroom.app_loading import APP_FILE, forget_app, load_app
from greenroom.data.examples import example_request
from greenroom.errors import (
    AppError,
    GreenroomError,
    RequestInvalid,
    SettingsError,
    collected_refusals,
)
from greenroom.model import Model
from greenroom.payloads.request import RequestType
from greenroom.redaction import redactions_of, settings_privacy
from greenroom.schema import Column, Schema
from greenroom.settings import ModelSettings, Settings
from greenroom.settings_sources import SETTINGS_FILE, load_documented, load_settings
from greenroom.training.rehearsal import Problem, rehearse
from greenroom.training_route import TrainingPlan, TrainingRoute

__all__ = ["Problem", "check"]

_SETTINGS: Final = {field.name for field in msgspec.structs.fields(Settings)}
_DEPLOYED: Final = {field.name for field in msgspec.structs.fields(ModelSettings)}


def check(folder: Path) -> list[Problem]:
    """Find everything that is wrong with the app in ``folder``.

    A definition with several broken models names them all; the functions of the models that are
    whole are tried all the same. What comes after a line at which ``app.py`` cannot be imported at
    all stays unknown until that is mended, and only then.

    Parameters
    ----------
    folder : Path
        Holds ``app.py``.

    Returns
    -------
    list of Problem
        Errors first; empty when nothing was found.
    """
    folder = folder.resolve()
    app, problems = _definition(folder)
    models = [model for model in app.models if _whole(model)] if app else []
    for model in models:
        problems += _examples(model)
        problems += rehearse(model, folder)
    if app is not None:
        problems += [*_documented(app)] or _documented_file(folder, app)
    if app is not None:
        problems += _training(app)
    problems += _settings(folder, app)
    once = dict.fromkeys(problems)
    return sorted(once, key=lambda problem: problem.level != "error")


def _definition(folder: Path) -> tuple[App | None, list[Problem]]:
    """Import the app anew, letting wrong values be built, and return what was wrong with them."""
    forget_app(folder)
    app, problems = None, []
    with collected_refusals() as refusals:
        try:
            app = load_app(folder)
        except AppError as error:
            problems.append(Problem(APP_FILE, error.message, error.advice))
    if refusals:
        forget_app(folder)  # a broken app must not be what the next one to load it gets
    for refusal in refusals:
        problems += [Problem(APP_FILE, text, refusal.advice) for text in _each(refusal)]
    return app, problems


def _each(refusal: AppError) -> Sequence[str]:
    """Return a refusal's problems one by one, each with the object that it is about."""
    owner = refusal.message.partition(": ")[0]
    if refusal.message == f"{owner}: {'; '.join(refusal.problems)}":
        return [f"{owner}: {problem}" for problem in refusal.problems]
    return refusal.problems or (refusal.message,)


def _whole(model: Model) -> bool:
    """Whether a model and what it is made of would be built without a refusal."""
    try:
        for column in (*model.columns, *model.request):
            replace(column)
        replace(model.gate)
        replace(model.split)
        replace(model)
    except (AppError, TypeError, AttributeError):
        return False
    return True


def _examples(model: Model) -> Iterator[Problem]:
    """Require of each column's example that the server would take it in a request."""
    for column in model.request_schema:
        where = f"model {model.name!r}, column {column.name!r}"
        for text in _example_problems(column):
            yield Problem(where, text, "the documentation's page sends it")


def _example_problems(column: Column) -> list[str]:
    row = Schema((column,))
    try:
        body = json.dumps(example_request(row)).encode()
        RequestType.compile(row).decode(body)
    except RequestInvalid as error:
        return [f"example: {problem.problem}" for problem in error.problems]
    except GreenroomError as error:
        return [str(error)]
    except (TypeError, ValueError) as error:
        return [f"example: cannot be sent as JSON ({error})"]
    return []


def _documented(app: App) -> Iterator[Problem]:
    """Require of every documented variable and key that it sets a setting that there is."""
    keys = app.settings_file.keys if app.settings_file else {}
    for place, named in {"environment": app.environment, "settings_file": keys}.items():
        for documented, setting in named.items():
            yield from _documented_problems(app, f"{APP_FILE}, {place}", documented, setting)


def _documented_problems(app: App, where: str, documented: str, setting: str) -> Iterator[Problem]:
    name, _, key = setting.removeprefix("models.").rpartition(".")
    if not setting.startswith("models."):
        if setting not in _SETTINGS - {"models"}:
            problem = f"{documented}: there is no setting {setting!r}"
            yield Problem(where, problem, "see docs/settings.md")
    elif name not in {model.name for model in app.models} or key not in _DEPLOYED:
        yield Problem(
            where,
            f"{documented}: {setting!r} names no model of the app with one of its settings",
            f"write models.NAME.{' or models.NAME.'.join(sorted(_DEPLOYED))}",
        )


def _documented_file(folder: Path, app: App) -> Iterator[Problem]:
    """Require that the documented settings file, where there is one, can be used."""
    if app.settings_file is None:
        return
    try:
        load_documented(folder, app.settings_file)
    except SettingsError as error:
        yield Problem(app.settings_file.path, error.message, error.advice)


def _settings(folder: Path, app: App | None) -> Iterator[Problem]:
    """Require a settings file that can be read, and settings that can be used."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        return
    try:
        settings = load_settings(folder, environment={})
    except SettingsError as error:
        single = [*_single_settings(path)]
        yield from single or [Problem(SETTINGS_FILE, error.message, error.advice)]
        return
    models = _mapping(_mapping(yaml.safe_load(path.read_text(encoding="utf-8"))).get("models"))
    known = {model.name for model in app.models} if app else set(models)
    for name in models:
        if name not in known:
            yield Problem(
                SETTINGS_FILE,
                f"models: the app has no model {name!r}",
                f"it has {', '.join(sorted(known))}",
            )

    yield from _privacy(settings, app)


def _privacy(settings: Settings, app: App | None) -> Iterator[Problem]:
    """Require of the log's rules in settings that they name columns, and of hashes a key."""
    advice = "correct log_leave_out, log_hash and log_round"
    for model in app.models if app else ():
        deployed = settings.models.get(model.name)
        if deployed is not None:
            for what in settings_privacy(deployed).problems(tuple(model.request_schema)):
                yield Problem(SETTINGS_FILE, f"models.{model.name}: {what}", advice)
    try:
        redactions_of(settings, {one.name: one.privacy for one in app.models} if app else {})
    except SettingsError as error:
        # The key may be in a variable, or in a file that only the server's machine has.
        yield Problem(SETTINGS_FILE, error.message, error.advice, level="warning")


def _training(app: App) -> Iterator[Problem]:
    """Try what is to be trained for requests of every kind that its route takes."""
    route = app.training
    if route is None:
        return
    where, n_planned = f"{APP_FILE}, training.plan", 0
    for asked in _askable(route):
        try:
            plan = route.plan(route.typed(asked))
        except ValueError:
            continue  # fields that do not go together: the caller is told
        except Exception as error:  # noqa: BLE001 - it is the app's code, and this is what is asked for
            text = " ".join(str(error).split())
            yield Problem(where, f"{_shown(asked)}: {type(error).__name__}: {text}")
            return
        n_planned += 1
        if not isinstance(plan, TrainingPlan):
            yield Problem(
                where, f"{_shown(asked)}: gave {type(plan).__name__}, and not a TrainingPlan"
            )
            return
        try:
            plan.applied_to(app.model(plan.model))
        except AppError as error:
            yield Problem(where, f"{_shown(asked)}: {error.message}", error.advice)
        except Exception:  # noqa: BLE001 - candidates that fail are named where they are tried
            return
    if not n_planned:
        yield Problem(where, "refused every request that was tried", "take each field's example")


def _askable(route: TrainingRoute) -> Iterator[dict[str, Any]]:
    """Return the example of a request, and others in which one field is another one."""
    base = example_request(Schema(route.request)) if route.request else {}
    yield base
    for column in route.request:
        words: tuple[Any, ...] = tuple(column.categories)
        if column.kind == "boolean":
            words = (True, False)
        for word in (*words, *([None] if column.nullable else [])):
            yield {**base, column.request_name: word}


def _shown(asked: Mapping[str, Any]) -> str:
    return json.dumps(dict(asked), default=str)


def _single_settings(path: Path) -> Iterator[Problem]:
    """Try each setting of a file alone, because reading them together ends at the first error."""
    try:
        values = _mapping(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return
    for name, value in values.items():
        try:
            msgspec.convert({name: value}, Settings, strict=False)
        except msgspec.ValidationError as error:
            yield Problem(SETTINGS_FILE, f"{name}: {error}", "docs/settings.md lists them")


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}
