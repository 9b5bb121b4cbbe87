"""A documented settings file: its declaration is checked, and each key finds its setting."""

from __future__ import annotations

import pytest

from greenroom.errors import AppError
from greenroom.settings_file import Entry, SettingsFile

KEYS = {"mlflow.model.stage": "models.m.serve", "mlflow.enabled": "mlflow_enabled", "port": "port"}


def test_keys_below_one_another_are_found_in_the_order_of_the_file():
    file = SettingsFile("a.yaml", KEYS)

    found = file.entries({"port": 1, "mlflow": {"enabled": False, "model": {"stage": "Staging"}}})

    assert list(found) == [
        Entry("port", "port", 1),
        Entry("mlflow.enabled", "mlflow_enabled", False),
        Entry("mlflow.model.stage", "models.m.serve", "Staging"),
    ]


def test_a_section_with_nothing_in_it_sets_nothing():
    assert list(SettingsFile("a.yaml", KEYS).entries({"mlflow": None})) == []


def test_every_key_that_there_is_not_is_named():
    named = "there is no key mlflow.enable; there is no key 8; there is no key model"

    with pytest.raises(ValueError, match=f"^{named}$"):
        SettingsFile("a.yaml", KEYS).entries({"mlflow": {"enable": True}, 8: 1, "model": {}})


@pytest.mark.parametrize(
    ("path", "keys", "named"),
    [
        ("/etc/api.yaml", KEYS, "path"),
        ("../api.yaml", KEYS, "path"),
        ("", KEYS, "path"),
        ("a.yaml", {}, "keys"),
        ("a.yaml", {"mlflow..uri": "tracking_uri"}, "mlflow..uri"),
        ("a.yaml", {"mlflow": "port", "mlflow.uri": "tracking_uri"}, "'mlflow' cannot"),
    ],
)
def test_a_wrong_declaration_is_refused(path, keys, named):
    with pytest.raises(AppError, match=named):
        SettingsFile(path, keys)
