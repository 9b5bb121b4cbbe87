"""A folder of trained models: which of them can be registered, and what stands in the way.

Each model has a folder of its own. It is one that ``greenroom train --into`` wrote
(:mod:`greenroom.training.run_folder`), or a model in MLflow's own format, with a signature, whoever
made it. Registering them is :mod:`greenroom.training.registration`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from greenroom.errors import DataError, DataMissing, GreenroomError, VersionCorrupt
from greenroom.training.run_folder import (
    MODEL_FOLDER,
    RUN_FOLDER,
    TRAINING_FILE,
    KeptTraining,
    read_training,
)
from greenroom.versions.mlmodel import MLMODEL_FILE, read_mlmodel
from greenroom.versions.version_files import LEFT_OUT, directory_digest

BARE: Final = frozenset({".pkl", ".pickle", ".joblib", ".onnx", ".h5", ".keras", ".pt", ".ubj"})
"""Endings of files that hold a model and nothing about it."""


@dataclass(frozen=True)
class ModelEntry:
    """A model that lies in a folder.

    Parameters
    ----------
    name : str
        The app's model that it is, or what its folder is called.
    directory : Path
        The version itself: the folder with ``MLmodel``.
    kept : KeptTraining, optional
        The run that made it; None for one of another trainer.
    """

    name: str
    directory: Path
    kept: KeptTraining | None = None

    @property
    def run_folder(self) -> Path | None:
        """The run's files, where there are some."""
        folder = self.directory.parent / RUN_FOLDER
        return folder if self.kept is not None and folder.is_dir() else None

    @cached_property
    def digest(self) -> str:
        """What its files are, whatever they are called."""
        return directory_digest(self.directory)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """The bytes of each of its files, by path relative to :attr:`directory`."""
        files = (path for path in self.directory.rglob("*") if path.is_file())
        sizes = {path.relative_to(self.directory).as_posix(): path.stat().st_size for path in files}
        return {path: size for path, size in sizes.items() if path not in LEFT_OUT}

    def check(self) -> None:
        """See that it can be registered, and served afterwards.

        Raises
        ------
        VersionCorrupt
            When its files are not those that its training left.
        VersionUnloadable
            When it is another trainer's and has no signature that names columns.
        """
        if self.kept is None:
            read_mlmodel(self.directory).schema()
        elif self.digest != self.kept.digest:
            raise VersionCorrupt(
                f"the files in {self.directory} are not those that its training left",
                advice="train it into the folder again",
            )


def find_models(folder: Path) -> tuple[list[ModelEntry], list[GreenroomError]]:
    """Return the models in a folder, sorted by name, and what cannot be one.

    Parameters
    ----------
    folder : Path
        One with a folder for each model, or that of one model.

    Returns
    -------
    list of ModelEntry
    list of GreenroomError
        For each place that holds a model and nothing about it, and for each record that cannot be
        read. Hidden folders and others without a model are passed over.

    Raises
    ------
    DataMissing
        When there is no such folder.
    """
    if not folder.is_dir():
        raise DataMissing(
            f"there is no folder {folder}",
            advice="train into it: greenroom train --into FOLDER, or register --train-missing",
        )
    found: list[ModelEntry] = []
    problems: list[GreenroomError] = []
    for place in _places(folder):
        try:
            found.append(_entry(place))
        except GreenroomError as error:
            problems.append(error)
    if not _is_model(folder):
        problems += [_bare(path) for path in sorted(folder.iterdir()) if path.suffix in BARE]
    return found, problems


def _places(folder: Path) -> Iterator[Path]:
    """Give the folders that hold a model, or look as if one was meant to be there."""
    if _is_model(folder):
        yield folder.resolve()
        return
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        if _is_model(path) or any(file.suffix in BARE for file in path.iterdir()):
            yield path


def _is_model(folder: Path) -> bool:
    names = TRAINING_FILE, MLMODEL_FILE, f"{MODEL_FOLDER}/{MLMODEL_FILE}"
    return any((folder / name).is_file() for name in names)


def _entry(folder: Path) -> ModelEntry:
    kept = read_training(folder)
    if kept is not None:
        if not (folder / MODEL_FOLDER / MLMODEL_FILE).is_file():
            raise VersionCorrupt(
                f"{folder} has lost its model", advice="train it into the folder again"
            )
        return ModelEntry(kept.model, folder / MODEL_FOLDER, kept)
    for directory in (folder, folder / MODEL_FOLDER):
        if (directory / MLMODEL_FILE).is_file():
            return ModelEntry(folder.name, directory)
    raise _bare(next(path for path in sorted(folder.iterdir()) if path.suffix in BARE))


def _bare(file: Path) -> DataError:
    return DataError(
        f"{file} is a bare model, which says nothing about its inputs",
        advice="store it as `mlflow.sklearn.save_model(model, FOLDER, signature=...)`, or train "
        "with `greenroom train --into`",
    )
