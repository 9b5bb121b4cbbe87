"""Made up worlds whose probabilities are known, and models that are not quite calibrated."""

from __future__ import annotations

from typing import Any

import numpy as np

from greenroom.evaluation.evidence import HoldOut
from greenroom.evaluation.predictions import Predictions
from greenroom.task import classification_outputs


def binary(
    n_rows: int, seed: int, *, moved: float = 0.0, flipped: float = 0.0
) -> tuple[Any, Predictions]:
    """Return truth and answers of rows whose one feature lies about ``moved``.

    The truth of the share ``flipped`` is the opposite of what it was.
    """
    random = np.random.default_rng(seed)
    odds = 1.5 * random.normal(moved, 1, n_rows) - 2
    happened = random.random(n_rows) < 1 / (1 + np.exp(-odds))
    happened ^= random.random(n_rows) < flipped
    said = 1 / (1 + np.exp(-1.4 * odds))  # surer than it should be
    return happened.astype(np.int64), classification_outputs(
        np.stack([1 - said, said], axis=1), np.array([0, 1])
    )


def several(n_rows: int, seed: int, *, moved: float = 0.0) -> tuple[Any, Predictions]:
    """Return truth and answers for three classes called a, b and c."""
    random = np.random.default_rng(seed)
    odds = random.normal(0, 1.3, (n_rows, 3)) + moved * np.array([1.0, 0.0, -1.0])
    truth = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    place = (np.cumsum(truth, axis=1) < random.random((n_rows, 1))).sum(axis=1).clip(0, 2)
    said = np.exp(1.3 * odds) / np.exp(1.3 * odds).sum(axis=1, keepdims=True)
    labels = np.array(["a", "b", "c"])
    return labels[place], classification_outputs(said, labels)


def numbers(
    n_rows: int, seed: int, *, moved: float = 0.0, added: float = 0.0, noise: float = 1.0
) -> tuple[Any, Predictions]:
    """Return truth and answers of numbers; errors grow with the answer, as they often do."""
    random = np.random.default_rng(seed)
    answer = 10 + 2 * random.normal(moved, 1, n_rows)
    spread = noise * (0.5 + 0.1 * np.abs(answer))
    return answer + added + spread * random.normal(size=n_rows), Predictions({"prediction": answer})


def holdout(made: tuple[Any, Predictions]) -> HoldOut:
    """Return rows as the ones that a version held out."""
    y, predictions = made
    return HoldOut(np.arange(len(y), dtype=np.uint64), y, predictions)
