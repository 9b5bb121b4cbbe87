"""A prediction made three versions ago is made again to the last bit, and says where it is from."""

from __future__ import annotations

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import builders
from app_versions import fitted
from fake_registry import FakeRegistry
from greenroom.cli import main
from greenroom.deployment.deployments import Target
from greenroom.deployment.following import Follower
from greenroom.promotion.history import Record, new_key, write_record
from greenroom.selector import Selector
from greenroom.versions.model_store import DIGEST_TAG, ModelStore
from greenroom.versions.version_files import directory_digest
from real_server import following
from waiting import wait_for

pytestmark = pytest.mark.slow

NAME = "m"
EARLIER = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Registered(FakeRegistry):
    """A registry that is opened as the real one is."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def select(self, directory: Path) -> str:
        """Register a folder as a version, and put it alone into Production."""
        files = {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file()
        }
        digest = directory_digest(directory)
        version = self.add(NAME, files, tags={DIGEST_TAG: digest}, run_id="r" + digest[:7])
        self.transition(NAME, version, "Production", archive_existing=True)
        return version


def compiled(folder: Path, seed: int) -> Path:
    rows = builders.numbers(seed=seed)
    return fitted(folder, builders.COLUMNS, rows, builders.classifier(rows), builders.labels(rows))


def native(folder: Path, seed: int) -> Path:
    rows = builders.numbers(seed=seed)
    return builders.version(folder, rows=rows, estimator=builders.classifier(rows))


def row(number: float) -> dict:
    return {"a": round(number / 7, 3), "b": int(number) % 9}


def ask_every_way(url: str) -> list[str]:
    """Ask for singles, lists, companions, and by the other protocols; return an id of each."""
    ids = [httpx.post(f"{url}/predict", json=row(1)).json()["prediction_id"]]
    several = httpx.post(f"{url}/predict", json=[row(n) for n in range(40)]).json()["predictions"]
    ids += [several[0]["prediction_id"], several[17]["prediction_id"]]
    with ThreadPoolExecutor(8) as pool:
        sent = pool.map(lambda n: httpx.post(f"{url}/predict", json=row(n)), range(8))
        ids += [reply.json()["prediction_id"] for reply in sent]
    scored = {"dataframe_records": [row(n) for n in range(5)]}
    ids.append(httpx.post(f"{url}/invocations", json=scored).headers["x-prediction-id"])
    tensors = [
        {"name": name, "shape": [3], "datatype": "FP64", "data": [row(n)[name] for n in range(3)]}
        for name in "ab"
    ]
    inferred = httpx.post(f"{url}/v2/models/m/infer", json={"inputs": tensors})
    parameters = inferred.json()["parameters"]
    assert inferred.headers["x-prediction-id"] == parameters["prediction_id"]
    return [*ids, parameters["prediction_ids"].split(",")[2]]


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    """A server's home after five versions, with what the first two of them have answered."""
    folder = tmp_path_factory.mktemp("past")
    home = folder / "home"
    registry = Registered()
    target = Target(NAME, NAME, Selector.parse("Production"), "/predict")
    store = ModelStore(home / "store")
    makers = [compiled, native, compiled, native, compiled]
    ids = {}
    registry.select(makers[0](folder / "1", 0))
    record = Record(
        action="promotion", who="ada", to_version="1", selector="Production", reasons=("better",)
    )
    registry.set_model_tag(NAME, new_key(EARLIER), write_record(record))
    follower = Follower(registry, store, [target], keep_versions=1)
    away = {"tracking_uri": "http://127.0.0.1:1"}
    with following(follower, log=True, home=home, log_ship_interval_s=0.2, **away) as url:
        for number, make in enumerate(makers, 1):
            if number > 1:
                registry.select(make(folder / str(number), number))
            wait_for(
                lambda wanted=str(number): (
                    httpx.get(f"{url}/model/info").json().get("model_version") == wanted
                ),
                f"version {number} serves",
                within_s=30,
            )
            if number <= 2:
                ids[number] = ask_every_way(url)
        feedback = {"prediction_id": ids[1][0], "actual": 1}
        assert httpx.post(f"{url}/feedback", json=feedback).json()["accepted"] == 1
        yield home, registry, ids, url


def traced(past, monkeypatch, capsys, prediction_id, *more):
    home, registry, _, _ = past
    monkeypatch.setattr("greenroom.wiring.build_registry", lambda _: registry)
    monkeypatch.setenv("GREENROOM_HOME", str(home))
    monkeypatch.chdir(home)
    with pytest.raises(SystemExit) as ended:
        main(["trace", prediction_id, "--json", *more])
    said = capsys.readouterr()
    assert said.out, said.err
    return ended.value.code, json.loads(said.out)


@pytest.mark.parametrize(("version", "engine"), [(1, "compiled"), (2, "native")])
def test_a_prediction_of_three_versions_ago_is_made_again_to_the_last_bit(
    past, monkeypatch, capsys, version, engine
):
    home, _, ids, _ = past
    sizes, store = set(), ModelStore(home / "store")
    _, found = traced(past, monkeypatch, capsys, ids[version][0])
    store.discard(found["model"]["digest"])  # as pruning does: it has to be fetched again
    for prediction_id in ids[version]:
        status, found = traced(past, monkeypatch, capsys, prediction_id, "--replay")
        replay = found["replay"]
        assert (status, replay["verdict"], replay["reasons"]) == (0, "same_bits", [])
        assert replay["reproduced"]
        assert (replay["engine"], found["call"]["engine"]) == (engine, engine)
        assert found["model"]["version"] == str(version)
        assert replay["outputs"]["probability"]["recorded"] == found["answer"]["probability"]
        sizes.add(replay["n_rows"])
    assert {1, 40, 5, 3} <= sizes


def test_a_prediction_tells_where_it_came_from(past, monkeypatch, capsys):
    *_, ids, _ = past
    status, found = traced(past, monkeypatch, capsys, ids[1][0].upper())
    assert status == 0
    assert found["request"]["columns"] == {"a": row(1)["a"], "b": 1}
    assert found["request"]["route"] == "/predict"
    assert found["model"]["run_id"].startswith("r")
    assert found["model"]["data"]["content_hash"]
    assert found["model"]["code"]["code_hash"]
    assert (found["selection"]["who"], found["selection"]["reasons"]) == ("ada", ["better"])
    assert [one["actual"] for one in found["feedback"]] == [1]
    assert found["notes"] == []
    # Nobody promoted version 2 by Greenroom, and it says so.
    _, other = traced(past, monkeypatch, capsys, ids[2][0])
    assert other["selection"] is None
    assert "selected outside of Greenroom" in other["notes"][0]


def test_the_page_of_a_prediction_says_what_the_command_says(past, monkeypatch, capsys):
    *_, ids, url = past
    # The page's own process has no registry here: what that knows is missing, and is said to be.
    page = httpx.get(f"{url}/predictions/{ids[1][0]}", timeout=60)
    assert page.status_code == 200, page.text
    _, told = traced(past, monkeypatch, capsys, ids[1][0])
    for part in ("prediction_id", "answered_at", "answer", "call", "feedback"):
        assert page.json()[part] == told[part]
    assert page.json()["request"] == told["request"]
    assert any("who selected the version is not known" in note for note in page.json()["notes"])
    missing = httpx.get(f"{url}/predictions/{ids[1][0][:-4]}0000", timeout=60)
    assert missing.status_code == 404
    assert "has no prediction" in missing.json()["error"]["message"]


def test_live_scores_stand_beside_the_training_figure(past, monkeypatch, capsys):
    home, registry, ids, url = past
    monkeypatch.setattr("greenroom.wiring.build_registry", lambda _: registry)
    monkeypatch.setenv("GREENROOM_HOME", str(home))
    monkeypatch.chdir(home)
    many = [{"prediction_id": one, "actual": n % 2} for n, one in enumerate(ids[2])]
    assert httpx.post(f"{url}/feedback", json=many).json()["accepted"] == len(many)
    assert httpx.post(f"{url}/feedback", json=many[0]).status_code == 200
    with pytest.raises(SystemExit) as ended:
        main(["score-log", NAME, "--json"])
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_feedback"], found["n_duplicates"]) == (len(many) + 2, 1)
    scores = {(one["version"], one["day"]): one for one in found["models"][0]["scores"]}
    assert scores["1", None]["n_scored"] == 1
    assert scores["2", None]["n_scored"] == len(many)
    assert scores["2", None]["n_predictions"] == 1 + 40 + 8 + 5 + 3
    assert "accuracy_low" in scores["2", None]["metrics"]
    with pytest.raises(SystemExit):
        main(["score-log", NAME])
    assert "accuracy" in capsys.readouterr().out
