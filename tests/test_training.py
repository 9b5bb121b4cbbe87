"""Training against a real MLflow server: what is logged, registered, skipped and reproduced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from greenroom.app_loading import load_app
from greenroom.deployment.fallback_file import read_sidecar, unpack_fallback
from greenroom.errors import DataMissing, NotInRegistry, ProcessError
from greenroom.evaluation.evidence import read_holdout, read_reference
from greenroom.inference.runtime import load_runtime
from greenroom.promotion.promotion import history
from greenroom.registry.registry import Registry
from greenroom.selector import Selector
from greenroom.settings_sources import load_settings
from greenroom.training.release import Release, train_and_release
from greenroom.training.reproduction import Reproduction, reproduce
from greenroom.versions.manifest import HOLDOUT_FILE, REFERENCE_FILE, read_manifest
from greenroom.versions.version_files import directory_digest
from sample_app import write_app, write_rows

PRODUCTION = Selector.parse("Production")


@pytest.fixture(scope="session")
def registry(mlflow_server: str):
    with Registry(mlflow_server) as connection:
        yield connection


def _train(folder: Path, registry: Registry, **options) -> Release:
    app = load_app(folder)
    settings = load_settings(folder, environment={"MLFLOW_TRACKING_URI": registry.uri})
    return train_and_release(
        app,
        app.model(),
        folder,
        settings=settings,
        registry=registry,
        who="a test",
        promotes=True,
        **options,
    )


def _download(registry: Registry, name: str, version: str, folder: Path) -> Path:
    found = registry.version(name, version)
    for file in registry.files(found):
        registry.download(found, file.path, folder)
    return folder


FALLBACK = "models/model.pkl"


def keep_fallback(folder: Path, model: str) -> None:
    """Set a fallback file for an app's model."""
    settings = {"models": {model: {"fallback_path": FALLBACK}}}
    (folder / "greenroom.yaml").write_text(json.dumps(settings), encoding="utf-8")


@pytest.fixture(scope="session")
def trained(tmp_path_factory, registry: Registry):
    """One training of the sample app, which several tests look at; nobody changes it."""
    folder = write_app(tmp_path_factory.mktemp("trained") / "app", "trained-sample")
    keep_fallback(folder, "trained-sample")
    release = _train(folder, registry)
    version = _download(
        registry, "trained-sample", release.version, tmp_path_factory.mktemp("version")
    )
    return folder, release, version


def test_a_first_training_is_promoted_and_its_evidence_stands_in_the_history(trained, registry):
    _, release, _ = trained

    (record,) = history(registry, "trained-sample")
    assert release.outcome == "promoted"
    assert (record.action, record.to_version, record.who) == ("promotion", "1", "a test")
    assert record.passed
    assert record.content_hash == release.trained.dataset.content_hash
    assert [
        version.version for version in registry.resolve("trained-sample", PRODUCTION).versions
    ] == ["1"]


def test_a_training_keeps_its_version_in_the_fallback_file_too(trained, registry, tmp_path):
    folder, release, version = trained

    path = folder / FALLBACK
    sidecar = read_sidecar(path)
    unpack_fallback(path, sidecar, tmp_path)
    assert release.fallback_path == str(path)
    assert (sidecar.name, sidecar.version) == ("trained-sample", release.version)
    assert sidecar.digest == directory_digest(version) == directory_digest(tmp_path)
    assert sidecar.run_id == registry.version("trained-sample", release.version).run_id
    assert load_runtime(tmp_path).kind == "compiled"


@pytest.mark.slow
def test_a_fallback_file_that_cannot_be_written_leaves_the_version_registered(registry, tmp_path):
    folder = write_app(tmp_path / "app", "unwritable-sample")
    keep_fallback(folder, "unwritable-sample")
    (folder / "models").write_text("a file where the folder should be")

    with pytest.raises(ProcessError, match="unwritable-sample version 1 is registered, and the"):
        _train(folder, registry)
    assert [one.version for one in registry.versions("unwritable-sample")] == ["1"]


def test_a_version_carries_what_serving_and_the_gate_need(trained):
    _, release, directory = trained

    manifest = read_manifest(directory)
    assert manifest is not None
    assert manifest.inputs == ("amount", "visits", "visits_known", "member")
    assert manifest.data.content_hash == release.trained.dataset.content_hash
    assert manifest.example == {"amount": 12.5, "visits_30d": 3, "member": False}
    assert manifest.environment.packages["scikit-learn"]
    assert "app/features.py" in manifest.code.files
    holdout = read_holdout(directory / HOLDOUT_FILE, manifest.classes)
    assert len(holdout) == manifest.n_holdout == 600 - manifest.n_train


def test_the_digest_that_is_registered_is_that_of_the_files_that_are_downloaded(trained, registry):
    _, release, directory = trained

    version = registry.version("trained-sample", release.version)
    assert version.tags["greenroom.digest"] == directory_digest(directory)


def test_the_runtime_answers_the_reference_sample_as_training_did(trained):
    _, _, directory = trained

    runtime = load_runtime(directory)
    columns, _, recorded = read_reference(
        directory / REFERENCE_FILE, runtime.manifest.schema, runtime.classes
    )
    now = runtime.predict(columns)
    np.testing.assert_array_equal(now.outputs["prediction"], recorded.outputs["prediction"])
    np.testing.assert_allclose(
        now.outputs["probability"], recorded.outputs["probability"], rtol=0, atol=1e-12
    )


def test_the_registered_version_is_compiled_and_its_run_says_so(trained, registry):
    from greenroom.compiler.compiled import read_parity
    from greenroom.inference.runtime import load_native

    _, release, directory = trained
    report, runtime, native = (
        read_parity(directory),
        load_runtime(directory),
        load_native(directory),
    )
    tags = registry.version("trained-sample", release.version).tags
    columns, _, _ = read_reference(
        directory / REFERENCE_FILE, runtime.manifest.schema, runtime.classes
    )
    assert report.passed, report.reason
    assert (runtime.kind, tags["greenroom.runtime"]) == ("compiled", "compiled")
    assert report.rows["reference"] == len(columns["amount"])
    found, expected = runtime.predict(columns).outputs, native.predict(columns).outputs
    np.testing.assert_array_equal(found["prediction"], expected["prediction"])
    np.testing.assert_allclose(
        found["probability"], expected["probability"], rtol=0, atol=report.bound
    )


@pytest.mark.filterwarnings("ignore")  # MLflow's and pandas' own, in plain MLflow code
def test_plain_mlflow_applies_a_version_to_raw_columns(trained):
    import mlflow.pyfunc
    import pandas as pd

    _, _, directory = trained
    manifest = read_manifest(directory)
    columns, _, recorded = read_reference(
        directory / REFERENCE_FILE, manifest.schema, manifest.classes
    )
    frame = pd.DataFrame(columns)
    frame["member"] = frame["member"].astype(bool)
    answers = mlflow.pyfunc.load_model(str(directory)).predict(frame)
    np.testing.assert_array_equal(answers, recorded.outputs["prediction"])


def test_mlflow_holds_params_figures_and_a_run_for_each_candidate(trained, registry):
    from mlflow import MlflowClient

    _, release, _ = trained
    client = MlflowClient(registry.uri)
    run = client.get_run(registry.version("trained-sample", release.version).run_id)
    assert run.data.params["dataset_hash"] == release.trained.dataset.dataset_hash
    assert run.data.params["content_hash"] == release.trained.dataset.content_hash
    assert {"roc_auc", "roc_auc_low", "cv_roc_auc", "cv_roc_auc_std"} <= run.data.metrics.keys()
    assert run.data.tags["greenroom.code_hash"]
    names = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
    assert {"figures/confusion_matrix.png", "figures/roc_curve.png"} <= names
    children = client.search_runs(
        [run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'"
    )
    assert {child.info.run_name for child in children} == {"tree", "logistic"}
    assert {child.info.status for child in children} == {"FINISHED"}


def test_a_model_is_logged_in_the_experiment_of_its_run(trained, registry):
    from mlflow import MlflowClient

    client = MlflowClient(registry.uri)
    _, release, _ = trained
    version = registry.version("trained-sample", release.version)
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    experiment = client.get_experiment(logged.experiment_id)

    assert experiment.name == "sample-trained-sample"
    assert logged.artifact_location.startswith(experiment.artifact_location)


def test_training_twice_on_the_same_data_gives_the_same_figures_and_predictions(
    trained, registry, tmp_path
):
    folder, release, _ = trained
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    text = (copy / "app.py").read_text().replace("trained-sample", "twice-sample")
    (copy / "app.py").write_text(text)

    again = _train(copy, registry)

    first, second = release.trained.fitted, again.trained.fitted
    assert second.metrics == first.metrics
    for name, values in first.holdout.predictions.outputs.items():
        np.testing.assert_array_equal(values, second.holdout.predictions.outputs[name])


def test_a_candidate_below_the_minimum_is_refused_and_production_is_unchanged(registry, tmp_path):
    folder = write_app(tmp_path / "app", "refused-sample")
    keep_fallback(folder, "refused-sample")
    assert _train(folder, registry).outcome == "promoted"
    write_app(folder, "refused-sample", minimum=0.999)
    other = tmp_path / "strict"
    shutil.copytree(folder, other)

    release = _train(other, registry)

    assert (release.outcome, release.fallback_path) == ("refused", "")
    assert read_sidecar(folder / FALLBACK).version == "1"
    assert "0.999" in release.reasons[0]
    assert [one.version for one in registry.resolve("refused-sample", PRODUCTION).versions] == ["1"]
    assert [one.action for one in history(registry, "refused-sample")] == ["promotion", "refusal"]


def test_with_latest_a_refused_candidate_is_not_registered(registry, tmp_path):
    folder = write_app(tmp_path / "app", "latest-sample", serve="latest", minimum=0.999)

    release = _train(folder, registry)

    assert (release.outcome, release.version) == ("refused", "")
    assert registry.versions("latest-sample") == []
    assert [one.action for one in history(registry, "latest-sample")] == ["refusal"]


@pytest.mark.slow
def test_the_same_data_code_and_seed_are_not_trained_again_when_the_app_says_so(registry, tmp_path):
    folder = write_app(tmp_path / "app", "unchanged-sample", retrain="when changed")
    keep_fallback(folder, "unchanged-sample")
    assert _train(folder, registry).version == "1"

    again = _train(folder, registry)
    assert (again.outcome, again.version) == ("unchanged", "1")

    write_rows(folder / "data" / "rows.csv", seed=1)
    assert _train(folder, registry).version == "2"


def test_missing_data_fail_before_anything_is_registered(registry, tmp_path):
    folder = write_app(tmp_path / "app", "missing-sample")
    (folder / "data" / "rows.csv").unlink()

    with pytest.raises(DataMissing, match=r"FileNotFoundError: data/rows.csv"):
        _train(folder, registry)
    with pytest.raises(NotInRegistry):
        registry.registered_model("missing-sample")


def _reproduce(trained, folder: Path) -> Reproduction:
    _, release, directory = trained
    app = load_app(folder)
    return reproduce(
        app.model(),
        folder,
        read_manifest(directory),
        directory,
        version=release.version,
        settings=load_settings(folder, environment={}),
    )


def test_a_version_is_reproduced_to_the_last_bit(trained):
    result = _reproduce(trained, trained[0])

    assert result.verdict == "reproduced"
    assert result.passed
    assert result.differences == ()
    assert all(before == now for before, now in result.metrics.values())


def test_a_changed_cell_is_reported_with_both_hashes(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    rows = copy / "data" / "rows.csv"
    lines = rows.read_text().splitlines()
    lines[7] = "1.25" + lines[7][lines[7].index(",") :]
    rows.write_text("\n".join(lines) + "\n")

    result = _reproduce(trained, copy)

    assert result.verdict == "data differ"
    assert not result.passed
    recorded = trained[1].trained.dataset.content_hash
    assert recorded in result.differences[0]
    assert len(set(result.differences[0].split()) - {recorded}) > 1


def test_changed_code_is_named_by_file_and_what_it_changes_by_figure(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    text = (
        (copy / "app.py")
        .read_text()
        .replace("C=1.0", "C=0.001")
        .replace("max_depth=3", "max_depth=1")
    )
    (copy / "app.py").write_text(text)

    result = _reproduce(trained, copy)

    assert result.verdict == "differs"
    assert "code: app/app.py has changed" in result.differences
    assert any("predictions on the hold-out" in text for text in result.differences)
