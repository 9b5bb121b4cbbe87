"""From a server's answers over the log to a verdict: each kind of trouble is called by its name.

credit_risk's version answers rows that training has not seen; what was really the case is reported
as feedback. Then ``greenroom monitor`` looks at the log.
"""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest

import builders
from app_versions import APPS
from fake_registry import FakeRegistry
from greenroom.app_loading import load_app
from greenroom.cli import main
from greenroom.compiler.compiled import compile_version
from greenroom.data.features import load_features
from greenroom.data.frames import to_frame
from greenroom.deployment.deployments import Target
from greenroom.deployment.following import Follower
from greenroom.evaluation.evidence import HoldOut, write_holdout
from greenroom.evaluation.metrics import evaluate
from greenroom.selector import Selector
from greenroom.task import classification
from greenroom.versions.manifest import HOLDOUT_FILE
from greenroom.versions.model_store import DIGEST_TAG, ModelStore
from greenroom.versions.version_files import directory_digest
from real_server import following
from waiting import wait_for

pytestmark = pytest.mark.slow

NAME = "credit-risk-model"
N_TRAIN, N_HELD_OUT, N_ASKED = 3_000, 1_500, 1_200


class Opened(FakeRegistry):
    """A registry that is opened as the real one is."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def borrowers():
    """Return credit_risk's generated rows, their truth, and its model."""
    model = load_app(APPS / "credit_risk").model()
    found = dict(model.generated(3))
    y = np.asarray(found.pop(model.target))
    rows = {one.name: np.asarray(found[one.name], np.float64) for one in model.columns}
    return rows, y.astype(np.int64), model


def trained(directory):
    """Write a version with a hold-out; return rows that it has not seen, with their truth."""
    rows, y, model = borrowers()
    parts = np.split(np.arange(len(y)), [N_TRAIN, N_TRAIN + N_HELD_OUT])
    first, held_out, later = ({key: all_[part] for key, all_ in rows.items()} for part in parts)
    features = (APPS / "credit_risk" / model.features).read_text()

    def made(part):
        return to_frame(load_features(features).features(dict(part)))

    estimator = next(iter(model.candidates(0).values())).fit(made(first), y[parts[0]])
    answers = classification.predict(estimator, made(held_out))
    evidence = HoldOut(np.arange(N_HELD_OUT, dtype=np.uint64), y[parts[1]], answers)
    builders.version(
        directory,
        estimator=estimator,
        columns=model.columns,
        rows=first,
        features=features,
        metrics=evaluate(classification.metrics, evidence.y, answers),
    )
    write_holdout(directory / HOLDOUT_FILE, evidence)
    compile_version(
        directory,
        estimator,
        classification,
        made(first),
        classification.predict(estimator, made(first)),
    )
    return later, y[parts[2]]


def registered(directory):
    registry = Opened()
    files = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }
    tags = {DIGEST_TAG: directory_digest(directory)}
    registry.transition(NAME, registry.add(NAME, files, tags=tags), "Production")
    return registry


def ask(url, rows, model):
    """Ask for rows, all but the missing values, and return the ids of the answers."""
    bodies = [
        {
            one.request_name or one.name: value
            for one in model.columns
            if not np.isnan(value := float(rows[one.name][place]))
        }
        for place in range(len(next(iter(rows.values()))))
    ]
    reply = httpx.post(f"{url}/predict", json=bodies, timeout=60)
    assert reply.status_code == 200, reply.text
    return [one["prediction_id"] for one in reply.json()["predictions"]]


@pytest.fixture
def case(tmp_path, monkeypatch, capsys):
    """What serves a version, is asked rows, is told the truth, and is looked at."""
    later, truth = trained(tmp_path / "1")
    registry, home, (_, _, model) = registered(tmp_path / "1"), tmp_path / "home", borrowers()
    target = Target(NAME, NAME, Selector.parse("Production"), "/predict")
    follower = Follower(registry, ModelStore(home / "store"), [target], keep_versions=1)
    monkeypatch.setattr("greenroom.wiring.build_registry", lambda _: registry)
    monkeypatch.setenv("GREENROOM_HOME", str(home))

    def looked_at(change_rows=lambda rows: rows, change_truth=lambda y: y):
        away = {"tracking_uri": "http://127.0.0.1:1"}
        with following(follower, log=True, home=home, **away) as url:
            wait_for(
                lambda: httpx.get(f"{url}/health").json().get("model_loaded"),
                "it serves",
                within_s=30,
            )
            chosen = change_rows({key: all_[:N_ASKED].copy() for key, all_ in later.items()})
            ids = ask(url, chosen, model)
            actual = change_truth(truth[:N_ASKED]).tolist()
            said = [
                {"prediction_id": one, "actual": value}
                for one, value in zip(ids, actual, strict=True)
            ]
            assert httpx.post(f"{url}/feedback", json=said, timeout=60).status_code == 200
        monkeypatch.chdir(home)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["monitor", NAME, "--json", "--no-mlflow"])
        said = capsys.readouterr()
        assert ended.value.code == 0, said.err
        return json.loads(said.out)

    return looked_at


def drifted(found, which):
    return [one["column"] for one in found["drift"][which] if one["verdict"] == "drift"]


def worse(found):
    return [one["name"] for one in found["performance"]["metrics"] if one.get("worse")]


def only(document):
    (found,) = document["findings"]
    assert found["n_rows"] == N_ASKED
    assert found["performance"]["n_scored"] == N_ASKED
    return found


def test_nothing_is_found_where_nothing_has_happened(case):
    found = only(case())
    assert drifted(found, "features") == drifted(found, "predictions") == worse(found) == []
    assert not found["performance"]["concept_drifted"]


def test_flipped_labels_are_concept_drift_and_no_drift_of_the_data(case):
    flipped = np.random.default_rng(0).random(N_ASKED) < 0.2
    found = only(case(change_truth=lambda y: np.where(flipped, 1 - y, y)))
    assert drifted(found, "features") == drifted(found, "predictions") == []
    assert worse(found)
    assert found["performance"]["concept_drifted"]
    assert not any(one.get("worse") for one in found["estimate"]["metrics"])


def test_a_shift_of_one_column_is_data_drift_of_that_column(case):
    def shifted(rows):
        return {**rows, "age": np.minimum(rows["age"] + 15, 100)}

    found = only(case(change_rows=shifted))
    assert drifted(found, "features") == ["age"]
