"""From a trained model to a version that is registered, judged and, if it may be, selected.

What joins :mod:`greenroom.training` and :mod:`greenroom.promotion`, which know nothing of each
other. Where the selector is ``latest``, registering is deploying: the gate then stands before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from greenroom.app import App, Model
from greenroom.errors import NothingSelected, NotInRegistry, PromotionRefused
from greenroom.progress import OnProgress, silent
from greenroom.promotion import Judgement, judge_latest, promote, record_refusal
from greenroom.registry import Registry
from greenroom.selector import Selector
from greenroom.settings import Settings
from greenroom.training import Trained, register, train_model

Outcome = Literal["promoted", "registered", "refused", "unchanged"]


@dataclass(frozen=True)
class Release:
    """What training one model led to.

    ``reasons`` are the gate's: why it was promoted, or why it was refused.
    """

    trained: Trained
    outcome: Outcome
    version: str = ""
    reasons: tuple[str, ...] = ()


def train_and_release(
    app: App,
    model: Model,
    folder: Path,
    *,
    settings: Settings,
    registry: Registry,
    who: str,
    promotes: bool,
    on_progress: OnProgress = silent,
) -> Release:
    """Train a model, register it, and take it through the gate.

    Parameters
    ----------
    who : str
        Who the history names.
    promotes : bool
        Whether to go on to the gate, or to leave the version registered.

    Notes
    -----
    A refused promotion is not a failed training: it is an outcome.
    """
    trained = train_model(
        app, model, folder, settings=settings, registry=registry, on_progress=on_progress
    )
    if trained.unchanged:
        return _unchanged(trained, registry, settings, who, promotes)
    selector = deployed_selector(model, settings)
    if selector.kind == "latest":
        return _register_latest(trained, registry, who)
    version = register(registry, trained).version
    if not promotes or not selector.movable:
        return Release(trained, "registered", version)
    return _promote(trained, version, registry, selector, who, on_progress)
