"""Loading on first use: one load for all requests that wait for it, beside the event loop.

Loads are done one after the other, in threads, while everything in memory goes on answering. One
that fails is not tried again for a while, longer each time; meanwhile requests are told why. What
is loaded and what has to go for it is :mod:`greenroom.inference.residency`'s business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias

from greenroom.background import in_background
from greenroom.errors import GreenroomError, NotServing
from greenroom.inference.generation import Deployment
from greenroom.inference.inference import LoadedGeneration
from greenroom.inference.served_model import ServedModel

__all__ = ["FIRST_PAUSE_S", "LONGEST_PAUSE_S", "FirstUse"]

FIRST_PAUSE_S: Final = 5.0
"""How long a version that did not load is left alone; twice as long after each further failure."""

LONGEST_PAUSE_S: Final = 300.0

log = logging.getLogger(__name__)

_Key: TypeAlias = "tuple[str, str, str]"


class Loads(Protocol):
    """What holds versions: :class:`greenroom.inference.residency.BoundedEngine`."""

    def current(self) -> LoadedGeneration:
        """Return the generation that answers now."""

    def load(self, deployment: Deployment) -> ServedModel:
        """Load a version; for a thread."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """A load that failed: why, how often in a row, and until when no other one is tried."""

    sentence: str
    count: int
    until_s: float

    def error(self, now_s: float) -> NotServing:
        wait_s = max(1, round(self.until_s - now_s))
        advice = f"it is tried again in {wait_s} s; promote another version, or register it anew"
        return NotServing(self.sentence, advice=advice)


class FirstUse:
    """Has versions loaded when they are first asked for; all methods are for the event loop.

    Parameters
    ----------
    engine : Loads
        Loads them.
    timeout_s : float
        How long a request waits for a load. One that takes longer no longer holds up others.
    on_trouble : callable
        Told the model and the digest of a version that does not load, and why; an empty reason
        when it does again.
    clock_s : callable
        Seconds that only go up.
    """

    def __init__(
        self,
        engine: Loads,
        *,
        timeout_s: float,
        on_trouble: Callable[[str, str, str], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._on_trouble = on_trouble
        self._clock_s = clock_s
        self._turn = asyncio.Lock()
        self._loads: dict[_Key, asyncio.Task[ServedModel | None]] = {}
        self._failures: dict[_Key, _Failure] = {}

    async def loaded(self, served: ServedModel) -> ServedModel:
        """Return a model that can answer, loaded if it has to be.

        Raises
        ------
        NotServing
            When its version does not load, or not in time, with the reason.
        """
        while served.awaits_load:
            deployment = served.deployment
            now = self._now(served)
            if now.runtime is not None and _key(now.deployment) == _key(deployment):
                return now  # it has come since the request began
            found = await self._load_for(deployment)
            if found is not None:
                return found
            served = self._now(served)
            failure = self._failures.get(_key(served.deployment))
            if failure is not None and _key(served.deployment) == _key(deployment):
                raise failure.error(self._clock_s())
            # Another version was committed while this one was waited for.
        return served

    def _now(self, served: ServedModel) -> ServedModel:
        """Return what answers at the route of a model by now."""
        return self._engine.current().models.get(served.deployment.route, served)

    async def _load_for(self, deployment: Deployment) -> ServedModel | None:
        """Wait for the load of a version; None when it fails, or has just failed."""
        key = _key(deployment)
        failure = self._failures.get(key)
        if failure is not None and self._clock_s() < failure.until_s:
            return None
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = asyncio.create_task(self._load(deployment))
            load.add_done_callback(lambda _: self._loads.pop(key, None))
        # Whoever waits may go away; the load goes on for the others.
        await asyncio.wait({load}, timeout=self._timeout_s)
        if not load.done():
            raise NotServing(
                f"{_version(deployment)} is still being loaded after {self._timeout_s:g} s",
                advice="send the request again later",
            )
        return load.result()

    async def _load(self, deployment: Deployment) -> ServedModel | None:
        key = _key(deployment)
        try:
            async with self._turn:
                work = asyncio.ensure_future(in_background(partial(self._engine.load, deployment)))
                await asyncio.wait({work}, timeout=self._timeout_s)
            served = await work
        except GreenroomError as error:
            self._failed(deployment, str(error))
            return None
        except Exception as error:
            log.exception("%s could not be loaded", _version(deployment))
            self._failed(deployment, type(error).__name__)
            return None
        if self._failures.pop(key, None) is not None:
            self._on_trouble(deployment.model, _digest(deployment), "")
        return served

    def _failed(self, deployment: Deployment, problem: str) -> None:
        key = _key(deployment)
        served = {_key(one.deployment) for one in self._engine.current().models.values()}
        self._failures = {one: failure for one, failure in self._failures.items() if one in served}
        if key not in served:
            return
        before = self._failures.get(key)
        count = before.count + 1 if before is not None else 1
        pause_s = min(FIRST_PAUSE_S * 2 ** (count - 1), LONGEST_PAUSE_S)
        sentence = f"{_version(deployment)} does not load: {problem}"
        self._failures[key] = _Failure(sentence, count, self._clock_s() + pause_s)
        self._on_trouble(deployment.model, _digest(deployment), sentence)


def _key(deployment: Deployment) -> _Key:
    return deployment.route, *deployment.files


def _digest(deployment: Deployment) -> str:
    return deployment.serving.digest if deployment.serving is not None else ""


def _version(deployment: Deployment) -> str:
    version = deployment.serving.version if deployment.serving is not None else ""
    return f"{deployment.name} version {version}"
