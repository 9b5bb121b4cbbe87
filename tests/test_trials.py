"""Trainings by a plan, against a real MLflow server: what is recorded of them and who they beat."""

from __future__ import annotations

import pytest

from greenroom.app_loading import load_app
from greenroom.errors import AppError
from greenroom.promotion.promotion import history
from greenroom.registry.registry import Registry
from greenroom.settings_sources import load_settings
from greenroom.training.reproduction import reproduce
from greenroom.training_route import TrainingPlan
from greenroom.versions.manifest import read_manifest
from sample_app import write_app, write_rows
from test_training import _download, _train

pytestmark = pytest.mark.slow

NAME = "trial-sample"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_app(tmp_path_factory.mktemp("trials") / "app", NAME, minimum=0.5)
    write_rows(folder / "data" / "other.csv", 500, seed=3)
    return folder


@pytest.fixture(scope="module")
def registry(mlflow_server):
    with Registry(mlflow_server) as connection:
        yield connection


@pytest.fixture(scope="module")
def releases(folder, registry):
    """A trial with nothing selected, one in full on other data, and a trial after it."""
    trial = TrainingPlan(model=NAME, candidates=("logistic",), rows=300)
    full = TrainingPlan(model=NAME, candidates=("logistic",), dataset="data/other.csv")
    first = _train(folder, registry, plan=trial)
    return first, _train(folder, registry, plan=full), _train(folder, registry, plan=trial)


def test_a_trial_is_promoted_where_nothing_is_selected(releases):
    assert releases[0].outcome == "promoted"


def test_a_trial_never_takes_the_place_of_a_version_trained_in_full(releases, registry):
    _, full, trial = releases
    assert full.outcome == "promoted"
    assert trial.outcome == "refused"
    (reason,) = trial.reasons
    assert f"it was trained as a trial, and version {full.version} was trained in full" in reason
    assert history(registry, NAME)[-1].action == "refusal"
    assert registry.version(NAME, trial.version).tags["greenroom.trial"] == "true"


def test_a_version_trained_in_full_is_not_compared_with_a_trial(releases, registry):
    assert releases[1].outcome == "promoted"
    judged = history(registry, NAME)[1]
    assert (judged.champion, judged.independence) == (None, "no champion")


def test_a_run_says_on_how_many_of_the_rows_it_was_trained(releases, folder, registry, tmp_path):
    first, full, _ = releases
    assert (first.trained.dataset.n_rows, first.trained.dataset.n_available) == (300, 600)
    assert [score.name for score in first.trained.scores] == ["logistic"]
    manifest = read_manifest(_download(registry, NAME, first.version, tmp_path / "1"))
    assert (manifest.trial, manifest.data.n_rows, manifest.data.n_available) == (True, 300, 600)
    manifest = read_manifest(_download(registry, NAME, full.version, tmp_path / "2"))
    assert (manifest.trial, manifest.data.named, manifest.data.name) == (False, True, "other.csv")


@pytest.mark.parametrize("which", [0, 1])
def test_a_trial_and_a_version_of_other_data_are_reproduced(
    releases, folder, registry, tmp_path, which
):
    release = releases[which]
    directory = _download(registry, NAME, release.version, tmp_path)
    manifest = read_manifest(directory)
    settings = load_settings(folder, environment={"MLFLOW_TRACKING_URI": registry.uri})
    result = reproduce(
        load_app(folder).model(),
        folder,
        manifest,
        directory,
        version=release.version,
        settings=settings,
    )
    assert result.verdict == "reproduced", result.differences


def test_a_candidate_that_the_model_does_not_have_is_named_with_those_it_has(folder):
    plan = TrainingPlan(model=NAME, candidates=("tree", "forest", "net"))
    with pytest.raises(AppError, match=r"no candidate 'forest', 'net'; it has tree, logistic"):
        plan.applied_to(load_app(folder).model())
