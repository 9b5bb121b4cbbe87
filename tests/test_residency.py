"""A bounded engine: what is in memory, what goes for it, and what is proved before it serves."""

from __future__ import annotations

import gc
import json
import random
import threading
import weakref

import pytest

from builders import version
from greenroom.errors import VersionUnloadable
from greenroom.inference.generation import Deployment
from greenroom.inference.residency import BoundedEngine
from greenroom.inference.runtime import load_runtime
from test_inference import Committed, Loader, Sum, deployment, generation


def named(directory, name="a", number="1"):
    """Return the deployment of a version in ``directory`` for the model ``name``."""
    return deployment(directory, route=f"/{name}", number=number)


@pytest.fixture
def load():
    return Loader()


@pytest.fixture
def committed():
    return Committed()


class Worker:
    """An engine and the number that is committed, as a supervisor moves them."""

    def __init__(self, load, *, max_loaded=2):
        self.committed = Committed()
        self.engine = BoundedEngine(self.committed, load, max_loaded=max_loaded)

    def swap(self, number, *deployments):
        self.engine.prepare(generation(number, *deployments))
        self.committed.number = number
        self.engine.keep(number)

    def served(self, name):
        return self.engine.current().models[f"/{name}"]

    def answer(self, name):
        served = self.served(name)
        if served.awaits_load:
            served = self.engine.load(served.deployment)
        return json.loads(served.answer(b'{"a": 1}'))["prediction"]

    @property
    def loaded(self):
        return sorted(one.directory for one in self.engine.loaded)


@pytest.fixture
def worker(load):
    return Worker(load)


def test_nothing_is_loaded_before_its_first_use(worker, load):
    worker.swap(1, named("1"), named("2", "b"))
    assert load.loaded == []
    assert worker.served("a").awaits_load
    assert worker.answer("a") == 2.0
    assert worker.answer("a") == 2.0
    assert load.loaded == ["1"]
    assert not worker.served("a").awaits_load
    assert worker.engine.current().by_path["/models/sum/predict"] is worker.served("b")


def test_the_version_that_answered_longest_ago_goes_for_one_that_is_asked_for(worker, load):
    worker.swap(1, *[named(str(number), name) for number, name in enumerate("abc")])
    for name in ("a", "b", "a", "c"):
        worker.answer(name)
    assert worker.loaded == ["0", "2"]
    assert worker.answer("b") == 2.0
    assert worker.loaded == ["1", "2"]
    assert load.loaded == ["0", "1", "2", "1"]


def test_room_is_made_before_a_version_is_loaded(load):
    worker = Worker(lambda *given: seen.append(worker.loaded) or load(*given), max_loaded=1)
    seen = []
    worker.swap(1, named("1"), named("2", "b"))
    worker.answer("a")
    worker.answer("b")
    assert seen == [[], []]


def test_a_request_finishes_with_what_it_holds_and_then_the_memory_is_free(load):
    worker = Worker(load, max_loaded=1)
    worker.swap(1, named("1"), named("2", "b"))
    worker.answer("a")
    held = worker.served("a")
    gone = weakref.ref(held.runtime)
    worker.answer("b")
    assert worker.loaded == ["2"]
    assert json.loads(held.answer(b'{"a": 1}'))["prediction"] == 2.0
    del held
    assert gone() is None


def test_a_real_version_is_freed_as_soon_as_nobody_holds_it(tmp_path):
    worker = Worker(load_runtime, max_loaded=1)
    directories = [version(tmp_path / name) for name in "ab"]
    worker.swap(1, named(directories[0]), named(directories[1], "b"))
    runtimes = []
    gc.disable()  # a collection of cycles may be minutes away
    try:
        for name in "aba":
            served = worker.engine.load(worker.served(name).deployment)
            runtimes.append(weakref.ref(served.runtime))
            del served
    finally:
        gc.enable()
    assert [runtime() is None for runtime in runtimes] == [True, True, False]


def test_a_new_version_of_a_model_in_memory_is_there_before_the_swap(worker, load):
    worker.swap(1, named("1"), named("2", "b"))
    worker.answer("a")
    worker.engine.prepare(generation(2, named("5", number="2"), named("2", "b")))
    assert load.loaded == ["1", "5"]
    assert worker.loaded == ["1", "5"]
    worker.swap(3, named("5", number="2"), named("2", "b"))
    assert worker.loaded == ["5"]
    assert worker.answer("a") == 6.0
    assert load.loaded == ["1", "5"]


def test_a_new_version_of_a_model_that_is_not_in_memory_is_proved_and_put_out_again(worker, load):
    worker.swap(1, named("1"))
    worker.swap(2, named("5", number="2"))
    assert load.loaded == ["5"]
    assert worker.loaded == []
    assert worker.answer("a") == 6.0


def test_a_bad_version_never_replaces_a_good_one_that_is_not_in_memory(load):
    def failing(directory, *_):
        if directory.name == "5":
            raise VersionUnloadable("it is broken")
        return load(directory)

    worker = Worker(failing)
    worker.swap(1, named("1"), named("2", "b"))
    with pytest.raises(VersionUnloadable, match="it is broken") as found:
        worker.engine.prepare(generation(2, named("5", number="2"), named("2", "b")))
    assert found.value.model == "sum"
    assert worker.answer("a") == 2.0


def test_the_same_files_under_another_number_are_not_loaded_to_prove_them(worker, load):
    worker.swap(1, named("1"), named("2", "b"))
    worker.answer("b")
    worker.swap(2, named("1", number="8"), named("2", "b", number="9"))
    assert load.loaded == ["2"]
    assert worker.loaded == ["2"]
    assert json.loads(worker.served("b").answer(b'{"a": 1}'))["model_version"] == "9"


def test_a_version_that_does_not_load_leaves_the_others_answering(load):
    def failing(directory, *_):
        if directory.name == "3":
            raise VersionUnloadable("it is broken")
        return load(directory)

    worker = Worker(failing)
    worker.swap(1, named("1"), named("3", "b"))
    assert worker.answer("a") == 2.0
    with pytest.raises(VersionUnloadable, match="it is broken"):
        worker.answer("b")
    assert worker.served("b").awaits_load
    assert worker.answer("a") == 2.0


def test_where_nothing_is_selected_nothing_is_loaded(worker, load):
    nothing = Deployment(model="m", name="m", selector="Production", route="/a")
    worker.swap(1, nothing)
    assert not worker.served("a").awaits_load
    worker.swap(2, named("1"))
    assert load.loaded == []
    worker.swap(3, nothing)
    assert not worker.served("a").awaits_load


def test_after_a_swap_of_everything_no_more_is_held_than_before(worker):
    worker.swap(1, *[named(str(number), name) for number, name in enumerate("abcd")])
    for name in "abcd":
        worker.answer(name)
    new = [named(str(number + 10), name, "2") for number, name in enumerate("abcd")]
    worker.swap(2, *new)
    assert worker.loaded == ["12", "13"]


def test_requests_swaps_and_loads_at_once_never_fail_and_never_hold_too_many():
    """Each answer is of the version that it names, and the bound holds whenever it is looked at."""
    failures, stop, most = [], threading.Event(), []
    worker = Worker(lambda directory, *_: Sum(float(directory.name)), max_loaded=3)
    names = "abcdefgh"

    def of(number):
        return [named(str(number * 10 + i), name, str(number)) for i, name in enumerate(names)]

    worker.swap(1, *of(1))
    loading = threading.Lock()

    def ask(seed):
        chance = random.Random(seed)
        while not stop.is_set() and not failures:
            name = chance.choice(names)
            try:
                served = worker.served(name)
                if served.awaits_load:
                    with loading:  # one after the other, as greenroom.first_use has them
                        served = worker.engine.load(served.deployment)
                found = json.loads(served.answer(b'{"a": 1}'))
                expected = 1 + int(found["model_version"]) * 10 + names.index(name)
                if found["prediction"] != expected:
                    failures.append(found)
            except Exception as error:  # noqa: BLE001 - any failure is one too many
                failures.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(2, 30):
            worker.swap(number, *of(number))
            most.append(len(worker.loaded))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert max(most) <= 3
