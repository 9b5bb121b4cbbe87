"""A training kept in a folder: its run and its version, until an MLflow server is there for them.

Laid out as::

    training.json   the run (parameters, metrics, tags, candidates) and the version's digest
    model/          the version, in MLflow's own format, as it will be registered
    run/            the run's files: figures, environment, reports

Written under another name and renamed when it is complete, so that a training that was cut off
leaves what was there before. Registering is :mod:`greenroom.training.registration`'s business.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import msgspec

from greenroom.errors import ProcessError, VersionCorrupt
from greenroom.training.journal import LoggedVersion
from greenroom.training.model_saving import save_model
from greenroom.versions.version_files import directory_digest, modified_at, sync_tree

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMAT: Final = 1
TRAINING_FILE: Final = "training.json"
MODEL_FOLDER: Final = "model"
RUN_FOLDER: Final = "run"
_STAGING: Final = ".training-"
_ABANDONED_AFTER_S: Final = 24 * 3600.0
"""What is that old was left there by a training that was killed."""


class KeptRun(msgspec.Struct, kw_only=True):
    """A run as it is kept; instants in milliseconds since 1970-01-01 UTC."""

    title: str
    tags: dict[str, str] = {}
    params: dict[str, str] = {}
    metrics: dict[str, float] = {}
    started_at_ms: int = 0
    ended_at_ms: int = 0


class KeptTraining(msgspec.Struct, frozen=True, kw_only=True):
    """What ``training.json`` holds.

    Parameters
    ----------
    app, model : str
        Which model of which app.
    digest : str
        Of the files in ``model/`` (:func:`greenroom.versions.version_files.directory_digest`).
    training : str
        What :func:`greenroom.training.training.training_digest` gave: the same again, the same
        training.
    tags : dict of str to str
        Those of the version.
    run : KeptRun
    candidates : tuple of KeptRun
        The runs below it.
    """

    format: int = FORMAT
    app: str
    model: str
    digest: str
    training: str
    tags: dict[str, str]
    run: KeptRun
    candidates: tuple[KeptRun, ...] = ()


class FolderRun:
    """One run, written into ``folder`` while its ``with`` block lasts."""

    def __init__(self, folder: Path, kept: KeptRun) -> None:
        self.kept = kept
        self._folder = folder

    @property
    def url(self) -> str:
        """Empty: it is in no server's pages yet."""
        return ""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record parameters, as text."""
        self.kept.params.update({name: str(value) for name, value in params.items()})

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Record figures."""
        self.kept.metrics.update({name: float(value) for name, value in metrics.items()})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Label the run."""
        self.kept.tags.update(tags)

    def log_figures(self, figures: Mapping[str, Figure], folder: str = "figures") -> None:
        """Store figures as PNG files under ``folder``."""
        place = self._folder / RUN_FOLDER / folder
        with _writing(self._folder.parent):
            place.mkdir(parents=True, exist_ok=True)
            for name, figure in figures.items():
                figure.savefig(place / name, dpi=120)

    def log_files(self, files: Mapping[str, bytes]) -> None:
        """Store files by their path inside the run."""
        with _writing(self._folder.parent):
            for name, content in files.items():
                path = self._folder / RUN_FOLDER / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

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
        """Store a model in MLflow's own format, with further files inside its directory."""
        del name  # the folder has it
        with _writing(self._folder.parent):
            save_model(
                self._folder / MODEL_FOLDER,
                estimator,
                signature=signature,
                example=example,
                requirements=requirements,
                finish=finish,
            )
        return LoggedVersion()


class RunFolder:
    """A journal in a folder, for one training.

    Parameters
    ----------
    target : Path
        What the folder is to be called. Nothing is there before :meth:`keep`.

    Raises
    ------
    ProcessError
        When the folder cannot be written, or holds files that no training wrote.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self._staging = target.parent / f"{_STAGING}{uuid4().hex}"
        self._runs: list[KeptRun] = []
        with _writing(target.parent):
            if target.exists() and not (target / TRAINING_FILE).exists() and any(target.iterdir()):
                raise ProcessError(
                    f"{target} holds files that no training wrote",
                    advice="move them away, or train into another folder",
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(target.parent)
            (self._staging / RUN_FOLDER).mkdir(parents=True)

    @contextmanager
    def run(
        self, name: str, *, tags: Mapping[str, str], parent: FolderRun | None = None
    ) -> Iterator[FolderRun]:
        """Open a run; the first one is the training's, the others are its candidates'."""
        del parent  # there are two levels, and the first run is the upper one
        kept = KeptRun(title=name, tags=dict(tags), started_at_ms=_now_ms())
        self._runs.append(kept)
        yield FolderRun(self._staging, kept)
        kept.ended_at_ms = _now_ms()

    def keep(self, app: str, model: str, training: str, tags: Mapping[str, str]) -> KeptTraining:
        """Write what was trained, and let it take the place of what was there before."""
        run, *candidates = self._runs
        made = KeptTraining(
            app=app,
            model=model,
            digest=directory_digest(self._staging / MODEL_FOLDER),
            training=training,
            tags=dict(tags),
            run=run,
            candidates=tuple(candidates),
        )
        with _writing(self.target.parent):
            text = msgspec.json.format(msgspec.json.encode(made), indent=2)
            (self._staging / TRAINING_FILE).write_bytes(text)
            sync_tree(self._staging)
            before = self.target.with_name(f"{_STAGING}{uuid4().hex}")
            if self.target.exists():
                self.target.rename(before)
            self._staging.rename(self.target)
            shutil.rmtree(before, ignore_errors=True)
        return made

    def discard(self) -> None:
        """Remove what a training that failed has written; what was there before stays."""
        shutil.rmtree(self._staging, ignore_errors=True)


def read_training(folder: Path) -> KeptTraining | None:
    """Read what was trained into a folder; None where nothing was.

    Raises
    ------
    VersionCorrupt
        When it cannot be understood, or was written by a later Greenroom.
    """
    path = folder / TRAINING_FILE
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if msgspec.json.decode(text, type=_Format).format > FORMAT:
            raise VersionCorrupt(
                f"{path} was written by a later Greenroom", advice="upgrade greenroom here"
            )
        return msgspec.json.decode(text, type=KeptTraining)
    except msgspec.DecodeError as error:
        raise VersionCorrupt(
            f"{path} cannot be read: {error}", advice="train the model into the folder again"
        ) from error


class _Format(msgspec.Struct):
    format: int


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ProcessError(
            f"{folder} cannot be written: {error.strerror or error}",
            advice="free space, or let the user that trains write there",
        ) from error


def _remove_abandoned(folder: Path) -> None:
    before_s = time.time() - _ABANDONED_AFTER_S
    for path in folder.glob(f"{_STAGING}*"):
        if modified_at(path) < before_s:
            shutil.rmtree(path, ignore_errors=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
