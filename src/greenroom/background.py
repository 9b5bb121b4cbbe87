"""Running blocking work beside an event loop, in a thread that nobody waits for at the end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def in_background(function: Callable[[], _Result]) -> _Result:
    """Run a blocking function in a daemon thread, and return or raise what it does.

    ``asyncio.to_thread`` has the process wait for its threads when it ends: Ctrl-C during a long
    download would have to wait for the download.

    Examples
    --------
    >>> asyncio.run(in_background(lambda: 6 * 7))
    42
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_Result] = loop.create_future()

    def settle(act: Callable[[Any], None], value: Any) -> None:
        if not outcome.done():
            act(value)

    def work() -> None:
        act: Callable[[Any], None] = outcome.set_result
        value: Any
        try:
            value = function()
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            act, value = outcome.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, act, value)

    threading.Thread(target=work, daemon=True, name=f"background-{id(outcome)}").start()
    return await outcome
