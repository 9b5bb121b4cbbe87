"""Conclusions: what findings mean in words, how sure that is, and what to do next.

The command, the report and MLflow's description of a run say the same, because it is written here.
Data drift, prediction drift, performance and concept drift are kept apart. An estimate is called
one. Pure: findings in, sentences out, and no value of a request in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from greenroom.findings import ColumnDrift, Drift, Findings, LivePerformance, MetricFinding
from greenroom.wording import counted

__all__ = ["Conclusion", "State", "Topic", "conclude", "figure"]

State = Literal["found", "nothing", "unsaid"]
"""``found``: there is something; ``unsaid``: there is too little to say anything."""

MOST_NAMED: Final = 5
MOST_METRICS: Final = 3

_DATA: Final = "data drift"
_PREDICTION: Final = "prediction drift"
_CONCEPT: Final = "concept drift"
_OF_CONCEPT: Final = f"{_CONCEPT}: "
"""What reasons and notes of a performance begin with that are about concept drift."""

_FOUND: Final = {
    "performance": "worse performance",
    "estimated performance": "worse performance by an estimate",
}
"""What a headline calls that which was found."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One of the questions that are kept apart, and its answer."""

    name: str
    state: State
    text: str
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a run found, in words: a headline, an answer to each question, and what to do."""

    state: State
    headline: str
    topics: tuple[Topic, ...]
    steps: tuple[str, ...]


def conclude(findings: Findings) -> Conclusion:
    """Put findings into words.

    Examples
    --------
    >>> found = Findings(app="a", model="m", version="3", at="2026-11-21T12:00:00Z", n_rows=10)
    >>> conclude(found).headline
    'nothing can be said yet'
    """
    topics = tuple(_topics(findings))
    state, headline = _summary(topics)
    return Conclusion(state, headline, topics, tuple(_steps(findings)))


def figure(value: float) -> str:
    """Write a number as tables have it: four figures, large ones with commas.

    Examples
    --------
    >>> figure(0.123456), figure(12345.6), figure(0.0)
    ('0.1235', '12,346', '0')
    """
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _topics(findings: Findings) -> Iterator[Topic]:
    drift = findings.drift
    if drift is not None:
        yield _compared(_DATA, "feature", drift.features, drift)
        if drift.predictions:
            yield _compared(_PREDICTION, "output", drift.predictions, drift)
    performance = findings.performance
    if performance is not None and performance.metrics:
        yield _performance("performance", performance)
        yield _concept(performance)
    else:
        text = "nothing is known of what was really the case in this window"
        yield Topic("performance", "unsaid", text)
    if findings.estimate is not None and findings.estimate.metrics:
        yield _performance("estimated performance", findings.estimate)


def _compared(name: str, noun: str, columns: Sequence[ColumnDrift], drift: Drift) -> Topic:
    told = [one for one in columns if one.verdict in {"drift", "stable"}]
    moved = [one.column for one in told if one.verdict == "drift"]
    rows = f"{counted(drift.n_current, 'row')} against {drift.n_reference:,} of the training"
    if not told:
        few = any(one.verdict == "too few rows" for one in columns)
        why = "too few rows to say" if few else f"no {noun} can be compared"
        return Topic(name, "unsaid", f"{why}: {rows}")
    of = f"{len(moved)} of {len(told)} {noun}s" if len(told) > 1 else f"the {noun}"
    if moved:
        has = "has" if len(moved) == 1 else "have"
        return Topic(name, "found", f"{of} {has} moved: {_listed(moved)} ({rows})")
    none = f"none of the {len(told)} {noun}s has" if len(told) > 1 else f"the {noun} has not"
    return Topic(name, "nothing", f"{none} moved ({rows})")


def _performance(name: str, found: LivePerformance) -> Topic:
    worse = [metric for metric in found.metrics if metric.worse]
    told = worse or list(found.metrics)
    text = "; ".join(_metric(metric) for metric in told[:MOST_METRICS])
    if len(told) > MOST_METRICS:
        text += f"; and {len(told) - MOST_METRICS} more"
    rows = counted(found.n_scored, "prediction")
    if found.estimated:
        rows = f"an estimate from the probabilities of {rows}"
    own = [note for note in found.notes if not note.startswith(_OF_CONCEPT)]
    if not found.judged and own:
        return Topic(name, "unsaid", f"cannot be judged: {own[-1]}", found.estimated)
    verdict = f"{'' if worse else 'not '}worse than in training"
    if not found.judged:
        why = "training has no figure to judge it by"
        return Topic(name, "unsaid", f"{text}; {why} ({rows})", found.estimated)
    state: State = "found" if worse else "nothing"
    return Topic(name, state, f"{verdict}: {text} ({rows})", found.estimated)


def _concept(found: LivePerformance) -> Topic:
    name = _CONCEPT
    # Reasons speak for a worse performance too, and say what they speak for.
    said = (*found.reasons, *found.notes) if found.concept_drifted is None else found.reasons
    own = [one.removeprefix(_OF_CONCEPT) for one in said if one.startswith(_OF_CONCEPT)]
    reasons = f": {'; '.join(own)}" if own else ""
    if found.concept_drifted is None:
        return Topic(name, "unsaid", f"cannot be told{reasons}")
    if found.concept_drifted:
        text = "rows that are answered alike turn out otherwise than in training"
        return Topic(name, "found", text + reasons)
    return Topic(name, "nothing", f"no sign of it{reasons}")


def _metric(metric: MetricFinding) -> str:
    text = f"{metric.name} {figure(metric.value)}"
    if metric.low is not None and metric.high is not None:
        text += f" ({figure(metric.low)} to {figure(metric.high)})"
    if metric.training is not None:
        text += f", in training {figure(metric.training)}"
    return text


def _summary(topics: Sequence[Topic]) -> tuple[State, str]:
    found = [_FOUND.get(topic.name, topic.name) for topic in topics if topic.state == "found"]
    if found:
        return "found", f"found: {_listed(found)}"
    if not any(topic.state == "nothing" for topic in topics):
        return "unsaid", "nothing can be said yet"
    told = {topic.name for topic in topics if topic.state == "nothing"}
    if _DATA not in told:
        # That answers are well, by an estimate perhaps, does not say that nothing has moved.
        untold = [name for name in (_DATA, _PREDICTION) if name not in told]
        return "unsaid", f"nothing was found, but {_listed(untold)} cannot be told"
    return "nothing", "nothing has moved that matters"


def _steps(findings: Findings) -> Iterator[str]:
    """Say what to do next, the most urgent first."""
    drift, performance = findings.drift, findings.performance
    observed = performance is not None and bool(performance.metrics)
    worse = performance is not None and performance.degraded
    if performance is not None and performance.concept_drifted:
        yield (
            "See first whether what was reported is right: a label that is turned round looks the "
            "same. Then train on newer outcomes: old ones teach a relation that holds no more. "
            "`greenroom train` takes the new version through the gate."
        )
    elif worse:
        yield (
            "Train on newer rows: `greenroom train` takes the new version through the gate. "
            "Until then, `greenroom history` shows whether an earlier version may do better."
        )
    if drift is not None and drift.data_drifted:
        yield (
            "Look at the columns that have moved first at their source: a changed unit, a default "
            "or a broken feed looks like drift, and no training mends it."
        )
        if performance is not None and performance.judged and not worse:
            yield "Answers are as good as in training, so nothing has to be done at once."
    elif drift is not None and drift.predictions_drifted:
        yield (
            "Predictions have moved although no feature has by itself: look at features that move "
            "together, and at which version and engine answer (`greenroom status`)."
        )
    if not observed:
        yield (
            "Send what was really the case to `POST /feedback`: drift alone does not say whether "
            "answers have become worse."
        )
    if drift is not None and _too_few(drift):
        yield "Take a longer window, such as `--window 7d`, so that there are enough rows to say."


def _too_few(drift: Drift) -> bool:
    return any(one.verdict == "too few rows" for one in (*drift.features, *drift.predictions))


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:MOST_NAMED])
    if len(names) > MOST_NAMED:
        return f"{', '.join(shown)} and {len(names) - MOST_NAMED} more"
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]
