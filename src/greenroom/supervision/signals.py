"""Signals: by which a person, or what watches processes, ends a server or renews its workers.

What follows from one is the supervisor's business.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["handled_signals"]

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def handled_signals(on_end: Callable[[], None], on_renew: Callable[[], None]) -> Iterator[None]:
    """Take the signals of a server, as long as the context lasts.

    Only the main thread of a process may; a server in another one is ended by its methods.

    Parameters
    ----------
    on_end : callable
        Called in the event loop at every SIGINT, SIGTERM and SIGHUP.
    on_renew : callable
        Called in the event loop at every SIGUSR1.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, on_end)
    loop.add_signal_handler(signal.SIGUSR1, on_renew)
    try:
        yield
    finally:
        for number in (*_ENDING, signal.SIGUSR1):
            loop.remove_signal_handler(number)
