"""What a run in MLflow says a training started from: its data, how they were divided, its seed.

Which estimator was fitted is not here; :mod:`greenroom.training.cross_validation` says that of a
candidate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greenroom.model import Model
    from greenroom.training.fitting import Prepared

__all__ = ["run_params"]


def run_params(prepared: Prepared) -> dict[str, Any]:
    """Return the parameters of a training's run; those of a candidate are its own run's."""
    model, dataset = prepared.model, prepared.dataset
    return {
        "dataset_name": dataset.name,
        "dataset_hash": dataset.dataset_hash,
        "content_hash": dataset.content_hash,
        **({"dvc_md5": dataset.dvc_md5} if dataset.dvc_md5 else {}),
        "n_rows": dataset.n_rows,
        **({"n_available": dataset.n_available} if dataset.n_available else {}),
        "n_columns": len(model.columns),
        "n_features": prepared.inputs.shape[1],
        "n_train": len(prepared.train),
        "n_holdout": len(prepared.holdout),
        "holdout": model.split.holdout,
        "split": _split_text(model),
        "split_seed": model.split.seed,
        "folds": model.folds,
        "random_state": model.seed,
    }


def _split_text(model: Model) -> str:
    if model.split.time:
        return f"latest by {model.split.time}"
    return f"hash of {model.split.group}" if model.split.group else "hash of the row"
