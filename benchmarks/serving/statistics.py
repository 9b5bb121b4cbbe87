"""Medians over rounds, and ratios within rounds. Pure.

A shared machine's speed drifts by a factor of two within minutes. Two servers are therefore
compared within each round, where they ran minutes apart at most, and the median of those ratios is
what is reported: not the ratio of two medians.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Sample = Mapping[str, Any]
"""What one server did with one model in one round; ``measures`` holds its figures by name."""


def by_round(samples: Sequence[Sample], server: str, model: str, measure: str) -> dict[int, float]:
    """Return a measure of one server and model by round; rounds without it are left out."""
    return {
        sample["round"]: sample["measures"][measure]
        for sample in samples
        if sample["server"] == server and sample["model"] == model and measure in sample["measures"]
    }


def median_of(samples: Sequence[Sample], server: str, model: str, measure: str) -> float | None:
    """Return the median over rounds; None where it was never measured."""
    values = by_round(samples, server, model, measure)
    return median(values.values()) if values else None


def ratios(
    samples: Sequence[Sample], model: str, measure: str, server: str, peer: str
) -> list[float]:
    """Return ``server / peer`` for each round that has both.

    >>> def sample(n, server, rps):
    ...     return {"round": n, "server": server, "model": "m", "measures": {"rps": rps}}
    >>> drifting = [sample(1, "a", 90.0), sample(1, "b", 30.0)]
    >>> drifting += [sample(2, "a", 50.0), sample(2, "b", 10.0)]
    >>> ratios(drifting, "m", "rps", "a", "b")
    [3.0, 5.0]
    """
    ours = by_round(samples, server, model, measure)
    theirs = by_round(samples, peer, model, measure)
    return [ours[number] / theirs[number] for number in sorted(ours.keys() & theirs.keys())]
