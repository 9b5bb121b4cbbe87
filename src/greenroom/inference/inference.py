"""Inference: the generations of versions that one worker holds in memory.

A generation is prepared as a whole, beside those before it, and every version of it is proved first
(:mod:`greenroom.inference.proving`). Which generation answers is one number that all workers share,
read once for each request. What a version that is served already needs is not loaded again.

There is no HTTP here, and nothing is decided about what is to be served: that is
:mod:`greenroom.http.serving`'s and :mod:`greenroom.deployment.following`'s business. How a model
answers is :mod:`greenroom.inference.served_model`'s; an engine that may not hold all versions at
once is :mod:`greenroom.inference.residency`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from greenroom.errors import NotServing
from greenroom.inference.generation import Deployment, Generation
from greenroom.inference.proving import Load, proved
from greenroom.inference.runtime import load_runtime
from greenroom.inference.served_model import ServedModel

OnLoad: TypeAlias = Callable[[Deployment, float], None]
Check: TypeAlias = Callable[[ServedModel], None]


@dataclass(frozen=True, slots=True)
class LoadedGeneration:
    """A generation in memory: what answers by route, and by all else that a request may name.

    Attributes
    ----------
    by_name : mapping of str to ServedModel
        By what a model is called on this server.
    by_path : mapping of str to ServedModel
        By the paths where its predictions are.
    """

    number: int
    models: Mapping[str, ServedModel]
    by_name: Mapping[str, ServedModel] = field(init=False)
    by_path: Mapping[str, ServedModel] = field(init=False)

    def __post_init__(self) -> None:
        served = self.models.values()
        object.__setattr__(self, "by_name", {one.deployment.model: one for one in served})
        by_path = {path: one for one in served for path in one.deployment.paths}
        object.__setattr__(self, "by_path", by_path)


class Engine:
    """The generations that one worker holds.

    A request calls :meth:`current` once and goes on with what it got: nothing that happens later
    takes it away.

    Parameters
    ----------
    committed : callable
        Returns the number of the generation that all workers answer from.
    load : callable
        ``directory, declared columns, where what was compiled of it is -> Runtime``.
    on_load : callable, optional
        Told of each version that was loaded and warmed, and how many seconds it took; called in
        the thread that prepares.
    check : callable, optional
        Called with each version before it may answer; raises where it must not.
    """

    def __init__(
        self,
        committed: Callable[[], int],
        load: Load = load_runtime,
        on_load: OnLoad = lambda *_: None,
        check: Check = lambda _: None,
    ) -> None:
        self._committed = committed
        self._load = load
        self._on_load = on_load
        self._check = check
        # Never changed in place: a request may be reading it.
        self._generations: Mapping[int, LoadedGeneration] = {}
        self._preparing = threading.Lock()
        self._changing = threading.Lock()

    def current(self) -> LoadedGeneration:
        """Return the generation that answers now; takes no lock.

        Raises
        ------
        NotServing
            When this worker has not prepared the generation that is committed.
        """
        number = self._committed()
        found = self._generations.get(number)
        if found is None:
            # Another one may have been committed, and this one dropped, between the two lines.
            number = self._committed()
            found = self._generations.get(number)
        if found is not None:
            return found
        if number == 0:
            raise NotServing("the server is starting", advice="/ready says when it answers")
        raise NotServing(
            f"generation {number} is committed, and this worker has not prepared it",
            advice="send the request again",
        )

    def prepare(self, generation: Generation) -> None:
        """Load and warm whatever ``generation`` has that is not loaded yet; for a thread.

        Either all of it is there afterwards, or nothing new.

        Raises
        ------
        VersionError
            When a version does not load or does not answer; its ``model`` says which it is of.
        """
        with self._preparing:
            loaded = self._loaded()
            models = {}
            for deployment in generation.deployments:
                served = self._prepared(deployment, loaded)
                models[deployment.route] = served
                if served.runtime is not None:
                    loaded[deployment.files] = served
            prepared = LoadedGeneration(generation.number, models)
            with self._changing:
                self._generations = {**self._generations, generation.number: prepared}

    def keep(self, number: int) -> None:
        """Drop every generation but this one; requests that hold another finish with it."""
        with self._changing:
            self._generations = {
                held: generation for held, generation in self._generations.items() if held == number
            }

    def runtimes(self, number: int) -> dict[str, str]:
        """Return by model which runtime answers in a generation, where one is loaded."""
        generation = self._generations.get(number)
        models = generation.models.values() if generation is not None else ()
        return {
            served.deployment.model: served.runtime.kind
            for served in models
            if served.runtime is not None
        }

    def _prepared(
        self, deployment: Deployment, loaded: Mapping[tuple[str, str], ServedModel]
    ) -> ServedModel:
        """Return what a generation has for a deployment; ``loaded`` is in memory already."""
        return self._served(deployment, loaded.get(deployment.files))

    def _served(self, deployment: Deployment, known: ServedModel | None) -> ServedModel:
        """Return what answers a deployment's requests; ``known`` is one with the same files."""
        if deployment.serving is None:
            return ServedModel(deployment)
        if known is not None and known.deployment.answers_as == deployment.answers_as:
            return replace(known, deployment=deployment)
        if known is not None:
            served = proved(deployment, known.runtime, self._load)
            self._check(served)
            return replace(served, recency=known.recency)
        began_s = time.perf_counter()
        served = proved(deployment, None, self._load)
        self._check(served)
        self._on_load(deployment, time.perf_counter() - began_s)
        return served

    def _loaded(self) -> dict[tuple[str, str], ServedModel]:
        """Return what is in memory by its directories, which the model store names by digest."""
        return {
            served.deployment.files: served
            for generation in self._generations.values()
            for served in generation.models.values()
            if served.runtime is not None
        }
