"""The server's first process: owns the port and the workers, and ends them.

It listens and starts workers by their command line. Following the registry is
:mod:`greenroom.supervision.pursuit`'s business, and bringing what changes to all workers at one
instant :mod:`greenroom.supervision.rollout`'s. Requests never come here, and no model is loaded
here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from greenroom.access.callers import require_tokens
from greenroom.access.tls import require_certificate
from greenroom.background import in_background
from greenroom.control import Ask, CommittedGeneration, WorkerSetup
from greenroom.deployment.following import Follower
from greenroom.errors import ProcessError
from greenroom.instruments import SupervisorInstruments, Totals, read_totals
from greenroom.job_store import JobStore
from greenroom.log.shipper_process import ShipperProcess
from greenroom.log.spooling import SEGMENT_BYTES
from greenroom.registry_errands import RegistryErrands
from greenroom.settings import Settings
from greenroom.status import RestartStatus, Status
from greenroom.supervision.chronicle import Chronicle
from greenroom.supervision.code_watch import CodeWatch, taken_up
from greenroom.supervision.errand_service import ErrandService
from greenroom.supervision.jobs import Jobs
from greenroom.supervision.listening import listen, refuse_open
from greenroom.supervision.pursuit import Pursuit
from greenroom.supervision.rolling_restart import RollingRestart
from greenroom.supervision.rollout import Rollout
from greenroom.supervision.server_monitoring import ServerMonitoring, Watched
from greenroom.supervision.server_record import ServerRecord
from greenroom.supervision.server_status import first_status
from greenroom.supervision.signals import handled_signals
from greenroom.supervision.swap import Outcome as SwapOutcome
from greenroom.supervision.worker_process import COMMAND, WorkerProcess
from greenroom.vitals import Sampler, Vitals, watch

log = logging.getLogger(__name__)

_STOP_MARGIN_S: Final = 3.0
_SHIP_GRACE_S: Final = 10.0


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
    registry_errands : RegistryErrands, optional
        Does what callers ask of the registry; None where they cannot.
    shipper : ShipperProcess, optional
        What ships the predictions that workers note.
    chronicle : Chronicle, optional
        Where it is noted for MLflow what happens here.
    monitoring : ServerMonitoring, optional
        What watches the server.
    home : Path, optional
        Where a :class:`greenroom.supervision.server_record.ServerRecord` says that the server runs,
        and where training jobs are kept.
    train : sequence of str
        What begins a training that is asked for over HTTP; empty where none can be.
    end_runs : callable
        As :class:`greenroom.supervision.jobs.Jobs` takes it.
    reread : callable, optional
        Reads the settings again, for hot reload; default: they stay.

    Attributes
    ----------
    address : tuple of str and int
        The host and port that are listened on; those of the settings until :meth:`bind`.
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
        registry_errands: RegistryErrands | None = None,
        shipper: ShipperProcess | None = None,
        chronicle: Chronicle | None = None,
        monitoring: ServerMonitoring | None = None,
        home: Path | None = None,
        train: Sequence[str] = (),
        end_runs: Callable[[str, str], object] = lambda *_: None,
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        self.settings = settings
        self.address: tuple[str, int] = (settings.host, settings.port)
        self._app_folder = app_folder
        self._on_event = on_event
        self._on_log = on_log
        self._command = command
        self._listener: socket.socket | None = None
        self._committed = CommittedGeneration.create()
        self._instruments = SupervisorInstruments(settings.workers)
        silent_s = settings.worker_silent_s
        self._rollout = Rollout(
            settings.workers, self._launch, self._committed, self, silent_s=silent_s
        )
        self._stop = asyncio.Event()
        self._errands: set[asyncio.Task[None]] = set()
        self._chronicle = chronicle
        self._pursuit = Pursuit(
            settings,
            follower,
            self._rollout,
            first_status(settings, app_name),
            on_event=on_event,
            registry_starts=registry_starts,
            on_registry_answer=self._instruments.registry_answered,
            on_status=chronicle.show if chronicle else lambda _: None,
        )
        self._shipper = shipper
        self._monitoring = monitoring
        self._home = home
        self._record: ServerRecord | None = None
        self._restart = RollingRestart(
            self._rollout,
            drain_timeout_s=settings.drain_timeout_s,
            on_event=on_event,
            show=self._show_restart,
        )
        self._jobs = self._built_jobs(train, end_runs)
        self._reread = reread or (lambda: settings)
        self._service = ErrandService(self._pursuit, self._jobs, registry_errands, chronicle)

    def _built_jobs(self, train: Sequence[str], end_runs: Callable[[str, str], object]) -> Jobs:
        return Jobs(
            JobStore(self._home or Path(self.settings.home)),
            train,
            on_event=self._on_event,
            on_promoted=self.reload,
            on_ended=lambda job: self._instruments.training_ended(job.state),
            end_runs=end_runs,
        )

    @property
    def status(self) -> Status:
        """The server's state, as every worker shows it."""
        return self._pursuit.status

    @property
    def ready(self) -> asyncio.Event:
        """Set when a worker accepts connections."""
        return self._rollout.ready

    def bind(self) -> None:
        """Take the port, once; connections wait until a worker accepts them.

        Raises
        ------
        SettingsError
            When it would let other machines in without asking who they are, would let nobody in
            at all, or has no certificate that it could show.
        ProcessError
            When the port cannot be had.
        """
        if self._listener is None:
            refuse_open(self.settings)
            require_tokens(self.settings)
            require_certificate(self.settings)
            self._listener = listen(self.settings.host, self.settings.port)
            self.address = self._listener.getsockname()[:2]

    async def run(self) -> None:
        """Serve until :meth:`stop`, SIGINT, SIGTERM or SIGHUP; the second signal kills at once.

        SIGUSR1 is :meth:`restart`.

        Raises
        ------
        SettingsError, ProcessError
            As :meth:`bind`, when the workers do not start at all, and when the home folder cannot
            be written to.
        """
        self.bind()
        with handled_signals(self._on_signal, self.restart), self._recorded():
            self._jobs.adopt()
            if self.settings.reload_on_change and self._app_folder is not None:
                watch = CodeWatch(self._app_folder, self._take_up, on_event=self._on_event)
                self._run_errand(watch.run())
            if self._shipper is not None:
                self._shipper.start(counters_fd=self._instruments.memory.fd)
            if self._monitoring is not None:
                show, port = self._pursuit.show_alerts, self.address[1]
                watched = Watched(port, self._instruments, lambda: self.status, show)
                self._run_errand(self._monitoring.run(watched))
            tasks: list[asyncio.Task[Any]] = [
                asyncio.create_task(self._rollout.crew.run()),
                asyncio.create_task(self._pursuit.run()),
                asyncio.create_task(self._watched()),
                asyncio.create_task(self._stop.wait()),
            ]
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

    def restart(self) -> None:
        """Put new processes in place of the workers, one after the other, without a gap.

        Returns at once; the status says how it goes.
        """
        if not self._stop.is_set():
            self._run_errand(self._restart.run())

    async def _take_up(self, files: str) -> None:
        """Have new workers import what has changed of the app, under its settings of now."""
        settings, rest = taken_up(self.settings, await in_background(self._reread))
        refuse_open(settings)
        require_tokens(settings)
        self.settings = settings
        if rest:
            self._on_event(
                f"{', '.join(rest)}: another setting counts when the server is restarted"
            )
        self._on_event(f"{files} changed")
        await self._restart.run_after_any()

    async def reload(self) -> Status:
        """Ask the registry now; return when all workers serve what it selects.

        Raises
        ------
        RegistryUnavailable
            When it does not answer.
        VersionUnloadable
            When what it selects does not load; the last good version goes on.
        """
        return await self._pursuit.reload()

    def on_event(self, text: str) -> None:
        """Pass on what a person may want to know."""
        self._on_event(text)

    def on_ask(self, worker: WorkerProcess, ask: Ask) -> None:
        """Answer a worker, without holding up the others' messages."""
        if self._stop.is_set():
            self._service.decline(worker, ask)
        else:
            self._run_errand(self._service.serve(worker, ask))

    def on_joined(self) -> None:
        """Note that there is one worker more."""
        self._count_workers()

    def on_left(self, worker: WorkerProcess) -> None:
        """Note that there is one worker less; if it was not told to end, another one is started."""
        self._instruments.left(worker.seat)
        self._count_workers()
        if not (self._stop.is_set() or worker.retiring or worker.on_trial):
            self._instruments.restarted()

    def on_swap(self, outcome: SwapOutcome, seconds: float) -> None:
        """Count a swap."""
        self._instruments.swapped(outcome.verdict, seconds)

    def on_trouble(self) -> None:
        """Have the pages say what does not load on its first use."""
        self._pursuit.show_troubles()

    def on_unloadable(self, model: str, problem: str) -> None:
        """Give up what was committed and does not load any more."""
        self._run_errand(self._pursuit.give_up(model, problem))

    async def _launch(self, slot: int) -> WorkerProcess:
        if self._listener is None:
            raise ProcessError("the server does not listen yet")
        seat = self._instruments.take_seat()
        setup = WorkerSetup(
            slot=slot,
            seat=seat,
            listener_fd=self._listener.fileno(),
            control_fd=-1,
            committed_fd=self._committed.fd,
            counters_fd=self._instruments.memory.fd,
            app_folder=str(self._app_folder or ""),
            settings=msgspec.structs.replace(self.settings, port=self.address[1]),
        )
        try:
            return await WorkerProcess.start(setup, self._on_log, command=self._command)
        except BaseException:
            self._instruments.left(seat)
            raise

    async def _watched(self) -> None:
        def totals() -> Totals:
            return read_totals(self._instruments.memory)

        def on_sample(vitals: Vitals) -> None:
            self._instruments.sampled(vitals)
            if self._chronicle is not None:
                self._chronicle.sampled(self.status, vitals, totals)

        sampler = Sampler(totals, Path(self.settings.home))
        needs_bytes = SEGMENT_BYTES if self.settings.log else 0
        show = self._pursuit.show_folder
        await watch(sampler, self._home, on_sample, show, needs_bytes=needs_bytes)

    def _count_workers(self) -> None:
        living = self._rollout.crew.living.values()
        self._instruments.working(sum(worker.accepts for worker in living))

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
        grace_s = self.settings.drain_timeout_s + _STOP_MARGIN_S
        await asyncio.gather(self._rollout.stop(grace_s=grace_s), self._jobs.stop())
        await asyncio.gather(crew, return_exceptions=True)
        if self._shipper is not None:
            await self._shipper.stop(grace_s=_SHIP_GRACE_S)
        self._committed.close()
        self._instruments.memory.close()

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[None]:
        """Say in the home folder that this server runs, as long as it does."""
        if self._home is None:
            yield
            return
        self._record = ServerRecord(self._home, self.address[1])
        self._record.write()
        try:
            yield
        finally:
            self._record.remove()

    def _show_restart(self, restart: RestartStatus) -> None:
        self._pursuit.show_restart(restart)
        if self._record is not None:
            try:
                self._record.write(restart)
            except ProcessError as error:
                self._on_event(str(error))

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self.kill()
        else:
            self.stop()
