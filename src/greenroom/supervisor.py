"""The server's first process: owns the port, follows the registry, keeps the workers in step.

It listens, starts workers by their command line, and polls for what is selected. What changes is
brought to all workers by a two-phase swap (:mod:`greenroom.rollout`); what fails to load never
serves, and the last good generation goes on. Requests never come here, and no model is loaded here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from greenroom import __version__
from greenroom.background import in_background
from greenroom.control import Answer, Ask, CommittedGeneration, WorkerSetup
from greenroom.errors import GreenroomError, ProcessError, RegistryUnavailable, VersionUnloadable
from greenroom.following import Follower
from greenroom.generation import Deployment
from greenroom.listening import listen, refuse_open
from greenroom.rollout import Rollout
from greenroom.server_status import (
    Showcase,
    blamed,
    changes,
    registry_line,
    same,
    served_line,
    utc_now,
    without_version,
)
from greenroom.settings import Settings
from greenroom.status import RegistryStatus, Status
from greenroom.worker_process import COMMAND, WorkerProcess

log = logging.getLogger(__name__)

JITTER: Final = 0.1
"""Polls are so much earlier or later, so that servers do not ask in step."""

AWAY_INTERVAL_S: Final = 5.0
"""The longest pause between polls while the registry does not answer."""

_STOP_MARGIN_S: Final = 3.0


class Supervisor:
    """A server: one supervisor, which this is, and its workers.

    Parameters
    ----------
    settings : Settings
        Where and how the server runs.
    follower : Follower
        What is to be served.
    app_name : str
        What the server is called, in its status.
    app_folder : Path, optional
        The app that workers import; None where a registered model is served without one.
    on_event : callable
        Told in one line what a person may want to know.
    on_log : callable
        Told every line that a worker writes.
    command : sequence of str
        What starts a worker.
    registry_starts : callable
        Whether someone here is still starting the registry: until it answers, or this is over,
        its state is shown as ``starting`` instead of ``unavailable``.

    Attributes
    ----------
    address : tuple of str and int
        The host and port that are listened on; those of the settings until :meth:`bind`.
    status : Status
        The server's state, as every worker shows it.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        follower: Follower,
        app_name: str,
        app_folder: Path | None = None,
        on_event: Callable[[str], None] = log.info,
        on_log: Callable[[str], None] = log.info,
        command: Sequence[str] = COMMAND,
        registry_starts: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings = settings
        self.address: tuple[str, int] = (settings.host, settings.port)
        self._follower = follower
        self._app_folder = app_folder
        self._on_event = on_event
        self._on_log = on_log
        self._command = command
        self._registry_starts = registry_starts
        self._listener: socket.socket | None = None
        self._committed = CommittedGeneration.create()
        self._rollout = Rollout(settings.workers, self._launch, self._committed, self)
        self._showcase = Showcase()
        self._turn = asyncio.Lock()
        self._stop = asyncio.Event()
        self._errands: set[asyncio.Task[None]] = set()
        self._unloadable: set[tuple[int, str]] = set()
        self._told = ""
        started_at = utc_now()
        self.status = Status(
            app=app_name,
            greenroom_version=__version__,
            started_at=started_at,
            workers=settings.workers,
            registry=RegistryStatus(uri=settings.tracking_uri, since=started_at),
        )

    @property
    def ready(self) -> asyncio.Event:
        """Set when a worker accepts connections."""
        return self._rollout.ready

    def bind(self) -> None:
        """Take the port, once; connections wait until a worker accepts them.

        Raises
        ------
        SettingsError
            When it would let other machines in without asking who they are.
        ProcessError
            When the port cannot be had.
        """
        if self._listener is None:
            refuse_open(self.settings)
            self._listener = listen(self.settings.host, self.settings.port)
            self.address = self._listener.getsockname()[:2]

    async def run(self) -> None:
        """Serve until :meth:`stop`, SIGINT, SIGTERM or SIGHUP; the second signal kills at once.

        Raises
        ------
        SettingsError, ProcessError
            As :meth:`bind`, and when the workers do not start at all.
        """
        self.bind()
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._rollout.crew.run()),
            asyncio.create_task(self._follow()),
            asyncio.create_task(self._stop.wait()),
        ]
        with self._signals():
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await self._shut_down(*tasks)
        for task in done:
            task.result()

    def stop(self) -> None:
        """Stop accepting, let the requests in flight finish, and end :meth:`run`."""
        self._stop.set()

    def kill(self) -> None:
        """End all workers at once, and then :meth:`run`."""
        self._stop.set()
        self._rollout.crew.kill()

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
        if registry.state != "healthy":
            problem = registry.problem or f"Failed to connect to MLflow at {registry.uri}"
            raise RegistryUnavailable(problem)
        if refused:
            raise VersionUnloadable("; ".join(refused))
        return self.status

    def on_event(self, text: str) -> None:
        """Pass on what a person may want to know."""
        self._on_event(text)

    def on_ask(self, worker: WorkerProcess, ask: Ask) -> None:
        """Answer a worker, without holding up the others' messages."""
        self._run_errand(self._answer(worker, ask))

    def on_unloadable(self, model: str, problem: str) -> None:
        """Give up what was committed and does not load any more."""
        key = (self._rollout.generation.number, model)
        if key not in self._unloadable:
            self._unloadable.add(key)
            self._run_errand(self._give_up(model, problem))

    async def _launch(self, slot: int) -> WorkerProcess:
        if self._listener is None:
            raise ProcessError("the server does not listen yet")
        setup = WorkerSetup(
            slot=slot,
            listener_fd=self._listener.fileno(),
            control_fd=-1,
            committed_fd=self._committed.fd,
            app_folder=str(self._app_folder or ""),
            settings=msgspec.structs.replace(self.settings, port=self.address[1]),
        )
        return await WorkerProcess.start(setup, self._on_log, command=self._command)

    async def _follow(self) -> None:
        """Serve what the store remembers, then what the registry selects, for ever."""
        async with self._turn:
            await self._serve_restored()
        while True:
            try:
                async with self._turn:
                    await self._poll()
                self._told = ""
            except GreenroomError as error:
                self._tell_once(str(error))
            except Exception as error:
                log.exception("the registry could not be followed")
                self._tell_once(f"the registry could not be followed: {type(error).__name__}")
            await asyncio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        """Return how long to wait for the next poll; not for long while the registry is away."""
        pause_s = self.settings.poll_interval_s
        if self.status.registry.state != "healthy":
            pause_s = min(pause_s, AWAY_INTERVAL_S)
        return pause_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311

    async def _serve_restored(self) -> None:
        deployments = await in_background(self._follower.restore)
        registry = self.status.registry
        while refused := await self._bring(deployments, registry):
            for deployment, problem in refused:
                await self._reject(deployment, problem)
            problems = {deployment.model: problem for deployment, problem in refused}
            deployments = tuple(
                without_version(one, problems[one.model]) if one.model in problems else one
                for one in deployments
            )

    async def _poll(self, *, force: bool = False) -> list[str]:
        """Ask the registry once and serve what it selects; return what was refused."""
        poll = await in_background(functools.partial(self._follower.poll, force=force))
        told: list[str] = []
        for _ in range(len(poll.deployments) + 1):
            if same(poll.deployments, self._rollout.generation.deployments):
                break
            refused = await self._bring(poll.deployments, poll.registry)
            if not refused:
                await in_background(functools.partial(self._follower.accepted, poll.deployments))
                break
            told += [await self._reject(deployment, problem) for deployment, problem in refused]
            poll = await in_background(self._follower.poll)
        self._publish(poll.deployments, poll.registry)
        return told

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
                await self._rollout.some_joined(self.settings.load_timeout_s)
        hung = f"it did not load within {self.settings.load_timeout_s:g} s"
        problem = hung if outcome.hung else "the worker ended while it loaded it"
        return blamed({"": problem}, deployments, before.deployments)

    async def _reject(self, deployment: Deployment, problem: str) -> str:
        await in_background(functools.partial(self._follower.rejected, deployment, problem))
        version = deployment.serving.version if deployment.serving else ""
        text = f"{deployment.name} version {version} was refused: {problem}"
        self._on_event(text)
        return text

    async def _give_up(self, model: str, problem: str) -> None:
        try:
            async with self._turn:
                deployments = self._rollout.generation.deployments
                for deployment, reason in blamed({model: problem}, deployments, ()):
                    await self._reject(deployment, reason)
                await self._poll()
        except Exception as error:
            log.exception("a version that does not load could not be given up")
            self._tell_once(f"{model}: {error}")

    async def _answer(self, worker: WorkerProcess, ask: Ask) -> None:
        try:
            if ask.action != "reload":
                raise ProcessError(f"there is no action {ask.action!r}")  # noqa: TRY301
            answer = Answer(ask.ask_id, await self.reload())
        except GreenroomError as error:
            answer = _refusal(ask, error)
        except asyncio.CancelledError:
            worker.send(_refusal(ask, ProcessError("the server is stopping")))
            raise
        except Exception as error:
            log.exception("the registry could not be followed")
            answer = _refusal(ask, ProcessError(f"the reload failed: {type(error).__name__}"))
        worker.send(answer)

    def _publish(self, deployments: Sequence[Deployment], registry: RegistryStatus) -> None:
        was = self.status.registry
        if was.state == "starting" and registry.state != "healthy" and self._registry_starts():
            registry = was
        if registry.state != was.state:
            self._on_event(registry_line(registry))
        self.status = msgspec.structs.replace(
            self.status,
            generation=self._rollout.generation.number,
            registry=registry,
            models=self._showcase.models(self._rollout.generation, deployments),
        )
        self._rollout.publish(self.status)

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._on_event(text)

    def _run_errand(self, errand: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _shut_down(self, crew: asyncio.Task[None], *tasks: asyncio.Task[Any]) -> None:
        for task in (*tasks, *self._errands):
            task.cancel()
        await asyncio.gather(*tasks, *self._errands, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        await self._rollout.stop(grace_s=self.settings.drain_timeout_s + _STOP_MARGIN_S)
        await asyncio.gather(crew, return_exceptions=True)
        self._committed.close()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Take the signals that end a server, where this thread may."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in wanted:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in wanted:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self.kill()
        else:
            self.stop()


def _refusal(ask: Ask, error: GreenroomError) -> Answer:
    return Answer(
        ask.ask_id, error=type(error).__name__, message=error.message, advice=error.advice
    )
