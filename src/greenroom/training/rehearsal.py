"""Trying what an app's functions do before a training relies on it: data, features, candidates.

Each check calls one of the app's own functions on a few rows and yields what is wrong with what
came back; whatever that code raises becomes a problem, too. Nothing is fitted and nothing is
logged. What can be told without calling anything is :mod:`greenroom.checking`'s business.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from greenroom.data.examples import example_request
from greenroom.data.features import FeaturesModule, load_features, with_context
from greenroom.errors import AppError, DataMissing, GreenroomError
from greenroom.model import Model
from greenroom.payloads.request import RequestType
from greenroom.schema import Columns, n_rows, take
from greenroom.training.dataset import Dataset, load_dataset
from greenroom.versions.native import plain_request

N_TRIED: Final = 200
"""How many rows features are tried on."""

_ALLOWED: Final = sys.stdlib_module_names | {"numpy"}
_METHODS: Final = {
    "anomaly": ("fit", "predict", "score_samples"),
}
"""What an estimator has to have, by the name of its task; else fit and predict."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an app.

    Parameters
    ----------
    where : str
        The file, the model or the function.
    what : str
        What is wrong with it.
    advice : str
        What to do about it.
    level : {"error", "warning"}
        Whether training or serving would fail, or only might.

    Examples
    --------
    >>> print(Problem("features.py", "imports pandas", level="warning"))
    warning: features.py: imports pandas
    """

    where: str
    what: str
    advice: str = ""
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        text = f"{self.level}: {self.where}: {self.what}"
        return f"{text}; {self.advice}" if self.advice else text


def rehearse(model: Model, folder: Path) -> Iterator[Problem]:
    """Try everything that ``model`` brings along, and yield each problem.

    Parameters
    ----------
    folder : Path
        The app's folder, which the model's files are relative to.
    """
    dataset, problems = _read(model, folder)
    yield from problems
    if model.generated is not None:
        yield from _check_generated(model, folder, given=dataset)
    rows = take(dataset.columns, np.arange(dataset.n_rows)[:N_TRIED]) if dataset else None
    if model.features:
        context = dataset.context if dataset else {}
        yield from _check_features(model, folder, rows or _example_rows(model), context)
    yield from _check_candidates(model, model.candidates, "candidates")
    if model.baselines is not None:
        yield from _check_candidates(model, model.baselines, "baselines")


def _attempt(call: Callable[[], T], where: str) -> tuple[T | None, list[Problem]]:
    """Call the app's own code; its result, or what it raised as a problem."""
    try:
        return call(), []
    except AppError as error:
        return None, [
            Problem(where, what, error.advice) for what in error.problems or (str(error),)
        ]
    except GreenroomError as error:
        return None, [Problem(where, error.message, error.advice)]
    except Exception as error:  # noqa: BLE001 - it is the app's code, and this is what is asked for
        return None, [Problem(where, f"{type(error).__name__}: {' '.join(str(error).split())}")]


def _read(model: Model, folder: Path) -> tuple[Dataset | None, list[Problem]]:
    """Load the data as training would; generated data where the file is absent."""
    where = f"model {model.name!r}, dataset"
    absent: list[DataMissing] = []

    def load() -> Dataset | None:
        try:
            return load_dataset(model, folder, pulls=False)  # a check changes nothing
        except DataMissing as error:
            absent.append(error)
            return None

    dataset, problems = _attempt(load, where)
    for error in absent:
        if model.generated is None:
            return None, [Problem(where, error.message, error.advice)]
        problems = [Problem(where, error.message, error.advice, "warning")]
        # What is wrong with generated data is named by the check that is about them.
        dataset, _ = _attempt(lambda: load_dataset(model, folder, generated=True), where)
    if dataset is not None and dataset.dvc_differs:
        what = f"{model.dataset} is not the file that {dataset.dvc_pointer} points to"
        advice = f"dvc pull --force {dataset.dvc_pointer} brings that one back"
        problems = [*problems, Problem(where, what, advice, "warning")]
    return dataset, problems


def _check_generated(model: Model, folder: Path, *, given: Dataset | None) -> Iterator[Problem]:
    """Require of generated data the declared columns, and the same rows for the same seed."""
    where = f"model {model.name!r}, generated"
    generated = model.generated
    assert generated is not None  # noqa: S101 - for the type checker
    stand_in = replace(model, dataset=lambda: generated(model.seed), generated=None)
    first, problems = _attempt(lambda: load_dataset(stand_in, folder), where)
    if first is None:
        yield from problems
        return
    again, problems = _attempt(lambda: load_dataset(stand_in, folder), where)
    yield from problems
    if again is not None and again.content_hash != first.content_hash:
        yield Problem(
            where, "gives other rows for the same seed", "draw from numpy.random.default_rng(seed)"
        )
    for name in first.ignored:
        yield Problem(where, f"has a column {name!r} that is not declared", level="warning")
    if given is not None and given.content_hash == first.content_hash and not given.generated:
        yield Problem(where, "gives the data themselves, not a stand-in", level="warning")


def _example_rows(model: Model) -> Columns:
    """Three rows of the examples, the last with everything missing that may be."""
    schema = model.schema
    example = example_request(schema)
    columns: Columns = {}
    for column in schema:
        value = example[column.request_name]
        if column.numeric:
            values: npt.NDArray[Any] = np.full(3, value, dtype=np.float64)
        elif column.kind in {"date", "datetime"}:
            values = np.full(3, np.datetime64(str(value).removesuffix("Z"), "us"))
        else:
            values = np.full(3, value, dtype=object)
        if column.nullable:
            values[2] = None if values.dtype == object else np.array("nan", values.dtype)
        columns[column.name] = values
    return columns


def _check_features(
    model: Model, folder: Path, rows: Columns, context: Columns
) -> Iterator[Problem]:
    where = model.features
    path = folder / model.features
    if not path.is_file():
        yield Problem(where, f"there is no such file in {folder.name}/", "write it, or correct it")
        return
    source, problems = _attempt(lambda: path.read_text(encoding="utf-8"), where)
    if source is None:
        yield from problems
        return
    module, problems = _attempt(lambda: load_features(source), where)
    yield from _check_imports(source, path)
    if module is None:
        yield from problems
        return
    if model.request and module.expand is None:
        yield Problem(where, "has no function `expand`, which model.request needs")
    elif model.request:
        found = with_context(module, context) if model.context is not None else module
        yield from _try_expand(found, model, where)
    yield from _try_features(module, rows, where)


def _try_expand(module: FeaturesModule, model: Model, where: str) -> Iterator[Problem]:
    """Expand the example request, whole and with everything left out that may be."""
    schema = model.request_schema
    whole = example_request(schema)
    needed = {c.request_name: whole[c.request_name] for c in schema if not c.nullable}
    for request in (whole, needed):
        columns = RequestType.compile(schema).decode(msgspec.json.encode(request)).columns()
        expand, plain = module.expand, plain_request(schema, columns)
        assert expand is not None  # noqa: S101 - for the type checker
        made, problems = _attempt(partial(expand, plain), f"{where}, expand")
        yield from problems
        if problems:
            return
        missing = [repr(name) for name in model.schema.names if name not in (made or {})]
        if missing:
            what = f"makes no {', '.join(missing)}, which the model's rows have"
            yield Problem(f"{where}, expand", what)
            return


def _check_imports(source: str, path: Path) -> Iterator[Problem]:
    """Say which imports will not be there, or may not, where a version is served."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # loading it has said so
    for node in ast.walk(tree):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ImportFrom) and node.level:
            yield Problem(
                where,
                "imports a neighbour; the file travels alone inside a version",
                "copy what it needs into it",
            )
        elif isinstance(node, ast.Import | ast.ImportFrom):
            named = node.names if isinstance(node, ast.Import) else ()
            roots = [alias.name for alias in named] or [getattr(node, "module", None) or ""]
            for root in sorted({name.partition(".")[0] for name in roots} - _ALLOWED):
                yield _unwanted_import(root, where, path)
        elif isinstance(node, ast.Name) and node.id == "__file__":
            yield Problem(where, "uses `__file__`; a served version has no such file")


def _unwanted_import(root: str, where: str, path: Path) -> Problem:
    beside = path.with_name(root)
    if beside.is_dir() or beside.with_suffix(".py").is_file():
        return Problem(
            where,
            f"imports {root}, which lies beside it; the file travels alone inside a version",
            "copy what it needs into it",
        )
    return Problem(
        where,
        f"imports {root}; a server has the standard library and numpy for certain",
        f"do without, or install {root} wherever this model is served",
        "warning",
    )


def _try_features(module: FeaturesModule, rows: Columns, where: str) -> Iterator[Problem]:
    """Call features twice on the same rows, and once on the first row alone."""
    before = _copy(rows)
    first, problems = _attempt(lambda: module.features(_copy(rows)), where)
    if problems:
        yield from problems
        return
    made = list(_check_made(first, n_rows(rows), where))
    yield from made
    if made or not isinstance(first, Mapping):
        return
    given = _copy(rows)
    second, problems = _attempt(lambda: module.features(given), where)
    yield from problems
    if not problems and not _same(first, second or {}):
        yield Problem(where, "gives something else when called again on the same rows")
    if not _same(before, given):
        yield Problem(where, "changes the columns that it is given", "copy before changing")
    alone, problems = _attempt(lambda: module.features(take(before, np.array([0]))), where)
    yield from problems
    if not problems and not _same(take(dict(first), np.array([0])), alone or {}):
        yield Problem(
            where,
            "gives a row something else when other rows are there",
            "leave means, ranks and the like to a step of the estimator, which is fitted",
        )


def _check_made(made: Any, length: int, where: str) -> Iterator[Problem]:
    """Say what is wrong with the columns that features gave."""
    if not isinstance(made, Mapping) or not made:
        yield Problem(where, f"gives {type(made).__name__}, not a dict of columns with entries")
        return
    for name, values in made.items():
        if not isinstance(values, np.ndarray) or values.ndim != 1:
            yield Problem(where, f"column {name!r} is not a one-dimensional numpy array")
        elif len(values) != length:
            yield Problem(where, f"column {name!r} has {len(values)} rows for {length}")
        elif values.dtype.kind not in "fiubO":
            yield Problem(where, f"column {name!r} is neither numbers nor texts: {values.dtype}")
        elif values.dtype == object and not all(
            value is None or isinstance(value, str) for value in values
        ):
            yield Problem(where, f"column {name!r} holds objects that are not texts")
        elif values.dtype.kind == "f" and np.isinf(values).any():
            yield Problem(
                where,
                f"column {name!r} is infinite in some rows; many estimators refuse that",
                "use NaN for what is not known",
                "warning",
            )


def _check_candidates(
    model: Model, make: Callable[[int], Mapping[str, Any]], field: str
) -> Iterator[Problem]:
    where = f"model {model.name!r}, {field}"
    found, problems = _attempt(lambda: make(model.seed), where)
    yield from problems
    if problems:
        return
    if not isinstance(found, Mapping) or not found:
        yield Problem(where, "gives none", "return {name: estimator} with at least one")
        return
    again, problems = _attempt(lambda: make(model.seed), where)
    yield from problems
    if isinstance(again, Mapping) and list(again) != list(found):
        yield Problem(where, "gives other names when called again with the same seed")
    for name, estimator in found.items():
        if not isinstance(name, str):
            yield Problem(where, f"{name!r} is not a text; they go by name")
        yield from _check_estimator(model.task.name, f"{name!r}", estimator, where)
        if isinstance(again, Mapping) and again.get(name) is estimator:
            yield Problem(where, f"{name!r} is one object for all folds", "make it in the function")


def _check_estimator(task: str, name: str, estimator: Any, where: str) -> Iterator[Problem]:
    """Say which methods of an estimator are missing that its task calls."""
    described = f"{name} ({type(estimator).__name__})"
    missing = [
        method
        for method in _METHODS.get(task, ("fit", "predict"))
        if not callable(getattr(estimator, method, None))
    ]
    if missing:
        yield Problem(where, f"{described} has no {', '.join(missing)}", f"which task {task} calls")
    elif task == "classification" and not hasattr(estimator, "predict_proba"):
        yield Problem(
            where,
            f"{described} has no predict_proba: its answers hold no probabilities, and metrics "
            "made from them are left out",
            "take one that has it, or wrap it in CalibratedClassifierCV",
            "warning",
        )


def _copy(columns: Columns) -> Columns:
    return {name: values.copy() for name, values in columns.items()}


def _same(one: Mapping[str, npt.NDArray[Any]], other: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Whether columns are equal; numbers up to rounding, which differs for a lone row."""
    if list(one) != list(other):
        return False
    return all(_same_values(values, np.asarray(other[name])) for name, values in one.items())


def _same_values(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "fiub" and other.dtype.kind in "fiub":
        return bool(np.allclose(one, other, rtol=1e-9, atol=0.0, equal_nan=True))
    if one.dtype.kind == "M":
        return bool(np.array_equal(one, other, equal_nan=True))
    return bool(one.tolist() == other.tolist())
