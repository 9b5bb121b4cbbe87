"""What a caller sees of real workers over HTTP: own answers, odd values, versions that fail.

The registry is in memory; following it, downloading, verifying, loading and answering are real.
"""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import builders
from app_versions import fitted, version_of_every_kind
from greenroom.data.frames import to_frame
from greenroom.deployment.following import Follower, Target
from greenroom.schema import Column
from greenroom.selector import Selector
from greenroom.versions.model_store import DIGEST_TAG, ModelStore
from greenroom.versions.version_files import directory_digest
from real_server import deployed, following, served
from test_following import FakeRegistry

pytestmark = pytest.mark.slow

N_CALLERS = 64


@pytest.mark.parametrize("runtime", ["compiled", "native"])
def test_64_callers_at_once_each_get_their_own_answer(runtime, tmp_path):
    rows = builders.numbers()
    estimator = builders.classifier(rows)
    if runtime == "compiled":
        fitted(tmp_path / "1", builders.COLUMNS, rows, estimator, builders.labels(rows))
    else:
        builders.version(tmp_path / "1", estimator=estimator)
    asked = builders.numbers(N_CALLERS * 10, seed=1)
    expected = estimator.predict_proba(to_frame(asked))[:, 1]

    with served(deployed(tmp_path / "1")) as url, ThreadPoolExecutor(N_CALLERS) as callers:

        def call(caller: int) -> list[dict]:
            with httpx.Client(timeout=60) as client:
                return [
                    client.post(f"{url}/predict", json={"a": asked["a"][n], "b": asked["b"][n]})
                    .raise_for_status()
                    .json()
                    for n in range(caller, len(expected), N_CALLERS)
                ]

        replies = list(callers.map(call, range(N_CALLERS)))
        assert httpx.get(f"{url}/model/info").json()["runtime"] == runtime

    for caller, own in enumerate(replies):
        found = [reply["probability"] for reply in own]
        np.testing.assert_allclose(found, expected[caller::N_CALLERS], rtol=0, atol=1e-12)
    assert len({reply["prediction_id"] for own in replies for reply in own}) == len(expected)


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory):
    directory = version_of_every_kind(tmp_path_factory.mktemp("version") / "1")
    with served(deployed(directory)) as url:
        yield url


GOOD = '"n": 1, "b": true, "d": "2024-01-15"'
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (f"{{{GOOD}}}", 200, ""),
        (f'{{{GOOD}, "i_n": null, "s": "001", "c": null, "t": null}}', 200, ""),
        (f'{{{GOOD}, "i_n": 41.0, "s": ""}}', 200, ""),
        (f'{{{GOOD}, "i_n": 41.5}}', 422, "i_n must be a whole number"),
        (f'{{{GOOD}, "s": 1}}', 422, "s must be a string"),
        (f'{{{GOOD}, "i_n": "1"}}', 422, "i_n must be a number, not a string"),
        (f'{{{GOOD}, "i_n": NaN}}', 422, "i_n is not finite"),
        (f'{{{GOOD}, "i_n": Infinity}}', 422, "i_n is not finite"),
        (f'{{{GOOD}, "i_n": -Infinity}}', 422, "i_n is not finite"),
        (f'{{{GOOD}, "i_n": 1e999}}', 422, "i_n is not finite"),
        (f'{{{GOOD}, "n": 2}}', 422, "n is given twice"),
        (f'{{{GOOD}, "s": "a", "s": "a"}}', 422, "s is given twice"),
        (DEEP, 400, "nested too deeply"),
        (f'{{{GOOD}, "s": {DEEP}}}', 400, "nested too deeply"),
        ('{"instances":' * 100_000, 400, "nested too deeply"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)
def test_a_value_is_taken_as_what_it_is_or_refused_by_name(every_kind, body, status, said):
    reply = httpx.post(
        f"{every_kind}/predict", content=body, headers={"content-type": "application/json"}
    )
    assert reply.status_code == status, reply.text
    if said:
        assert said in reply.json()["error"]["message"]
    assert httpx.get(f"{every_kind}/live").status_code == 200


def test_text_that_looks_like_a_number_reaches_the_model_as_text(tmp_path):
    columns = (Column("code", "category", categories=("001", "1")), Column("s", "string"))
    rows = {
        "code": np.array(["001", "1"] * 20, dtype=object),
        "s": np.array(["01", "1"] * 20, dtype=object),
    }
    estimator = builders.by_text()
    fitted(tmp_path / "1", columns, rows, estimator, [0, 1] * 20)
    with served(deployed(tmp_path / "1")) as url:
        sent = [{"code": "001", "s": "01"}, {"code": "1", "s": "1"}]
        answers = httpx.post(f"{url}/predict", json=sent).json()["predictions"]
    assert [answer["prediction"] for answer in answers] == [0, 1]


def test_a_thousand_columns_are_answered_as_the_estimator_answers_them(tmp_path):
    names = [f"column {number}" for number in range(1_000)]
    X = np.random.default_rng(0).normal(size=(40, 1_000))
    rows = dict(zip(names, X.T.copy(), strict=True))
    estimator = LogisticRegression().fit(to_frame(rows), X[:, 0] > 0)
    columns = tuple(Column(name) for name in names)
    example = dict(zip(names, X[0].tolist(), strict=True))
    builders.version(
        tmp_path / "1", estimator=estimator, columns=columns, rows=rows, example=example
    )
    with served(deployed(tmp_path / "1")) as url:
        sent = [dict(zip(names, values, strict=True)) for values in X[:5].tolist()]
        answers = httpx.post(f"{url}/predict", json=sent).json()["predictions"]
        document = httpx.get(f"{url}/openapi.json").json()
    found = [answer["probability"] for answer in answers]
    expected = estimator.predict_proba(to_frame(rows))[:5, 1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert list(document["components"]["schemas"]["m.Row"]["properties"]) == names


# Versions that fail


def untouched(_: Path) -> None: ...


def not_a_model(directory: Path) -> None:
    (directory / "model.pkl").write_bytes(b"not a model")


def of_other_columns(directory: Path) -> None:
    """Leave an estimator that loads, and fails when it is asked."""
    X = np.arange(10.0).reshape(5, 2)
    estimator = LogisticRegression().fit(np.hstack([X, X]), [0, 1, 0, 1, 0])
    (directory / "model.pkl").write_bytes(pickle.dumps(estimator))


FAILURES = (
    (not_a_model, False, 409, "does not load"),
    (not_a_model, True, 200, "not the ones"),
    (of_other_columns, False, 409, "does not load"),
)
"""To load, to verify, to warm: what is done to a version, whether it was harmed after its digest
was written, and what a reload and the health page say."""


class Site:
    """A registry in memory with a real follower."""

    def __init__(self, folder: Path) -> None:
        self.registry = FakeRegistry(folder / "registry")
        self.store = ModelStore(folder / "store")

    def follower(self) -> Follower:
        target = Target("model", "model", Selector.parse("Production"), "/predict")
        return Follower(self.registry, self.store, (target,), keep_versions=3)

    def add(self, version: int, harm=untouched, *, after_tagging: bool = False) -> None:
        """Register a version in Production, and take the others out of it."""
        directory = self.registry.folder / "model" / str(version)
        builders.version(directory, estimator=builders.classifier(C=float(version)))
        if not after_tagging:
            harm(directory)
        self.registry.add(version, stage="Production", files={})
        assert self.registry.held["model", str(version)].tags == {
            DIGEST_TAG: directory_digest(directory)
        }
        if after_tagging:
            harm(directory)
        for other in range(1, version):
            self.registry.move(other, "Archived")


ROW = {"a": 1.5, "b": 3}


def test_a_version_that_fails_never_serves_and_health_says_why(tmp_path):
    site = Site(tmp_path)
    site.add(1)
    with following(site.follower(), workers=2, poll_interval_s=600.0) as url:
        before = httpx.post(f"{url}/predict", json=ROW).json()
        for number, (harm, after_tagging, status, said) in enumerate(FAILURES, start=2):
            site.add(number, harm, after_tagging=after_tagging)
            reply = httpx.post(f"{url}/model/reload", timeout=60)
            assert (reply.status_code, f"version {number}" in reply.text) == (status, True)
            for _ in range(10):  # On connections of their own: both workers are asked.
                answer = httpx.post(f"{url}/predict", json=ROW).json()
                assert answer["model_version"] == "1"
                assert answer["probability"] == before["probability"]
            health = httpx.get(f"{url}/health")
            assert (health.status_code, health.json()["status"]) == (200, "degraded")
            (problem,) = health.json()["problems"]
            assert f"version {number}" in problem
            assert said in problem
        site.add(number + 1)
        assert httpx.post(f"{url}/model/reload", timeout=60).status_code == 200
        assert httpx.post(f"{url}/predict", json=ROW).json()["model_version"] == str(number + 1)
        assert httpx.get(f"{url}/health").json()["status"] == "healthy"
