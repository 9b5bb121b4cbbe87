"""Clients that keep their connection, remember every prediction id that they got, and go on.

Each says at any time how many predictions it waits for; those whose connection ended before the
reply are remembered by the moment in which that happened.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from typing import Self

SINGLE = {"amount": 12.5, "visits_30d": 3, "member": True}
BODIES = [SINGLE, [{**SINGLE, "amount": float(n)} for n in range(1, 4)]]
_TIMEOUT_S = 30.0


class Callers:
    """So many clients, each in a thread of its own.

    Attributes
    ----------
    ids : list of str
        Of every prediction that a client has received, as they came.
    unanswered : list of (float, int)
        When a connection ended that waited for a reply, and for how many predictions.
    statuses : Counter
        How often which status was answered.
    """

    def __init__(self, port: int, n_clients: int) -> None:
        self.ids: list[str] = []
        self.versions: set[str] = set()
        self.unanswered: list[tuple[float, int]] = []
        self.statuses: Counter[int] = Counter()
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(n_clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def n_unanswered(self) -> int:
        return sum(n_rows for _, n_rows in self.unanswered)

    def _call(self, number: int) -> None:
        while not self._over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
            try:
                connection.connect()
            except OSError:
                time.sleep(0.05)  # nobody listens: nothing was asked
                continue
            try:
                self._ask(connection, number)
            finally:
                connection.close()

    def _ask(self, connection: http.client.HTTPConnection, number: int) -> None:
        """Ask until the connection ends."""
        while not self._over.is_set():
            number += 1
            asked = BODIES[number % len(BODIES)]
            try:
                connection.request("POST", "/predict", json.dumps(asked))
                reply = connection.getresponse()
                body = reply.read()
            except (OSError, http.client.HTTPException):
                n_rows = len(asked) if isinstance(asked, list) else 1
                self.unanswered.append((time.monotonic(), n_rows))
                return
            self.statuses[reply.status] += 1
            if reply.status == 200:
                self._got(json.loads(body))
            else:
                time.sleep(0.05)
            if reply.will_close:
                return

    def _got(self, reply: dict) -> None:
        answered = reply.get("predictions", [reply])
        self.ids += [one["prediction_id"] for one in answered]
        self.versions.add(reply.get("model_version") or answered[0]["model_version"])
