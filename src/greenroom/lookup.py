"""The look-up process: ``python -m greenroom.lookup``, started by a worker for one page.

It reads what to find from its standard input, writes what it has found to its standard output, and
ends. Why it is a process, :mod:`greenroom.lookup_process` says.
"""

from __future__ import annotations

import sys

import msgspec

from greenroom.errors import GreenroomError
from greenroom.log_wiring import build_tracer
from greenroom.lookup_process import LookupOrder, LookupOutcome
from greenroom.tracing.tracing import NoSuchPrediction
from greenroom.wiring import build_registry

__all__ = ["look_up", "main"]


def look_up(order: LookupOrder) -> LookupOutcome:
    """Find what is asked for."""
    try:
        with build_registry(order.settings) as registry:
            tracer = build_tracer(order.settings, registry)
            return LookupOutcome(tracer.trace(tracer.find(order.prediction_id, order.models)))
    except GreenroomError as error:
        missing = isinstance(error, NoSuchPrediction)
        return LookupOutcome(None, missing, error.message, error.advice)


def main() -> None:
    """Answer the order on standard input."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=LookupOrder)
    sys.stdout.buffer.write(msgspec.json.encode(look_up(order)))


if __name__ == "__main__":
    main()
