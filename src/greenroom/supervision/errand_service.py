"""What the supervisor does for workers, each errand by whoever it concerns, and the answer to it.

What errands there are is said in :mod:`greenroom.errands`.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

from greenroom.background import in_background
from greenroom.control import Answer, Ask
from greenroom.errands import (
    AwaitTraining,
    BeginTraining,
    Done,
    Errand,
    MoveVersion,
    Reload,
    Reloaded,
    TrainingJob,
    VersionMoved,
)
from greenroom.errors import GreenroomError, ProcessError
from greenroom.registry_errands import RegistryErrands
from greenroom.supervision.chronicle import Chronicle
from greenroom.supervision.jobs import Jobs
from greenroom.supervision.pursuit import Pursuit
from greenroom.supervision.worker_process import WorkerProcess

__all__ = ["ErrandService"]

log = logging.getLogger(__name__)

_STOPPING: Final = ProcessError("the server is stopping")


class ErrandService:
    """Carries out errands, any number at a time.

    Parameters
    ----------
    pursuit : Pursuit
        Follows the registry.
    jobs : Jobs
        Has models trained.
    registry : RegistryErrands, optional
        Does what callers ask of the registry; None where they cannot.
    chronicle : Chronicle, optional
        Where it is noted that a version was moved.
    """

    def __init__(
        self,
        pursuit: Pursuit,
        jobs: Jobs,
        registry: RegistryErrands | None,
        chronicle: Chronicle | None = None,
    ) -> None:
        self._pursuit = pursuit
        self._jobs = jobs
        self._registry = registry
        self._chronicle = chronicle

    async def serve(self, worker: WorkerProcess, ask: Ask) -> None:
        """Carry out an errand, and send the worker what came of it."""
        try:
            answer = Answer(ask.ask_id, await self._carry_out(worker, ask.errand))
        except GreenroomError as error:
            answer = _refusal(ask, error)
        except asyncio.CancelledError:
            self.decline(worker, ask)
            raise
        except Exception as error:
            log.exception("an errand failed")
            problem = f"what was asked for failed: {type(error).__name__}"
            answer = _refusal(ask, ProcessError(problem))
        worker.send(answer)

    def decline(self, worker: WorkerProcess, ask: Ask) -> None:
        """Tell a worker that its errand is not done, because the server stops."""
        worker.send(_refusal(ask, _STOPPING))

    async def _carry_out(self, worker: WorkerProcess, errand: Errand) -> Done:
        if isinstance(errand, Reload):
            return Reloaded(await self._pursuit.reload())
        if isinstance(errand, BeginTraining):
            return TrainingJob(await self._jobs.begin(errand.order))
        if isinstance(errand, AwaitTraining):
            job_id = errand.job_id
            return TrainingJob(await self._jobs.ended(job_id, leaving=lambda: worker.retiring))
        if self._registry is None:
            raise ProcessError("this server does not manage the registry")
        outcome = await in_background(partial(self._registry.run, errand))
        if isinstance(outcome, VersionMoved):
            self._pursuit.show_stages(outcome.name, outcome.latest_versions)
            if self._chronicle is not None and isinstance(errand, MoveVersion):
                self._chronicle.moved(errand, outcome)
        return outcome


def _refusal(ask: Ask, error: GreenroomError) -> Answer:
    return Answer(
        ask.ask_id, error=type(error).__name__, message=error.message, advice=error.advice
    )
