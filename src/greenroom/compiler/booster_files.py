"""XGBoost and LightGBM models out of a model directory: from the libraries' own files, not MLflow.

Reads what MLflow's ``xgboost`` and ``lightgbm`` flavours write: a scikit-learn estimator of either
library, which has probabilities, or a bare booster, which answers what its objective gives: one
number, or of several classes their probabilities or the class itself. What is done with them is
:mod:`greenroom.inference.foreign`'s business. Either library is imported only for a model that
needs it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from greenroom.errors import VersionUnloadable
from greenroom.versions.mlmodel import MlModel
from greenroom.versions.unpickling import (
    allow_unpickling,
    check_packages,
    inside,
    named_failures,
    unpickle,
)

_BOOSTERS: Final = {"xgboost": "xgboost.core.Booster", "lightgbm": "lightgbm.basic.Booster"}


def booster_flavor(model: MlModel) -> str:
    """Return which of the two flavours a model is served with; empty for neither.

    A model whose ``python_function`` is loaded by another module (one that wraps the booster) is
    not what its booster alone would answer.
    """
    pyfunc = model.flavors.get("python_function", {})
    for name in _BOOSTERS:
        if name in model.flavors and pyfunc.get("loader_module", f"mlflow.{name}") == (
            f"mlflow.{name}"
        ):
            return name
    return ""


def load_booster(model: MlModel, name: str) -> Any:
    """Load an estimator with scikit-learn's interface.

    Parameters
    ----------
    model : MlModel
    name : {"xgboost", "lightgbm"}
        The flavour.

    Raises
    ------
    VersionCorrupt
        When its file is missing or cut off.
    VersionUnloadable
        When the library is missing or is another, or the file does not load.
    """
    check_packages(model)
    flavor = model.flavors[name]
    path = inside(model.directory, str(flavor.get("data") or ""))
    if not path.is_file():
        path = inside(model.directory, f"data/{flavor.get('data')}")
    kind = str(flavor.get("model_class") or _BOOSTERS[name])
    if name == "xgboost":
        return named_failures(model, path.name, lambda: _xgboost(path, kind))
    return named_failures(model, path.name, lambda: _lightgbm(path, kind, flavor))


def names_features(estimator: Any) -> bool:
    """Whether an estimator was fitted on named columns; one that was not takes an array.

    XGBoost refuses a frame where it was fitted on an array.
    """
    booster = estimator.get_booster() if hasattr(estimator, "get_booster") else estimator
    if isinstance(booster, _Bare):
        booster = booster.booster
    return getattr(booster, "feature_names", ()) is not None


def _xgboost(path: Path, kind: str) -> Any:
    made = _class_of(kind, "xgboost")()
    # XGBoost's own errors about a missing file are long and hold its stack.
    with path.open("rb"):
        made.load_model(str(path))
    return _bare_xgboost(made) if kind == _BOOSTERS["xgboost"] else made


def _lightgbm(path: Path, kind: str, flavor: Mapping[str, Any]) -> Any:
    if kind == _BOOSTERS["lightgbm"]:
        with path.open("rb"):
            booster = _class_of(kind, "lightgbm")(model_file=str(path))
        return _bare_lightgbm(booster)
    allow_unpickling()
    return unpickle(path, str(flavor.get("serialization_format") or "cloudpickle"), flavor)


def _class_of(kind: str, package: str) -> Any:
    """Return the class that a model names, from its own library alone."""
    module, _, name = kind.rpartition(".")
    if module.partition(".")[0] != package:
        raise VersionUnloadable(
            f"its class is {kind}, which is not one of {package}'s",
            advice=f"log the model again with mlflow.{package}",
        )
    return getattr(importlib.import_module(module), name)


def _bare_xgboost(booster: Any) -> _Bare:
    from xgboost import DMatrix

    def answer(X: Any) -> Any:
        return booster.predict(DMatrix(X), validate_features=hasattr(X, "columns"))

    learner = json.loads(booster.save_config())["learner"]
    n_classes = int(learner["learner_model_param"]["num_class"])
    match learner["objective"]["name"]:
        case "multi:softprob":
            return _BareClassifier(booster, answer, n_classes)
        case "multi:softmax":
            return _BareLabels(booster, answer, n_classes)
    return _Bare(booster, answer)


def _bare_lightgbm(booster: Any) -> _Bare:
    n_classes = booster.num_model_per_iteration()
    objective = str(booster.dump_model(num_iteration=1).get("objective", "")).partition(" ")[0]
    if n_classes > 1 and objective in {"multiclass", "multiclassova"}:
        return _BareClassifier(booster, booster.predict, n_classes)
    return _Bare(booster, booster.predict)


class _Bare:
    """A bare booster with scikit-learn's ``predict``: the number that its objective gives."""

    def __init__(self, booster: Any, answer: Callable[[Any], Any]) -> None:
        self.booster = booster
        self._answer = answer

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return shape (n_samples,).

        Raises
        ------
        VersionUnloadable
            When its objective gives several numbers for each row, which are no probabilities.
        """
        found = np.asarray(self._answer(X))
        if found.ndim != 1:
            raise VersionUnloadable(
                f"its booster answers {found.shape[-1]} numbers for each row, where one is served",
                advice="log the library's estimator instead of its bare booster",
            )
        return found


class _BareLabels(_Bare):
    """A bare booster that answers a class, as a number from 0."""

    def __init__(self, booster: Any, answer: Callable[[Any], Any], n_classes: int) -> None:
        super().__init__(booster, answer)
        self.classes_ = np.arange(n_classes)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return labels of shape (n_samples,)."""
        return np.asarray(self._answer(X)).astype(np.int64)


class _BareClassifier(_BareLabels):
    """A bare booster that answers a probability for each class."""

    def predict_proba(self, X: Any) -> npt.NDArray[Any]:
        """Return shape (n_samples, n_classes)."""
        return np.asarray(self._answer(X))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the most probable class, the first one on a tie."""
        return np.asarray(self.predict_proba(X).argmax(axis=1))
