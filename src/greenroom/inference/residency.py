"""Residency: an engine that holds a bounded number of versions, each loaded on its first use.

A version that is not in memory stands in its generation without a runtime until a request asks for
it. Where it would be one too many, the one that answered longest ago is put out. What takes the
place of another version is loaded and proved before the swap all the same, in memory or not, so
that a bad version never replaces a good one (decision 12).

How requests wait for a load, and what follows from one that fails, is
:mod:`greenroom.http.first_use`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from greenroom.inference.generation import Deployment, Generation
from greenroom.inference.inference import Check, Engine, LoadedGeneration, OnLoad
from greenroom.inference.proving import Load
from greenroom.inference.runtime import load_runtime
from greenroom.inference.served_model import ServedModel
from greenroom.memory import Recency, give_back_memory

__all__ = ["BoundedEngine"]


class BoundedEngine(Engine):
    """The generations that one worker holds, with no more than ``max_loaded`` versions in memory.

    Beyond that are, for as long as it takes: what a request that is being answered holds, and the
    new versions of a swap that is being prepared.

    Parameters
    ----------
    committed : callable
        Returns the number of the generation that all workers answer from.
    load : callable
        ``directory, declared columns -> Runtime``.
    on_load : callable, optional
        Told which version was loaded, and in how many seconds.
    check : callable, optional
        Called with each version before it may answer; raises where it must not.
    max_loaded : int
        At least 1.
    """

    def __init__(
        self,
        committed: Callable[[], int],
        load: Load = load_runtime,
        on_load: OnLoad = lambda *_: None,
        check: Check = lambda _: None,
        *,
        max_loaded: int,
    ) -> None:
        super().__init__(committed, load, on_load, check)
        self._max_loaded = max_loaded

    @property
    def loaded(self) -> list[Deployment]:
        """The versions in memory."""
        return [served.deployment for served in self._loaded().values()]

    def prepare(self, generation: Generation) -> None:
        """Load and warm what replaces another version; for a thread.

        Of two versions of a model that is in memory both are, until :meth:`keep`; of one that is
        not, the new one is put out again as soon as it is proved. What is served for the first time
        waits for its first use.

        Raises
        ------
        VersionError
            When a new version does not load or does not answer; its ``model`` says which it is of.
        """
        try:
            super().prepare(generation)
        finally:
            give_back_memory()

    def load(self, deployment: Deployment) -> ServedModel:
        """Load a version of the committed generation on its first use; for a thread.

        Those that have to go for it go first. Requests that hold one of them finish with it.

        Raises
        ------
        VersionError
            When it does not load or does not answer.
        """
        known = self._loaded().get(deployment.files)
        if known is None:
            self._put_out(self._max_loaded - 1)
        try:
            served = self._served(deployment, known)
        finally:
            give_back_memory()
        self._take_in(served)
        # One that took too long to wait for may have come in beside this one.
        self._put_out(self._max_loaded)
        return served

    def keep(self, number: int) -> None:
        """Drop every generation but this one; requests that hold another finish with it."""
        super().keep(number)
        self._put_out(self._max_loaded)

    def _prepared(
        self, deployment: Deployment, loaded: Mapping[tuple[str, str], ServedModel]
    ) -> ServedModel:
        known = loaded.get(deployment.files)
        if known is not None:
            return self._served(deployment, known)
        was = self._committed_deployment(deployment.route)
        if deployment.serving is None or was is None or was.serving is None:
            return ServedModel(deployment)
        if was.files == deployment.files:
            return ServedModel(deployment)
        proved = self._served(deployment, None)
        return proved if was.files in loaded else ServedModel(deployment)

    def _committed_deployment(self, route: str) -> Deployment | None:
        generation = self._generations.get(self._committed())
        served = generation.models.get(route) if generation is not None else None
        return served.deployment if served is not None else None

    def _served(self, deployment: Deployment, known: ServedModel | None) -> ServedModel:
        served = super()._served(deployment, known)
        return served if served.recency is not None else replace(served, recency=Recency())

    def _take_in(self, loaded: ServedModel) -> None:
        """Let a version answer wherever it is the one to do so."""

        def change(held: ServedModel) -> ServedModel:
            alike = held.deployment.answers_as == loaded.deployment.answers_as
            return replace(loaded, deployment=held.deployment) if alike else held

        with self._changing:
            self._change(change)

    def _put_out(self, most: int) -> None:
        """Drop the versions that answered longest ago, until no more than ``most`` are held."""

        def change(held: ServedModel) -> ServedModel:
            return ServedModel(held.deployment) if held.deployment.files in dropped else held

        with self._changing:
            dropped = _surplus(self._loaded(), most)
            if dropped:
                self._change(change)

    def _change(self, change: Callable[[ServedModel], ServedModel]) -> None:
        """Change all generations; each as a whole, because a request may be reading it."""
        self._generations = {
            number: LoadedGeneration(
                number, {route: change(served) for route, served in generation.models.items()}
            )
            for number, generation in self._generations.items()
        }


def _surplus(
    loaded: Mapping[tuple[str, str], ServedModel], most: int
) -> Collection[tuple[str, str]]:
    """Return the files of all but the ``most`` versions that answered last."""
    used_at_s = {
        files: served.recency.at_s if served.recency is not None else 0.0
        for files, served in loaded.items()
    }
    oldest_first = sorted(used_at_s, key=used_at_s.__getitem__)
    return set(oldest_first[: max(len(oldest_first) - most, 0)])
