"""How fast it has to be: the table that the figures are held against. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.serving.statistics import Sample, median_of, ratios

US = "greenroom"


@dataclass(frozen=True)
class Target:
    """One line of the table.

    Parameters
    ----------
    what : str
        What is compared, as a reader sees it.
    model, measure : str
        Which figure.
    peer : str
        The server that ours is divided by; empty for a figure of ours alone, where less is better.
    at_least, aim : float
        The bound that must hold, and the one to aim for; in ``unit``.
    unit : str
        Of the bounds.
    server : str
        Whose figure it is.
    """

    what: str
    model: str
    measure: str
    peer: str
    at_least: float
    aim: float
    unit: str = "times"
    server: str = US


BREAST, FOREST, SPLINE = "breast_cancer", "forest", "spline"
TARGETS = (
    Target("breast_cancer, against mlflow models serve", BREAST, "rps@16", "mlflow", 80, 120),
    Target("against the FastAPI app by hand", BREAST, "rps@16", "fastapi", 20, 30),
    Target("against MLServer, adaptive batching", BREAST, "rps@16", "mlserver", 7, 10),
    Target("against an empty app", BREAST, "rps@16", "empty", 0.35, 0.55),
    Target("200 trees, against mlflow models serve", FOREST, "rps@16", "mlflow", 100, 150),
    Target("not convertible, against MLServer", SPLINE, "rps@16", "mlserver", 1.2, 2),
    Target("1,000 rows, against mlflow models serve", BREAST, "rps@16x1000", "mlflow", 5, 10),
    Target("1,000 rows, against MLServer", BREAST, "rps@16x1000", "mlserver", 1, 2),
    Target(
        "token and metrics on, against without",
        BREAST,
        "rps@16",
        "bare",
        0.92,
        1,
        server="guarded",
    ),
    Target("p99 at concurrency 1", BREAST, "p99_ms@1", "", 1.5, 1, "ms"),
    Target("start to first answer, model on disk", BREAST, "first_answer_s", "", 3, 1.5, "s"),
    Target("memory of one worker with one model", BREAST, "worker_mb", "", 150, 100, "MB"),
)


@dataclass(frozen=True)
class Verdict:
    """A target and what was measured; ``figure`` is None where something was not run."""

    target: Target
    figure: float | None
    lowest: float | None = None
    highest: float | None = None

    @property
    def word(self) -> str:
        """``aim``, ``met``, ``MISSED`` or ``not run``."""
        if self.figure is None:
            return "not run"
        sign = 1 if self.target.peer else -1
        if sign * self.figure >= sign * self.target.aim:
            return "aim"
        return "met" if sign * self.figure >= sign * self.target.at_least else "MISSED"


def judge(samples: Sequence[Sample], targets: Sequence[Target] = TARGETS) -> list[Verdict]:
    """Hold the samples against the targets: the median of the rounds, and their range."""
    verdicts = []
    for target in targets:
        if target.peer:
            values = ratios(samples, target.model, target.measure, target.server, target.peer)
        else:
            alone = median_of(samples, US, target.model, target.measure)
            values = [] if alone is None else [alone]
        if values:
            verdicts.append(Verdict(target, median(values), min(values), max(values)))
        else:
            verdicts.append(Verdict(target, None))
    return verdicts
