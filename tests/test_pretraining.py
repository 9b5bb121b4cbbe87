"""Training into a folder without a server, and what a real MLflow server makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from greenroom.app_loading import forget_app, load_app
from greenroom.errors import DataMissing
from greenroom.inference.runtime import load_runtime
from greenroom.registry.registry import Registry
from greenroom.selector import Selector
from greenroom.settings_sources import load_settings
from greenroom.training.model_folder import find_models
from greenroom.training.pretraining import Pretrained, train_into
from greenroom.training.registration import register_entry
from greenroom.training.release import Deployed
from greenroom.training.run_folder import read_training
from greenroom.training.tracking import Tracking
from greenroom.versions.manifest import read_manifest
from greenroom.versions.version_files import directory_digest
from sample_app import write_app

NAME = "kept-sample"
NOWHERE = "http://127.0.0.1:9"


def _train(folder: Path, into: Path) -> Pretrained:
    forget_app(folder)
    app = load_app(folder)
    settings = load_settings(folder, environment={"MLFLOW_TRACKING_URI": NOWHERE})
    return train_into(app, app.model(), folder, into, settings=settings)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """One training of the sample app into a folder of its own; tests copy what they change."""
    folder = write_app(tmp_path_factory.mktemp("app") / "app", NAME, retrain="when changed")
    return folder, _train(folder, folder / "models")


@pytest.fixture
def copied(kept, tmp_path):
    folder = tmp_path / "app"
    shutil.copytree(kept[0], folder)
    return folder


def test_a_training_without_a_server_keeps_a_whole_version_and_its_run(kept):
    folder, made = kept
    place = folder / "models" / NAME

    assert made.folder == place
    assert made.kept == read_training(place)
    assert made.kept.digest == directory_digest(place / "model")
    assert {one.title for one in made.kept.candidates} == {"tree", "logistic"}
    assert made.kept.run.metrics["roc_auc"] == made.trained.manifest.metrics["roc_auc"]
    assert list((place / "run" / "figures").glob("*.png"))
    assert (place / "run" / "environment.json").is_file()
    assert load_runtime(place / "model").predict_rows is not None
    assert read_manifest(place / "model").metrics == made.trained.manifest.metrics


def test_what_is_kept_does_not_change_what_the_app_is(kept):
    folder, made = kept
    again = _train(folder, folder / "models")

    assert again.trained.unchanged
    assert again.kept == made.kept


@pytest.mark.parametrize("lost", ["model/model.pkl", "training.json"])
def test_what_is_not_whole_any_more_is_trained_again(copied, lost):
    place = copied / "models" / NAME
    before = read_training(place).training
    (place / lost).write_text("{")
    made = _train(copied, copied / "models")

    assert not made.trained.unchanged
    assert made.kept.training == before
    assert made.kept.digest == directory_digest(place / "model")


def test_a_training_that_fails_keeps_what_was_there(copied):
    before = read_training(copied / "models" / NAME)
    (copied / "data" / "rows.csv").unlink()

    with pytest.raises(DataMissing):
        _train(copied, copied / "models")
    assert read_training(copied / "models" / NAME) == before


@pytest.fixture(scope="module")
def registered(kept, mlflow_server):
    """The kept training, registered on a real server."""
    with Registry(mlflow_server) as registry:
        (entry,), _ = find_models(kept[0] / "models")

        def register():
            return register_entry(
                registry,
                lambda: Tracking(mlflow_server, f"kept {NAME}"),
                entry,
                Deployed(NAME, Selector.parse("Production")),
                who="a test",
            )

        yield registry, entry, register(), register


def test_a_registered_version_has_the_bytes_of_the_folder(registered, tmp_path):
    registry, entry, done, _ = registered

    version = registry.version(NAME, done.version)
    assert (version.stage, done.outcome) == ("Production", "registered")
    for file in registry.files(version):
        registry.download(version, file.path, tmp_path)
    assert directory_digest(tmp_path) == entry.digest == version.tags["greenroom.digest"]


def test_its_run_stands_in_mlflow_as_if_it_had_been_logged_there(registered):
    import mlflow

    registry, entry, done, _ = registered
    client = mlflow.MlflowClient(registry.uri)
    run = client.get_run(registry.version(NAME, done.version).run_id)
    below = client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    )

    assert run.data.params == entry.kept.run.params
    assert run.data.metrics == pytest.approx(entry.kept.run.metrics)
    assert run.data.tags["greenroom.code_hash"]
    assert run.info.start_time == entry.kept.run.started_at_ms
    assert run.info.end_time == entry.kept.run.ended_at_ms
    assert {one.info.run_name for one in below} == {"tree", "logistic"}
    assert {one.info.status for one in [run, *below]} == {"FINISHED"}
    paths = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"figures", "environment.json", "code.json", "parity.json"} <= paths


def test_a_plain_mlflow_client_loads_it(registered):
    import mlflow
    import pandas as pd

    registry, _, done, _ = registered
    mlflow.set_tracking_uri(registry.uri)
    model = mlflow.pyfunc.load_model(f"models:/{NAME}/{done.version}")
    row = pd.DataFrame({"amount": [12.5], "visits-30d": [3.0], "member": [False]})

    assert model.predict(row)[0] in {0, 1}


def test_registered_again_it_is_unchanged(registered):
    registry, _, done, register = registered

    assert (register().outcome, register().version) == ("unchanged", done.version)
    assert len(registry.versions(NAME)) == 1


def test_a_run_that_a_killed_registration_left_open_is_ended(registered):
    import mlflow

    registry, entry, _, _ = registered
    tracking = Tracking(registry.uri, f"kept {NAME}")
    client = mlflow.MlflowClient(registry.uri)
    left = client.create_run(tracking.experiment_id, tags={"greenroom.digest": entry.digest})

    assert tracking.end_unfinished("greenroom.digest", entry.digest) == 1
    assert client.get_run(left.info.run_id).info.status == "KILLED"
    assert tracking.end_unfinished("greenroom.digest", entry.digest) == 0
