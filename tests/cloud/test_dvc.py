"""Data that DVC keeps: the documented command, and training that calls it, with the real DVC."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from greenroom.app_loading import load_app
from greenroom.errors import DataError
from greenroom.registry.registry import Registry
from greenroom.training.dataset import load_dataset
from sample_app import write_app


def dvc(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Call ``dvc`` as a person does, in the app's folder."""
    return subprocess.run(
        ["dvc", *words],
        cwd=folder,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def done(answer: subprocess.CompletedProcess[str]) -> None:
    assert answer.returncode == 0, answer.stderr


def kept_by_dvc(folder: Path, remote: str) -> bytes:
    """Give the app's data to DVC without git, push them to a remote, and remove them here."""
    rows = folder / "data" / "rows.csv"
    content = rows.read_bytes()
    done(dvc(folder, "init", "--no-scm", "-q"))
    done(dvc(folder, "remote", "add", "-q", "-d", "kept", remote))
    done(dvc(folder, "add", "-q", "data/rows.csv"))
    done(dvc(folder, "push", "-q"))
    forget(folder)
    return content


def forget(folder: Path) -> None:
    """Leave of the data what a clean clone has: the pointer."""
    (folder / "data" / "rows.csv").unlink()
    shutil.rmtree(folder / ".dvc" / "cache", ignore_errors=True)


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "dvc"))


@pytest.fixture
def app(tmp_path) -> Path:
    folder = write_app(tmp_path / "app", "kept-by-dvc")
    kept_by_dvc(folder, str(tmp_path / "remote"))
    return folder


def load(folder: Path, **options):
    return load_dataset(load_app(folder).model(), folder, **options)


def test_the_documented_command_brings_the_file(app):
    done(dvc(app, "pull", "data/rows.csv.dvc"))
    data = load(app)
    assert data.n_rows == 600
    assert not data.dvc_differs


def test_training_pulls_what_is_not_there_and_checks_it(app):
    said = []
    data = load(app, on_progress=lambda text, share: said.append(text))

    content = (app / "data" / "rows.csv").read_bytes()
    assert data.dataset_hash == hashlib.sha256(content).hexdigest()
    assert data.dvc_md5 == hashlib.md5(content).hexdigest()
    assert not data.dvc_differs
    assert "pulling data/rows.csv with DVC" in said


def test_a_check_pulls_nothing_and_a_file_that_is_there_stays(app):
    with pytest.raises(DataError, match=r"dvc pull data/rows\.csv\.dvc"):
        load(app, pulls=False)
    assert not (app / "data" / "rows.csv").exists()

    mine = "amount,visits-30d,member,late\n1,1,true,0\n2,2,false,1\n"
    (app / "data" / "rows.csv").write_text(mine)
    data = load(app)
    assert (data.n_rows, data.dvc_differs) == (2, True)
    assert (app / "data" / "rows.csv").read_text() == mine


def test_what_the_remote_has_not_is_an_error_in_dvcs_words(app, tmp_path):
    shutil.rmtree(tmp_path / "remote")
    with pytest.raises(DataError, match=r"DVC could not bring data/rows\.csv: ") as failed:
        load(app)
    assert failed.value.advice == "try it by hand: dvc pull data/rows.csv.dvc"
    assert "\n" not in str(failed.value)


def test_a_pointer_without_a_repository_of_dvcs_is_an_error_in_dvcs_words(app):
    shutil.rmtree(app / ".dvc")
    with pytest.raises(DataError, match="not inside of a DVC repository"):
        load(app)


def test_git_is_not_needed_and_does_no_harm_where_it_is(app, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert load(app).n_rows == 600
    forget(app)
    monkeypatch.undo()
    subprocess.run(["git", "init", "-q", str(app.parent)], check=True)
    assert load(app).n_rows == 600


def test_a_remote_at_gs_is_pulled_from(bucket, tmp_path):
    folder = write_app(tmp_path / "app", "dvc-gs")
    content = kept_by_dvc(folder, f"gs://{bucket.name}/dvc")
    assert [blob.name for blob in bucket.list_blobs(prefix="dvc/")]

    assert load(folder).n_rows == 600
    assert (folder / "data" / "rows.csv").read_bytes() == content


def test_the_pointers_hash_is_in_the_run_and_a_file_that_differs_is_said(app, mlflow, tmp_path):
    first = train(app, mlflow)
    assert "DVC pointer" not in first
    with (app / "data" / "rows.csv").open("a") as rows:
        rows.write("3,1,true,0\n")
    second = train(app, mlflow)
    assert "data/rows.csv is not the file that data/rows.csv.dvc points to" in second

    md5 = (app / "data" / "rows.csv.dvc").read_text().split("md5: ")[1].split()[0]
    with Registry(mlflow, environment={}) as registry:
        versions = {one.version: one for one in registry.versions("kept-by-dvc")}
        runs = {
            number: registry._rest.get("runs/get", run_id=one.run_id)["run"]["data"]
            for number, one in versions.items()
        }
    for number, run in runs.items():
        assert {"key": "dvc_md5", "value": md5} in run["params"]
        assert versions[number].tags["greenroom.dvc_md5"] == md5
    assert "greenroom.dvc" not in versions["1"].tags
    assert "not the one" in versions["2"].tags["greenroom.dvc"]


def train(folder: Path, mlflow: str) -> str:
    """Call ``greenroom train`` in the app's folder, and return what it wrote beside its results."""
    answer = subprocess.run(
        [sys.executable, "-m", "greenroom", "train"],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": mlflow},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stderr
