"""What MLflow says, read into plain values."""

from __future__ import annotations

import pytest

from greenroom.errors import RegistryError
from greenroom.registry.registered import read_model_version, read_registered_model
from greenroom.registry.registry import ModelVersion, RegisteredModel


def test_what_mlflow_says_is_read_into_plain_values():
    entry = {
        "name": "m",
        "version": 7,
        "current_stage": "Production",
        "tags": [{"key": "a", "value": "b"}, {"key": "empty"}],
        "aliases": ["b", "a"],
        "creation_timestamp": "12",
        "last_updated_timestamp": 13,
    }
    version = read_model_version(entry)
    assert version == ModelVersion(
        "m",
        "7",
        "Production",
        tags={"a": "b", "empty": ""},
        aliases=("a", "b"),
        created_at_ms=12,
        updated_at_ms=13,
    )
    assert version.number == 7
    model = read_registered_model({"name": "m", "latest_versions": [entry]})
    assert model == RegisteredModel("m", latest_versions=(version,))


@pytest.mark.parametrize("entry", [None, {}, {"name": "m", "version": "x"}, 5, {"name": "m"}])
def test_a_version_without_name_or_number_is_refused(entry):
    with pytest.raises(RegistryError, match="holds no model version"):
        read_model_version(entry)
