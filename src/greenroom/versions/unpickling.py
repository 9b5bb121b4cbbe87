"""Estimators out of a model directory: unpickled without MLflow, and every failure named.

Reads what MLflow's scikit-learn flavour writes: ``pickle``, ``cloudpickle`` and ``skops`` files. A
file that was written by another scikit-learn, XGBoost or LightGBM than the installed one is
refused, because it may load and answer wrongly. Unpickling runs code: only a version from a
registry that is trusted comes here. What is done with the estimator is
:mod:`greenroom.inference.runtime`'s business.
"""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from greenroom.errors import GreenroomError, VersionCorrupt, VersionUnloadable
from greenroom.versions.mlmodel import MlModel

FLAVOR: Final = "sklearn"
ALLOW_VARIABLE: Final = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
"""MLflow's own switch, which is honoured: with ``false`` nothing is unpickled."""

_SKLEARN: Final = "scikit-learn"
_CHECKED: Final = {
    _SKLEARN: (FLAVOR, "sklearn_version"),
    "xgboost": ("xgboost", "xgb_version"),
    "lightgbm": ("lightgbm", "lgb_version"),
}
"""The packages whose releases read one another's models wrongly, and where a flavour says which."""

_FORMATS: Final = ("pickle", "cloudpickle", "skops")


def load_estimator(
    model: MlModel, *, environment: Mapping[str, str] = os.environ, installed: str = ""
) -> Any:
    """Load the estimator of a model's scikit-learn flavour.

    Parameters
    ----------
    model : MlModel
        Has a flavour ``sklearn``.
    environment : mapping
        Where :data:`ALLOW_VARIABLE` is looked up.
    installed : str, optional
        The scikit-learn version that is here; default: the one that is installed.

    Raises
    ------
    VersionCorrupt
        When its file is missing or cut off.
    VersionUnloadable
        When a package is missing, scikit-learn is another, or the file does not load.
    """
    flavor = model.flavors[FLAVOR]
    allow_unpickling(environment)
    check_packages(model, installed={_SKLEARN: installed} if installed else {})
    path = inside(model.directory, str(flavor.get("pickled_model") or "model.pkl"))
    form = str(flavor.get("serialization_format") or "pickle")
    return named_failures(model, path.name, lambda: unpickle(path, form, flavor))


def unpickle(path: Path, form: str, flavor: Mapping[str, Any]) -> Any:
    """Load one file in one of the formats of MLflow's scikit-learn flavour.

    Raises
    ------
    VersionUnloadable
        When the format is none of them, unpickling is forbidden, or scikit-learn says that another
        release of it has written the file.
    """
    if form not in _FORMATS:
        raise VersionUnloadable(
            f"its estimator has the format {form!r}, which is not one of {', '.join(_FORMATS)}"
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = _read(path, form, flavor)
    _check_warnings(caught)
    return estimator


def allow_unpickling(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse, where :data:`ALLOW_VARIABLE` says that nothing is to be unpickled.

    Raises
    ------
    VersionUnloadable
        Naming the variable.
    """
    if environment.get(ALLOW_VARIABLE, "").strip().lower() in {"false", "0"}:
        raise VersionUnloadable(
            f"it would have to be unpickled, and {ALLOW_VARIABLE} forbids that",
            advice=f"unset {ALLOW_VARIABLE} where the registry is trusted",
        )


def check_packages(model: MlModel, *, installed: Mapping[str, str] | None = None) -> None:
    """Compare the recorded releases with those installed, by major and minor version.

    Of scikit-learn, XGBoost and LightGBM: other packages may differ, and a missing one is named
    when it is asked for.

    Parameters
    ----------
    model : MlModel
    installed : mapping of str to str, optional
        What is installed, by package; default: what is.

    Raises
    ------
    VersionUnloadable
        Naming package and both versions, when they differ, or when the package is missing.
    """
    for package, (name, key) in _CHECKED.items():
        recorded = (model.flavors.get(name, {}).get(key), model.requirements.get(package))
        for version in filter(None, recorded):
            here = (installed or {}).get(package) or _installed(package, str(version))
            _same_release(package, str(version), here)


def inside(directory: Path, name: str) -> Path:
    """Return the path of a file that a model's own files name.

    Raises
    ------
    VersionCorrupt
        When it lies outside of the directory.
    """
    path = directory / name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise VersionCorrupt(f"its files name one outside of its directory: {name}")
    return path


def named_failures(model: MlModel, file: str, load: Callable[[], Any]) -> Any:
    """Call ``load`` and turn what it raises into an error that says what to do.

    Raises
    ------
    VersionCorrupt, VersionUnloadable
        As :func:`load_estimator` does.
    """
    try:
        return load()
    except GreenroomError:
        raise
    except ModuleNotFoundError as error:
        raise _missing_module(model, error) from error
    except FileNotFoundError as error:
        raise VersionCorrupt(f"its file {Path(error.filename or file).name} is missing") from error
    except (pickle.UnpicklingError, EOFError, zipfile.BadZipFile) as error:
        raise VersionCorrupt(f"its file {file} is cut off or is not what it should be") from error
    except Exception as error:
        # Unpickling runs code of any package, which may raise anything.
        raise VersionUnloadable(f"{file} does not load: {_in_short(error)}") from error


def _read(path: Path, form: str, flavor: Mapping[str, Any]) -> Any:
    if form == "skops":
        import skops.io

        return skops.io.load(path, trusted=flavor.get("skops_trusted_types"))
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - see the module's docstring


def _installed(package: str, recorded: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise VersionUnloadable(
            f"it needs the package {package!r}, which is not installed",
            advice=f"pip install {package}=={recorded}",
        ) from error


def _same_release(package: str, recorded: str, installed: str) -> None:
    if recorded.split(".")[:2] != installed.split(".")[:2]:
        raise VersionUnloadable(
            f"it was made with {package} {recorded}, and {installed} is installed",
            advice=f"train it again, or pip install {package}=={recorded}",
        )


def _check_warnings(caught: Iterable[warnings.WarningMessage]) -> None:
    """Read scikit-learn's own word about versions, which covers each object; pass on the rest."""
    for item in caught:
        recorded = getattr(item.message, "original_sklearn_version", None)
        if recorded is not None:
            _same_release(_SKLEARN, str(recorded), item.message.current_sklearn_version)  # type: ignore[union-attr]  # asked above
        else:
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)


def _missing_module(model: MlModel, error: ModuleNotFoundError) -> VersionUnloadable:
    module = error.name or str(error)
    package = module.partition(".")[0]
    pinned = model.requirements.get(package.replace("_", "-").lower())
    if package in sys.modules:
        advice = f"pip install {package}=={pinned}" if pinned else "install the release it had"
        return VersionUnloadable(
            f"it needs the module {module!r}, which the installed {package!r} has not",
            advice=advice,
        )
    return VersionUnloadable(
        f"it needs the package {package!r}, which is not installed",
        advice=f"pip install {package}=={pinned}"
        if pinned
        else "install it where greenroom serves",
    )


def _in_short(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0][:300]
    return f"{type(error).__name__}: {text}"
