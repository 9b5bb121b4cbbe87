"""An app's features: one self-contained module whose source travels inside each version.

Training and serving call the same function from the same text. The module is imported under a name
made from its digest, so that a server can hold the features of several versions side by side, and
serve a version whose features it has never seen. When they are called is the business of
:mod:`greenroom.training.training` and :mod:`greenroom.inference.runtime`.
"""

from __future__ import annotations

import hashlib
import linecache
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Final

from greenroom.errors import AppError
from greenroom.schema import Columns

PREFIX: Final = "greenroom_features_"
_SELF_CONTAINED: Final = "a features file is self-contained: it imports installed packages only"

_loading: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class FeaturesModule:
    """A features module that has been imported.

    Parameters
    ----------
    digest : str
        The SHA-256 of the source, in hexadecimal.
    source : str
        The text itself, as it travels inside a version.
    module : module
        What it became; its name is ``greenroom_features_<first 16 of the digest>``.
    features : callable
        ``columns -> columns``: what enters the estimator, with as many rows as it was given.
        ``ValueError(name, problem, row)`` from it refuses a request, naming the field.
    expand : callable, optional
        ``request -> columns``: the rows that one request stands for. The request is a dict of
        plain values under the columns' data names, with None for a missing one; records are
        ``Columns``. In the file it is ``(request, context) -> columns`` where the model has a
        context; :func:`with_context` binds it. ``ValueError(name, problem)`` from it refuses a
        request, naming the field.
    """

    digest: str
    source: str
    module: ModuleType
    features: Callable[[Columns], Columns]
    expand: Callable[..., Columns] | None = None


def features_digest(source: str) -> str:
    """Return the SHA-256 of a features file's text, in hexadecimal."""
    return hashlib.sha256(source.encode("utf-8")).hexdigest()


def load_features(source: str) -> FeaturesModule:
    """Import a features module from its text; the same text is imported once in a process.

    Parameters
    ----------
    source : str
        The text of the file. It runs: only text from an app or a trusted registry belongs here.

    Raises
    ------
    AppError
        When it cannot be imported, or has no function ``features``; the message says which.

    Examples
    --------
    >>> found = load_features("def features(columns): return {'twice': 2 * columns['a']}")
    >>> found.features({"a": 3})
    {'twice': 6}
    """
    digest = features_digest(source)
    name = PREFIX + digest[:16]
    with _loading:
        module = sys.modules.get(name) or _import(name, source)
    return FeaturesModule(
        digest, source, module, _function(module, "features"), getattr(module, "expand", None)
    )


def with_context(found: FeaturesModule, context: Columns) -> FeaturesModule:
    """Return a module whose ``expand`` is given this context beside each request."""
    expand = found.expand
    if expand is None:
        return found

    def expand_with(request: Mapping[str, Any]) -> Columns:
        return expand(request, dict(context))

    return replace(found, expand=expand_with)


def _import(name: str, source: str) -> ModuleType:
    """Run the source as module ``name``; it stays in ``sys.modules`` only if it has what it needs.

    The module has to be found there while it runs, because dataclasses look theirs up.
    """
    filename = f"<{name}>"
    module = ModuleType(name)
    module.__file__ = filename
    module.__package__ = ""  # it has no siblings to import
    sys.modules[name] = module
    # Lets a traceback show the lines, although there is no such file.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    try:
        exec(compile(source, filename, "exec"), module.__dict__)  # noqa: S102 - that is what it is for
        _function(module, "features")
        _check_expand(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        linecache.cache.pop(filename, None)
        if isinstance(error, AppError) or not isinstance(error, Exception):
            raise
        raise _unimportable(error) from error
    return module


def _function(module: ModuleType, name: str) -> Callable[[Columns], Columns]:
    found = getattr(module, name, None)
    if not callable(found):
        problem = f"features: the file has no function {name!r}"
        raise AppError(
            problem, problems=[problem], advice="define `features(columns)`, which returns columns"
        )
    return found  # type: ignore[no-any-return]  # a module attribute is Any


def _check_expand(module: ModuleType) -> None:
    expand = getattr(module, "expand", None)
    if expand is not None and not callable(expand):
        problem = "features: `expand` is not a function"
        raise AppError(problem, problems=[problem], advice="define `expand(request)`, or rename it")


def _unimportable(error: Exception) -> AppError:
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    where = f" (line {line})" if line else ""
    problem = f"features: the file cannot be imported: {type(error).__name__}: {error}{where}"
    missing = isinstance(error, ImportError)
    return AppError(problem, problems=[problem], advice=_SELF_CONTAINED if missing else "")
