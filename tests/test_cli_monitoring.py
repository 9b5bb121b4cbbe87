"""``greenroom monitor`` on the command line: the log's window, and what cannot be compared."""

from __future__ import annotations

import json
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pyarrow import parquet

import builders
from fake_registry import FakeRegistry
from greenroom.app_loading import load_app
from greenroom.cli import monitoring
from greenroom.data.features import load_features
from greenroom.data.frames import to_frame
from greenroom.errors import MonitoringError
from greenroom.evaluation.evidence import write_reference
from greenroom.evaluation.predictions import Predictions
from greenroom.findings import findings_file, read_findings
from greenroom.log.log_records import Observation, Observations
from greenroom.log.log_tables import LogTables
from greenroom.log.shipping import ship_all
from greenroom.prediction_id import new_prediction_ids
from greenroom.training.dataset import load_dataset
from greenroom.versions.manifest import REFERENCE_FILE
from greenroom.versions.model_store import DIGEST_TAG, ModelStore, Provenance
from greenroom.versions.version_files import directory_digest
from test_shipping import answers, request, spooled, version

NAME = "m"
ROOT = Path(__file__).parents[1]
KNOWN_COUNTER = "100057445-103057445"
N_ROWS = 400


class Opened(FakeRegistry):
    """A registry that is opened as the real one is."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def now_us() -> int:
    return time.time_ns() // 1_000


def logged(home: Path, rows: dict[str, np.ndarray], digest: str, *, at_us: int, feedback=()):
    """Log what version 3 has answered to rows; say of the first ones what was the case."""
    ids = new_prediction_ids(len(rows["a"]))
    sent = [{"a": float(a), "b": int(b)} for a, b in zip(rows["a"], rows["b"], strict=True)]
    of = version(columns=builders.COLUMNS, digest=digest)
    noted = [(of, answers(request(sent, ids), at_us=at_us))]
    if len(feedback):
        told = [Observation(one, int(said)) for one, said in zip(ids, feedback, strict=False)]
        noted.append((None, Observations(at_us, "me", told)))
    ship_all(spooled(home, *noted), LogTables(str(home / "log")))


def kept(home: Path, made: Path, name: str = NAME) -> tuple[str, Opened]:
    """Put a version into the store; return its digest, and a registry that has it in Production."""
    digest = directory_digest(made)
    registry = Opened()
    for _ in range(3):
        number = registry.add(name, {}, tags={DIGEST_TAG: digest})
    registry.transition(name, number, "Production", archive_existing=True)
    store = ModelStore(home / "store")
    with store.staging() as folder:
        shutil.copytree(made, folder, dirs_exist_ok=True)
        assert store.add(folder, Provenance(uri="fake", name=name, version=number)) == digest
    return digest, registry


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder without an app: a version in Production, its files in the store, and no log yet."""
    home = tmp_path / ".greenroom"
    made = builders.version(
        tmp_path / "version", estimator=builders.classifier(), rows=builders.numbers(N_ROWS)
    )
    columns = builders.numbers(N_ROWS)
    said = {
        "prediction": np.ones(N_ROWS, dtype=np.int64),
        "probability": np.full(N_ROWS, 0.75),
        "probabilities": np.tile([0.25, 0.75], (N_ROWS, 1)),
    }
    write_reference(made / REFERENCE_FILE, columns, None, Predictions(said, (0, 1)))
    digest, registry = kept(home, made)
    monkeypatch.setattr("greenroom.wiring.build_registry", lambda _: registry)
    monkeypatch.setattr("greenroom.cli.registered.build_registry", lambda _: registry)
    monkeypatch.chdir(tmp_path)
    return home, digest, registry


def test_a_moved_feature_is_found_by_name_and_the_report_and_the_file_have_it(served, call):
    home, digest, _ = served
    moved = builders.numbers(N_ROWS, seed=1)
    moved["a"] = moved["a"] + 3
    logged(home, moved, digest, at_us=now_us())
    status, out, err = call("monitor", NAME, "--no-mlflow")
    assert status == 0, err
    assert "data drift: 1 of 2 features has moved: a (400 rows against 400 of the training)" in out
    assert f"report: {home / 'monitoring' / 'report.html'}" in out
    (found,) = read_findings(findings_file(home))
    assert {one.column: one.verdict for one in found.drift.features} == {
        "a": "drift",
        "b": "stable",
    }
    assert call("monitor", NAME, "--no-mlflow", "--fail-on-drift")[0] == 3


def test_the_same_rows_as_in_training_are_nothing_to_fail_on_and_json_says_so(served, call):
    home, digest, _ = served
    same = builders.numbers(N_ROWS, seed=0)
    logged(home, same, digest, at_us=now_us())
    options = ("--no-mlflow", "--fail-on-drift", "--json", "--report", "found.html")
    status, out, err = call("monitor", NAME, *options)
    assert status == 0, err
    document = json.loads(out)
    assert document["found"] is False
    assert document["findings"][0]["version"] == "3"
    assert (document["report"], document["mlflow"]) == ("found.html", {})
    assert "m, version 3" in Path("found.html").read_text(encoding="utf-8")


def test_a_window_of_rows_holds_the_latest_ones_however_old(served, call):
    home, digest, _ = served
    old_us = now_us() - 3 * 24 * 3_600_000_000
    logged(home, builders.numbers(N_ROWS), digest, at_us=old_us)
    assert call("monitor", NAME, "--no-mlflow")[0] == 5
    assert call("monitor", NAME, "--no-mlflow", "--window", "4d")[0] == 0
    assert call("monitor", NAME, "--no-mlflow", "--rows", "200")[0] == 0


def test_feedback_is_judged_beside_drift(served, call):
    home, digest, _ = served
    rows = builders.numbers(N_ROWS, seed=2)
    logged(home, rows, digest, at_us=now_us(), feedback=np.zeros(N_ROWS, dtype=int))
    _, out, _ = call("monitor", NAME, "--no-mlflow", "--json")
    (found,) = json.loads(out)["findings"]
    accuracy = next(one for one in found["performance"]["metrics"] if one["name"] == "accuracy")
    assert (accuracy["value"], accuracy["training"]) == (0.0, 0.9)
    assert found["performance"]["n_scored"] == N_ROWS
    assert not any(one["verdict"] == "drift" for one in found["drift"]["features"])


def test_of_too_few_rows_nothing_is_said(served, call):
    home, digest, _ = served
    logged(home, builders.numbers(12), digest, at_us=now_us())
    status, out, _ = call("monitor", NAME, "--no-mlflow", "--fail-on-drift")
    assert status == 0
    assert "too few rows to say: 12 rows against 400" in out


def test_nothing_to_compare_is_one_line_and_a_status_of_its_own(served, call):
    home, digest, registry = served
    status, out, err = call("monitor", NAME, "--no-mlflow")
    assert (status, out) == (5, "")
    assert "the log has no answer of version 3 of 'm' in the last 24 h" in err
    registry.transition(NAME, "3", "Archived", archive_existing=False)
    logged(home, builders.numbers(12), digest, at_us=now_us())
    status, _, err = call("monitor", NAME, "--no-mlflow")
    assert status == 5
    assert "no version of 'm' is served: nothing is selected by Production" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("x",), "x"),
        ((NAME, "--window", "soon"), "--window soon: no length of time; write a number with"),
        ((NAME, "--every", "0h"), "--every 0h: no length of time"),
        ((NAME, "--window", "1h", "--rows", "5"), "--window and --rows are both given; give one"),
        ((NAME, "--current", "x", "--rows", "5"), "--current and --rows are both given"),
        ((NAME, "--current", "x", "--window", "1h"), "--current and --window are both given"),
        ((NAME, "--every", "1h", "--fail-on-drift"), "--every and --fail-on-drift are both given"),
        ((NAME, "--model", "other"), "--model needs an app"),
        ((NAME, "--current", "current"), "--current needs an app"),
        ((), "there is no app in this folder"),
    ],
)
def test_what_cannot_be_asked_for_is_said_on_one_line(served, call, words, said):
    status, _, err = call("monitor", *words)
    assert status == 1
    assert said in " ".join(err.split())
    assert err.count("\n") == 1


def test_again_and_again_until_it_is_told_to_stop_whatever_a_run_says(capsys):
    problems = iter([MonitoringError("no log"), ValueError("a bug")])
    before = signal.getsignal(signal.SIGTERM)

    def run():
        problem = next(problems, None)
        if problem is None:
            signal.raise_signal(signal.SIGTERM)
        raise problem

    monitoring._repeat(0.01, run)
    assert capsys.readouterr().err.splitlines() == [
        "greenroom: no log",
        "greenroom: ValueError: a bug",
        "stopped",
    ]
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_current_data_of_cyclist_traffic_are_compared_with_what_was_trained_on(
    tmp_path, monkeypatch, call
):
    app = tmp_path / "cyclist_traffic"
    shutil.copytree(ROOT / "apps" / "cyclist_traffic", app)
    for name in ("reference_data", "current_data"):  # as `dvc pull` does
        (entry,) = yaml.safe_load((app / f"data/{name}.csv.dvc").read_text())["outs"]
        stored = app / "dvc_store" / "files" / "md5" / entry["md5"][:2] / entry["md5"][2:]
        shutil.copy(stored, app / "data" / entry["path"])
    model = load_app(app).model("cyclist-traffic")
    trained = replace(model, dataset=load_app(app).data_sources["reference"])
    data = load_dataset(trained, app, rows=3_000)
    features = (app / "features.py").read_text()
    X = to_frame(load_features(features).features(dict(data.columns)))
    made = builders.version(
        tmp_path / "version",
        estimator=model.baselines(42)["4-week profile"].fit(X, data.target),
        columns=model.columns,
        rows=data.columns,
        features=features,
        task="regression",
        classes=(),
        metrics={"mean_absolute_error": 10.0},
        split=model.split,
        example={"counter_id": KNOWN_COUNTER, "date": "2021-01-15T06:00:00Z"},
    )
    digest, registry = kept(app / ".greenroom", made, model.name)
    monkeypatch.setattr("greenroom.wiring.build_registry", lambda _: registry)
    options = ("--model", model.name, "--current", "current", "--no-mlflow", "--json")
    status, out, err = call("monitor", str(app), *options)
    assert status == 0, err
    (found,) = json.loads(out)["findings"]
    assert (found["version"], found["digest"]) == ("3", digest)
    assert (found["source"], found["n_rows"]) == ("data/current_data.parquet", 94_080)
    verdicts = {one["column"]: one["verdict"] for one in found["drift"]["features"]}
    assert verdicts["date"] == "drift"
    assert found["performance"]["n_scored"] == 94_080
    assert Path(json.loads(out)["report"]).name == "report-data-current_data.parquet.html"

    # What nobody knows the outcome of yet is compared all the same; of no row there is nothing.
    rows = (app / "data" / "current_data.parquet", app / "data" / "unlabelled.parquet")
    table = parquet.read_table(rows[0])
    parquet.write_table(table.drop_columns([model.target]).slice(0, 2_000), rows[1])
    options = ("--model", model.name, "--current", str(rows[1]), "--no-mlflow", "--json")
    status, out, err = call("monitor", str(app), *options)
    assert status == 0, err
    (found,) = json.loads(out)["findings"]
    assert (found["n_rows"], found["performance"]) == (2_000, None)
    parquet.write_table(table.slice(0, 0), rows[1])
    status, _, err = call("monitor", str(app), *options)
    assert (status, "unlabelled.parquet has no row" in err) == (5, True)
