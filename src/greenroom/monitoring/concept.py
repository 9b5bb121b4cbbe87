"""Concept drift: whether the relation between what is asked and what is true has changed.

Kept apart from data drift by comparing only rows of the same answer (:mod:`.relation`). For
classifiers and anomaly models the answer is calibrated on the hold-out first; for numbers it is the
error, and its size. Nothing is said where there is no hold-out with a truth, where few labels are
known, or where the window's answers are others than the hold-out's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from greenroom.evaluation.evidence import HoldOut
from greenroom.evaluation.predictions import Predictions, label_positions
from greenroom.evaluation.scores import Flags, Floats
from greenroom.monitoring.calibration import fit_calibrator
from greenroom.monitoring.comparison import dependence
from greenroom.monitoring.relation import (
    Shift,
    of_events,
    of_numbers,
    of_sizes,
    shift,
)

__all__ = ["Concept", "concept_drift"]


class Concept(NamedTuple):
    """Whether the concept has drifted, None where that cannot be told, and why."""

    drifted: bool | None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


_NO_HOLDOUT: Final = Concept(
    None, notes=("concept drift: the version has no hold-out with a truth to compare with",)
)
_NO_SCORES: Final = Concept(
    None, notes=("concept drift: the answers hold no probabilities to compare at",)
)
_ELSEWHERE: Final = Concept(
    None, notes=("concept drift: most answers are such as no held-out row was given",)
)


class _Compared(NamedTuple):
    """One comparison: what to say where there is more of it, and less; None where that is fine."""

    found: Shift | None
    more: str
    less: str | None

    def reason(self, n_comparisons: int) -> str:
        """Say what has changed, or nothing; Bonferroni over the comparisons."""
        if self.found is None or not self.found.significant(n_comparisons):
            return ""
        what = self.more if self.found.mean > 0 else self.less
        if what is None:
            return ""
        by = f"{abs(self.found.mean):.4g} on average, effect {self.found.effect:.2f}"
        return f"concept drift: among rows of the same answer {what} ({by})"


def concept_drift(
    task: str,
    holdout: HoldOut | None,
    truth: npt.NDArray[Any],
    predictions: Predictions,
    *,
    ordered: bool = False,
) -> Concept:
    """Say whether rows turn out otherwise than held-out rows with the same answer.

    Parameters
    ----------
    task : str
        The task's name.
    holdout : HoldOut, optional
        The version's.
    truth : ndarray, shape (n_samples,)
        Of the window's rows, as their predictions in the order of time.
    predictions : Predictions
    ordered : bool
        Whether rows that follow each other may depend on each other.
    """
    if holdout is None or holdout.y is None or not len(holdout):
        return _NO_HOLDOUT
    if task in {"regression", "forecast"}:
        compared = list(_of_numbers(holdout, truth, predictions, ordered))
    else:
        if _scores(holdout.predictions) is None or _scores(predictions) is None:
            return _NO_SCORES
        compared = list(_of_classes(holdout, truth, predictions, ordered))
    if any(one.found is None for one in compared):
        return _ELSEWHERE
    reasons = tuple(reason for one in compared if (reason := one.reason(len(compared))))
    return Concept(bool(reasons), reasons)


def _of_numbers(
    holdout: HoldOut, truth: npt.NDArray[Any], predictions: Predictions, ordered: bool
) -> Iterator[_Compared]:
    y, answer = (np.asarray(v, np.float64) for v in (truth, predictions.outputs["prediction"]))
    held = np.asarray(holdout.y, np.float64)
    said = np.asarray(holdout.predictions.outputs["prediction"], np.float64)
    for of, more, less in (
        (of_numbers, "the truth lies above the answer", "the truth lies below the answer"),
        (of_sizes, "the errors are larger", None),
    ):
        inflation = [
            dependence(of(x, t).departure) if ordered else 1.0
            for x, t in ((said, held), (answer, y))
        ]
        before, now = of(said, held, inflation[0]), of(answer, y, inflation[1])
        yield _Compared(shift(before, now, numbers=True), more, less)


def _of_classes(
    holdout: HoldOut, truth: npt.NDArray[Any], predictions: Predictions, ordered: bool
) -> Iterator[_Compared]:
    for label, score, event in _events(holdout.y, holdout.predictions):
        curve = fit_calibrator(score, event)
        live = {name: (s, e) for name, s, e in _events(truth, predictions)}
        score_now, event_now = live[label]
        before, now = curve(score), curve(score_now)
        inflation = [
            dependence(happened - expected) if ordered else 1.0
            for happened, expected in ((event, before), (event_now, now))
        ]
        found = shift(
            of_events(before, event, inflation[0]),
            of_events(now, event_now, inflation[1]),
            numbers=False,
        )
        yield _Compared(found, f"{label} is more frequent", f"{label} is rarer")


def _events(y: Any, predictions: Predictions) -> Iterator[tuple[str, Floats, Flags]]:
    """Give for each event its name, how likely it was held, and where it was."""
    if "score" in predictions.outputs:
        yield "an anomaly", predictions.outputs["score"], np.asarray(y == 1, np.bool_)
        return
    probabilities = predictions.outputs["probabilities"]
    _, true, _ = label_positions(y, predictions)
    asked = [1] if len(predictions.classes) == 2 else range(len(predictions.classes))
    for label in asked:
        yield f"class {predictions.classes[label]}", probabilities[:, label], true == label


def _scores(predictions: Predictions) -> Floats | None:
    if "score" in predictions.outputs:
        return predictions.outputs["score"]
    return predictions.outputs.get("probabilities") if predictions.classes else None
