"""What settings and an app say of predictions in MLflow: which models', how, and where to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from greenroom.log.outbox import Kind
from greenroom.settings import Settings

if TYPE_CHECKING:
    from greenroom.app import App

__all__ = ["MlflowSetup", "mlflow_setup", "models_for_mlflow"]


class MlflowSetup(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how predictions go to MLflow.

    Parameters
    ----------
    tracking_uri : str
    experiment : str
    modes : dict of str to {"each", "batch", "summary"}
        By model.
    batch_size : int
        How many predictions a batch holds.
    max_waiting : int
        How many predictions may wait; what is more is summarised.
    timeout_s : float
        How long MLflow may take for an answer: a thousand metrics take a second or more.
    """

    tracking_uri: str
    experiment: str
    modes: dict[str, Kind]
    batch_size: int
    max_waiting: int
    timeout_s: float = 30.0


def mlflow_setup(settings: Settings, app: App | None) -> MlflowSetup | None:
    """Return how predictions go to MLflow; None where it is not to be asked at all.

    Also where nothing is logged to it any more: what waits was promised.
    """
    if app is None or not settings.mlflow_enabled:
        return None
    return MlflowSetup(
        tracking_uri=settings.tracking_uri,
        experiment=settings.mlflow_log_experiment or app.experiment,
        modes={model.name: model.mlflow_log for model in app.models if model.mlflow_log},
        batch_size=settings.mlflow_batch_size,
        max_waiting=settings.mlflow_max_waiting,
    )


def models_for_mlflow(settings: Settings, app: App | None) -> frozenset[str]:
    """Return the models whose predictions are to go to MLflow."""
    setup = mlflow_setup(settings, app)
    return frozenset(setup.modes) if setup is not None and settings.mlflow_log else frozenset()
