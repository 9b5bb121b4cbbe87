"""What a training writes down, and where: in MLflow as it goes on, or in a folder until later.

Protocols alone, so that :mod:`greenroom.training.training` knows neither. MLflow's runs are
:mod:`greenroom.training.tracking`'s, runs in a folder :mod:`greenroom.training.run_folder`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class LoggedVersion:
    """A model as it was logged: its id, its address for registration, and its run.

    One that is kept in a folder has none of them yet.
    """

    model_id: str = ""
    source: str = ""
    run_id: str = ""


class RunWriter(Protocol):
    """A run that is under way."""

    @property
    def url(self) -> str:
        """Where a person looks at it."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record parameters; they are kept as text."""

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Record figures."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Label the run."""

    def log_figures(self, figures: Mapping[str, Figure], folder: str = "figures") -> None:
        """Store figures as PNG files under ``folder``."""

    def log_files(self, files: Mapping[str, bytes]) -> None:
        """Store files by their path inside the run."""

    def log_model(
        self,
        estimator: Any,
        *,
        name: str,
        signature: Any,
        example: pd.DataFrame,
        requirements: list[str],
        finish: Callable[[Path], None],
    ) -> LoggedVersion:
        """Store a model in MLflow's own format; ``finish`` adds files to its directory."""


class Journal(Protocol):
    """Where runs are written."""

    def run(
        self, name: str, *, tags: Mapping[str, str], parent: Any = None
    ) -> AbstractContextManager[RunWriter]:
        """Open a run, below another one where ``parent`` is given."""
