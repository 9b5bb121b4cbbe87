"""Settling: what waits in the spool is shipped, by whoever ships it, before the tables are changed.

Where a server runs, its shipper does it within a few seconds; where none does, it is done here.
Which records are waited for is fixed at the beginning: those that come later are not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from greenroom.errors import LogUnavailable, ProcessError
from greenroom.log.log_tables import LogTables
from greenroom.log.segments import HEAD_BYTES, SEALED
from greenroom.log.shipper import Shipper, ShipperSetup
from greenroom.log.shipping import ship_all
from greenroom.log.spool import Spool

__all__ = ["settle"]

_PAUSE_S: Final = 0.1


def settle(
    spool: Spool,
    tables: LogTables,
    *,
    timeout_s: float,
    on_wait: Callable[[], object] = lambda: None,
) -> None:
    """Return when all that is in the spool now is in the tables.

    Parameters
    ----------
    spool : Spool
    tables : LogTables
    timeout_s : float
        How long a server's shipper may take.
    on_wait : callable, optional
        Told once, where it is waited for.

    Raises
    ------
    LogUnavailable
        When it takes longer, or the tables cannot be written.
    """
    marks = _marks(spool)
    if not marks and not _left_over(spool):
        return
    try:
        # Holds the lock of the one process that ships; for as long as it lives.
        ours = Shipper(ShipperSetup(spool=str(spool.folder), uri=tables.uri, interval_s=1.0))
    except ProcessError:
        on_wait()
        _wait(spool, marks, timeout_s)
        return
    try:
        with tables.changing(wait=True):
            ship_all(spool, tables)
    finally:
        ours.close()
    if not _shipped(spool, marks):
        raise LogUnavailable(
            f"{spool.folder} holds predictions of a process that still runs",
            advice="stop it, or call it where its server runs",
        )


def _marks(spool: Spool) -> Mapping[int, int]:
    """Return by slot the last segment that holds anything."""
    return {
        slot.number: max(used)
        for slot in spool.slots()
        if (used := [one.head.sequence for one in slot.segments() if one.end() > HEAD_BYTES])
    }


def _shipped(spool: Spool, marks: Mapping[int, int]) -> bool:
    there = all(slot.ledger().sequence >= marks.get(slot.number, 0) for slot in spool.slots())
    return there and not _left_over(spool)


def _left_over(spool: Spool) -> bool:
    """Whether a segment is in the tables and not handed over to the outbox."""
    return any(
        int(path.stem) <= slot.ledger().sequence
        for slot in spool.slots()
        for path in slot.folder.glob(f"*{SEALED}")
        if path.stem.isdigit()
    )


def _wait(spool: Spool, marks: Mapping[int, int], timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while not _shipped(spool, marks):
        if time.monotonic() > until:
            raise LogUnavailable(
                f"the server has not shipped what waits in {spool.folder} within {timeout_s:g} s",
                advice="see why in its log; `greenroom status` says how much waits",
            )
        time.sleep(_PAUSE_S)
