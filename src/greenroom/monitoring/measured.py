"""Measured: which model is looked at, and what its comparison came to, before it is a finding."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from greenroom.findings import Drift, LivePerformance
from greenroom.selector import Selector

__all__ = ["Measured", "Subject"]


class Subject(NamedTuple):
    """A model that is looked at: its registered name, and what selects the served version."""

    app: str
    name: str
    selector: Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a version's comparison came to, before it is a finding.

    ``params`` are what it depended on, such as thresholds, as text.
    """

    n_rows: int
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    drift: Drift | None = None
    performance: LivePerformance | None = None
    estimate: LivePerformance | None = None
    notes: tuple[str, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
