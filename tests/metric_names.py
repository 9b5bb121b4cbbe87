"""The series of ``/metrics`` and their labels, as the page of the HTTP API lists them.

A test of the exposition holds that page to what is exposed, in both directions.
"""

from __future__ import annotations

import re
from pathlib import Path

from promql import Asked

PAGE = Path(__file__).parents[1] / "docs" / "http-api.md"
ROW = re.compile(r"^\| `(greenroom_\w+)` \| (\w+) \| (.*?)\| .* \|$", re.MULTILINE)
TARGET = frozenset({"job", "instance"})
"""What Prometheus says of where a series is from."""

OF_PROMETHEUS = {
    "up": TARGET,
    "ALERTS": TARGET
    | {"alertname", "alertstate", "severity", "alert", "route", "model", "version", "kind"},
}


def documented() -> dict[str, frozenset[str]]:
    """Return every series by name, those of a histogram one by one, with its labels."""
    series = {}
    for name, kind, labels in ROW.findall(PAGE.read_text(encoding="utf-8")):
        of = frozenset(re.findall(r"`(\w+)`", labels)) | TARGET
        if kind == "histogram":
            series |= {f"{name}_count": of, f"{name}_sum": of, f"{name}_bucket": of | {"le"}}
        else:
            series[name] = of
    return series | OF_PROMETHEUS


def unknown(selected: set[Asked], known: dict[str, frozenset[str]]) -> list[str]:
    """Return what of an expression's selectors is no series, or has not the labels asked for."""
    return sorted(
        f"{one.name}{{{', '.join(sorted(one.labels))}}}"
        for one in selected
        if not any(_names(one, name) and one.labels <= labels for name, labels in known.items())
    )


def _names(one: Asked, name: str) -> bool:
    return bool(re.fullmatch(one.name, name)) if one.is_pattern else one.name == name
