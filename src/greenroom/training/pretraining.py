"""Training ahead: an app's models into a folder, without an MLflow server.

The same training as :mod:`greenroom.training.training`'s, written into
:mod:`greenroom.training.run_folder`. Nothing is registered and no gate is asked:
:mod:`greenroom.training.registration` takes it from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from greenroom.app import App
from greenroom.errors import VersionCorrupt
from greenroom.model import Model
from greenroom.progress import OnProgress, silent
from greenroom.settings import Settings
from greenroom.training.dataset import load_dataset
from greenroom.training.provenance import record_code
from greenroom.training.run_folder import MODEL_FOLDER, KeptTraining, RunFolder, read_training
from greenroom.training.training import Trained, train_and_log, training_digest
from greenroom.training_route import TrainingPlan
from greenroom.versions.version_files import directory_digest


@dataclass(frozen=True)
class Pretrained:
    """What training into a folder came to.

    Parameters
    ----------
    folder : Path
        The model's own.
    kept : KeptTraining
        What ``training.json`` says.
    trained : Trained
        With its figures, unless it was ``unchanged``: trained before, from the same data, code and
        settings.
    """

    folder: Path
    kept: KeptTraining
    trained: Trained


def model_folder(into: Path, model: Model) -> Path:
    """Return where a model is kept below ``into``: under its own name, whatever it is deployed as.

    Settings may give it another registered name; that is decided when it is registered.
    """
    return into / model.name


def train_into(
    app: App,
    model: Model,
    folder: Path,
    into: Path,
    *,
    settings: Settings,
    plan: TrainingPlan | None = None,
    on_progress: OnProgress = silent,
) -> Pretrained:
    """Train one model, and keep its run and its version in a folder below ``into``.

    What was trained there before is replaced when the training is complete. Where the app says
    ``retrain="when changed"``, and data, code and settings are as they were, it is left as it is.

    Parameters
    ----------
    folder : Path
        The app's folder.
    into : Path
        Made when it is not there.
    plan : TrainingPlan, optional
        Which candidates are tried, on which data; default: as the model says.

    Raises
    ------
    DataError
        When the data are missing or do not fit.
    ProcessError
        When the folder cannot be written, or holds files that no training wrote.
    """
    plan = plan or TrainingPlan(model=model.name)
    model = plan.applied_to(model)
    on_progress(f"reading {model.dataset_name or 'the data'}", None)
    dataset = load_dataset(
        model, folder, rows=plan.rows, generated=settings.generated, on_progress=on_progress
    )
    code = record_code(folder)
    training = training_digest(model, dataset, code.code_hash, settings, plan)
    target = model_folder(into, model)
    before = _whole(target) if app.retrain == "when changed" else None
    if before is not None and before.training == training:
        return Pretrained(target, before, Trained(model, "", dataset, unchanged=True))
    journal = RunFolder(target)
    try:
        trained = train_and_log(
            journal,
            app,
            model,
            folder,
            dataset,
            code,
            plan,
            title=f"{model.name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
            reference_rows=settings.reference_rows,
            training=training,
            on_progress=on_progress,
        )
        kept = journal.keep(app.name, model.name, training, trained.tags)
    finally:
        journal.discard()
    return Pretrained(target, kept, trained)


def _whole(target: Path) -> KeptTraining | None:
    """Read what was trained there, where it is as it was left; the rest is trained anew."""
    try:
        kept = read_training(target)
    except VersionCorrupt:
        return None
    if kept is None or directory_digest(target / MODEL_FOLDER) != kept.digest:
        return None
    return kept
