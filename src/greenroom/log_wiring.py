"""Builds what reads the prediction log: for the commands, and for the look-up of a page.

As :mod:`greenroom.wiring`, of which it is the part that imports what tables are read with.
"""

from __future__ import annotations

from greenroom.log.log_reading import PredictionLogReader
from greenroom.log_opening import build_log_tables, find_spool
from greenroom.registry.registry import Registry
from greenroom.settings import Settings
from greenroom.tracing.lineage import Lineage
from greenroom.tracing.tracing import Tracer
from greenroom.wiring import build_store

__all__ = ["build_lineage", "build_log_reader", "build_tracer"]


def build_log_reader(settings: Settings) -> PredictionLogReader:
    """Open the prediction log: its tables, and the spool where this machine has it.

    Raises
    ------
    LogError
        When the spool is of a later format.
    """
    return PredictionLogReader(build_log_tables(settings), find_spool(settings))


def build_lineage(settings: Settings, registry: Registry) -> Lineage:
    """Return what finds what versions are made of."""
    return Lineage(registry, build_store(settings))


def build_tracer(settings: Settings, registry: Registry) -> Tracer:
    """Return what traces the predictions of this server.

    Raises
    ------
    LogError
        As :func:`build_log_reader`.
    """
    return Tracer(build_log_reader(settings), registry, build_lineage(settings, registry))
