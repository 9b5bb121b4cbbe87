"""Signals reach the server they are sent to, and nobody else afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from greenroom.supervision.signals import handled_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_server_is_told_each_time_and_what_renews_it_apart(number):
    ends, renewals = [], []

    async def signalled():
        with handled_signals(lambda: ends.append(1), lambda: renewals.append(1)):
            for sent in (number, signal.SIGUSR1, number):
                os.kill(os.getpid(), sent)
                await asyncio.sleep(0.01)

    asyncio.run(signalled())
    assert (len(ends), len(renewals)) == (2, 1)


def test_afterwards_signals_are_as_they_were():
    before = signal.getsignal(signal.SIGTERM)

    async def nothing():
        with handled_signals(lambda: None, lambda: None):
            assert signal.getsignal(signal.SIGTERM) != before

    asyncio.run(nothing())
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_server_in_another_thread_takes_none():
    before, within = signal.getsignal(signal.SIGTERM), []

    async def nothing():
        with handled_signals(lambda: None, lambda: None):
            within.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=asyncio.run, args=(nothing(),))
    thread.start()
    thread.join()
    assert within == [before]
