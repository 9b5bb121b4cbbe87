"""Management routes: under which paths of an app's own the registry and the server are managed.

Data alone. What the routes answer is :mod:`greenroom.registry_pages`'s business. Carrying out what
they ask for is the supervisor's (:mod:`greenroom.registry_errands`): no worker talks to MLflow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from greenroom.errors import AppError, refuse
from greenroom.model import PATH

__all__ = ["Management"]

_PARAMETER = re.compile(r"\{([^}]*)\}")


@dataclass(frozen=True, kw_only=True)
class Management:
    """The paths under which a server answers what manages it; an empty one is not answered.

    Parameters
    ----------
    reload : str
        ``POST``: ask the registry now, answered when all workers serve what it selects.
    models : str
        ``GET``: the registered models.
    model : str
        ``GET``, with ``{name}`` in it: one registered model, its versions and its history.
    transition : str
        ``POST``, with ``{name}`` in it: move a version to another stage.
    gated : bool
        Whether a transition into a stage that the app's model serves has to pass the model's gate.
        Else it is carried out as what it is, a person's act, and the history says "outside the
        gate".

    Raises
    ------
    AppError
        Naming every field that is wrong.

    Examples
    --------
    >>> Management(reload="/api/model/reload", models="/api/mlflow/models").paths
    ('/api/model/reload', '/api/mlflow/models')
    """

    reload: str = ""
    models: str = ""
    model: str = ""
    transition: str = ""
    gated: bool = False

    def __post_init__(self) -> None:
        problems = [f"management.{problem}" for problem in self._problems()]
        if problems:
            refuse(AppError("; ".join(problems), problems=problems))

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that are answered."""
        every = (self.reload, self.models, self.model, self.transition)
        return tuple(path for path in every if path)

    def _problems(self) -> Iterator[str]:
        wanted: dict[str, list[str]] = {
            "reload": [],
            "models": [],
            "model": ["name"],
            "transition": ["name"],
        }
        for field, parameters in wanted.items():
            path = getattr(self, field)
            if path == "":
                continue
            if not (isinstance(path, str) and PATH.fullmatch(path)):
                yield f"{field}: {path!r} is not a path"
            elif _PARAMETER.findall(path) != parameters:
                parameter = "with {name} in it, once" if parameters else "without a parameter"
                yield f"{field}: {path!r} has to be a path {parameter}"
        if not isinstance(self.gated, bool):
            yield f"gated: {self.gated!r} is neither True nor False"
