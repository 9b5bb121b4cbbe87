"""A rolling restart: new processes in place of all workers, one after the other, without a gap.

A slot's new worker is started beside the old one. When it has joined and accepts, the old one
drains: it accepts no more, and ends when its clients have gone elsewhere. One that does not come up
stops the restart, and the old one stays; so does one that ends while the old one drains, and then
the slot is filled like that of any worker that has died. New workers import the app anew. What the
supervisor itself knows (settings, which models there are) stays as it is.

How a worker drains is :mod:`greenroom.draining`'s business. Swaps go on meanwhile: old and new
workers take part in them like any others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from greenroom.draining import LINGER_S
from greenroom.errors import ProcessError
from greenroom.status import RestartStatus
from greenroom.supervision.rollout import Rollout
from greenroom.supervision.server_status import utc_now
from greenroom.supervision.worker_process import WorkerProcess, plain

log = logging.getLogger(__name__)

_MARGIN_S: Final = 3.0
_PAUSE_S: Final = 0.1


class RollingRestart:
    """The rolling restarts of one server, one at a time.

    Parameters
    ----------
    rollout : Rollout
        The workers.
    drain_timeout_s : float
        How long a worker may finish its requests.
    on_event : callable
        Told in one line what a person may want to know.
    show : callable
        Told how the restart is, when that changes.
    """

    def __init__(
        self,
        rollout: Rollout,
        *,
        drain_timeout_s: float,
        on_event: Callable[[str], None],
        show: Callable[[RestartStatus], None],
    ) -> None:
        self._rollout = rollout
        self._grace_s = LINGER_S + drain_timeout_s + _MARGIN_S
        self._on_event = on_event
        self._show = show
        self._running = False

    async def run_after_any(self) -> None:
        """Renew every worker, after a restart that is going on already."""
        while self._running:
            await asyncio.sleep(_PAUSE_S)
        await self.run()

    async def run(self) -> None:
        """Renew every worker; what goes wrong is told and shown, and nothing is raised."""
        if self._running:
            self._on_event("a restart of the workers is going on already")
            return
        self._running = True
        try:
            await self._run()
        finally:
            self._running = False

    async def _run(self) -> None:
        status = RestartStatus(state="running", began_at=utc_now())
        self._show(status)
        self._on_event("the workers are restarted, one after the other")
        problem = ""
        try:
            for slot in range(1, self._rollout.crew.size + 1):
                await self._renew(slot)
        except ProcessError as error:
            problem = str(error)
        except Exception as error:
            log.exception("the restart failed")
            problem = type(error).__name__
        self._on_event(f"the restart stopped: {problem}" if problem else _DONE)
        self._show(
            msgspec.structs.replace(
                status,
                state="failed" if problem else "done",
                ended_at=utc_now(),
                problem=problem,
            )
        )

    async def _renew(self, slot: int) -> None:
        """Put a new worker into a slot, and see the old one off."""
        crew = self._rollout.crew
        new = await crew.succeed(slot)
        await self._rollout.until(lambda: new.accepts or new.id not in crew.living)
        if new.id not in crew.living:
            raise _lost(new, "did not come up")
        new.on_trial = False
        old = crew.others(new)
        for worker in old:
            worker.retire(self._grace_s)
        await self._rollout.until(lambda: not any(one.id in crew.living for one in old))
        if new.id not in crew.living:
            raise _lost(new, "came up and ended again")
        replaced = f", in place of process {old[0].pid}" if old else ""
        self._on_event(f"worker {slot} is process {new.pid} now{replaced}")


_DONE: Final = "all workers have been restarted"


def _lost(new: WorkerProcess, what: str) -> ProcessError:
    reason = new.killed_because or new.failure or plain(new.last_line) or "its log says nothing"
    return ProcessError(
        f"the new worker {new.slot} (process {new.pid}) {what}: {reason}",
        advice="the other workers go on as they are; mend that, and restart again",
    )
