"""Models and data at gs://, against an emulator: up and down, behind MLflow and past it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from greenroom.app_loading import load_app
from greenroom.errors import DataMissing, RegistryError
from greenroom.inference.generation import Deployment
from greenroom.registry.registry import Registry
from greenroom.settings import Settings
from greenroom.settings_sources import load_settings
from greenroom.training.dataset import load_dataset, require_dataset
from greenroom.training.release import Release, train_and_release
from greenroom.versions.version_files import directory_digest
from greenroom.wiring import build_follower
from sample_app import write_app
from waiting import wait_for


def settings_for(folder: Path, mlflow: str, **settings: str) -> Settings:
    return load_settings(folder, environment={"MLFLOW_TRACKING_URI": mlflow}, options=settings)


def make_experiment(mlflow: str, name: str, location: str) -> None:
    """Make the app's experiment, as whoever runs MLflow may: with a place of its own."""
    answer = httpx.post(
        f"{mlflow}/api/2.0/mlflow/experiments/create",
        json={"name": f"sample-{name}", "artifact_location": location},
    )
    assert answer.status_code == 200, answer.text


def train(folder: Path, mlflow: str, **settings: str) -> Release:
    app = load_app(folder)
    with Registry(mlflow, timeout_s=20, environment={}) as registry:
        return train_and_release(
            app,
            app.model(),
            folder,
            settings=settings_for(folder, mlflow, **settings),
            registry=registry,
            who="a test",
            promotes=True,
        )


def follow(folder: Path, mlflow: str, **settings: str) -> Deployment:
    follower = build_follower(settings_for(folder, mlflow, **settings), load_app(folder))
    return follower.poll(force=True).deployments[0]


def names(bucket, prefix: str) -> list[str]:
    return [blob.name for blob in bucket.list_blobs(prefix=prefix)]


@pytest.mark.parametrize("way", ["past", "behind"])
def test_what_training_uploads_to_gs_is_downloaded_and_served_whole(way, mlflow, bucket, tmp_path):
    folder = write_app(tmp_path / "app", f"gs-{way}")
    if way == "past":
        make_experiment(mlflow, f"gs-{way}", f"gs://{bucket.name}/direct")
    release = train(folder, mlflow)
    assert release.outcome == "promoted"
    stored = names(bucket, "direct/" if way == "past" else "behind-mlflow/")
    assert any(name.endswith("artifacts/greenroom/version.json") for name in stored)

    deployment = follow(folder, mlflow)
    assert deployment.serving.version == release.version
    assert directory_digest(Path(deployment.directory)) == deployment.serving.digest


def test_a_version_whose_files_were_changed_in_the_store_is_not_served(mlflow, bucket, tmp_path):
    folder = write_app(tmp_path / "app", "gs-changed")
    make_experiment(mlflow, "gs-changed", f"gs://{bucket.name}/changed")
    train(folder, mlflow)
    (manifest,) = [name for name in names(bucket, "changed/") if name.endswith("version.json")]
    bucket.blob(manifest).upload_from_string(b"{}")

    deployment = follow(folder, mlflow)
    assert deployment.serving is None
    assert "not the ones that were registered" in deployment.reason


def test_production_trains_to_its_bucket_and_serves_from_there_alone(mlflow, bucket, tmp_path):
    place = f"gs://{bucket.name}/prod"
    prod = {"environment": "prod", "prod_artifacts": place}
    folder = write_app(tmp_path / "app", "gs-prod")
    train(folder, mlflow, **prod)
    stored = names(bucket, "prod/sample-gs-prod/")
    assert any(name.endswith("greenroom/version.json") for name in stored)
    assert follow(folder, mlflow, **prod).serving.version == "1"

    other = write_app(tmp_path / "other", "gs-dev")
    train(other, mlflow, prod_artifacts=place)
    assert follow(other, mlflow, prod_artifacts=place).serving.version == "1"
    refused = follow(other, mlflow, **prod)
    assert refused.serving is None
    assert "its files are at mlflow-artifacts:/" in refused.reason
    with pytest.raises(RegistryError, match=f"have to lie in {place}"):
        train(other, mlflow, **prod)


def test_a_bucket_that_is_not_there_is_one_line_that_names_it(mlflow, tmp_path):
    folder = write_app(tmp_path / "app", "gs-nowhere")
    make_experiment(mlflow, "gs-nowhere", "gs://no-such-bucket/models")
    with pytest.raises(RegistryError, match="no-such-bucket") as failed:
        train(folder, mlflow)
    assert "\n" not in str(failed.value)


@contextmanager
def served(folder: Path, mlflow: str) -> Iterator[tuple[str, Path]]:
    """Run ``greenroom serve`` for an app; gives the server's address and its log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "greenroom", "serve", "--port", str(port)],
            cwd=folder,
            env={**os.environ, "MLFLOW_TRACKING_URI": mlflow},
            stdout=output,
            stderr=output,
        )
    try:
        yield f"http://127.0.0.1:{port}", log
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").json()["status"] == "healthy"
    except (httpx.TransportError, KeyError, ValueError):
        return False


@pytest.fixture
def without_key(monkeypatch, tmp_path) -> Path:
    """A compose file's ``./gcp.json`` that is not there: no emulator's name, and a folder."""
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gcp.json"))
    (tmp_path / "gcp.json").mkdir()
    return tmp_path / "gcp.json"


def test_without_its_key_a_version_at_gs_is_not_served_and_another_one_is(
    mlflow, bucket, tmp_path, request
):
    here = write_app(tmp_path / "here", "key-here")
    there = write_app(tmp_path / "there", "key-there")
    make_experiment(mlflow, "key-there", f"gs://{bucket.name}/with-key")
    for folder in (here, there):
        train(folder, mlflow)
    key = request.getfixturevalue("without_key")

    assert follow(here, mlflow).serving is not None
    refused = follow(there, mlflow)
    assert refused.serving is None
    assert f"GOOGLE_APPLICATION_CREDENTIALS names {key}, which is a folder" in refused.reason


def test_a_server_without_its_key_says_so_at_the_start_and_serves_what_needs_none(
    mlflow, tmp_path, request
):
    folder = write_app(tmp_path / "app", "key-server")
    train(folder, mlflow)
    key = request.getfixturevalue("without_key")
    with served(folder, mlflow) as (url, log):
        row = {"amount": 12.5, "visits_30d": 3, "member": True}
        wait_for(lambda: answers(url), "the server answers", within_s=60)
        assert httpx.post(f"{url}/predict", json=row).status_code == 200
        assert httpx.get(f"{url}/health").json()["status"] == "healthy"
    (line,) = [line for line in log.read_text().splitlines() if "GOOGLE" in line]
    assert line.startswith(f"GOOGLE_APPLICATION_CREDENTIALS names {key}, which is a folder: ")
    assert "nothing at gs:// can be read or written" in line
    assert "remove the empty folder gcp.json/" in line


def test_without_its_key_training_to_gs_ends_before_it_begins(
    mlflow, bucket, tmp_path, without_key
):
    folder = write_app(tmp_path / "app", "key-training")
    make_experiment(mlflow, "key-training", f"gs://{bucket.name}/key-training")
    with pytest.raises(RegistryError, match=r"gcp\.json, which is a folder"):
        train(folder, mlflow)
    assert names(bucket, "key-training/") == []


def test_a_dataset_at_gs_is_read_and_a_missing_one_named(bucket, tmp_path):
    folder = write_app(tmp_path / "app", "gs-data")
    rows = (folder / "data" / "rows.csv").read_bytes()
    bucket.blob("data/rows.csv").upload_from_string(rows)
    text = (folder / "app.py").read_text()
    (folder / "app.py").write_text(text.replace('"data/', f'"gs://{bucket.name}/data/'))
    model = load_app(folder).model()
    require_dataset(model, folder)
    data = load_dataset(model, folder)
    assert (data.source, data.n_rows) == (f"gs://{bucket.name}/data/rows.csv", 600)

    bucket.blob("data/rows.csv").delete()
    with pytest.raises(DataMissing, match=f"put the file at gs://{bucket.name}/data/rows.csv"):
        load_dataset(model, folder)
    with pytest.raises(DataMissing):
        require_dataset(model, folder)
