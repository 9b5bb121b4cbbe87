"""The figures as Markdown tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.serving.statistics import Sample, median_of
from benchmarks.serving.targets import Verdict, judge

MEASURES = (
    ("rps@1", "req/s, 1"),
    ("rps@16", "req/s, 16"),
    ("rps@64", "req/s, 64"),
    ("p50_ms@1", "p50 ms, 1"),
    ("p99_ms@1", "p99 ms, 1"),
    ("p50_ms@16", "p50 ms, 16"),
    ("p99_ms@16", "p99 ms, 16"),
    ("p50_ms@64", "p50 ms, 64"),
    ("p99_ms@64", "p99 ms, 64"),
    ("p50_ms@1x1000", "1,000 rows: p50 ms, 1"),
    ("p99_ms@1x1000", "1,000 rows: p99 ms, 1"),
    ("rps@16x1000", "1,000 rows: req/s, 16"),
    ("first_answer_s", "first answer s"),
    ("worker_mb", "worker MB"),
    ("all_mb", "all processes MB"),
)


def markdown(result: Mapping[str, Any]) -> str:
    """Return everything: the targets, the figures of each model, the machine and the versions."""
    samples = result["samples"]
    about = result["about"]
    parts = [
        f"Single row, concurrency 16, unless said. {about['rounds']} rounds of"
        f" {about['seconds']} s a load, servers interleaved; medians over rounds, ratios within"
        " rounds. Server and load generator have one core each.",
        targets_table(judge(samples)),
    ]
    for model in _in_order(sample["model"] for sample in samples):
        parts += [f"### {model}", figures_table(samples, model)]
    notes = [f"- {note}" for note in result["notes"]]
    parts += ["### Taken with", "\n".join([*notes, *_facts(about)])]
    return "\n\n".join(parts) + "\n"


def targets_table(verdicts: Sequence[Verdict]) -> str:
    """Return a line a target: measured, range over rounds, bounds, and whether they hold."""
    rows = [
        [
            verdict.target.what,
            _with_unit(verdict.figure, verdict.target.unit),
            _range(verdict),
            _with_unit(verdict.target.at_least, verdict.target.unit),
            _with_unit(verdict.target.aim, verdict.target.unit),
            verdict.word,
        ]
        for verdict in verdicts
    ]
    return table(["target", "measured", "rounds", "bound", "aim", ""], rows)


def figures_table(samples: Sequence[Sample], model: str) -> str:
    """Return a line a server: its medians over the rounds."""
    servers = _in_order(sample["server"] for sample in samples if sample["model"] == model)
    shown = [
        (measure, title)
        for measure, title in MEASURES
        if any(median_of(samples, server, model, measure) is not None for server in servers)
    ]
    rows = [
        [server, *(number(median_of(samples, server, model, measure)) for measure, _ in shown)]
        for server in servers
    ]
    return table(["server", *(title for _, title in shown)], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, its columns aligned for reading as text.

    >>> print(table(["a", "b"], [["server", "1"]]))
    | a      | b |
    |--------|--:|
    | server | 1 |
    """
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "| " + " | ".join(_padded(cell, widths[i], i) for i, cell in enumerate(row)) + " |"
        for row in [head, *rows]
    ]
    rule = "|".join(
        "-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths)
    )
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def number(value: float | None) -> str:
    """Return a figure with three digits that count; a dash for none.

    >>> [number(value) for value in (None, 0.12345, 12.345, 5061.7)]
    ['-', '0.123', '12.3', '5,062']
    """
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _with_unit(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{number(value)} {unit}"


def _range(verdict: Verdict) -> str:
    if verdict.lowest is None or verdict.lowest == verdict.highest:
        return "-"
    return f"{number(verdict.lowest)} to {number(verdict.highest)}"


def _padded(cell: str, width: int, position: int) -> str:
    return cell.ljust(width) if position == 0 else cell.rjust(width)


def _facts(about: Mapping[str, Any]) -> list[str]:
    return [f"- {name}: {_text(value)}" for name, value in about.items()]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {text}" for name, text in value.items())
    return str(value)


def _in_order(names: Any) -> list[str]:
    return list(dict.fromkeys(names))
