"""``greenroom train --into`` and ``greenroom register``: what they print, and how they end."""

from __future__ import annotations

import shutil

import pytest

from greenroom.registry.registry import Registry
from greenroom.selector import Selector
from sample_app import write_app

NAME = "command-sample"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An app on disk; its model is trained by the first test that needs it."""
    return write_app(tmp_path_factory.mktemp("register") / "app", NAME, retrain="when changed")


@pytest.fixture
def app(trained, monkeypatch, call):
    monkeypatch.chdir(trained)
    monkeypatch.setenv("GREENROOM_WHO", "a tester")
    return trained


def test_a_model_is_trained_into_a_folder_registered_and_left_alone_the_next_time(
    app, call, mlflow_server, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    status, output, errors = call("train", "--into", "models")
    assert status == 0, errors
    for text in ("tree", "logistic", "best", f"kept     {NAME}: models/{NAME}"):
        assert text in output
    status, output, _ = call("train", "--into", "models")
    assert (status, "is up to date" in output) == (0, True)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    status, output, errors = call("register", "models", "--train-missing")
    assert status == 0, errors
    assert output == f"{NAME}: registered as version 1; Production names it now\n"
    status, output, _ = call("register", "models")
    assert (status, output) == (0, f"{NAME}: unchanged: version 1\n")

    status, output, _ = call("history", NAME)
    assert (status, "outside the gate" in output, "a tester" in output) == (0, True, True)
    with Registry(mlflow_server) as registry:
        (selected,) = registry.resolve(NAME, Selector.parse("Production")).versions
    assert selected.run_id


def test_what_another_selected_is_named_beside_what_is_unchanged(
    app, call, mlflow_server, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    assert call("register", "models", "--train-missing")[0] == 0
    shutil.copytree(app / "models" / NAME / "model", app / "others" / NAME)
    (app / "others" / NAME / "note.txt").write_text("other files")
    status, output, _ = call("register", "others")
    assert (status, "its files have changed: registered as version 2" in output) == (0, True)
    status, output, _ = call("register", "models")

    assert (status, output) == (0, f"{NAME}: version 1 has these files; Production names it now\n")


def test_without_an_app_a_model_is_registered_under_the_name_of_its_folder(
    app, call, mlflow_server, monkeypatch, tmp_path
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    assert call("train", "--into", "models")[0] == 0
    monkeypatch.chdir(tmp_path)
    shutil.copytree(app / "models" / NAME / "model", tmp_path / "models" / "somebodys")
    status, output, errors = call("register", "models")

    assert status == 0, errors
    assert output == "somebodys: registered as version 1; Production names it now\n"


def test_everything_that_is_wrong_with_a_folder_is_said_at_once(
    call, mlflow_server, monkeypatch, tmp_path
):
    folder = write_app(tmp_path / "app", "absent-model")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    for place in ("a/MLmodel", "b/model.pkl"):
        (folder / "models" / place).parent.mkdir(parents=True)
        (folder / "models" / place).write_text("flavors: {sklearn: {}}")
    status, _, errors = call("register", "models")

    assert status == 1
    first, *others = errors.splitlines()
    assert first == "greenroom: 3 models could not be registered from models:"
    assert sorted(line.split(";")[0] for line in others) == [
        "  - absent-model is not in models",
        "  - models/a is no model of sample",
        "  - models/b/model.pkl is a bare model, which says nothing about its inputs",
    ]


def test_an_empty_folder_is_no_success(call, mlflow_server, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    (tmp_path / "models").mkdir()

    status, _, errors = call("register", "models")
    assert (status, "models holds no model" in errors) == (1, True)


def test_an_mlflow_that_never_answers_ends_the_wait_with_the_documented_words(
    call, monkeypatch, tmp_path
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("GREENROOM_MLFLOW_START_TIMEOUT_S", "0.5")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pkl").write_text("weights")

    status, _, errors = call("register", "models")
    assert status == 1
    assert "waiting for MLflow at http://127.0.0.1:9" in errors
    assert "Failed to connect to MLflow at http://127.0.0.1:9" in errors


def test_a_folder_and_a_promotion_exclude_each_other(call, tmp_path, monkeypatch):
    monkeypatch.chdir(write_app(tmp_path / "app", NAME))

    status, _, errors = call("train", "--into", "models", "--promote")
    assert (status, "--into excludes --promote" in errors) == (1, True)


def test_a_variable_names_the_settings_file_of_an_environment(call, tmp_path, monkeypatch):
    (tmp_path / "greenroom.production.yaml").write_text("auth: tokens\n")
    monkeypatch.setenv("GREENROOM_CONFIG", "greenroom.production.yaml")

    status, _, errors = call("serve", "--all")
    assert (status, "auth is tokens" in errors) == (1, True), errors

    monkeypatch.setenv("GREENROOM_CONFIG", "greenroom.absent.yaml")
    status, _, errors = call("serve", "--all")
    assert (status, "greenroom.absent.yaml" in errors) == (1, True), errors


def test_without_mlflow_there_is_nowhere_to_register(call, tmp_path, monkeypatch):
    monkeypatch.setenv("GREENROOM_MLFLOW_ENABLED", "false")

    status, _, errors = call("register", "models")
    assert (status, "mlflow_enabled is false" in errors) == (1, True)
