"""Saving a model: MLflow itself tells nothing that nobody asked for."""

from __future__ import annotations

import os

from mlflow.utils.logging_utils import get_mlflow_log_level

from greenroom.training.model_saving import be_quiet


def test_an_mlflow_that_is_imported_later_is_quiet_too(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    assert get_mlflow_log_level() == "INFO"

    be_quiet()

    assert get_mlflow_log_level() == "ERROR"
