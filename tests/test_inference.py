from __future__ import annotations

import gc
import json
import threading
import weakref
from pathlib import Path
from types import MappingProxyType

import msgspec
import numpy as np
import pytest

from builders import classifier, numbers, version
from greenroom.data.frames import to_frame
from greenroom.errors import (
    NotServing,
    RequestInvalid,
    RequestMalformed,
    VersionCorrupt,
    VersionUnloadable,
)
from greenroom.evaluation.predictions import Predictions
from greenroom.inference.generation import Deployment, Generation
from greenroom.inference.inference import Engine
from greenroom.inference.runtime import load_runtime
from greenroom.schema import Column, Schema
from greenroom.status import VersionStatus
from greenroom.task import regression


class Sum:
    """A runtime without files: adds a constant to its only column."""

    manifest = None
    example_values = MappingProxyType({})
    schema = Schema((Column("a", minimum=0, maximum=10),))
    task = regression
    classes = ()
    kind = "native"
    accepts_matrix = True
    expands = False

    def __init__(self, add=0.0):
        self.add = add
        self.warmed = 0

    def predict(self, columns):
        return self.predict_matrix(columns["a"][:, None])

    predict_rows = predict

    def predict_matrix(self, X):
        return Predictions({"prediction": X.sum(axis=1) + self.add})

    def warm(self):
        self.warmed += 1


class Loader:
    """Loads ``Sum`` from directories called by their constant, and counts."""

    def __init__(self):
        self.loaded = []

    def __call__(self, directory, *_):
        self.loaded.append(directory.name)
        return Sum(float(directory.name))


def deployment(directory="1", route="/predict", number="7", **fields):
    serving = VersionStatus(version=number, stage="Production", digest=str(directory))
    return Deployment(
        model="sum",
        name="registered sum",
        selector="Production",
        route=route,
        serving=serving,
        directory=str(directory),
        **fields,
    )


def generation(number, *deployments):
    return Generation(number=number, deployments=deployments)


class Committed:
    number = 0

    def __call__(self):
        return self.number


@pytest.fixture
def committed():
    return Committed()


@pytest.fixture
def load():
    return Loader()


@pytest.fixture
def engine(committed, load):
    return Engine(committed, load)


def answer(engine, body=b'{"a": 1}', route="/predict"):
    return json.loads(engine.current().models[route].answer(body))


def test_one_row_is_answered_flat_and_several_as_a_list(engine, committed):
    engine.prepare(generation(1, deployment("2")))
    committed.number = 1
    one = answer(engine)
    assert one["prediction"] == 3.0
    assert (one["model_name"], one["model_version"], one["model_stage"]) == (
        "registered sum",
        "7",
        "Production",
    )
    assert one["processing_time_ms"] > 0
    assert one["timestamp"].endswith("Z")
    many = answer(engine, b'[{"a": 1}, {"a": 2}]')
    assert [row["prediction"] for row in many["predictions"]] == [3.0, 4.0]
    ids = [row["prediction_id"] for row in many["predictions"]]
    assert len({one["prediction_id"], *ids}) == 3


def test_who_counts_loads_is_told_of_each_version_once_and_how_long_it_took(committed, load):
    told = []
    engine = Engine(committed, load, lambda of, seconds: told.append((of.name, seconds)))
    engine.prepare(generation(1, deployment("2")))
    engine.prepare(generation(2, deployment("2"), deployment("2", route="/again")))
    ((name, seconds),) = told
    assert name == "registered sum"
    assert 0 < seconds < 60


def test_a_real_version_is_answered_by_what_it_carries(tmp_path, committed):
    estimator = classifier()
    directory = version(tmp_path, estimator=estimator, reply={"risk": "probability"})
    engine = Engine(committed, load_runtime)
    engine.prepare(generation(1, deployment(directory)))
    committed.number = 1
    rows = numbers(3)
    body = json.dumps([{"a": a, "b": b} for a, b in zip(rows["a"], rows["b"], strict=True)])
    found = answer(engine, body.encode())
    expected = estimator.predict_proba(to_frame(rows))[:, 1].tolist()
    assert [row["risk"] for row in found["predictions"]] == expected


def test_bad_requests_are_refused_by_name(engine, committed):
    engine.prepare(generation(1, deployment()))
    committed.number = 1
    with pytest.raises(RequestInvalid, match="a"):
        answer(engine, b'{"a": 11}')
    with pytest.raises(RequestMalformed):
        answer(engine, b"{")


def test_where_nothing_is_served_the_reason_and_the_advice_are_given(engine, committed):
    nothing = Deployment(
        model="sum",
        name="sum",
        selector="Production",
        route="/predict",
        reason="No model in Production stage",
        advice="promote one",
    )
    engine.prepare(generation(1, nothing))
    committed.number = 1
    with pytest.raises(NotServing, match="No model in Production stage; promote one"):
        answer(engine)
    served = engine.current().models["/predict"]
    for step in (lambda: served.predict(None), lambda: served.encode(None, None, 0.0)):
        with pytest.raises(NotServing):
            step()


def test_only_the_committed_generation_answers(engine, committed):
    with pytest.raises(NotServing, match="starting"):
        engine.current()
    engine.prepare(generation(1, deployment("1")))
    engine.prepare(generation(2, deployment("5")))
    committed.number = 1
    assert answer(engine)["prediction"] == 2.0
    committed.number = 2
    assert answer(engine)["prediction"] == 6.0
    assert engine.current().number == 2


def test_a_committed_generation_that_was_never_prepared_is_said(engine, committed):
    engine.prepare(generation(1, deployment()))
    committed.number = 9
    with pytest.raises(NotServing, match="generation 9 is committed"):
        engine.current()


def test_what_is_loaded_is_not_loaded_again_but_described_anew(engine, committed, load):
    engine.prepare(generation(1, deployment("1"), deployment("2", route="/other")))
    engine.prepare(generation(2, deployment("1", number="8"), deployment("3", route="/other")))
    engine.prepare(generation(3, deployment("1"), deployment("1", route="/other")))
    assert load.loaded == ["1", "2", "3"]
    committed.number = 2
    assert answer(engine)["model_version"] == "8"


def test_what_answers_as_before_is_not_proved_again(engine, committed):
    engine.prepare(generation(1, deployment("1"), deployment("2", route="/other")))
    engine.prepare(generation(2, deployment("1"), deployment("2", route="/other", number="8")))
    kept, described_anew = (
        [engine._generations[number].models[route].request_type for number in (1, 2)]
        for route in ("/predict", "/other")
    )
    assert kept[0] is kept[1]
    assert described_anew[0] is not described_anew[1]


def test_two_routes_of_one_generation_share_a_version(engine, load):
    engine.prepare(generation(1, deployment("1"), deployment("1", route="/other")))
    assert load.loaded == ["1"]


def test_dropped_generations_are_freed_and_requests_keep_what_they_hold(engine, committed):
    engine.prepare(generation(1, deployment("1")))
    engine.prepare(generation(2, deployment("2")))
    committed.number = 1
    held = engine.current()
    gone = weakref.ref(held.models["/predict"].runtime)
    engine.keep(2)
    assert json.loads(held.models["/predict"].answer(b'{"a": 1}'))["prediction"] == 2.0
    with pytest.raises(NotServing):
        engine.current()
    del held
    gc.collect()
    assert gone() is None


def test_each_version_is_warmed_once(engine):
    engine.prepare(generation(1, deployment("1")))
    engine.prepare(generation(2, deployment("1")))
    (served,) = (one for one in engine._generations[2].models.values())
    assert served.runtime.warmed == 1


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (VersionCorrupt("its file x is missing", advice="look"), VersionCorrupt, "missing; look"),
        (VersionUnloadable("it does not load"), VersionUnloadable, "does not load"),
        (MemoryError("no memory"), VersionUnloadable, "MemoryError"),
    ],
)
def test_a_version_that_does_not_load_names_its_model_and_changes_nothing(
    committed, raised, kind, said
):
    def load(directory, *_):
        if directory.name == "2":
            raise raised
        return Sum()

    engine = Engine(committed, load)
    engine.prepare(generation(1, deployment("1")))
    with pytest.raises(kind, match=said) as found:
        engine.prepare(generation(2, deployment("1"), deployment("2", route="/other")))
    assert found.value.model == "sum"
    committed.number = 1
    assert answer(engine)["prediction"] == 1.0
    committed.number = 2
    with pytest.raises(NotServing):
        engine.current()


class Short(Sum):
    def predict_matrix(self, X):
        return Predictions({"prediction": np.zeros(5)})


def test_an_answer_with_another_number_of_rows_is_never_given_out(committed):
    with pytest.raises(VersionUnloadable, match="answered 1 rows with 5"):
        Engine(committed, lambda *_: Short()).prepare(generation(1, deployment()))


class Expanding(Short):
    expands = True


def test_a_request_that_stands_for_several_rows_is_answered_with_a_list(committed):
    engine = Engine(committed, lambda *_: Expanding())
    engine.prepare(generation(1, deployment()))
    committed.number = 1
    assert len(answer(engine)["predictions"]) == 5


def test_a_reply_that_cannot_be_made_is_found_when_the_version_loads(tmp_path, committed):
    directory = version(tmp_path, reply={"upper": "upper"})
    with pytest.raises(VersionUnloadable, match=r"reply\.upper") as found:
        Engine(committed).prepare(generation(1, deployment(directory)))
    assert found.value.model == "sum"


def test_requests_go_on_while_generations_come_and_go(engine, committed):
    """Each answer is of one generation, and none fails."""
    engine.prepare(generation(1, deployment("1", number="1")))
    committed.number = 1
    failures, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                found = answer(engine)
                if found["prediction"] != 1 + float(found["model_version"]):
                    failures.append(found)
            except Exception as error:  # noqa: BLE001 - any failure is one too many
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2, 60):
        add = str(number % 7)
        engine.prepare(generation(number, deployment(add, number=add)))
        committed.number = number
        engine.keep(number)
    stop.set()
    for thread in threads:
        thread.join()
    assert [msgspec.to_builtins(failure, enc_hook=str) for failure in failures] == []


def test_a_deployments_directory_is_what_is_loaded(committed):
    seen = []

    def load(directory, *_):
        seen.append(directory)
        return Sum()

    Engine(committed, load).prepare(generation(1, deployment("/store/versions/abc")))
    assert seen == [Path("/store/versions/abc")]
