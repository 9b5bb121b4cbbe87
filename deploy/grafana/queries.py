"""The parts that the dashboard's expressions are made of.

``$instance`` and ``$model`` are what the dashboard is narrowed to; ``$__rate_interval`` is as long
as a rate needs, which Grafana knows.
"""

from __future__ import annotations

from typing import Final

ON: Final = 'instance=~"$instance"'
"""The servers that are shown."""

OF: Final = f'{ON},model=~"$model"'
"""Their models that are shown."""

RATE: Final = "[$__rate_interval]"
EVERY: Final = "{{route}} {{model}}"
VERSION: Final = "{{model}} version {{version}}"


def quantile(share: float, metric: str, by: str = "model", of: str = OF) -> str:
    """Return the expression of a histogram's quantile, by the labels that are named."""
    buckets = f"sum by (le, {by}) (rate({metric}_bucket{{{of}}}{RATE}))"
    return f"histogram_quantile({share}, {buckets})"
