"""The report: what a monitoring run found, as one HTML file that needs nothing else.

What has moved, how sure that is and what to do stands first, then the tables, then the figures;
data drift, prediction drift, performance and concept drift are kept apart. No script, nothing from
a network, and below :data:`MOST_BYTES` however many columns there are. It holds shares and counts,
never a row, and of categories only those that the version's own reference has.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final, NamedTuple

from greenroom import __version__
from greenroom.findings import ColumnDrift, Findings, LivePerformance, MetricFinding
from greenroom.monitoring.conclusions import Conclusion, State, conclude, figure
from greenroom.monitoring.inlined import inline
from greenroom.monitoring.page_style import STYLE
from greenroom.monitoring.report_figures import Drawn
from greenroom.wording import counted

__all__ = ["Entry", "render"]

MOST_BYTES: Final = 1_000_000
_FOR_FIGURES: Final = 700_000
"""How much of that figures may take; the rest is for tables."""

_SAID: Final[dict[State, str]] = {"found": "found", "nothing": "not found", "unsaid": "not known"}
_MARKS: Final[dict[State, str]] = {"found": "▲", "nothing": "✓", "unsaid": "?"}
_STATES: Final[dict[str, State]] = {"drift": "found", "stable": "nothing"}
_NAMES: Final = {
    "psi": "PSI",
    "jensen_shannon": "Jensen-Shannon",
    "wasserstein": "Wasserstein",
    "kolmogorov_smirnov": "KS",
    "chi_squared": "χ²",
    "missing_rate": "missing",
}
_WORDS: Final = (
    (
        "Data drift",
        "A feature is spread differently now than in the sample of the training rows that travels "
        "with the version. It says that the world or a feed has changed, not that answers are bad.",
    ),
    ("Prediction drift", "The version's own answers are spread differently than they were then."),
    (
        "Concept drift",
        "The same features have another outcome than in training, which moved data do not explain. "
        "It shows where it is known what was really the case, and only there.",
    ),
    (
        "A verdict",
        "needs enough rows, a difference that is large enough to matter, and a test that chance "
        "does not pass; over all columns together the share of false alarms is controlled (q). "
        "A small p alone is no verdict: with many rows every difference has one.",
    ),
    (
        "PSI",
        "The population stability index: 0 where both are the same; from 0.1 on a difference is "
        "usually looked at, from 0.25 on it is called large.",
    ),
    (
        "An estimate",
        "is computed from the probabilities that the version gave, as if they were calibrated as "
        "in training. Nothing was observed, and a concept drift does not show in it.",
    ),
    ("95 %", "The interval that holds the figure in 95 of 100 such windows."),
)


class Entry(NamedTuple):
    """One model's part of a report."""

    findings: Findings
    figures: Sequence[Drawn] = ()


def render(entries: Sequence[Entry]) -> str:
    """Return the report of a run, with a part for each model.

    Parameters
    ----------
    entries : sequence of Entry
        At least one.
    """
    numbers = count(1)
    budget = _FOR_FIGURES // len(entries)
    parts = [_article(entry, number, numbers, budget) for number, entry in enumerate(entries, 1)]
    first = entries[0].findings
    title = f"Monitoring: {', '.join(entry.findings.model for entry in entries)}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + _legend()
        + f"<footer>Written by Greenroom {_text(__version__)} at {_text(_instant(first.at))}. "
        "It holds shares and counts, and no row of a request.</footer>\n"
        "</main>\n</body>\n</html>\n"
    )


def _article(entry: Entry, number: int, numbers: Iterator[int], budget: int) -> str:
    findings, figures = entry
    conclusion = conclude(findings)
    parts = [
        f'<article aria-labelledby="m{number}">',
        f'<h1 id="m{number}">{_text(findings.model)}, version {_text(findings.version)}</h1>',
        _facts(findings),
        _summary(conclusion),
        *_drift(findings),
        *_performance(findings),
        *_figures(figures, numbers, budget),
        *_notes(findings),
        "</article>",
    ]
    return "\n".join(parts)


def _facts(findings: Findings) -> str:
    drift = findings.drift
    facts = [("app", findings.app)] if findings.app else []
    facts += [("compared", counted(findings.n_rows, "row"))]
    if findings.source == "log":
        facts.append(("of", "the prediction log"))
    else:
        facts.append(("of", findings.source))
    if findings.since or findings.until:
        since = _instant(findings.since) if findings.since else "the beginning"
        facts.append(("from", f"{since} to {_instant(findings.until or findings.at)}"))
    if drift is not None:
        facts.append(("with", f"{counted(drift.n_reference, 'row')} of the training"))
    facts.append(("looked at", _instant(findings.at)))
    rows = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(said)}</dd></div>" for name, said in facts
    )
    return f'<dl class="facts">{rows}</dl>'


def _summary(conclusion: Conclusion) -> str:
    topics = "".join(
        f'<li><p class="name">{_text(topic.name.capitalize())}</p><div>{_tag(topic.state)}'
        + (f" {_tag('unsaid', 'estimate')}" if topic.estimated else "")
        + f"<p>{_code(topic.text)}</p></div></li>"
        for topic in conclusion.topics
    )
    steps = "".join(f"<li>{_code(step)}</li>" for step in conclusion.steps)
    following = f"<h3>What to do next</h3><ol>{steps}</ol>" if steps else ""
    headline = conclusion.headline[:1].upper() + conclusion.headline[1:]
    return (
        f'<section class="summary {conclusion.state}"><h2>{_MARKS[conclusion.state]} '
        f'{_text(headline)}</h2><ul class="topics">{topics}</ul>{following}</section>'
    )


def _drift(findings: Findings) -> Iterator[str]:
    drift = findings.drift
    if drift is None:
        return
    yield "<section><h2>Data drift</h2>"
    yield _columns(drift.features, "Features, held against the training rows")
    yield "</section>"
    if drift.predictions:
        yield "<section><h2>Prediction drift</h2>"
        yield _columns(drift.predictions, "Answers, held against those of the reference")
        yield "</section>"
    yield from _list(drift.notes)


def _columns(columns: Sequence[ColumnDrift], caption: str) -> str:
    if not columns:
        return '<p class="soft">There is nothing to compare.</p>'
    ordered = sorted(columns, key=lambda one: (_place(one), -one.statistics.get("psi", 0.0)))
    rows = [_column(one) for one in ordered]
    return _table(
        caption,
        ["Column", "Verdict", "Why"],
        ["PSI", "q", "rows"],
        rows,
        rest=["other statistics"],
    )


def _column(one: ColumnDrift) -> str:
    psi = one.statistics.get("psi")
    figures = (
        "" if psi is None else figure(psi),
        "" if one.q_value is None else _p(one.q_value),
        f"{one.n_current:,}",
    )
    cells = "".join(f'<td class="number">{_text(value)}</td>' for value in figures)
    others = " ".join(
        f"<span>{_text(_NAMES.get(name, name.replace('_', ' ')))} {_text(figure(value))}</span>"
        for name, value in one.statistics.items()
        if name != "psi"
    )
    state = _STATES.get(one.verdict, "unsaid")
    return (
        f'<tr><th scope="row">{_text(one.column)}<br>'
        f'<span class="soft">{_text(one.kind)}</span></th>'
        f'<td>{_tag(state, one.verdict)}</td><td class="why">{_text("; ".join(one.reasons))}</td>'
        f'{cells}<td class="others">{others}</td></tr>'
    )


def _place(column: ColumnDrift) -> int:
    return ("drift", "stable", "too few rows", "not compared").index(column.verdict)


def _performance(findings: Findings) -> Iterator[str]:
    observed, estimate = findings.performance, findings.estimate
    yield "<section><h2>Performance</h2>"
    if observed is None or not observed.metrics:
        yield '<p class="soft">Nothing is known of what was really the case in this window.</p>'
    if observed is not None:
        yield from _metrics(observed, "Observed: answers held against what was really the case")
    if estimate is not None and estimate.metrics:
        yield "<h3>Estimated, not observed</h3>"
        yield from _metrics(estimate, "An estimate from calibrated probabilities")
    yield "</section>"
    if observed is not None and observed.metrics:
        yield "<section><h2>Concept drift</h2>"
        topics = conclude(findings).topics
        topic = next(one for one in topics if one.name == "concept drift")
        yield f"<p>{_tag(topic.state)} {_text(topic.text)}</p></section>"


def _metrics(found: LivePerformance, caption: str) -> Iterator[str]:
    if found.metrics:
        rows = [_metric(metric) for metric in found.metrics]
        scored = f"{caption} ({counted(found.n_scored, 'prediction')})"
        yield _table(scored, ["Metric", "Verdict"], ["now", "95 %", "in training"], rows)
    yield from _list(found.notes)


def _metric(metric: MetricFinding) -> str:
    between = ""
    if metric.low is not None and metric.high is not None:
        between = f"{figure(metric.low)} to {figure(metric.high)}"
    trained = "" if metric.training is None else figure(metric.training)
    state: State = "unsaid" if metric.worse is None else "found" if metric.worse else "nothing"
    said = {"found": "worse", "nothing": "not worse", "unsaid": "not judged"}[state]
    values = (figure(metric.value), between, trained)
    cells = "".join(f'<td class="number">{_text(value)}</td>' for value in values)
    return f'<tr><th scope="row">{_text(metric.name)}</th><td>{_tag(state, said)}</td>{cells}</tr>'


def _figures(figures: Sequence[Drawn], numbers: Iterator[int], budget: int) -> Iterator[str]:
    """Write the figures, section by section, as many as there is room for."""
    left, n_left_out = budget, 0
    sections = {
        "over time": "Run by run",
        "performance": "Calibration",
        "predictions": "Predictions: reference and current",
        "features": "Features: reference and current",
    }
    for section, title in sections.items():
        written = []
        for drawn in figures:
            if drawn.section != section:
                continue
            text = inline(drawn.svg, drawn.description, next(numbers))
            if len(text.encode()) > left:
                n_left_out += 1
                continue
            left -= len(text.encode())
            wide = section == "over time"
            shown = "" if wide else f"<figcaption>{_text(drawn.title)}</figcaption>"
            written.append(
                f"<figure{' class=wide tabindex=0' if wide else ''}>{shown}{text}</figure>"
            )
        if written:
            kind = " wide" if section == "over time" else ""
            body = "\n".join(written)
            yield f'<section><h2>{title}</h2><div class="figures{kind}">{body}</div></section>'
    if n_left_out:
        text = f"{n_left_out} more columns are not drawn, to keep this file small."
        yield f'<p class="soft">{text}</p>'


def _notes(findings: Findings) -> Iterator[str]:
    if findings.notes:
        yield "<section><h2>Notes</h2>"
        yield from _list(findings.notes)
        yield "</section>"


def _list(texts: Sequence[str]) -> Iterator[str]:
    if texts:
        items = "".join(f"<li>{_code(text)}</li>" for text in texts)
        yield f'<ul class="plain soft">{items}</ul>'


def _table(
    caption: str,
    heads: Sequence[str],
    numbers: Sequence[str],
    rows: Sequence[str],
    rest: Sequence[str] = (),
) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in heads)
    head += "".join(f'<th scope="col" class="number">{_text(name)}</th>' for name in numbers)
    head += "".join(f'<th scope="col">{_text(name)}</th>' for name in rest)
    label = _text(caption)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="soft">{label}.</p>'
    )


def _legend() -> str:
    words = "".join(f"<dt>{_text(name)}</dt><dd>{_text(said)}</dd>" for name, said in _WORDS)
    return (
        f'\n<details><summary>How to read this</summary><dl class="words">{words}</dl></details>\n'
    )


def _tag(state: State, said: str = "") -> str:
    return f'<span class="tag {state}">{_text(said or _SAID[state])}</span>'


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _instant(text: str) -> str:
    """Write an ISO 8601 instant as people read it; what is none stays as it is."""
    day, found, time = text.partition("T")
    return f"{day} {time[:8].rstrip('Z')} UTC" if found else text


def _code(text: str) -> str:
    """Escape a sentence; what stands in back-quotes in it is code."""
    parts = _text(text).split("`")
    if len(parts) % 2 == 0:
        return "`".join(parts)
    return "".join(f"<code>{one}</code>" if at % 2 else one for at, one in enumerate(parts))


def _text(text: str) -> str:
    return html.escape(text, quote=True)
