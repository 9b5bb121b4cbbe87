"""Keeping a server at what is selected: restore, poll, bring it to the workers, say how it went.

What is selected is :mod:`greenroom.deployment.following`'s business; how a generation reaches all
workers at one instant is :mod:`greenroom.supervision.rollout`'s.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from greenroom.background import in_background
from greenroom.deployment.following import Follower, Poll
from greenroom.errors import GreenroomError, ProcessError, RegistryUnavailable, VersionUnloadable
from greenroom.inference.generation import Deployment
from greenroom.settings import Settings
from greenroom.status import FALLBACK, RegistryStatus, RestartStatus, Status
from greenroom.supervision.rollout import Rollout
from greenroom.supervision.server_status import (
    Showcase,
    blamed,
    changes,
    registry_line,
    same,
    served_line,
    without_version,
)

log = logging.getLogger(__name__)

JITTER: Final = 0.1
"""Polls are so much earlier or later, so that servers do not ask in step."""

AWAY_INTERVAL_S: Final = 5.0
"""The longest pause between polls while the registry does not answer."""

WATCH_INTERVAL_S: Final = 10.0
"""Between polls that lie further apart, how often the registry is asked whether it is there."""

FIRST_ANSWER_S: Final = 2.0
"""How long a server with nothing in its store waits for the registry before it serves nothing."""


class Pursuit:
    """Follows the registry on behalf of a rollout, one poll at a time.

    Parameters
    ----------
    settings : Settings
        How often to poll, and how long loading may take.
    follower : Follower
        What is to be served.
    rollout : Rollout
        The workers.
    status : Status
        What the server shows before anything is served.
    on_event : callable
        Told in one line what a person may want to know.
    registry_starts : callable
        Whether someone here is still starting the registry.
    on_registry_answer : callable
        Told when (Unix time) the registry has answered a poll.
    on_status : callable
        Told the status when it is shown.
    """

    def __init__(
        self,
        settings: Settings,
        follower: Follower,
        rollout: Rollout,
        status: Status,
        *,
        on_event: Callable[[str], None],
        registry_starts: Callable[[], bool],
        on_registry_answer: Callable[[float], None],
        on_status: Callable[[Status], None] = lambda _: None,
    ) -> None:
        self.status = status
        self._settings = settings
        self._follower = follower
        self._rollout = rollout
        self._on_event = on_event
        self._registry_starts = registry_starts
        self._on_registry_answer = on_registry_answer
        self._on_status = on_status
        self._showcase = Showcase()
        self._found: Poll | None = None
        self._moved: dict[str, dict[str, str]] = {}
        self._unfinished = False
        self._unremembered = False
        self._turn = asyncio.Lock()
        self._unloadable: set[tuple[int, str]] = set()
        self._told = ""

    async def run(self) -> None:
        """Serve what the store remembers, then what the registry selects, for ever.

        Raises
        ------
        GreenroomError
            When the store cannot be read at all.
        """
        restored = await in_background(self._follower.restore)
        await self._attempt(functools.partial(self._begin, restored))
        while True:
            await self._pause(self._pause_s())
            await self._attempt(self._poll)

    async def _pause(self, pause_s: float) -> None:
        """Wait for the next poll; in a long pause, no longer than the registry is there.

        So ``/health`` soon says that it is away, however seldom what it selects is looked at.
        """
        ends_s = time.monotonic() + pause_s
        while (left_s := ends_s - time.monotonic()) > WATCH_INTERVAL_S:
            await asyncio.sleep(WATCH_INTERVAL_S)
            if self.status.registry.state == "disabled":
                continue
            # What is known to be away, as a reload may have found it, is polled again at once.
            if not self.status.registry.is_whole:
                return
            if not await in_background(self._follower.registry_answers):
                return
        await asyncio.sleep(max(0.0, left_s))

    async def reload(self) -> Status:
        """Ask the registry now; return when all workers serve what it selects.

        Raises
        ------
        RegistryUnavailable
            When it does not answer.
        VersionUnloadable
            When what it selects does not load; the last good version goes on.
        """
        async with self._turn:
            refused = await self._poll(force=True)
        await self._rollout.shown()
        registry = self.status.registry
        if not registry.is_whole:
            problem = registry.problem or f"Failed to connect to MLflow at {registry.uri}"
            raise RegistryUnavailable(problem)
        if refused:
            raise VersionUnloadable("; ".join(refused))
        return self.status

    def show_restart(self, restart: RestartStatus) -> None:
        """Have every worker show how a restart is."""
        self._show(msgspec.structs.replace(self.status, restart=restart))

    def show_folder(self, problem: str) -> None:
        """Have every worker show what is wrong with the state folder; empty where nothing is."""
        problems = (problem,) if problem else ()
        if problems != self.status.problems:
            self._on_event(problem or "the state folder can be written to again")
            self._show(msgspec.structs.replace(self.status, problems=problems))

    def show_alerts(self, firing: tuple[str, ...]) -> None:
        """Have every worker show what fires, a line each."""
        self.status = msgspec.structs.replace(self.status, alerts=firing)
        self._rollout.publish(self.status)

    def show_troubles(self) -> None:
        """Say in the status what does not load on its first use."""
        if self._found is not None:
            self._publish(self._found.deployments, self._found.registry)

    def show_stages(self, name: str, latest_versions: Mapping[str, str]) -> None:
        """Show which versions of a registered model are in which stage, until a poll says it.

        A poll that is under way may have asked before; only one that begins later knows better.
        """
        self._moved[name] = dict(latest_versions)
        if self._found is not None:
            self._publish(self._found.deployments, self._found.registry)

    async def give_up(self, model: str, problem: str) -> None:
        """Go back from what was committed and does not load any more, in any worker."""
        generation = self._rollout.generation
        if (generation.number, model) in self._unloadable:
            return
        self._unloadable.add((generation.number, model))
        for deployment, reason in blamed({model: problem}, generation.deployments, ()):
            await self._reject(deployment, reason)
        await self._attempt(self._poll)

    async def _attempt(self, act: Callable[[], Awaitable[object]]) -> None:
        """Do one step; whatever goes wrong is told once, and the next step may go better."""
        try:
            async with self._turn:
                await act()
        except GreenroomError as error:
            self._tell_once(str(error))
        except Exception as error:
            log.exception("the registry could not be followed")
            self._tell_once(f"the registry could not be followed: {type(error).__name__}")
        else:
            self._told = ""

    async def _begin(self, restored: Sequence[Deployment]) -> None:
        """Serve what was restored; with nothing, see first whether the registry answers soon."""
        asked = asyncio.ensure_future(in_background(self._follower.poll))
        if all(deployment.serving is None for deployment in restored):
            await asyncio.wait({asked}, timeout=FIRST_ANSWER_S)
            if asked.done() and asked.exception() is None:
                await self._take(asked.result())
                return
        await self._bring_restored(restored)
        await self._take(await asked)

    async def _bring_restored(self, deployments: Sequence[Deployment]) -> None:
        while refused := await self._bring(deployments, self.status.registry):
            for deployment, problem in refused:
                await self._reject(deployment, problem)
            problems = {deployment.model: problem for deployment, problem in refused}
            deployments = [
                without_version(one, problems[one.model]) if one.model in problems else one
                for one in deployments
            ]

    async def _poll(self, *, force: bool = False) -> list[str]:
        """Ask the registry once and serve what it selects; return what was refused."""
        moved = dict(self._moved)
        poll = await in_background(functools.partial(self._follower.poll, force=force))
        if poll.registry.state == "healthy":
            later = self._moved.items()
            self._moved = {name: stages for name, stages in later if moved.get(name) is not stages}
        return await self._take(poll)

    async def _take(self, poll: Poll) -> list[str]:
        """Serve what a poll found; what does not load is given back, and what is left is taken."""
        if poll.registry.state == "healthy":
            self._on_registry_answer(time.time())
        told: list[str] = []
        for _ in range(len(poll.deployments) + 1):
            current = self._rollout.generation
            # The first one is committed also where it is empty: then the pages can say so.
            if current.number and same(poll.deployments, current.deployments):
                if self._unremembered:
                    await self._remember(poll.deployments)
                break
            refused = await self._bring(poll.deployments, poll.registry)
            if not refused:
                await self._remember(poll.deployments)
                break
            told += [await self._reject(deployment, problem) for deployment, problem in refused]
            poll = await in_background(self._follower.poll)
        self._publish(poll.deployments, poll.registry)
        self._unfinished = poll.unfinished
        return told

    async def _remember(self, deployments: Sequence[Deployment]) -> None:
        """Have the store remember what is served; it is served also where that fails."""
        failed_before = self._unremembered
        try:
            await in_background(functools.partial(self._follower.accepted, deployments))
        except ProcessError as error:
            self._unremembered = True
            if not failed_before:
                self._on_event(str(error))
        else:
            self._unremembered = False

    async def _bring(
        self, deployments: Sequence[Deployment], registry: RegistryStatus
    ) -> list[tuple[Deployment, str]]:
        """Swap to ``deployments``; return those that do not load, each with the problem.

        Workers that die while they load may have been killed by someone: that is tried once more.
        """
        before = self._rollout.generation
        show = functools.partial(self._publish, deployments, registry)
        for last in (False, True):
            outcome = await self._rollout.swap(deployments, on_commit=show)
            if outcome.verdict == "commit":
                for deployment in changes(before.deployments, deployments):
                    self._on_event(served_line(deployment))
                return []
            if outcome.verdict == "refuse":
                return blamed(outcome.problems, deployments, before.deployments)
            if outcome.hung or last:
                break
            if before.number:
                await self._rollout.some_joined(self._settings.load_timeout_s)
        hung = f"it did not load within {self._settings.load_timeout_s:g} s"
        problem = hung if outcome.hung else "the worker ended while it loaded it"
        return blamed({"": problem}, deployments, before.deployments)

    async def _reject(self, deployment: Deployment, problem: str) -> str:
        await in_background(functools.partial(self._follower.rejected, deployment, problem))
        version = deployment.serving.version if deployment.serving else ""
        text = f"{deployment.name} version {version} was refused: {problem}"
        self._on_event(text)
        return text

    def _publish(self, deployments: Sequence[Deployment], registry: RegistryStatus) -> None:
        deployments = [
            msgspec.structs.replace(one, latest_versions=self._moved[one.name])
            if one.name in self._moved
            else one
            for one in deployments
        ]
        self._found = Poll(tuple(deployments), registry)
        was = self.status.registry
        if was.state == "starting" and not registry.is_whole and self._registry_starts():
            registry = was
        if registry.state != was.state:
            self._on_event(registry_line(registry))
        models = self._showcase.models(
            self._rollout.generation, deployments, self._rollout.runtimes, self._rollout.troubles()
        )
        self._show(
            msgspec.structs.replace(
                self.status,
                generation=self._rollout.generation.number,
                registry=registry,
                models=models,
            )
        )

    def _show(self, status: Status) -> None:
        self.status = status
        self._rollout.publish(status)
        self._on_status(status)

    def _pause_s(self) -> float:
        """Return how long to wait for the next poll.

        Not for long while the registry is away, or cannot give what it selects.
        """
        if self._unfinished:
            return 0.0
        pause_s = self._settings.poll_interval_s
        registry = self.status.registry
        standing_in = any(
            one.serving and one.serving.source == FALLBACK for one in self.status.models
        )
        if not registry.is_whole or (standing_in and registry.state == "healthy"):
            pause_s = min(pause_s, AWAY_INTERVAL_S)
        return pause_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._on_event(text)
