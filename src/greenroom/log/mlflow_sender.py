"""The sender: a thread of the shipper's process that gives MLflow what waits for it on disk.

However slow MLflow is, and however long it is away, the shipper goes on beside it. It may end at
any time. What is sent of predictions, and in which steps, is :mod:`greenroom.log.mlflow_sending`'s
business; what the server has noted of itself, :mod:`greenroom.log.mlflow_events`'s.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from greenroom.errors import GreenroomError, RegistryError, RegistryUnavailable
from greenroom.instruments import Totals
from greenroom.log.error_rates import ErrorRates
from greenroom.log.mlflow_setup import MlflowSetup
from greenroom.log.outbox import Outbox
from greenroom.log.server_events import EventBox

if TYPE_CHECKING:
    from greenroom.log.mlflow_events import EventSending
    from greenroom.log.mlflow_runs import MlflowRuns
    from greenroom.log.mlflow_sending import Sending

__all__ = ["MlflowSender"]

_LOOK_S: Final = 1.0
_PAUSES_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class MlflowSender:
    """What sends, in a thread of its own.

    Parameters
    ----------
    setup : MlflowSetup
    outbox : Outbox
        The thread is the only one that sends it.
    events : EventBox, optional
        And this.
    ship_interval_s : float
        How long a prediction waits at most before it is shipped.
    totals : callable, optional
        Returns what the workers have counted.
    """

    def __init__(
        self,
        setup: MlflowSetup,
        outbox: Outbox,
        *,
        ship_interval_s: float,
        events: EventBox | None = None,
        totals: Callable[[], Totals] | None = None,
    ) -> None:
        self._setup: Final = setup
        self._outbox: Final = outbox
        self._events: Final = events
        self._ship_interval_s: Final = ship_interval_s
        self._rates: Final = ErrorRates(totals) if totals else None
        self._sending: Sending | None = None
        self._event_sending: EventSending | None = None
        self._failures = 0
        self._stopped: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, *, grace_s: float) -> None:
        """Send what there is, for ``grace_s`` at most; the rest waits for the next start."""
        self._stopped.set()
        self._thread.join(grace_s)

    def round(self) -> bool:
        """Send all there is to send now; return whether that went well."""
        log = logging.getLogger(__name__)
        try:
            self._send()
        except (GreenroomError, OSError) as error:
            self._failures += 1
            if self._failures == 1:
                log.warning("predictions for MLflow wait on disk: %s", error)
            if not isinstance(error, RegistryError):
                self._sending = None  # what is on disk counts, and not what was to be written
            return False
        except Exception:  # whatever it is, the thread goes on: nobody would start it again
            self._failures += 1
            self._sending = None
            if self._failures == 1:
                log.exception("predictions for MLflow wait on disk")
            return False
        if self._failures:
            log.warning("predictions go to MLflow again, after %d tries", self._failures)
            self._failures = 0
        return True

    def _run(self) -> None:
        next_try_s = 0.0
        while not self._stopped.wait(min(_LOOK_S, self._ship_interval_s)):
            if self._rates is not None:
                self._rates.watch(time.time_ns() // 1_000)
            if time.monotonic() >= next_try_s:
                last = len(_PAUSES_S) - 1
                pause_s = 0.0 if self.round() else _PAUSES_S[min(self._failures - 1, last)]
                next_try_s = time.monotonic() + pause_s
        if not self._failures:
            self.round()

    def _send(self) -> None:
        try:
            self._send_predictions()
        except RegistryUnavailable:
            raise
        except RegistryError:
            self._send_events()  # what is refused of the one says nothing of the other
            raise
        self._send_events()

    def _send_events(self) -> None:
        if self._events is None or self._events.empty:
            return
        if self._event_sending is None:
            from greenroom.log.mlflow_events import EventSending

            self._event_sending = EventSending(self._events, self._runs())
        while self._event_sending.send():
            pass

    def _send_predictions(self) -> None:
        if self._outbox.empty:
            return
        sending = self._sending = self._sending or self._built()
        sending.condense(time.time_ns() // 1_000)
        while sending.send(time.time_ns() // 1_000):
            sending.condense(time.time_ns() // 1_000)

    def _built(self) -> Sending:
        # Imported when there is something to send: most of what a process like this takes.
        from greenroom.log.mlflow_planning import Plan, Planner
        from greenroom.log.mlflow_sending import Sending

        setup = self._setup
        plan = Plan(
            setup.modes, setup.batch_size, setup.max_waiting, int(self._ship_interval_s * 1e6)
        )
        rates = self._rates.rate if self._rates is not None else lambda *_: None
        return Sending(self._outbox, Planner(self._outbox, plan, rates), self._runs())

    def _runs(self) -> MlflowRuns:
        from greenroom.log.mlflow_runs import MlflowRuns
        from greenroom.registry.mlflow_rest import MlflowRest

        setup = self._setup
        rest = MlflowRest(setup.tracking_uri, timeout_s=setup.timeout_s)
        several = len(setup.modes) > 1
        return MlflowRuns(rest, setup.experiment, self._outbox.spool_id, several=several)
