"""Finding an app on disk and importing it.

An app's folder is imported as a package with a name of its own, made from its path: relative
imports work (``from .features import ratio``), two apps never collide, and ``sys.path`` stays as
it is. Whether the app's files fit together is :mod:`greenroom.checking`'s business.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Final

from greenroom.app import App
from greenroom.errors import AppError

APP_FILE: Final = "app.py"
APPS_FOLDER: Final = "apps"


def find_app(text: str, base: Path | None = None) -> Path:
    """Return the folder of the app that ``text`` names.

    Parameters
    ----------
    text : str
        A folder, or the name of one under ``apps/``; empty for ``base`` itself.
    base : Path, optional
        The folder that paths are relative to; default: the current one.

    Raises
    ------
    AppError
        When there is no such app; the message says where it was looked for, the advice which
        apps there are.
    """
    base = base or Path.cwd()
    candidates = [base / Path(text).expanduser()]
    if text and Path(text).name == text:
        candidates.append(base / APPS_FOLDER / text)
    for folder in candidates:
        if (folder / APP_FILE).is_file():
            return folder.resolve()
    looked = " and ".join(str(_short(folder / APP_FILE, base)) for folder in candidates)
    what = f"there is no app {text!r}" if text else "there is no app in this folder"
    known = sorted(path.parent.name for path in (base / APPS_FOLDER).glob(f"*/{APP_FILE}"))
    advice = f"there are: {', '.join(known)}" if known else "`greenroom new NAME` makes one"
    raise AppError(f"{what}; looked for {looked}", advice=advice)


def load_app(folder: Path) -> App:
    """Import ``app.py`` of a folder and return the one `App` in it.

    Within a process the same folder is imported once.

    Raises
    ------
    AppError
        When the file is absent, cannot be imported (the message holds the line of the user's
        code) or does not hold exactly one App.
    """
    folder = folder.resolve()
    file = folder / APP_FILE
    if not file.is_file():
        raise AppError(
            f"{_short(folder)} holds no {APP_FILE}", advice="`greenroom new NAME` makes an app"
        )
    package = package_name(folder)
    try:
        _import_package(package, folder)
        module = importlib.import_module(f"{package}.app")
    except Exception as error:
        forget_app(folder)
        raise _import_error(error, folder) from error
    return _only_app(module, file)


def package_name(folder: Path) -> str:
    """Return the name that the app in ``folder`` is imported under."""
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
    return f"greenroom_app_{digest[:16]}"


def _import_package(name: str, folder: Path) -> None:
    if name in sys.modules:
        return
    importlib.invalidate_caches()
    initial = folder / "__init__.py"
    spec = ModuleSpec(name, None, is_package=True)
    if initial.is_file():
        spec = ModuleSpec(name, SourceFileLoader(name, str(initial)), origin=str(initial))
    spec.submodule_search_locations = [str(folder)]
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    if spec.loader is not None:
        spec.loader.exec_module(package)


def pickle_by_value(folder: Path) -> None:
    """Have the classes that the app in ``folder`` defines travel inside what is pickled of it.

    A server that loads a version has no such package: its name is made from a path.
    """
    package = sys.modules.get(package_name(folder))
    if package is not None:
        import cloudpickle

        cloudpickle.register_pickle_by_value(package)


def forget_app(folder: Path) -> None:
    """Make the next :func:`load_app` of a folder import it anew."""
    package = package_name(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


def _only_app(module: ModuleType, file: Path) -> App:
    found = {name: value for name, value in vars(module).items() if isinstance(value, App)}
    apps = list({id(value): value for value in found.values()}.values())
    if len(apps) == 1:
        return apps[0]
    if not apps:
        raise AppError(f"{_short(file)} holds no App", advice="write `app = App(...)` in it")
    raise AppError(f"{_short(file)} holds several Apps: {', '.join(found)}", advice="keep one")


def _import_error(error: Exception, folder: Path) -> AppError:
    """Say in one line what is wrong, and at which line of the user's own code."""
    place = _place(error, folder)
    if isinstance(error, AppError):
        message = f"{place}: {error.message}"
        return AppError(message, problems=error.problems, advice=error.advice)
    text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    message = f"{place}: {type(error).__name__}: {text}".rstrip(": ")
    return AppError(message, advice=_import_advice(error, folder))


def _place(error: Exception, folder: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(Path(error.filename))}:{error.lineno or 0}"
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(folder)
    ]
    return f"{_short(Path(own[-1].filename))}:{own[-1].lineno}" if own else f"{_short(folder)}"


def _import_advice(error: Exception, folder: Path) -> str:
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    name = error.name.split(".")[0]
    if (folder / f"{name}.py").is_file() or (folder / name).is_dir():
        return f"import it as a part of the app: `from . import {name}`"
    if name == package_name(folder):
        return ""
    return f"install {name} where greenroom runs"


def _short(path: Path, base: Path | None = None) -> Path:
    base = base or Path.cwd()
    return path.relative_to(base) if path.is_relative_to(base) else path
